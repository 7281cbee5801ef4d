"""Label maps through files, and through Slicer's own segmentation storage."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegRegLib.errors import DimensionError, InputError
from MedSegRegLib.files import LABEL_EXTENSIONS, VOLUME_EXTENSIONS, read_labels, write_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Code, Labels, Structure

ROTATION = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
OBLIQUE = Geometry.from_spacing((9, 8, 7), (0.7, 1.5, 3.0), (-31.5, 12.25, 80.0), ROTATION)
LEFT_HANDED = Geometry.from_spacing((9, 8, 7), (0.7, 1.5, 3.0), (-31.5, 12.25, 80.0), ROTATION * (1, 1, -1))
LIVER = Structure(2, "Leber, rechts: äöü", (0.8, 0.2, 0.1), Code("SCT", "10200004", "Liver"))
KIDNEY = Structure(
    5, "kidney", (0.2, 0.6, 0.4), Code("SCT", "64033007", "Kidney"), modifier=Code("SCT", "7771000", "Left")
)
LESION = Structure(
    7,
    "lesion",
    (1.0, 1.0, 0.0),
    Code("SCT", "52988006", "Lesion"),
    Code("SCT", "49755003", "Morphologically Altered Structure"),
)


def two_organs(grid=OBLIQUE, structures=(LIVER, KIDNEY, LESION)):
    array = np.zeros((7, 8, 9), np.uint8)
    array[1:4, 2:5, 3:6], array[4:6, 5:7, 1:3], array[6, 7, 8] = 2, 5, 7
    return Labels.from_array(array, grid, structures, "organs")


def slicer_segmentation(path):
    slicer = importlib.import_module("slicer")
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.ReadData(node) == 1
    return scene, node


@pytest.mark.parametrize("grid", [OBLIQUE, LEFT_HANDED], ids=["oblique", "left-handed"])
def test_segmentation_comes_back_with_names_colours_and_codes(tmp_path, grid):
    labels = two_organs(grid)
    write_labels(labels, tmp_path / "organs.seg.nrrd")
    back = read_labels(tmp_path / "organs.seg.nrrd")
    assert np.array_equal(back.numpy(), labels.numpy())
    assert back.geometry.same_grid(grid, 1e-6)
    assert back.structures == labels.structures
    assert back.name == "organs"


@pytest.mark.parametrize("grid", [OBLIQUE, LEFT_HANDED], ids=["oblique", "left-handed"])
def test_slicer_loads_the_segmentation(tmp_path, grid):
    labels = two_organs(grid)
    write_labels(labels, tmp_path / "organs.seg.nrrd")
    _scene, node = slicer_segmentation(tmp_path / "organs.seg.nrrd")
    slicer = importlib.import_module("slicer")
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 3
    for n, s in enumerate(labels.structures):
        segment = segmentation.GetNthSegment(n)
        assert segment.GetName() == s.name
        assert np.allclose(segment.GetColor(), s.color, atol=1e-5)
        assert segment.GetLabelValue() == s.value
        assert f"~SCT^{s.code.value}^{s.code.meaning}~" in segment.GetTerminology()
        assert segment.GetTerminology().split("~")[1].split("^")[1] == s.category.value
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(segmentation.GetNthSegmentID(n), image)
        assert _points(image, slicer) == _our_points(labels, s.value)


def _points(image, slicer):
    """World positions (rounded to 0.01 mm) of the voxels that Slicer holds for one segment."""
    matrix = importlib.import_module("vtkmodules.vtkCommonMath").vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    to_numpy = importlib.import_module("vtkmodules.util.numpy_support").vtk_to_numpy
    array = to_numpy(image.GetPointData().GetScalars()).reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
    kji = np.argwhere(array == 1) if array.max() == 1 else np.argwhere(array > 0)
    m = slicer.util.arrayFromVTKMatrix(matrix)
    return _rounded((kji[:, ::-1] + (i0, j0, k0)) @ m[:3, :3].T + m[:3, 3])


def _our_points(labels, value):
    return _rounded(labels.geometry.map_voxels(np.argwhere(labels.numpy() == value)[:, ::-1]))


def _rounded(points):
    return sorted(map(tuple, (np.round(points, 2) + 0.0).tolist()))


def slicer_file(path, boxes):
    """A segmentation saved by Slicer's own code; boxes {name: extent} overlap or not."""
    slicer = importlib.import_module("slicer")
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for name, (start, stop) in boxes.items():
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(10, 10, 10)
        image.AllocateScalars(importlib.import_module("vtkmodules.util.vtkConstants").VTK_UNSIGNED_CHAR, 1)
        image.GetPointData().GetScalars().Fill(0)
        for n in range(start, stop):
            image.SetScalarComponentFromDouble(n, 4, 5, 0, 1)
        node.AddSegmentFromBinaryLabelmapRepresentation(image, name, (0.5, 0.25, 0.0))
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.WriteData(node) == 1
    return path


