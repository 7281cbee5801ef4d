"""The main job on the shipped samples: both walks, from files to a scene, pictures and a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table

from ..device import describe_device, pick_device
from ..evaluate.deformation import jacobian_determinant
from ..evaluate.pictures import before_after, checkerboard, jacobian_map, overlay
from ..evaluate.scores import StructureScores, compare_labels
from ..files import read_image
from ..image import Image, Labels
from ..mrml.headless import new_scene, save_scene
from ..mrml.provenance import write_provenance
from ..mrml.segmentations import write_segmentation
from ..mrml.transforms import write_transform
from ..mrml.volumes import node_from_image
from ..progress import Progress
from ..register.presets import PRESETS
from ..register.run import Registration, register
from ..resample import resample_image, resample_labels
from ..samples import sample_path
from ..segment.model import load_model
from ..segment.predict import Segmentation
from ..transform import Displacement
from ..workflows.locate import segment_anywhere
from .registration_outputs import quality_table

MODEL = "hippocampus-mr"


def run_demo(folder: Path, device: str, progress: Progress) -> Sequence[Table]:
    """Segment template and subject, register the subject to the template, carry the template's labels to the subject.

    Writes ``scene.mrb`` and the pictures into ``folder``; returns the tables to be shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    template, subject = (read_image(sample_path(name)) for name in ("icbm152-t1", "s1-t1"))
    seconds: dict[str, float] = {}
    model = load_model(MODEL, pick_device(device))
    started = time.perf_counter()
    on_template = segment_anywhere(template, model, progress=progress.part(0.0, 0.2))
    on_subject = segment_anywhere(subject, model, progress=progress.part(0.2, 0.4))
    seconds["segment both heads"] = time.perf_counter() - started
    result = register(template, subject, PRESETS["deformable"], device=model.device, progress=progress.part(0.4, 0.8))
    seconds["register (affine + deformable)"] = result.seconds
    carried = resample_labels(on_template.labels, subject.geometry, result.inverse)
    agreement = compare_labels(on_subject.labels, carried)
    progress.update(0.8, "pictures")
    _draw(folder, template, subject, result, on_template.labels, on_subject.labels, carried)
    progress.update(0.9, "scene")
    _write_scene(folder / "scene.mrb", template, subject, result, (on_template, on_subject), carried)
    return (
        _facts(model.device, seconds, result, on_subject.labels),
        quality_table(result.quality, {}),
        _agreement_table(agreement),
    )


def _draw(
    folder: Path,
    template: Image,
    subject: Image,
    result: Registration,
    on_template: Labels,
    on_subject: Labels,
    carried: Labels,
) -> None:
    moved = resample_image(subject, template.geometry, result.transform)
    affine = result.transform.stages[-1:]
    before = resample_image(subject, template.geometry, type(result.transform)(affine))
    overlay(template, on_template, folder / "template-segmentation.png", "ICBM 152: segmented")
    overlay(subject, on_subject, folder / "subject-segmentation.png", "Subject S1: segmented")
    overlay(subject, carried, folder / "subject-carried.png", "Subject S1: carried over from the template")
    before_after(template, before, moved, folder / "before-after.png")
    checkerboard(template, moved, folder / "checkerboard.png", "Template and registered subject")
    field = next(stage for stage in result.transform.stages if isinstance(stage, Displacement))
    jacobian_map(jacobian_determinant(field), field.geometry, template, folder / "jacobian.png")


def _write_scene(
    path: Path,
    template: Image,
    subject: Image,
    result: Registration,
    segmentations: tuple[Segmentation, Segmentation],
    carried: Labels,
) -> None:
    scene = new_scene()
    nodes = [node_from_image(image, scene, image.name) for image in (template, subject)]
    for image, node, segmentation in zip((template, subject), nodes, segmentations, strict=True):
        made = write_segmentation(segmentation.labels, scene, name=f"{image.name} segmentation", reference=node)
        write_provenance(made, segmentation.provenance)
    write_segmentation(carried, scene, name=f"{subject.name} carried from {template.name}", reference=nodes[1])
    write_transform(result.transform, scene, f"{subject.name} to {template.name}")
    write_transform(result.inverse, scene, f"{template.name} to {subject.name}")
    save_scene(scene, path)


def _facts(device: torch.device, seconds: dict[str, float], result: Registration, labels: Labels) -> Table:
    table = Table("what", "value", title=f"MedSegReg demo ({describe_device(device).message})")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.1f} s")
    voxel_ml = labels.geometry.voxel_volume_mm3 / 1000
    for structure in labels.structures:
        table.add_row(
            f"subject, {structure.name}", f"{float((labels.tensor == structure.value).sum()) * voxel_ml:.2f} ml"
        )
    table.add_section()
    table.add_row("registration", result.sentence)
    return table


def _agreement_table(agreement: Sequence[StructureScores]) -> Table:
    """Two methods against each other: there is no truth for this head."""
    table = Table(
        "structure",
        "segmented, ml",
        "carried, ml",
        "Dice",
        "mean distance, mm",
        title="Subject: segmented directly, and carried over from the template",
    )
    for scores in agreement:
        numbers = (scores.truth_ml, scores.prediction_ml, scores.dice, scores.assd_mm)
        table.add_row(scores.name, *("-" if number is None else f"{number:.2f}" for number in numbers))
    return table
