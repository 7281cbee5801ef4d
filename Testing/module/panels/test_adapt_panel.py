"""The section Adapt: corrected segmentations of the scene teach a model, which is kept only when it is better."""
# ruff: noqa: PLC0415 - the scene and the panels are loaded late

from __future__ import annotations

import pytest

from small_training import ball, small_spec, write_random_model


@pytest.fixture
def store(an_empty_store):
    """The user's store, with a model that knows nothing yet; the child must see the same store."""
    write_random_model(an_empty_store / "balls", small_spec())
    return an_empty_store


@pytest.fixture
def parameters(store, panels):
    return panels.widget.panels["Adapt"].parameters


@pytest.fixture
def corrected(scene):
    """A segmentation that is right, on its source volume."""
    from MedSegRegLib.geometry import Geometry
    from MedSegRegLib.image import Image, Labels, Structure
    from MedSegRegLib.mrml.segmentations import write_segmentation
    from MedSegRegLib.mrml.volumes import node_from_image

    grid = Geometry.from_spacing((24, 24, 24))
    volume = node_from_image(Image.from_array(ball(3)[0], grid), scene, "MR of somebody")
    labels = Labels.from_array(ball(3)[1], grid, (Structure(1, "ball 1"),))
    return write_segmentation(labels, scene, name="put right", reference=volume)


def check(panels, node) -> None:
    import qt

    panels.control("adaptCasesSelector").setCheckState(node, qt.Qt.Checked)


def test_the_button_waits_for_corrected_segmentations(panels, parameters, corrected, scene):
    panels.open("adapt")
    button = panels.control("adaptButton")
    assert "Select corrected" in button.toolTip
    check(panels, corrected)
    assert button.enabled
    assert [node.GetName() for node in parameters.adaptCases] == ["put right"]
    check(panels, scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "of nothing"))
    assert not button.enabled
    assert "source volume of of nothing" in button.toolTip


def test_the_chosen_segmentations_and_model_survive_leaving_the_module(panels, parameters, corrected):
    import qt

    check(panels, corrected)
    parameters.adaptModel = "balls"
    panels.exit()
    panels.enter()
    assert panels.control("adaptCasesSelector").checkState(corrected) == qt.Qt.Checked
    selector = panels.control("adaptModelSelector")
    assert selector.itemData(selector.currentIndex) == "balls"


@pytest.fixture
def adapted(panels, parameters, corrected, monkeypatch):
    """What a run would be given, and a way to say what came of it."""
    panels.open("adapt")
    parameters.adaptModel, parameters.adaptName = "balls", "  mine "
    check(panels, corrected)
    started = {}

    def start(title, task, arguments, images, onDone, **options):  # noqa: N803 - as of the runner
        started.update(title=title, task=task, arguments=arguments, images=images, onDone=onDone)
        return True

    monkeypatch.setattr(panels.widget.runner, "start", start)
    return started


def test_a_run_is_given_the_corrected_cases(panels, adapted, click):
    click(panels.control("adaptButton"))
    assert adapted["task"] == "adapt"
    assert adapted["arguments"] == {
        "model": "balls",
        "cases": [{"name": "MR of somebody"}],
        "name": "mine",
        "device": "auto",
    }
    assert int(adapted["images"]["labels0"].tensor.sum()) == int(ball(3)[1].sum())


def test_scores_before_and_after_are_shown_and_kept(panels, parameters, adapted, click):
    from MedSegRegLib.jobs import JobResult

    click(panels.control("adaptButton"))
    score = {"held_out": "one half", "structure": "ball 1", "before": 0.5, "after": 0.8125}
    data = {"parent": "balls", "model": "mine", "scores": [score], "verdict": "Adapted: Dice 0.500 -> 0.812."}
    adapted["onDone"](JobResult(data, {}))
    assert "Installed as 'mine'" in panels.control("adaptLabel").text
    table = panels.control("adaptTable")
    assert [table.item(0, column).text() for column in range(4)] == ["ball 1", "0.5", "0.812", "one half"]
    assert parameters.adaptTable.GetName() == "balls adapted to put right"


def test_a_model_that_is_not_better_is_not_called_installed(panels, parameters, adapted, click):
    from MedSegRegLib.jobs import JobResult

    click(panels.control("adaptButton"))
    adapted["onDone"](JobResult({"parent": "balls", "model": None, "scores": [], "verdict": "The parent is kept."}, {}))
    assert panels.control("adaptLabel").text == "The parent is kept."


def test_a_real_adaptation_says_how_good_the_model_was_and_is(at_work, corrected, warm_jobs):
    """With the settings that a person gets; whether the tiny model becomes better is not for this test to say."""
    parameters = at_work.widget.panels["Adapt"].parameters
    at_work.open("adapt")
    parameters.adaptModel, parameters.adaptName = "balls", "mine"
    check(at_work, corrected)
    assert not at_work.control("adaptLabel").visible
    at_work.run(at_work.control("adaptButton"), seconds=400)
    assert at_work.desktop.messages == []
    said, table = at_work.control("adaptLabel").text, at_work.control("adaptTable")
    headings = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]
    assert headings == ["Structure", "Before", "After", "Held out"]
    row = [table.item(0, column).text() for column in range(4)]
    assert row[0] == "ball 1"
    assert all(0 <= float(dice) <= 1 for dice in row[1:3])
    assert "Dice" in said
    models = at_work.control("modelSelector")
    offered = [models.itemData(index) for index in range(models.count)]
    assert ("Installed as 'mine'" in said) == ("mine" in offered)


def test_everything_fits_into_350_pixels(panels, parameters, corrected):
    assert panels.open("adapt").minimumSizeHint.width() <= 342