def test_reads_layers_of_slicer_that_do_not_overlap(tmp_path):
    labels = read_labels(slicer_file(tmp_path / "x.seg.nrrd", {"a": (1, 3), "b": (5, 8)}))
    assert [s.name for s in labels.structures] == ["a", "b"]
    a, b = (s.value for s in labels.structures)
    assert [int((labels.numpy() == v).sum()) for v in (a, b)] == [2, 3]


def test_overlapping_segments_of_slicer_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"'b' overlaps \['a'\]"):
        read_labels(slicer_file(tmp_path / "x.seg.nrrd", {"a": (1, 6), "b": (5, 8)}))


@pytest.mark.parametrize("second_start", [3, 1])
def test_several_layers_are_merged_unless_they_overlap(tmp_path, second_start):
    first, second = np.zeros((2, 4, 5, 6), np.uint8)
    first[0, 0, :3], second[0, 0, second_start:5] = 1, 1
    layers = sitk.Compose([sitk.GetImageFromArray(a) for a in (first, second)])
    for n in (0, 1):
        for key, value in {
            "ID": f"s{n}",
            "Name": f"s{n}",
            "Layer": str(n),
            "LabelValue": "1",
            "Color": "1 0 0",
        }.items():
            layers.SetMetaData(f"Segment{n}_{key}", value)
    path = tmp_path / "x.seg.nrrd"
    sitk.WriteImage(layers, str(path))
    path.write_bytes(path.read_bytes().replace(b"kinds: vector domain", b"kinds: list domain"))
    if second_start == 1:
        with pytest.raises(InputError, match="overlaps"):
            read_labels(path)
    else:
        assert read_labels(path).numpy()[0, 0].tolist() == [1, 1, 1, 2, 2, 0]


@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
def test_plain_label_map_gets_generic_names(tmp_path, extension):
    write_labels(two_organs(), tmp_path / f"x{extension}")
    back = read_labels(tmp_path / f"x{extension}")
    assert np.array_equal(back.numpy(), two_organs().numpy())
    assert [(s.value, s.name) for s in back.structures] == [(2, "label 2"), (5, "label 5"), (7, "label 7")]
    assert len({s.color for s in back.structures}) == 3


def test_value_without_structure_is_written_with_a_generic_name(tmp_path):
    write_labels(two_organs(structures=(LIVER,)), tmp_path / "x.seg.nrrd")
    assert [s.name for s in read_labels(tmp_path / "x.seg.nrrd").structures] == [LIVER.name, "label 5", "label 7"]


@pytest.mark.parametrize(("value", "kind"), [(255, sitk.sitkUInt8), (300, sitk.sitkUInt16), (70000, sitk.sitkInt32)])
@pytest.mark.parametrize("extension", LABEL_EXTENSIONS)
def test_large_values_are_never_wrapped(tmp_path, value, kind, extension):
    array = np.zeros((2, 3, 4), np.int32)
    array[0, 0, 0] = value
    write_labels(Labels.from_array(array, Geometry.from_spacing((4, 3, 2))), tmp_path / f"x{extension}")
    assert sitk.ReadImage(str(tmp_path / f"x{extension}")).GetPixelID() == kind
    assert read_labels(tmp_path / f"x{extension}").numpy().max() == value


@pytest.mark.parametrize("values", [[0.5, 1.0], [-1.0, 2.0], [np.nan, 1.0]], ids=["fraction", "negative", "NaN"])
def test_image_given_as_label_map_is_refused(tmp_path, values):
    sitk.WriteImage(sitk.GetImageFromArray(np.array([[values]], np.float32)), str(tmp_path / "x.nii.gz"))
    with pytest.raises(InputError):
        read_labels(tmp_path / "x.nii.gz")


def test_float_label_map_is_read(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.array([[[0, 502.0]]], np.float32)), str(tmp_path / "x.nii.gz"))
    assert read_labels(tmp_path / "x.nii.gz").numpy().tolist() == [[[0, 502]]]


def test_time_series_of_labels_is_refused(tmp_path):
    frame = sitk.Image([4, 5, 6], sitk.sitkUInt8)
    sitk.WriteImage(sitk.JoinSeries([frame, frame]), str(tmp_path / "x.nii.gz"))
    with pytest.raises(DimensionError):
        read_labels(tmp_path / "x.nii.gz")


def test_code_that_would_break_the_terminology_text_is_refused(tmp_path):
    broken = Structure(2, "x", code=Code("SCT", "1", "a~b"))
    with pytest.raises(InputError):
        write_labels(two_organs(structures=(broken,)), tmp_path / "x.seg.nrrd")
    assert list(tmp_path.iterdir()) == []


def test_two_structures_of_one_value_are_refused(tmp_path):
    with pytest.raises(InputError, match="different value"):
        write_labels(two_organs(structures=(LIVER, LIVER)), tmp_path / "x.seg.nrrd")
