"""The panel Models: what it tells of the models of this computer, and what it asks for."""
# ruff: noqa: PLC0415 - the panels and the tasks are imported late

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from scripted_jobs import ScriptedJobs

from MedSegRegLib.errors import DamagedModel, InvalidSetting
from MedSegRegLib.files.model_store import list_models
from MedSegRegLib.jobs import JobResult
from MedSegRegLib.progress import SILENT
from small_training import small_spec, write_random_model


@pytest.fixture
def my_model(an_empty_store):
    return write_random_model(an_empty_store / "balls", small_spec())


@pytest.fixture
def jobs():
    return ScriptedJobs()


@pytest.fixture
def panel(my_model, window_of):
    return window_of("Models").panels["Models"]


@pytest.fixture
def window_of(module, monkeypatch, desktop, jobs):
    """Opens a window with one panel."""
    from standin.desktop import Window

    opened = []

    def window_of(name):
        monkeypatch.setattr(module, "PANELS", (name,))
        opened.append(Window(desktop, module, module.LIBRARY.parent / "MedSegReg.py"))
        opened[0].open(name.lower())
        opened[0].widget.runner._supervisor = jobs
        return opened[0].widget

    yield window_of
    for window in opened:
        window.close()


@pytest.fixture
def ui(panel):
    return panel.ui


def choose(ui, title):
    texts = [ui.modelList.item(row).text() for row in range(ui.modelList.count)]
    ui.modelList.setCurrentRow(texts.index(title))


def test_the_window_reads_of_models_what_the_library_reads(my_model):
    """The cards are read without torch; they must say the same."""
    from MedSegRegPanels.model_cards import readCards

    cards = {card.folder: card for card in readCards()}
    specs, _faults = list_models()
    assert cards.keys() == specs.keys()
    for folder, spec in specs.items():
        card = cards[folder]
        assert (card.name, card.title, card.version, card.licence) == (
            spec.name,
            spec.title,
            spec.version,
            spec.licence,
        )
        assert card.channels == tuple((channel.name, channel.modality) for channel in spec.channels)
        assert card.structures == tuple((label.name, label.color) for label in spec.labels)
        assert card.mirrors == bool(spec.tiling.mirror)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x"}', "[" * 100_000, '{"name": "x", "scores": 3}'])
def test_a_description_that_is_none_is_a_fault_and_no_crash(module, an_empty_store, text):
    from MedSegRegPanels.model_cards import readCards

    (an_empty_store / "broken").mkdir(parents=True)
    (an_empty_store / "broken" / "model.json").write_text(text, encoding="utf-8")
    (card,) = [card for card in readCards() if not card.isShipped]
    assert card.name == "broken"
    assert "cannot be read" in card.fault


def test_the_card_of_the_chosen_model_is_shown_and_shipped_ones_stay(ui, my_model):
    choose(ui, "Hippocampus, anterior and posterior (MR T1)")
    assert "Decathlon" in ui.cardBrowser.plainText
    assert not ui.removeButton.enabled
    choose(ui, small_spec().title)
    assert ui.removeButton.enabled
    assert "your models" in ui.storageLabel.text


def test_each_button_asks_for_its_task(panel, ui, jobs, click, my_model, tmp_path):
    choose(ui, small_spec().title)
    click(ui.verifyButton)
    assert jobs.submitted[-1][:2] == ("verify", {"model": str(my_model)})
    assert not ui.verifyButton.enabled
    jobs.answer(panel.runner, JobResult({"model": "balls", "signature": "unsigned"}, {}))
    assert ui.modelsMessageLabel.text == f"{small_spec().name} is whole, unsigned."
    panel.importFrom(str(tmp_path / "new.zip"))
    assert jobs.submitted[-1][:2] == ("install", {"source": str(tmp_path / "new.zip"), "replace": False})
    jobs.answer(panel.runner, JobResult({"outcomes": {"new": "installed"}, "findings": ["Look at it."]}, {}))
    assert ui.modelsMessageLabel.text == "new: installed\nLook at it."
    click(ui.removeButton)
    assert jobs.submitted[-1][:2] == ("remove", {"model": "balls"})


def test_nothing_is_removed_without_a_yes(ui, jobs, desktop, click, my_model):
    choose(ui, small_spec().title)
    desktop.agrees = False
    click(ui.removeButton)
    assert jobs.submitted == []
    assert small_spec().title in desktop.messages[0]


def test_a_model_that_is_gone_disappears_from_the_list(panel, ui, my_model):
    count = ui.modelList.count
    shutil.rmtree(my_model)
    panel.update()
    assert ui.modelList.count == count - 1


def test_the_tasks_verify_pass_on_and_remove_a_real_model(my_model, tmp_path):
    from MedSegRegLib.jobs.tasks import storing

    work = SimpleNamespace(progress=SILENT)
    assert storing.verify(work, model=str(my_model)).data["model"] == "balls"
    archive = tmp_path / "balls.zip"
    assert storing.export(work, models=[str(my_model)], path=str(archive)).data["models"] == ["balls"]
    storing.remove(work, model="balls")
    assert not my_model.exists()
    outcomes = storing.install(work, source=str(archive)).data["outcomes"]
    assert outcomes == {small_spec().name: "installed"}
    with pytest.raises(InvalidSetting, match="leave them out"):
        storing.install(work, source=str(archive), licence="CC0")


def test_a_damaged_model_does_not_verify(my_model):
    from MedSegRegLib.jobs.tasks import storing

    weights = my_model / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(DamagedModel):
        storing.verify(SimpleNamespace(progress=SILENT), model=str(my_model))


def test_answers_of_the_tasks_are_plain(my_model):
    from MedSegRegLib.jobs.tasks import storing

    json.dumps(storing.verify(SimpleNamespace(progress=SILENT), model=str(my_model)).data)
