"""Scenes -> data to train on, in nnU-Net's raw layout: a case for each segmentation, with the volume under it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ..errors import DatasetError, MedSegRegError
from ..files import write_image, write_labels
from ..files.atomic import require_space
from ..image import Image, Labels
from ..progress import SILENT, Progress
from .headless import load_scene
from .segmentations import labels_from_segmentation
from .volumes import image_from_node

SCENES = (".mrb", ".mrml")
ENDING = ".nrrd"  # keeps sheared grids, which NIfTI does not
Found = tuple[str, Image, Labels]


def find_scenes(data: Path) -> list[Path]:
    """A scene file, or the scene files in a folder; empty where there is none."""
    if data.is_file():
        return [data] if data.suffix in SCENES else []
    return sorted(path for path in data.glob("*") if path.suffix in SCENES) if data.is_dir() else []


def write_training_cases(
    scenes: Sequence[Path], folder: Path, structures: Sequence[str] = (), progress: Progress = SILENT
) -> None:
    """Write ``imagesTr``, ``labelsTr`` and ``dataset.json`` from scenes; complete, or not at all.

    Segments of one name are one label in all scenes. The volume of a segmentation is the one that its geometry refers
    to, else the only one of its scene.

    Args:
        folder: a new one.
        structures: names of the labels 1, 2, ...; empty: the segments' names in the order in which they are found.

    Raises:
        DatasetError: all faults of all scenes at once: unreadable, no segmentation, no volume of its own, a segment
            whose name is not asked for, two segments of one name.
        OutputNotWritable: no space.
    """
    names, faults = list(structures), []
    written: list[str] = []
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        for number, path in enumerate(scenes):
            progress.update(number / len(scenes), f"reading {path.name}")
            try:
                for name, image, labels in _cases_of_scene(path):
                    names += [s.name for s in labels.structures if not structures and s.name not in names]
                    _write_case(Path(temporary), name, image, _renumbered(labels, names))
                    written.append(name)
            except MedSegRegError as error:
                faults.append(f"{path.name}: {error}")
        if faults or not written:
            raise DatasetError(
                "\n  ".join([f"{len(faults)} of {len(scenes)} scenes have faults:", *faults, ""]),
                "scenes with a volume and its segmentation",
                "correct or remove these scenes",
            )
        content = {
            "channel_names": {"0": "image"},
            "labels": {"background": 0, **{name: value for value, name in enumerate(names, start=1)}},
            "numTraining": len(written),
            "file_ending": ENDING,
        }
        (Path(temporary) / "dataset.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        folder.mkdir()
        for part in Path(temporary).iterdir():
            part.rename(folder / part.name)


def _cases_of_scene(path: Path) -> list[Found]:
    scene = load_scene(path)
    nodes = _nodes(scene, "vtkMRMLSegmentationNode")
    if not nodes:
        raise DatasetError("There is no segmentation", "one or more", "segment the image, or remove the scene")
    found = []
    for node in nodes:
        image = image_from_node(_volume_of(node, scene))
        name = path.stem if len(nodes) == 1 else f"{path.stem}-{node.GetName()}"
        found.append((name.replace("/", "-"), image, labels_from_segmentation(node, image.geometry)))
    return found


def _volume_of(node: Any, scene: Any) -> Any:
    volume = node.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())
    if volume is not None:
        return volume
    volumes = [one for one in _nodes(scene, "vtkMRMLScalarVolumeNode") if not one.IsA("vtkMRMLLabelMapVolumeNode")]
    if len(volumes) != 1:
        raise DatasetError(
            f"'{node.GetName()}' names no volume that it was made on, and there are {len(volumes)}",
            "a source volume",
            "choose the source volume in the Segment Editor, and save the scene again",
        )
    return volumes[0]


def _renumbered(labels: Labels, names: Sequence[str]) -> Labels:
    """The labels with the values that all scenes share."""
    own = [structure.name for structure in labels.structures]
    if len(set(own)) < len(own) or set(own) - set(names):
        raise DatasetError(
            f"The segments are {', '.join(own)}", f"some of {', '.join(names)}, each once", "rename or remove segments"
        )
    array = np.zeros(labels.geometry.shape_kji, np.int32)
    for structure in labels.structures:
        array[labels.numpy() == structure.value] = names.index(structure.name) + 1
    return Labels.from_array(array, labels.geometry, (), labels.name)


def _write_case(folder: Path, name: str, image: Image, labels: Labels) -> None:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(exist_ok=True)
    require_space(folder / "imagesTr", image.tensor.nbytes)
    write_image(image, folder / "imagesTr" / f"{name}_0000{ENDING}")
    write_labels(labels, folder / "labelsTr" / f"{name}{ENDING}")


def _nodes(scene: Any, class_name: str) -> list[Any]:
    return [scene.GetNthNodeByClass(n, class_name) for n in range(scene.GetNumberOfNodesByClass(class_name))]
