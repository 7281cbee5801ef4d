"""Fixtures of the tests of the command line."""

from __future__ import annotations

import sys

import pytest

from MedSegRegLib import cli


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``medsegreg ARGUMENTS`` in this process: (exit code, standard output, standard error)."""

    def _run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medsegreg", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return _run
