"""Points that Slicer's own classes wrote come back where they were placed."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from MedSegRegLib.errors import InputError
from MedSegRegLib.files import read_points

PLACES = np.array([[1.5, -2.25, 3.125], [10.0, 20.0, 30.0], [-60.5, 0.0, 1e3]])
LABELS = ["left tip", "corner, anterior", "c"]
RAS, LPS = 0, 1


@pytest.fixture
def markups(scene):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    for place, label in zip(PLACES, LABELS, strict=True):
        node.AddControlPoint(*place, label)
    return node


def save(scene, node, path, system=LPS):
    kind = "Json" if path.suffix == ".json" else "Fiducial"
    storage = scene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}StorageNode")
    storage.SetCoordinateSystem(system)
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    return path


@pytest.mark.parametrize("system", [RAS, LPS])
@pytest.mark.parametrize("extension", [".mrk.json", ".json", ".fcsv"])
def test_reads_what_slicer_saves(scene, markups, tmp_path, extension, system):
    labels, points = read_points(save(scene, markups, tmp_path / f"points{extension}", system))
    assert labels == LABELS
    np.testing.assert_allclose(points, PLACES, atol=1e-6)


@pytest.mark.parametrize("lps", [True, False])
def test_reads_the_table_that_slicer_exports(markups, tmp_path, lps):
    assert slicer.modules.markups.logic().ExportControlPointsToCSV(markups, str(tmp_path / "points.csv"), lps)
    labels, points = read_points(tmp_path / "points.csv")
    assert labels == LABELS
    np.testing.assert_allclose(points, PLACES, atol=1e-6)


@pytest.mark.parametrize("extension", [".mrk.json", ".fcsv", ".csv"])
def test_refuses_a_point_that_was_never_placed(scene, markups, tmp_path, extension):
    markups.UnsetNthControlPointPosition(1)
    path = tmp_path / f"points{extension}"
    if extension == ".csv":
        slicer.modules.markups.logic().ExportControlPointsToCSV(markups, str(path), True)
    else:
        save(scene, markups, path)
    with pytest.raises(InputError, match=r"Point 2 .*corner"):
        read_points(path)


@pytest.mark.parametrize("line", ["# CoordinateSystem = 0", "# CoordinateSystem = 1", "# nothing is said"])
def test_takes_older_files_as_slicer_takes_them(scene, tmp_path, line):
    path = tmp_path / "old.fcsv"
    path.write_text(f"# Markups fiducial file version = 4.5\n{line}\npoint_1,1.5,-2,3,0,0,0,1,1,1,0,F-1,,\n")
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    storage = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    labels, points = read_points(path)
    assert labels == ["F-1"] == [node.GetNthControlPointLabel(0)]
    np.testing.assert_allclose(points[0], node.GetNthControlPointPosition(0))
