"""Segmentation and registration refine each other: labels of both studies help to register them, and are compared.

The walk: both studies with their own labels -> registrations by the images alone, both ways -> rounds of (registrations
both ways with the labels as a term -> labels carried both ways -> own and carried labels fused, by confidence) while
own and carried labels agree better, and the images do not contradict: they must agree around the structures as they
did, and there and back must lead to the same place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import InputError
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..register.guidance import Guidance
from ..register.run import Registration, register
from ..register.settings import RegistrationSettings
from ..report import Finding
from ..transform import Affine, Transform
from .carry_review import StructureReview, review_structures
from .drawn import Drawn
from .joint_labels import DOUBTFUL_DICE, StructureAgreement, compare, disagreement, fuse
from .modality import register_by_modality
from .soft_labels import transfer_labels

PER_CYCLE = 0.1
NOT_BETTER = 0.005
TOLERATED = 0.07
"""By how much the score may fall: see ``benchmarks/workflows/README.md`` for what right and wrong labels cost it."""


@dataclass(frozen=True)
class JointRound:
    """Attributes:
    number: 0 is by the images alone.
    score: what the images say, without a look at the labels' overlap: ``agreement`` less a tenth of ``cycle_voxels``.
    agreement: how well one image tells the other around the structures' borders, 0 to 1 (see :mod:`.carry_review`).
    cycle_voxels: how far points of the structures miss themselves after there and back.
    dice: mean over structures of own and carried labels, on both studies.
    """

    number: int
    score: float
    agreement: float
    cycle_voxels: float
    dice: float


@dataclass(frozen=True, eq=False)
class RefinedStudy:
    """One of the studies, everything on its image's grid.

    Attributes:
        own: its own labels.
        carried: those of the other study.
        fused: the proposal.
        disagreement: see :func:`~.joint_labels.disagreement`.
        structures: see :class:`~.joint_labels.StructureAgreement`, the least agreed about first.
    """

    own: Labels
    carried: Labels
    fused: Labels
    disagreement: Image
    structures: tuple[StructureAgreement, ...]


@dataclass(frozen=True, eq=False)
class Joint:
    """Attributes:
    transform: fixed RAS to moving RAS. inverse: moving RAS to fixed RAS.
    fixed, moving: what it means for either study.
    rounds: all that were tried. kept: the number of the round that everything is of.
    registration: of the kept round, fixed to moving. alone: by the images alone, for comparison.
    sentence: what came of it, and what to look at. findings: what was noticed.
    """

    transform: Transform
    inverse: Transform
    fixed: RefinedStudy
    moving: RefinedStudy
    rounds: tuple[JointRound, ...]
    kept: int
    registration: Registration
    alone: Registration
    sentence: str
    findings: tuple[Finding, ...]


def refine_jointly(
    fixed: Drawn,
    moving: Drawn,
    *,
    settings: RegistrationSettings | None = None,
    rounds: int = 2,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> Joint:
    """Register two segmented studies with the help of their labels, and say where the labels contradict each other.

    Args:
        fixed, moving: never changed.
        settings: of all registrations; None aligns roughly first and chooses by what both images show.
            ``deformable.label_weight`` is what the labels count beside the images.
        rounds: at most so many with labels; fewer when one does not make the labels agree better, or is contradicted by
            the images: its result is dropped.

    Raises:
        InputError: no structure in common, settings without a deformation, or as
            :func:`~MedSegRegLib.register.run.register`.
        NoOverlap, Diverged, FoldingError, Cancelled: as there.
    """
    _check(fixed, moving, settings)
    studies, steps = (fixed, moving), 1 + rounds
    own = tuple(transfer_labels(one.labels, one.image.geometry, Transform()) for one in studies)
    alone = _Registered.by_images(studies, settings, device, progress.part(0.0, 1 / steps)).judged(studies, own)
    best, told, terms = alone, [alone.told(0)], own
    for number in range(1, steps):
        part = progress.part(number / steps, (number + 1) / steps)
        tried = best.again(studies, terms, device, part).judged(studies, own)
        told.append(tried.told(number))
        better = told[-1].dice >= told[best.number].dice + NOT_BETTER
        if not better or told[-1].score < told[0].score - TOLERATED:
            break
        best = replace(tried, number=number)
        terms = tuple(study.fused for study in best.refined)
        if progress.wants_result():
            break
    progress.update(1.0, "done")
    first = best.ways[0]
    return Joint(
        first.transform,
        first.inverse,
        best.refined[0],
        best.refined[1],
        tuple(told),
        best.number,
        first,
        alone.ways[0],
        _describe(studies, best, told),
        first.findings,
    )


@dataclass(frozen=True, eq=False)
class _Registered:
    """Both registrations of a round, fixed to moving and moving to fixed; then what they mean for either study."""

    ways: tuple[Registration, Registration]
    number: int = 0
    refined: tuple[RefinedStudy, ...] = ()
    reviews: tuple[StructureReview, ...] = ()

    @classmethod
    def by_images(
        cls,
        studies: tuple[Drawn, Drawn],
        settings: RegistrationSettings | None,
        device: torch.device | str,
        progress: Progress,
    ) -> _Registered:
        fixed, moving = studies
        forward = register_by_modality(
            fixed.image,
            moving.image,
            settings,
            fixed_mask=fixed.mask,
            moving_mask=moving.mask,
            device=device,
            progress=progress.part(0.0, 0.5),
        )
        back = np.linalg.inv(forward.transform.linear_part)
        return cls((forward, _register(moving, fixed, back, forward, Guidance(), device, progress.part(0.5, 1.0))))

    def again(
        self,
        studies: tuple[Drawn, Drawn],
        terms: tuple[Labels, ...],
        device: torch.device | str,
        progress: Progress,
    ) -> _Registered:
        """From the same linear start, with labels as a term."""
        (fixed, moving), (ours, theirs), first = studies, terms, self.ways[0]
        there, back = first.transform.linear_part, np.linalg.inv(first.transform.linear_part)
        helped = Guidance(fixed_labels=ours, moving_labels=theirs), Guidance(fixed_labels=theirs, moving_labels=ours)
        return _Registered(
            (
                _register(fixed, moving, there, first, helped[0], device, progress.part(0.0, 0.5)),
                _register(moving, fixed, back, first, helped[1], device, progress.part(0.5, 1.0)),
            )
        )

    def judged(self, studies: tuple[Drawn, Drawn], own: tuple[Labels, ...]) -> _Registered:
        """With the labels carried both ways, reviewed and fused."""
        forward, backward = (way.transform for way in self.ways)
        fixed, moving = studies
        results = [
            _refine(moving, fixed, own[1], own[0], forward, backward),
            _refine(fixed, moving, own[0], own[1], backward, forward),
        ]
        return replace(
            self,
            refined=tuple(refined for refined, _ in results),
            reviews=tuple(review for _, reviews in results for review in reviews),
        )

    def told(self, number: int) -> JointRound:
        """The round in numbers."""
        spacing = self.refined[0].own.geometry.finest_spacing_mm
        agreement = float(np.mean([review.border_agreement or 0.0 for review in self.reviews]))
        missed = [review.cycle_mm for review in self.reviews if review.cycle_mm is not None]
        cycle = float(np.mean(missed)) / spacing if missed else 0.0
        dice = float(np.mean([row.dice for study in self.refined for row in study.structures]))
        return JointRound(number, agreement - PER_CYCLE * cycle, agreement, cycle, dice)


def _register(
    fixed: Drawn,
    moving: Drawn,
    matrix: np.ndarray,
    like: Registration,
    guidance: Guidance,
    device: torch.device | str,
    progress: Progress,
) -> Registration:
    """The dense part alone, after a linear part that is known, with the settings of another registration."""
    return register(
        fixed.image,
        moving.image,
        like.settings.model_copy(update={"linear": "none"}),
        fixed_mask=fixed.mask,
        moving_mask=moving.mask,
        initial=Transform((Affine(matrix),)),
        guidance=guidance,
        device=device,
        progress=progress,
    )


def _refine(
    source: Drawn, target: Drawn, theirs: Labels, own: Labels, transform: Transform, second: Transform
) -> tuple[RefinedStudy, tuple[StructureReview, ...]]:
    """The source's labels on the target, beside the target's own.

    Args:
        transform: target RAS to source RAS. second: source RAS to target RAS, by the other registration.
    """
    carried = transfer_labels(theirs, own.geometry, transform)
    reviews = review_structures(source.image, target.image, theirs, carried, transform, second)
    values = sorted(set(np.union1d(own.numpy(), theirs.numpy()).tolist()) - {0})
    own_weight, drawn = ({value: one.confidence_of(value) for value in values} for one in (target, source))
    carried_weight = {review.value: review.confidence * drawn[review.value] for review in reviews}
    fused = fuse(own, carried, own_weight, carried_weight)
    rows = compare(own, carried, fused, own_weight, carried_weight)
    return RefinedStudy(own, carried, fused, disagreement(own, carried), rows), reviews


def _check(fixed: Drawn, moving: Drawn, settings: RegistrationSettings | None) -> None:
    Guidance(fixed_labels=fixed.labels, moving_labels=moving.labels).check(fixed.image)
    if settings is not None and settings.deformable is None:
        raise InputError(
            "The settings have no deformation, which labels could help", "a deformable preset", "choose another preset"
        )


def _describe(studies: tuple[Drawn, Drawn], best: _Registered, told: list[JointRound]) -> str:
    fixed, moving = (study.image.name or what for study, what in zip(studies, ("the fixed", "the moving"), strict=True))
    first, last, last_tried = told[0], told[best.number], told[-1]
    if best.number:
        text = (
            f"With the labels' help {moving} fits {fixed} better: both segmentations overlap by {last.dice:.2f} "
            f"after {best.number} round{'s' if best.number > 1 else ''}, by {first.dice:.2f} with the images alone."
        )
    else:
        why = (
            "The images contradict the labels"
            if last_tried.score < first.score - TOLERATED
            else "The labels do not help"
        )
        text = f"{why}: the registration of {moving} and {fixed} is by the images alone."
    doubtful = [row.name for study in best.refined for row in study.structures if row.dice < DOUBTFUL_DICE]
    names = list(dict.fromkeys(doubtful))
    more = " and others" if len(names) > 5 else ""
    return text + (f" The segmentations contradict each other most in {', '.join(names[:5])}{more}." if names else "")
