"""Carry what was drawn on one study over to another: register both ways, carry each kind properly, say how sure it is.

The walk: registration, target to source, by what the images show (:mod:`.modality`), and a second one the other way
round -> labels (:mod:`.soft_labels`) and points -> review (:mod:`.carry_review`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..geometry import Geometry
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..register.run import Registration, register
from ..register.settings import RegistrationSettings
from ..report import Finding
from ..transform import Affine, Transform
from .carry_review import DOUBTFUL, StructureReview, review_structures
from .modality import register_by_modality
from .soft_labels import transfer_labels

FORWARD_SHARE = 0.55
REGISTERED_SHARE, CARRIED_SHARE = 0.9, 0.95


@dataclass(frozen=True, eq=False)
class CarriedPoints:
    """Points in the target.

    Attributes:
        ras: [N, 3] mm.
        disagreement_mm: [N], how far the two registrations are apart at each.
        inside: [N] bool, whether it lies in the target's field of view.
    """

    ras: np.ndarray
    disagreement_mm: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True, eq=False)
class Carried:
    """What has come over, and how.

    Attributes:
        labels: on the target's grid; None when none were given.
        points: None when none were given.
        transform: target RAS to source RAS: place the source study under it, read the source's voxels through it.
        inverse: source RAS to target RAS: what points and surfaces of the source go through.
        second: source RAS to target RAS by the registration the other way round, for comparison.
        review: each structure, the least certain first.
        registration: the first registration.
        sentence: what was carried, and what to look at.
        findings: what was noticed about inputs, on the way, and about the result.
    """

    labels: Labels | None
    points: CarriedPoints | None
    transform: Transform
    inverse: Transform
    second: Transform
    review: tuple[StructureReview, ...]
    registration: Registration
    sentence: str
    findings: tuple[Finding, ...]

    def carry_points(self, points_ras: np.ndarray, target: Geometry) -> CarriedPoints:
        """Further points [N, 3] of the source, such as the corners of a surface."""
        return _carry_points(points_ras, self.inverse, self.second, target)


def carry(
    source: Image,
    target: Image,
    *,
    labels: Labels | None = None,
    points: np.ndarray | None = None,
    settings: RegistrationSettings | None = None,
    source_mask: Labels | None = None,
    target_mask: Labels | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> Carried:
    """Carry labels and points from one study to another.

    Args:
        source, target: images that show the same anatomy, on any grids; never changed.
        labels: on any grid in the source's space.
        points: [N, 3] RAS mm in the source's space.
        settings: of both registrations; None aligns roughly first and chooses by what both images show.
        source_mask, target_mask: on the grid of their image; only voxels above 0 are looked at.
        device, progress: as in :func:`~MedSegRegLib.register.run.register`.

    Raises:
        InputError, NoOverlap, Diverged, FoldingError, Cancelled: as :func:`~MedSegRegLib.register.run.register`.
    """
    masks = source_mask, target_mask
    forward, backward = _register_both_ways(
        source, target, masks, settings, device, progress.part(0.0, REGISTERED_SHARE)
    )
    carried: Labels | None = None
    review: tuple[StructureReview, ...] = ()
    if labels is not None:
        part = progress.part(REGISTERED_SHARE, CARRIED_SHARE)
        carried = transfer_labels(labels, target.geometry, forward.transform, part)
        progress.update(CARRIED_SHARE, "reviewing")
        review = review_structures(source, target, labels, carried, forward.transform, backward.transform)
    moved = None if points is None else _carry_points(points, forward.inverse, backward.transform, target.geometry)
    progress.update(1.0, "done")
    return Carried(
        carried,
        moved,
        forward.transform,
        forward.inverse,
        backward.transform,
        review,
        forward,
        _describe(source, target, review, moved),
        (*forward.findings, *_findings(labels, review, moved)),
    )


def _register_both_ways(
    source: Image,
    target: Image,
    masks: tuple[Labels | None, Labels | None],
    settings: RegistrationSettings | None,
    device: torch.device | str,
    progress: Progress,
) -> tuple[Registration, Registration]:
    """Target to source, and source to target with the linear part of the first and a dense part of its own."""
    source_mask, target_mask = masks
    forward = register_by_modality(
        target,
        source,
        settings,
        fixed_mask=target_mask,
        moving_mask=source_mask,
        device=device,
        progress=progress.part(0.0, FORWARD_SHARE),
    )
    backward = register(
        source,
        target,
        forward.settings,
        fixed_mask=source_mask,
        moving_mask=target_mask,
        initial=Transform((Affine(forward.transform.linear_part).inverse(),)),
        device=device,
        progress=progress.part(FORWARD_SHARE, 1.0),
    )
    return forward, backward


def _carry_points(points_ras: np.ndarray, inverse: Transform, second: Transform, target: Geometry) -> CarriedPoints:
    ras, other = inverse.map_points(points_ras), second.map_points(points_ras)
    voxels = target.map_points(ras)
    inside = np.all((voxels >= -0.5) & (voxels < np.asarray(target.size_ijk) - 0.5), axis=1)
    return CarriedPoints(ras, np.linalg.norm(ras - other, axis=1), inside)


def _describe(source: Image, target: Image, review: tuple[StructureReview, ...], points: CarriedPoints | None) -> str:
    what = [f"{len(review)} structures"] if review else []
    if points is not None:
        apart = points.disagreement_mm
        what.append(f"{len(apart)} points (two registrations are {apart.mean():.1f} mm apart on average)")
    doubtful = [structure.name for structure in review if structure.confidence < DOUBTFUL]
    look = f" Look first at {', '.join(doubtful[:5])}{' and others' if doubtful[5:] else ''}." if doubtful else ""
    return (
        f"Carried {' and '.join(what) or 'nothing but the transform'} from {source.name or 'the source'} to "
        f"{target.name or 'the target'}.{look}"
    )


def _findings(
    labels: Labels | None, review: tuple[StructureReview, ...], points: CarriedPoints | None
) -> list[Finding]:
    found = []
    if labels is not None and not review:
        found.append(Finding.warn("The labels are empty", "Choose the segmentation that belongs to the source study."))
    lost = [structure.name for structure in review if structure.target_ml == 0]
    if lost:
        found.append(
            Finding.warn(
                f"Nothing of {', '.join(lost)} lies in the target", "Check that the target shows the same anatomy."
            )
        )
    if points is not None and not points.inside.all():
        found.append(
            Finding.warn(
                f"{int((~points.inside).sum())} of {len(points.inside)} points lie outside the target's field of view",
                "Check that the target shows the same anatomy.",
            )
        )
    return found
