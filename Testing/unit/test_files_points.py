"""Lists of points in plain tables, and everything that is not one. What Slicer writes is in ``mrml``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from MedSegRegLib.errors import DamagedFile, FileError, UnsupportedFile
from MedSegRegLib.files import read_points, write_points


def markups(**changes):
    points = {"coordinateSystem": "RAS", "controlPoints": [{"label": "a", "position": [1, 2, 3]}], **changes}
    return json.dumps({"markups": [points]})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1,2,3\n-4.5,5e1,6\n", [[1, 2, 3], [-4.5, 50, 6]]),
        ("x,y,z\n1,2,3\n\n-4.5,50,6\n", [[1, 2, 3], [-4.5, 50, 6]]),
        ("\ufeffname,S,L,P\ntip,3,1,2\n", [[-1, -2, 3]]),
        ("r, a, s\n1, 2, 3\n", [[1, 2, 3]]),
    ],
)
def test_reads_plain_tables(tmp_path, text, wanted):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(read_points(tmp_path / "points.csv")[1], wanted)


@pytest.mark.parametrize(
    ("name", "text", "error", "says"),
    [
        ("points.txt", "1,2,3", UnsupportedFile, "mrk.json"),
        ("points.csv", "", DamagedFile, "at least 1"),
        ("points.csv", "x,y,z\n", DamagedFile, "at least 1"),
        ("points.csv", "1,2\n", DamagedFile, "position"),
        ("points.csv", "F1,1,2,3\n", DamagedFile, "position"),
        ("points.csv", "x,y,z\n1,2\n", DamagedFile, "position"),
        ("points.csv", "1;2;3\n", DamagedFile, "position"),
        ("points.csv", "1,2,nan\n", DamagedFile, "finite"),
        ("points.fcsv", "# CoordinateSystem = IJK\n1,1,2,3\n", DamagedFile, "coordinateSystem"),
        ("points.fcsv", "# CoordinateSystem = 2\n1,1,2,3\n", DamagedFile, "coordinateSystem"),
        ("points.fcsv", "1,1,2\n", DamagedFile, "position"),
        ("points.mrk.json", "{", DamagedFile, "JSON"),
        ("points.mrk.json", "[]", DamagedFile, "list of points"),
        ("points.mrk.json", '{"markups": []}', DamagedFile, "at least 1"),
        ("points.mrk.json", markups(coordinateSystem="IJK"), DamagedFile, "coordinateSystem"),
        ("points.mrk.json", markups(coordinateUnits="cm"), DamagedFile, "coordinateUnits"),
        ("points.mrk.json", markups(controlPoints=[]), DamagedFile, "at least 1"),
        ("points.mrk.json", markups(controlPoints=[{"position": [1, 2]}]), DamagedFile, "position"),
        ("points.mrk.json", markups(controlPoints=[{"position": [1, 2, float("inf")]}]), DamagedFile, "finite"),
    ],
)
def test_refuses_what_is_no_list_of_points(tmp_path, name, text, error, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=says):
        read_points(tmp_path / name)


def test_refuses_a_file_that_is_absent_or_not_text(tmp_path):
    with pytest.raises(FileError, match="absent"):
        read_points(tmp_path / "absent.fcsv")
    (tmp_path / "image.csv").write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(DamagedFile, match=r"image\.csv"):
        read_points(tmp_path / "image.csv")
    with pytest.raises(FileError, match="ordinary"):
        read_points(_folder(tmp_path / "folder.csv"))


def _folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize("name", ["points.mrk.json", "points.csv"])
def test_points_that_were_written_are_read(tmp_path, name):
    places = np.array([[1.5, -2.25, 3.0], [0.1, 20.0, -300.0]])
    write_points(["AC, midline", "Übergang"], places, tmp_path / name)
    labels, points = read_points(tmp_path / name)
    assert labels == ["AC, midline", "Übergang"]
    np.testing.assert_array_equal(points, places)
