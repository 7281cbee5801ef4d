"""What the pages say about the presets is what the presets are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from MedSegRegLib.register.presets import PRESETS, PURPOSES

TOOL = Path(__file__).parents[2] / "tools" / "write_preset_tables.py"


@pytest.fixture
def writer():
    spec = importlib.util.spec_from_file_location("write_preset_tables", TOOL)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_every_preset_says_what_it_is_for():
    assert list(PURPOSES) == list(PRESETS)


def test_the_tables_in_the_pages_are_those_of_the_presets(writer):
    for path, table in writer.tables().items():
        assert table in path.read_text(encoding="utf-8"), f"{path.name}: run python tools/write_preset_tables.py"
        assert all(f"`{name}`" in table for name in PRESETS)


def test_a_table_is_replaced_between_its_marks_and_nothing_else(writer):
    page = f"before\n{writer.BEGIN}old\n{writer.END}after\n"
    assert writer.with_table(page, "new\n") == f"before\n{writer.BEGIN}new\n{writer.END}after\n"
