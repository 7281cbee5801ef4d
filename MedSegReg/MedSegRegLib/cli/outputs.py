"""Writing a segmentation: a label file, or a scene that 3D Slicer opens."""

from __future__ import annotations

from pathlib import Path

from ..files import write_labels
from ..image import Image
from ..segment.predict import Segmentation

SCENE = ".mrb"


def write_segmentation_result(result: Segmentation, source: Image, output: Path) -> None:
    """A label file, or an ``.mrb`` scene with the image and its segmentation node."""
    if output.suffix != SCENE:
        write_labels(result.labels, output)
        return
    from ..mrml.headless import new_scene, save_scene
    from ..mrml.provenance import write_provenance
    from ..mrml.segmentations import write_segmentation
    from ..mrml.volumes import node_from_image

    scene = new_scene()
    volume = node_from_image(source, scene, source.name)
    node = write_segmentation(result.labels, scene, name=f"{source.name} segmentation", reference=volume)
    write_provenance(node, result.provenance)
    save_scene(scene, output)
