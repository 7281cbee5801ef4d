"""A template of N studies: their mean shape, and the mean of what they show. The companion of :mod:`.atlas`.

The walk: a first study -> linear registrations -> mean -> rounds of (register each study to the mean, take the mean of
all shapes, mean the images there) until it stays the same (Guimond et al., CVIU 2000; Avants et al., NeuroImage 2010),
with the averages of :mod:`.mean_shape`. Labels follow in the end. No study is favoured, not even the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..check_image import Need, check_image
from ..errors import InputError
from ..geometry import Geometry
from ..image import Image, Labels, Structure
from ..progress import SILENT, Progress
from ..register.invert import invert
from ..register.presets import PRESETS
from ..register.run import register
from ..register.settings import RegistrationSettings
from ..report import Finding
from ..transform import Affine, Transform
from .atlas import fuse_votes
from .mean_shape import mean_image, mean_shape, motion_mm, normalised, sharpness
from .soft_labels import transfer_labels

SHARED_BY = 0.5
SETTLED_VOXELS = 0.1
SETTLED_CHANGE = 0.02
AFFINE_SHARE, LABELS_SHARE = 0.15, 0.95


@dataclass(frozen=True)
class TemplateRound:
    """Attributes:
    number: 0 is the mean after the linear registrations.
    shape_mm: how far the template moved to the mean shape, mean over its field of view.
    change: root mean square difference to the template before, as a part of its contrast; None in round 0.
    sharpness: root mean square gradient per mm; intensities run from about 0 to 100.
    """

    number: int
    shape_mm: float
    change: float | None
    sharpness: float


@dataclass(frozen=True, eq=False)
class Template:
    """Attributes:
    image: the mean of the studies, on a grid over their median field of view; 0 where no study reaches.
    mask: 1 where at least half of the studies reach.
    labels: at each voxel the structure of most studies; None without labels.
    probabilities: [structures, K, J, I], the share of the studies that have each structure there; None without.
    transforms: template RAS to study RAS, one a study.
    inverses: study RAS to template RAS.
    rounds: how it went.
    findings: what was noticed, with the study it concerns.
    """

    image: Image
    mask: Labels
    labels: Labels | None
    probabilities: Image | None
    transforms: tuple[Transform, ...]
    inverses: tuple[Transform, ...]
    rounds: tuple[TemplateRound, ...]
    findings: tuple[Finding, ...]


def build_template(
    studies: Sequence[Image],
    labels: Sequence[Labels] = (),
    *,
    settings: RegistrationSettings = PRESETS["deformable"],
    rounds: int = 4,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> Template:
    """The mean of studies that show the same anatomy with the same contrast.

    Args:
        studies: two or more, of one channel, on any grids; never changed.
        labels: none, or one a study in the same order; values mean the same in all of them.
        settings: of the registrations; the linear part alone comes first.
        rounds: at most so many; fewer when the template stays the same. A job that is asked to stop and keep ends
            after its round.

    Raises:
        InputError: fewer than two studies, not one label map a study, an image that cannot be worked on.
        NoOverlap, Diverged, FoldingError, Cancelled: as :func:`~MedSegRegLib.register.run.register`.
    """
    findings = _check(studies, labels)
    means = [normalised(study) for study in studies]
    walk = _Averaging(means, torch.device(device))
    state, first = walk.begin(settings, progress.part(0.0, AFFINE_SHARE))
    told = [first]
    for number in range(1, rounds + 1):
        start, stop = (AFFINE_SHARE + (LABELS_SHARE - AFFINE_SHARE) * n / rounds for n in (number - 1, number))
        state, report, noticed = walk.refine(state, settings, number, progress.part(start, stop))
        told.append(report)
        findings += [finding for finding in noticed if finding not in findings]
        if _settled(report, state.image.geometry) or progress.wants_result():
            break
    progress.update(LABELS_SHARE, "averaging the labels")
    mean_labels, probabilities = _mean_labels(labels, state)
    progress.update(1.0, "done")
    mask = Labels(state.shared.to(torch.uint8), state.image.geometry, (Structure(1, "field of view"),), "mask")
    return Template(
        state.image, mask, mean_labels, probabilities, state.transforms, state.inverses, tuple(told), tuple(findings)
    )


@dataclass(frozen=True, eq=False)
class _State:
    """A template on its way; ``shared`` [K, J, I]: where at least half of the studies reach."""

    image: Image
    shared: torch.Tensor
    transforms: tuple[Transform, ...]
    inverses: tuple[Transform, ...]


@dataclass(frozen=True, eq=False)
class _Averaging:
    """The studies, intensities normalised, and where to compute."""

    studies: Sequence[Image]
    device: torch.device

    def begin(self, settings: RegistrationSettings, progress: Progress) -> tuple[_State, TemplateRound]:
        """All studies in the mean of their positions and sizes, seen from the first."""
        linear = settings.model_copy(update={"deformable": None})
        first, ways = self.studies[0], [Transform((Affine(np.eye(4)),))]
        for number, study in enumerate(self.studies[1:]):
            part = progress.part(number / len(self.studies), (number + 1) / len(self.studies))
            ways.append(register(first, study, linear, device=self.device, progress=part).transform)
        centred = Affine(mean_shape(ways).linear_part).inverse()
        transforms = tuple(Transform((Affine(way.linear_part @ centred.matrix),)) for way in ways)
        inverses = tuple(Transform((Affine(way.linear_part).inverse(),)) for way in transforms)
        state = self._mean(transforms, inverses, _median_grid(self.studies, inverses))
        return state, TemplateRound(0, 0.0, None, sharpness(state.image, state.shared))

    def refine(
        self, before: _State, settings: RegistrationSettings, number: int, progress: Progress
    ) -> tuple[_State, TemplateRound, list[Finding]]:
        """Every study registered to the template, the template in their mean shape and made of them."""
        mask = Labels(before.shared.to(torch.uint8), before.image.geometry)
        ways, backs = [], []
        findings: list[Finding] = []
        for place, (study, way) in enumerate(zip(self.studies, before.transforms, strict=True)):
            found = register(
                before.image,
                study,
                settings.model_copy(update={"linear_search": False}),
                fixed_mask=mask,
                initial=Transform((Affine(way.linear_part),)),
                device=self.device,
                progress=progress.part(place / len(self.studies), (place + 1) / len(self.studies)),
            )
            ways.append(found.transform)
            backs.append(found.inverse)
            findings += found.findings
        shape = mean_shape(ways)
        centre = invert(shape)
        transforms, inverses = tuple(centre.then(way) for way in ways), tuple(back.then(shape) for back in backs)
        after = self._mean(transforms, inverses, before.image.geometry)
        report = TemplateRound(
            number, motion_mm(shape), _change(before, after), sharpness(after.image, after.shared & before.shared)
        )
        return after, report, findings

    def _mean(self, transforms: tuple[Transform, ...], inverses: tuple[Transform, ...], grid: Geometry) -> _State:
        image, count = mean_image(self.studies, transforms, grid)
        return _State(image, count >= SHARED_BY * len(self.studies), transforms, inverses)


def _check(studies: Sequence[Image], labels: Sequence[Labels]) -> list[Finding]:
    if len(studies) < 2:
        raise InputError(f"There are {len(studies)} studies", "two or more", "choose more studies")
    if labels and len(labels) != len(studies):
        raise InputError(
            f"There are {len(studies)} studies and {len(labels)} label maps",
            "one label map for each study, or none",
            "give the labels of every study",
        )
    need = Need("template", channels=1, minimum_size=4)
    return [finding for study in studies for finding in check_image(study, need)[1]]


def _median_grid(studies: Sequence[Image], inverses: Sequence[Transform]) -> Geometry:
    """Along the first study's axes, of the usual spacing, over the median field of view in the template's space."""
    axes = studies[0].geometry.directions
    boxes = [
        way.map_points(study.geometry.corners_ras()) @ np.linalg.inv(axes).T
        for study, way in zip(studies, inverses, strict=True)
    ]
    low = np.median([box.min(axis=0) for box in boxes], axis=0)
    high = np.median([box.max(axis=0) for box in boxes], axis=0)
    spacing = float(np.median([study.geometry.finest_spacing_mm for study in studies]))
    i, j, k = np.maximum(1, np.rint((high - low) / spacing)).astype(int).tolist()
    first = (low + high) / 2 - spacing * (np.array([i, j, k]) - 1) / 2
    return Geometry.from_spacing((i, j, k), (spacing,) * 3, axes @ first, axes)


def _change(before: _State, after: _State) -> float:
    both = before.shared & after.shared
    if not bool(both.any()):
        return 1.0
    one, other = (state.image.tensor[0][both] for state in (before, after))
    return float((one - other).square().mean().sqrt() / other.std().clamp_min(1e-6))


def _settled(report: TemplateRound, grid: Geometry) -> bool:
    change = 1.0 if report.change is None else report.change
    return report.shape_mm < SETTLED_VOXELS * grid.finest_spacing_mm and change < SETTLED_CHANGE


def _mean_labels(labels: Sequence[Labels], state: _State) -> tuple[Labels | None, Image | None]:
    """The labels of most studies, and the share of each structure."""
    if not labels:
        return None, None
    grid = state.image.geometry
    votes = [
        transfer_labels(drawn, grid, way).tensor.int() for drawn, way in zip(labels, state.transforms, strict=True)
    ]
    structures = {s.value: s for drawn in reversed(labels) for s in drawn.structures}
    values = sorted(set(torch.cat([vote.unique() for vote in votes]).tolist()) - {0})
    named = tuple(structures.get(value, Structure(value, f"label {value}")) for value in values)
    winner, _ = fuse_votes(votes, [torch.ones(()).expand(grid.shape_kji)] * len(votes))
    shares = [torch.stack([(vote == value).float() for vote in votes]).mean(dim=0) for value in values]
    channels = torch.stack(shares) if shares else torch.zeros((1, *grid.shape_kji))
    names = tuple(structure.name for structure in named)
    return (
        Labels.from_array(winner.numpy(), grid, named, "template labels"),
        Image(channels, grid, "template probabilities", names),
    )
