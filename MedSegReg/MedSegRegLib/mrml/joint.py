"""What two segmented studies learned from each other, into the scene: the result of ``workflows.joint`` as nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..image import Image, Labels
from ..transform import Transform
from .color_tables import color_table
from .provenance import write_provenance
from .review_links import link_review
from .segmentations import write_segmentation
from .studies import place_beside
from .tables import write_table
from .transforms import write_transform
from .undo import one_undo_step
from .volumes import node_from_image

COLORS = "MedSegReg disagreement"
FAR_MM = 10.0
SHADES = {0.0: (1.0, 0.96, 0.62), FAR_MM / 2: (0.98, 0.55, 0.12), FAR_MM: (0.86, 0.08, 0.10)}
SHOWN_MM = 0.1

Columns = Mapping[str, Sequence[str] | Sequence[float]]


@dataclass(frozen=True, eq=False)
class StudyFindings:
    """What is known about one study afterwards.

    Attributes:
        volume: its node.
        carried, fused: the other study's labels on its grid, and the proposal.
        disagreement: mm, 0 where its own and the carried labels agree.
        structures: columns, the first of which names structures.
    """

    volume: Any
    carried: Labels
    fused: Labels
    disagreement: Image
    structures: Columns


@dataclass(frozen=True, eq=False)
class StudyNodes:
    """What was added beside one study; ``table`` knows ``proposal``, see :mod:`.review_links`."""

    proposal: Any
    carried: Any
    disagreement: Any
    table: Any


def write_joint(
    fixed: StudyFindings,
    moving: StudyFindings,
    transform: Transform,
    inverse: Transform,
    facts: Mapping[str, Any],
) -> tuple[StudyNodes, StudyNodes]:
    """Add everything to the scene in one undo step; the studies and their own segmentations stay as they are.

    Args:
        transform: fixed to moving RAS: the moving volume may be placed under its node.
        inverse: moving to fixed RAS.
        facts: for the nodes' attributes.
    """
    scene = fixed.volume.GetScene()
    names = fixed.volume.GetName(), moving.volume.GetName()
    with one_undo_step(scene):
        for way, title in (
            (transform, f"{names[1]} to {names[0]}"),
            (inverse, f"{names[0]} to {names[1]} (inverse)"),
        ):
            node = write_transform(way, scene, title)
            place_beside(node, fixed.volume)
            write_provenance(node, facts)
        return _write_study(fixed, names[1], facts), _write_study(moving, names[0], facts)


def _write_study(study: StudyFindings, other: str, facts: Mapping[str, Any]) -> StudyNodes:
    volume = study.volume
    scene, name = volume.GetScene(), volume.GetName()
    proposal = write_segmentation(study.fused, scene, name=f"{name} proposal", reference=volume)
    carried = write_segmentation(study.carried, scene, name=f"{name} carried from {other}", reference=volume)
    carried.GetDisplayNode().SetVisibility(False)
    disagreement = node_from_image(study.disagreement, scene, f"{name} disagreement")
    _colour(disagreement)
    table = write_table(scene, f"{name} agreement", study.structures)
    link_review(table, proposal)
    for node in (proposal, carried, disagreement, table):
        place_beside(node, volume)
        write_provenance(node, facts)
    return StudyNodes(proposal, carried, disagreement, table)


def _colour(node: Any) -> None:
    """In front of the image it colours what is in question, and nothing else."""
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, FAR_MM)
    display.SetAndObserveColorNodeID(color_table(node.GetScene(), COLORS, SHADES).GetID())
    display.AutoThresholdOff()
    display.SetLowerThreshold(SHOWN_MM)
    display.ApplyThresholdOn()
