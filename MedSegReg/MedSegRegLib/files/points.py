"""Points from files, and back: Slicer's markups and tables, and plain tables of coordinates."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from pydantic.alias_generators import to_camel

from ..errors import DamagedFile, InputError, UnsupportedFile
from ..geometry import flip_ras_lps
from .atomic import atomic_path, extension_of, require_writable
from .headers.header import damaged, file_size

POINT_EXTENSIONS = (".mrk.json", ".json", ".fcsv", ".csv")
WRITTEN_EXTENSIONS = (".mrk.json", ".csv")
MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
LONGEST_TEXT = 1 << 26
AXES = (("RAS", ("r", "a", "s")), ("LPS", ("l", "p", "s")), ("RAS", ("x", "y", "z")))
FCSV_SYSTEMS = {"0": "RAS", "1": "LPS"}  # as Slicer wrote them until 4.11
FCSV_LABEL, FCSV_STATUS, FCSV_DEFINED = 11, 14, "2"


class _Entry(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _ControlPoint(_Entry):
    label: str = ""
    position: tuple[FiniteFloat, FiniteFloat, FiniteFloat] | Literal[""] = ""
    position_status: str = "defined"


class _PointList(_Entry):
    """LPS where a file does not say, as Slicer takes it."""

    coordinate_system: Literal["RAS", "LPS"] = "LPS"
    coordinate_units: Literal["mm"] | tuple[Literal["mm"], str, str] = "mm"
    control_points: list[_ControlPoint] = Field(min_length=1)


class _MarkupsFile(_Entry):
    markups: list[_PointList] = Field(min_length=1, max_length=1)


def read_points(path: str | Path) -> tuple[list[str], np.ndarray]:
    """The points of a list, in its order.

    Args:
        path: ``.mrk.json``, ``.json`` or ``.fcsv`` of Slicer's markups, whose coordinate system is respected; or
            ``.csv``: three numbers a row, RAS mm, or a header with columns ``r, a, s``, ``l, p, s`` or ``x, y, z``
            (RAS) and perhaps ``label``, as Slicer exports it.

    Returns:
        Labels, and [N, 3] float64 RAS mm, N at least 1.

    Raises:
        FileError: missing or unreadable. UnsupportedFile: another extension.
        DamagedFile: not what its extension says, no point, more than one list, other units or coordinates.
        InputError: a point that was never placed.
    """
    path = Path(path)
    read = {".fcsv": _read_fcsv, ".csv": _read_csv, ".mrk.json": _read_json, ".json": _read_json}
    extension = extension_of(path, POINT_EXTENSIONS)
    if not extension:
        raise UnsupportedFile(
            f"'{path.name}' is not a list of points",
            f"a name ending in {', '.join(POINT_EXTENSIONS)}",
            "save the markups in Slicer as .mrk.json",
        )
    if file_size(path) > LONGEST_TEXT:
        raise damaged(path.name, f"has {file_size(path)} bytes", f"at most {LONGEST_TEXT} for a list of points")
    try:
        points = read[extension](path.read_text(encoding="utf-8-sig"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise damaged(path.name, f"is no list of points: {where}: {first['msg']}", "one list of points in mm") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DamagedFile(f"'{path.name}' cannot be read ({error})", "text", "save the points again") from None
    return [point.label for point in points.control_points], _placed(points, path.name)


def write_points(labels: Sequence[str], points_ras: np.ndarray, path: str | Path) -> None:
    """A list of points as Slicer's markups (``.mrk.json``) or a table (``.csv``, columns label, r, a, s); RAS mm.

    Complete or not at all. Args as :func:`read_points` returns them.

    Raises:
        OutputNotWritable: the folder cannot be written, the disk is full, or another extension.
    """
    path = Path(path)
    require_writable(path, overwrite=True, extensions=WRITTEN_EXTENSIONS)
    rows = list(zip(labels, np.asarray(points_ras, np.float64).tolist(), strict=True))
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        if extension_of(path, WRITTEN_EXTENSIONS) == ".csv":
            csv.writer(file).writerows([("label", "r", "a", "s"), *((label, *place) for label, place in rows)])
            return
        points = [{"label": label, "position": place, "positionStatus": "defined"} for label, place in rows]
        markups = {"type": "Fiducial", "coordinateSystem": "RAS", "coordinateUnits": "mm", "controlPoints": points}
        json.dump({"@schema": MARKUPS_SCHEMA, "markups": [markups]}, file, ensure_ascii=False, indent=1)


def _placed(points: _PointList, name: str) -> np.ndarray:
    positions = []
    for number, point in enumerate(points.control_points, 1):
        if point.position == "" or point.position_status != "defined":
            raise InputError(
                f"Point {number} ('{point.label}') of '{name}' was never placed", "a position", "place or remove it"
            )
        positions.append(point.position)
    array = np.array(positions, np.float64)
    return array if points.coordinate_system == "RAS" else flip_ras_lps(array)


def _read_json(text: str) -> _PointList:
    return _MarkupsFile.model_validate_json(text).markups[0]


def _read_fcsv(text: str) -> _PointList:
    """Slicer's older format: what the numbers mean stands in lines that begin with #."""
    lines = [line for line in text.splitlines() if line.strip()]
    said = [line[1:].partition("=") for line in lines if line.startswith("#")]
    facts = {key.strip(): value.strip() for key, _, value in said}
    system = facts.get("CoordinateSystem", "LPS")
    points = []
    for row in csv.reader(line for line in lines if not line.startswith("#")):
        status = row[FCSV_STATUS] if len(row) > FCSV_STATUS else FCSV_DEFINED
        label = row[FCSV_LABEL] if len(row) > FCSV_LABEL else row[0]
        points.append(_point(label, row[1:4], status == FCSV_DEFINED))
    return _PointList.model_validate({"coordinateSystem": FCSV_SYSTEMS.get(system, system), "controlPoints": points})


def _read_csv(text: str) -> _PointList:
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    system, axes = next((found for found in AXES if set(found[1]) <= set(header)), ("RAS", None))
    if axes is None:
        points = [_point("", row, True) for row in rows]
    else:
        records = [dict(zip(header, row, strict=False)) for row in rows[1:]]
        points = [
            _point(r.get("label", ""), [r.get(axis) for axis in axes], r.get("defined", "1") == "1") for r in records
        ]
    return _PointList.model_validate({"coordinateSystem": system, "controlPoints": points})


def _point(label: str, position: list[Any], defined: bool) -> dict[str, object]:
    """As it would stand in a markups file."""
    return {"label": label, "position": position, "positionStatus": "defined" if defined else "undefined"}
