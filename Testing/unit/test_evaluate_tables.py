"""Scores as files and tables: complete, free of NaN, and harmless with any name."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from rich.console import Console

from MedSegRegLib.errors import OutputNotWritable
from MedSegRegLib.evaluate.scores import METRICS, compare_labels, summarize
from MedSegRegLib.evaluate.tables import scores_table, summary_table, write_csv, write_json
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels, Structure

STRUCTURES = (Structure(1, 'Leber, "links"'), Structure(2, "[/red]Niere é肝"), Structure(3, "nowhere"))


@pytest.fixture
def cases():
    geometry = Geometry.from_spacing((6, 6, 6), (1.0, 1.0, 2.0))
    truth, prediction = np.zeros((2, 6, 6, 6), int)
    truth[1:3, 1:5, 1:5], truth[4:, 4:, 4:] = 1, 2
    prediction[1:3, 1:5, 2:5] = 1
    a, b = (Labels.from_array(array, geometry, STRUCTURES) for array in (truth, prediction))
    return {"one": compare_labels(a, b), "[two]": compare_labels(a, a)}


def printed(table) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_csv_has_a_line_a_case_and_structure_with_empty_cells_where_nothing_applies(cases, tmp_path):
    write_csv(cases, tmp_path / "scores.csv")
    lines = list(csv.DictReader((tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert [(line["case"], line["name"]) for line in lines] == [(case, s.name) for case in cases for s in STRUCTURES]
    assert float(lines[0]["dice"]) == cases["one"][0].dice
    assert (lines[1]["outcome"], lines[1]["dice"]) == ("missed", "0.0")
    assert {lines[2][metric.name] for metric in METRICS} <= {"", "0.0"}
    assert lines[2]["dice"] == ""


def test_csv_of_no_case_has_a_header_only(tmp_path):
    write_csv({}, tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8").strip() == "case,name,value"


def test_json_is_strict_and_has_null_where_nothing_applies(cases, tmp_path):
    write_json(cases, tmp_path / "scores.json")
    text = (tmp_path / "scores.json").read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert content["scores"][2]["dice"] is None
    assert content["scores"][0]["true_positive"] == cases["one"][0].true_positive
    assert content["summary"][0]["metrics"]["dice"]["mean"] == summarize(cases)[0].metrics["dice"].mean
    assert content["summary"][1]["missed"] == 1
    assert "肝" in text


def test_nothing_is_left_where_a_file_cannot_be_written(cases, tmp_path):
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(OutputNotWritable):
        write_csv(cases, tmp_path / "scores.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_the_table_of_a_case_shows_names_and_outcomes_as_they_are(cases):
    text = printed(scores_table(cases["one"], "case [one]"))
    for expected in ("case [one]", "[/red]Niere é肝", "missed", "absent", "NSD at 1 mm", f"{cases['one'][0].dice:.3f}"):
        assert expected in text


def test_the_summary_table_shows_intervals_worst_cases_and_misses(cases):
    text = printed(summary_table(summarize(cases)))
    dice = summarize(cases)[0].metrics["dice"]
    mean, worst = f"{dice.mean:.3f} [{dice.low:.3f}, {dice.high:.3f}]", f"{dice.worst:.3f} one"
    for expected in (mean, worst, "1 missed", "2 absent"):
        assert expected in text
