"""A scene without Slicer's window, and scenes on disk: where the bridge stands when no Slicer is running.

Outside Slicer it sets up what Slicer's application would: ``slicer.mrmlScene`` and the module logics as
``slicer.modules.<name>.logic()``. Inside Slicer it uses what is there.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from ..errors import (
    DamagedFile,
    FileError,
    InvalidGeometry,
    MissingPackage,
    OutputNotWritable,
    UnsafeFile,
    UnsupportedFile,
)
from ..files.images import read_image
from ..transform import Displacement
from .guards import require_node

MODULE_LOGICS = {
    "Colors": "vtkMRMLColorLogic",  # first: the display nodes that the others make ask it for their colours
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}
_alive: list[Any] = []


def start_runtime() -> Any:
    """The scene to work in: Slicer's own inside Slicer, else one that is made at the first call.

    Raises:
        MissingPackage: neither Slicer nor slicer-core is there.
    """
    slicer = _import_slicer()
    return slicer.mrmlScene if hasattr(slicer, "mrmlScene") else new_scene()


def new_scene() -> Any:
    """A fresh vtkMRMLScene with its module logics; outside Slicer it also becomes ``slicer.mrmlScene``.

    The logics serve the newest scene; an older one stays valid as a container of its nodes.

    Raises:
        MissingPackage: neither Slicer nor slicer-core is there.
    """
    slicer = _import_slicer()
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    logics = {}
    for name, class_name in MODULE_LOGICS.items():
        logic = logics[name] = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
    _alive[:] = [application, *logics.values()]
    if not hasattr(slicer, "app"):
        slicer.mrmlScene = scene
        slicer.modules = SimpleNamespace(
            **{name.lower(): SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()}
        )
    return scene


def save_scene(scene: Any, path: str | os.PathLike) -> None:
    """Write a scene with all its data: ``.mrb`` (one file), or ``.mrml`` with a folder ``Data`` beside it.

    Written aside first: a failure leaves nothing behind and a previous file as it was.

    Raises:
        UnsupportedFile: another ending.
        OutputNotWritable: no such folder, no permission, a ``Data`` folder is in the way, or a node that cannot
            be stored (no voxels, 8-bit signed voxels), with what its storage said.
    """
    path = Path(path).absolute()  # MRML refuses relative paths
    if path.suffix not in (".mrb", ".mrml"):
        raise UnsupportedFile(f"The scene file is called '{path.name}'", "an ending .mrb or .mrml", "rename the output")
    data = path.with_name("Data")
    if path.suffix == ".mrml" and data.exists():
        raise OutputNotWritable(
            f"There is already a folder '{data.name}' beside '{path.name}'",
            "a folder without it",
            "choose another folder, or save as .mrb",
        )
    with _folder_beside(path) as folder:
        bundle = folder / path.stem
        bundle.mkdir()
        _write_bundle(scene, bundle, path)
        if path.suffix == ".mrml":
            os.replace(bundle / "Data", data)
            os.replace(bundle / path.name, path)
            return
        with zipfile.ZipFile(folder / path.name, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(bundle.rglob("*")):
                archive.write(file, file.relative_to(folder))
        os.replace(folder / path.name, path)


def load_scene(path: str | os.PathLike) -> Any:
    """Read ``.mrb`` or ``.mrml`` into a fresh scene.

    A bundle is unpacked here and not by MRML, which changes the working directory and, when the file is damaged,
    leaves the process in a directory that is gone.

    Raises:
        FileError: no such file. UnsupportedFile: another ending.
        UnsafeFile: the bundle reaches outside its folder. DamagedFile: not a scene.
    """
    path = Path(path).absolute()
    if path.suffix not in (".mrb", ".mrml"):
        raise UnsupportedFile(f"The scene file is called '{path.name}'", "an ending .mrb or .mrml", "choose a scene")
    if not path.is_file():
        raise FileError(f"There is no file '{path.name}'", "a scene file", "check the path")
    if path.suffix == ".mrml":
        return _read_mrml(path)
    with tempfile.TemporaryDirectory(prefix="medsegreg-") as folder:
        scene = _read_mrml(_unpack(path, Path(folder)))
    scene.SetURL(str(path))
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLStorageNode")):
        storage = scene.GetNthNodeByClass(n, "vtkMRMLStorageNode")
        storage.SetFileName(Path(storage.GetFileName() or "").name)
    return scene


def load_volume(path: str | os.PathLike, scene: Any) -> Any:
    """Add the image of a file to the scene as a scalar volume (float32), checked by our own reader first.

    MRML's reader gives zeros for truncated files and may end the process on a damaged header.

    Raises:
        FileError: see :func:`MedSegRegLib.files.images.read_image`.
    """
    from .volumes import node_from_image  # noqa: PLC0415 - imports slicer

    image = read_image(Path(path))
    return node_from_image(image, scene, image.name or Path(path).name.split(".")[0])


def save_node(node: Any, path: str | os.PathLike) -> None:
    """Write one node (``.seg.nrrd``, ``.nii.gz``, ``.h5``, ...) by its storage node; the scene stays as it is.

    Raises:
        NodeError: no node. OutputNotWritable: as for :func:`save_scene`, or an ending that the node cannot have.
        InvalidGeometry: a sheared grid as NIfTI, which ITK would straighten without a word.
    """
    require_node(node, "vtkMRMLStorableNode")
    path = Path(path)
    storage = node.CreateDefaultStorageNode()
    if storage is None or not storage.SupportedFileType(path.name):
        raise OutputNotWritable(
            f"A {node.GetClassName()} cannot be written as '{path.name}'",
            "one of its file types",
            "choose another file ending",
        )
    _require_nifti_can_hold(node, path)
    with _folder_beside(path) as folder:
        whole = folder / path.name
        storage.SetFileName(str(whole))
        if not storage.WriteData(node) or not whole.exists():
            raise _not_written(path, storage.GetUserMessages().GetAllMessagesAsString(), folder)
        os.replace(whole, path)


def _import_slicer() -> Any:
    try:
        import slicer  # noqa: PLC0415 - this file must import without it, to say what is missing
    except ImportError as error:
        raise MissingPackage(
            "There is no 3D Slicer and no package slicer-core here",
            "one of them, for work on scenes",
            'pip install "medsegreg[scene]"',
        ) from error
    return slicer


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder on the disk of ``path``: what is written there is moved to ``path`` when it is whole."""
    try:
        with tempfile.TemporaryDirectory(prefix=".medsegreg-", dir=path.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputNotWritable(
            f"'{path.name}' cannot be written: {error.strerror}",
            "a folder with space to write to",
            "create the folder, free some space, or choose another",
        ) from error


def _require_nifti_can_hold(node: Any, path: Path) -> None:
    from . import transforms, volumes  # noqa: PLC0415 - both import slicer

    if not path.name.endswith((".nii", ".nii.gz")):
        return
    if node.IsA("vtkMRMLGridTransformNode"):
        geometries = [s.geometry for s in transforms.transform_from_node(node).stages if isinstance(s, Displacement)]
    else:
        geometries = [volumes.geometry_of_node(node)]
    if any(geometry.is_sheared for geometry in geometries):
        raise InvalidGeometry(
            f"The grid of '{node.GetName()}' is sheared",
            "axes at right angles for NIfTI",
            "save it as .nrrd, which keeps the shear",
        )


def _not_written(path: Path, messages: str, folder: Path) -> OutputNotWritable:
    said = messages.replace(str(folder), "").strip() or "its storage gave no reason"
    return OutputNotWritable(
        f"'{path.name}' was not written: {said}",
        "nodes that can be stored",
        "remove volumes without voxels; convert 8-bit signed voxels to short or float",
    )


def _write_bundle(scene: Any, bundle: Path, path: Path) -> None:
    slicer = _import_slicer()
    messages = slicer.vtkMRMLMessageCollection()
    if not scene.SaveSceneToSlicerDataBundleDirectory(str(bundle), None, messages):
        raise _not_written(path, messages.GetAllMessagesAsString(), bundle)


def _unpack(path: Path, folder: Path) -> Path:
    """The .mrml file of a bundle, unpacked into the folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts or ":" in name:
                    raise UnsafeFile(
                        f"'{path.name}' holds the entry '{name}'",
                        "entries inside its own folder",
                        "do not open this file; ask where it comes from",
                    )
            archive.extractall(folder)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DamagedFile(
            f"'{path.name}' is not a readable bundle: {error}", "a complete .mrb file", "copy or download it again"
        ) from error
    scenes = sorted(folder.glob("*.mrml")) + sorted(folder.glob("*/*.mrml"))
    if not scenes:
        raise DamagedFile(f"'{path.name}' holds no scene", "a .mrml file inside", "copy or download it again")
    return scenes[0]


def _read_mrml(path: Path) -> Any:
    scene = new_scene()
    scene.SetURL(str(path))
    if not scene.Connect():
        raise DamagedFile(
            f"'{path.name}' could not be read as a scene", "a scene that Slicer wrote", "copy or download it again"
        )
    return scene
