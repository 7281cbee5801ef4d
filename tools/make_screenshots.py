"""Draw the scene of ``medsegreg demo`` as Slicer's own views show it, for the README and the Extensions Index.

    pip install "trame-slicer[standalone]" pillow       # in an environment of its own; also libegl1 and libgl1-mesa-dri
    VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow python tools/make_screenshots.py demo/scene.mrb

Writes ``Resources/Screenshots/segment.png`` and ``register.png``.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import slicer
import vtk
from PIL import Image
from trame_slicer.core import SlicerApp
from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition, ViewProps, ViewType
from vtk.util.numpy_support import vtk_to_numpy

SCREENSHOTS = Path(__file__).parents[1] / "Resources" / "Screenshots"
SIZE = 520


def open_scene(path: Path) -> SlicerApp:
    """A Slicer application without a window, with the scene of an .mrb file."""
    app = SlicerApp()
    slicer.mrmlScene = app.scene
    folder = Path(tempfile.mkdtemp())
    with zipfile.ZipFile(path) as bundle:
        bundle.extractall(folder)
    app.scene.SetURL(str(next(folder.rglob("*.mrml"))))
    if not app.scene.Connect():
        raise SystemExit(f"{path} is not a scene")
    app.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
    return app


def grab(view) -> np.ndarray:
    """The pixels of a view, [rows, columns, 3]."""
    view.render()
    source = vtk.vtkWindowToImageFilter()
    source.SetInput(view.render_window())
    source.ReadFrontBufferOff()
    source.Update()
    image = source.GetOutput()
    columns, rows, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1, :, :3]


def slice_view(app: SlicerApp, name: str, orientation: str, position_mm: float, background, foreground=None):
    """A slice view with one volume, or two blended."""
    view = app.view_manager.create_view(
        ViewLayoutDefinition(name, ViewType.SLICE_VIEW, ViewProps(orientation=orientation))
    )
    view.set_background_volume_id(background.GetID())
    if foreground is not None:
        view.set_foreground_volume_id(foreground.GetID())
        view.set_foreground_opacity(0.5)
    view.update_size(SIZE, SIZE)
    view.fit_view_to_content()
    view.set_slice_value(position_mm)
    return view


def named(class_name: str, name: str):
    """The node of this class and name."""
    return next(node for node in slicer.util.getNodesByClass(class_name) if node.GetName() == name)


def draw_segmentation(app: SlicerApp) -> list[np.ndarray]:
    """Three slices and the surfaces of the subject's hippocampi."""
    subject = named("vtkMRMLScalarVolumeNode", "s1-t1")
    shown = named("vtkMRMLSegmentationNode", "s1-t1 segmentation")
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        node.GetDisplayNode().SetVisibility(node is shown)
    shown.CreateClosedSurfaceRepresentation()
    planes = (("Axial", -16.0), ("Coronal", 29.0), ("Sagittal", 30.0))
    pictures = [grab(slice_view(app, f"S{plane}", plane, position, subject)) for plane, position in planes]
    space = app.view_manager.create_view(ViewLayoutDefinition("ThreeD", ViewType.THREE_D_VIEW, ViewProps()))
    space.update_size(SIZE, SIZE)
    space.fit_view_to_content()
    pictures.append(grab(space))
    shown.GetDisplayNode().SetVisibility(False)
    return pictures


def draw_registration(app: SlicerApp) -> list[np.ndarray]:
    """Template and subject blended, before and after the subject is put under the transform node."""
    template, subject = (named("vtkMRMLScalarVolumeNode", name) for name in ("icbm152-t1", "s1-t1"))
    transform = named("vtkMRMLTransformNode", "s1-t1 to icbm152-t1")
    pictures = []
    for state, parent in (("before", None), ("after", transform.GetID())):
        subject.SetAndObserveTransformNodeID(parent)
        for plane, position in (("Axial", 5.0), ("Coronal", -20.0)):
            pictures.append(grab(slice_view(app, f"R{state}{plane}", plane, position, template, subject)))
    return pictures


if __name__ == "__main__":
    opened = open_scene(Path(sys.argv[1]))
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for file_name, drawn in (("segment.png", draw_segmentation(opened)), ("register.png", draw_registration(opened))):
        picture = Image.fromarray(np.ascontiguousarray(np.concatenate(drawn, axis=1)))
        picture.thumbnail((1600, 1600))
        picture.save(SCREENSHOTS / file_name, optimize=True)
