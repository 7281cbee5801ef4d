"""The panel Compute: what it tells of this computer, and how it installs."""
# ruff: noqa: PLC0415 - the panels are imported once the desktop stands

from __future__ import annotations

import pytest
from scripted_jobs import ScriptedJobs

from MedSegRegLib.jobs import JobResult

FOUND = {
    "devices": [
        {"name": "cpu", "description": "cpu with 2 threads", "usable": True, "problem": "", "memory_bytes": None},
        {"name": "cuda:0", "description": "old", "usable": False, "problem": "too old <for> torch", "memory_bytes": 1},
    ],
    "free_host_bytes": 3 << 30,
    "engines": {"torch": "2.13", "openvino": ""},
}


@pytest.fixture
def jobs():
    return ScriptedJobs()


@pytest.fixture
def panel(module, monkeypatch, desktop, jobs):
    from standin.desktop import Window

    monkeypatch.setattr(module, "PANELS", ("Compute",))
    window = Window(desktop, module, module.LIBRARY.parent / "MedSegReg.py")
    window.open("compute")
    window.widget.runner._supervisor = jobs
    yield window.widget.panels["Compute"]
    window.close()


@pytest.fixture
def ui(panel):
    return panel.ui


def test_packages_are_told_without_starting_anything(ui, jobs):
    text = ui.foundBrowser.plainText
    for name in ("torch", "scipy", "scikit-image", "safetensors", "pydantic"):
        assert name in text
    assert ui.installButton.text == "&Repair"
    assert jobs.submitted == []


def test_what_the_computing_process_finds_is_shown(panel, ui, jobs, click):
    click(ui.lookButton)
    assert jobs.submitted == [("compute", {}, {})]
    jobs.answer(panel.runner, JobResult(FOUND, {}))
    text = ui.foundBrowser.plainText
    assert "cpu with 2 threads" in text
    assert "too old <for> torch" in text
    assert "3.0 GiB free" in text
    assert "not installed; optional" in text


@pytest.fixture
def missing(panel, tmp_path):
    """A requirement that is not there."""
    panel.requirementsFile = tmp_path / "requirements.txt"
    panel.requirementsFile.write_text("no-such-package-of-this-name>=1\n", encoding="utf-8")
    panel.update()
    return panel


def test_what_is_missing_can_be_installed_and_the_log_tells_how(missing, ui, jobs, click, monkeypatch):
    def install(_path, installer, onDone):  # noqa: N803 - as of the function
        installer.log("Would add: much")
        onDone(False)
        return False

    monkeypatch.setattr("MedSegRegPanels.compute_panel.ensureDependencies", install)
    assert ui.installButton.text == "&Install"
    assert not ui.lookButton.enabled
    click(ui.installButton)
    assert ui.logEdit.plainText == "Would add: much"
    assert "log says" in ui.computeMessageLabel.text
    assert jobs.released, "the process that computes has the old packages loaded"


def test_pip_works_in_a_process_of_its_own_and_the_button_stops_it(missing, ui, click, wait_until, longest_block):
    click(ui.installButton)
    assert ui.installButton.text == "&Stop"
    assert not ui.bundleButton.enabled
    click(ui.installButton)
    wait_until(lambda: not missing.installer.busy, 60)
    assert longest_block() < 0.3
    assert ui.installButton.text == "&Install"
    assert "Stopped" in ui.logEdit.plainText


def test_repairing_asks_first(ui, click, desktop, monkeypatch):
    monkeypatch.setattr("MedSegRegPanels.compute_panel.repair", pytest.fail)
    desktop.agrees = False
    click(ui.installButton)
    assert "anew" in desktop.messages[0]


def test_a_bundle_brings_packages_and_then_models(panel, ui, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr("MedSegRegPanels.compute_panel.installBundle", lambda folder, path, installer, done: done(True))
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).touch()
    panel.installFrom(tmp_path)
    for name in ("a", "b"):
        assert jobs.submitted[-1][:2] == ("install", {"source": str(tmp_path / f"{name}.zip"), "replace": False})
        jobs.answer(panel.runner, JobResult({"outcomes": {name: "installed"}, "findings": []}, {}))
    assert ui.logEdit.plainText == "a: installed\nb: installed"


def test_a_restart_is_offered_only_where_it_is_needed(panel, ui, monkeypatch):
    assert not ui.restartButton.visible
    monkeypatch.setattr("MedSegRegPanels.compute_panel.packagesToRestartFor", lambda path: ["scipy 1.0"])
    panel.update()
    assert ui.restartButton.visible
