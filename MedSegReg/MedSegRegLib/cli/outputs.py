"""Writing results of the commands: label files, or scenes that 3D Slicer opens."""

from __future__ import annotations

from pathlib import Path

from ..files import write_labels
from ..image import Image
from ..register.run import Registration
from ..segment.predict import Segmentation


def write_segmentation_result(result: Segmentation, source: Image, output: Path) -> None:
    """A label file, or an ``.mrb`` scene with the image and its segmentation node."""
    if output.suffix != ".mrb":
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


def write_registration_scene(result: Registration, fixed: Image, moving: Image, output: Path) -> None:
    """An ``.mrb`` scene: both images, the moving one under the transform, and the inverse transform beside it."""
    from ..mrml.headless import new_scene, save_scene
    from ..mrml.transforms import write_transform
    from ..mrml.volumes import node_from_image

    scene = new_scene()
    node_from_image(fixed, scene, fixed.name)
    moving_node = node_from_image(moving, scene, moving.name)
    node = write_transform(result.transform, scene, f"{moving.name} to {fixed.name}")
    write_transform(result.inverse, scene, f"{fixed.name} to {moving.name} (inverse)")
    moving_node.SetAndObserveTransformNodeID(node.GetID())
    save_scene(scene, output)
