"""Every task through a real child, against the same work in this process."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from register_phantoms import CUBE, bent, distance_mm, make_bend, make_head, tissue_points

from MedSegRegLib.errors import Cancelled, DamagedModel, InputError, InvalidSetting, OutputNotWritable, UnknownModel
from MedSegRegLib.evaluate.scores import StructureScores, compare_labels
from MedSegRegLib.files.model_package import read_spec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.jobs import Intermediate, Supervisor
from MedSegRegLib.jobs.tasks.evaluating import renumbered_by_name
from MedSegRegLib.jobs.tasks.segmenting import load_warm
from MedSegRegLib.progress import SILENT
from MedSegRegLib.register.run import register
from MedSegRegLib.register.settings import RegistrationSettings
from MedSegRegLib.resample import resample_image
from MedSegRegLib.segment import SegmentationOptions, load_model, make_plan, segment
from small_training import ball, small_spec, write_random_model

pytestmark = pytest.mark.usefixtures("one_thread")
GRID = Geometry.from_spacing((24, 24, 24))
LEVELS = {"linear": "none", "deformable": {"coarsening": [4, 2], "iterations": [10, 5], "stiffness": 1.0}}
SLOW = {"linear": "none", "deformable": {"coarsening": [4, 1], "iterations": [3, 5000], "stiffness": 1.0}}


@pytest.fixture(scope="module")
def a_store(tmp_path_factory):
    """The user's models: one of random weights."""
    store = tmp_path_factory.mktemp("store")
    write_random_model(store / "balls", small_spec())
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MEDSEGREG_MODELS", str(store))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        yield store


@pytest.fixture(scope="module")
def jobs(a_store, tmp_path_factory):
    with Supervisor(folder=tmp_path_factory.mktemp("jobs")) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def a_ball() -> Image:
    return Image.from_array(ball(3)[0], GRID, "ball 3")


@pytest.fixture(scope="module")
def heads() -> tuple[Image, Image]:
    """Fixed and moving."""
    head = make_head()
    return bent(head, make_bend()), head


def test_compute_says_what_is_here(jobs):
    data = jobs.wait(jobs.submit("compute")).data
    assert data["torch"] == torch.__version__
    assert data["devices"][0]["name"] == "cpu"
    assert data["devices"][0]["usable"]


def test_segment_gives_the_same_labels_as_in_this_process(jobs, a_store, a_ball):
    arguments = {"model": "balls", "device": "cpu", "engine": "torch", "options": {"confidence": True}}
    result = jobs.wait(jobs.submit("segment", arguments, {"image": a_ball}))
    here = segment(a_ball, load_model("balls"), SegmentationOptions(confidence=True))
    labels = result.labels("labels")
    assert torch.equal(labels.tensor, here.labels.tensor)
    assert labels.structures == here.labels.structures
    assert labels.name == "ball 3"
    np.testing.assert_array_equal(result.voxels("margin").array, here.confidence.margin.numpy())
    assert result.data["provenance"]["weights_sha256"] == here.provenance["weights_sha256"]
    assert {finding["level"] for finding in result.data["findings"]} <= {"info", "warn"}


def test_segment_refuses_before_any_work(jobs, a_ball):
    with pytest.raises(UnknownModel, match="nobody"):
        jobs.wait(jobs.submit("segment", {"model": "nobody"}, {"image": a_ball}))
    with pytest.raises(InvalidSetting, match="spleen"):
        jobs.wait(jobs.submit("segment", {"model": "balls", "options": {"structures": ["spleen"]}}, {"image": a_ball}))
    with pytest.raises(InvalidSetting, match="colour"):
        jobs.wait(jobs.submit("segment", {"model": "balls", "options": {"colour": 1}}, {"image": a_ball}))


def test_plan_says_what_a_segmentation_will_take(jobs, a_store):
    where = {"size_ijk": list(GRID.size_ijk), "ijk_to_ras": GRID.ijk_to_ras.tolist()}
    data = jobs.wait(jobs.submit("plan", {"model": "balls", "device": "cpu", "engine": "torch", **where})).data
    here = make_plan(load_model("balls"), GRID)
    assert (data["tiles"], data["host_bytes"]) == (here.tiles, here.host_bytes)
    assert data["seconds"] > 0
    assert "memory" in data["sentence"]


def test_a_model_stays_loaded_until_it_is_written_anew(a_store, tmp_path):
    folder = str(write_random_model(tmp_path / "balls", small_spec()))
    first = load_warm([folder], "cpu", "torch", SILENT)
    assert load_warm([folder], "cpu", "torch", SILENT) is first
    description = Path(folder) / "model.json"
    description.write_bytes(description.read_bytes())
    assert load_warm([folder], "cpu", "torch", SILENT) is not first


def test_register_gives_the_same_transform_as_in_this_process(jobs, heads):
    fixed, moving = heads
    points = tissue_points(fixed)[::40]
    mask = Labels.from_array(fixed.numpy()[0] > 3, CUBE, (Structure(1, "tissue"),))
    moving_mask = Labels.from_array(moving.numpy()[0] > 3, CUBE, (Structure(1, "tissue"),))
    seen = []
    job = jobs.submit(
        "register",
        {
            "settings": LEVELS,
            "device": "cpu",
            "fixed_points": points.tolist(),
            "moving_points": (points + 1).tolist(),
            "measure_only": ["points", "labels"],
            "outputs": ["resampled", "resampled_labels", "jacobian"],
        },
        {"fixed": fixed, "moving": moving, "fixed_labels": mask, "moving_labels": moving_mask},
    )
    result = jobs.wait(job, seen.append)
    here = register(fixed, moving, RegistrationSettings.model_validate(LEVELS))
    there = result.transform("transform")
    assert distance_mm(there, here.transform, points).max() < 1e-4
    assert distance_mm(result.transform("inverse"), here.inverse, points).max() < 1e-4
    levels = [event.result for event in seen if isinstance(event, Intermediate)]
    assert [level.data["number"] for level in levels] == [0, 1]
    assert distance_mm(levels[-1].transform("transform"), there, points).max() < 1e-4
    assert result.data["sentence"] == here.sentence
    assert not result.data["stopped"]
    dice = result.data["dice"]["tissue"]
    assert dice["before"] < dice["after"] <= 1.0
    assert result.data["landmarks_mm"]["before"] == pytest.approx(np.sqrt(3))
    assert result.voxels("jacobian").geometry.same_grid(CUBE)
    assert result.voxels("jacobian").array.mean() == pytest.approx(1.0, abs=0.1)
    assert torch.allclose(
        result.image("resampled").tensor, resample_image(moving, CUBE, here.transform).tensor, atol=1e-4
    )
    assert result.labels("resampled_labels").structures == moving_mask.structures


def test_register_stopped_early_keeps_transform_and_inverse(jobs, heads):
    fixed, moving = heads
    job = jobs.submit("register", {"settings": SLOW, "device": "cpu"}, {"fixed": fixed, "moving": moving})
    result = jobs.wait(job, lambda event: isinstance(event, Intermediate) and jobs.stop_and_keep(job))
    assert result.data["stopped"]
    points = tissue_points(fixed)
    there_and_back = result.transform("inverse").map_points(result.transform("transform").map_points(points))
    assert np.linalg.norm(there_and_back - points, axis=1).max() < 0.2


def test_register_is_cancelled_within_a_second(jobs, heads):
    fixed, moving = heads
    job = jobs.submit("register", {"settings": SLOW, "device": "cpu"}, {"fixed": fixed, "moving": moving})
    asked = []

    def cancel(event):
        if isinstance(event, Intermediate):
            asked.append(time.perf_counter())
            jobs.cancel(job)

    with pytest.raises(Cancelled):
        jobs.wait(job, cancel)
    assert time.perf_counter() - asked[0] < 1.0


def test_register_refuses_what_it_does_not_know(jobs, heads):
    fixed, moving = heads
    for arguments, words in (
        ({"preset": "perfect"}, "perfect"),
        ({"settings": {"linear": "curved"}}, "linear"),
        ({"outputs": ["poem"]}, "poem"),
        ({"measure_only": ["love"]}, "love"),
        ({"fixed_points": [[1, 2]], "moving_points": [[1, 2]]}, "three"),
    ):
        with pytest.raises(InvalidSetting, match=words):
            jobs.wait(jobs.submit("register", arguments, {"fixed": fixed, "moving": moving}))
    with pytest.raises(InputError, match="moving"):
        jobs.wait(jobs.submit("register", {}, {"fixed": fixed}))


def test_correct_leads_a_landmark_to_its_place(jobs, heads):
    fixed, moving = heads
    found = register(fixed, moving, RegistrationSettings.model_validate(LEVELS)).transform
    place = np.array([[3.0, 4.0, 5.0]])
    target = found.map_points(place) + np.array([[2.0, 0.0, 0.0]])
    result = jobs.wait(
        jobs.submit(
            "correct",
            {
                "settings": LEVELS,
                "device": "cpu",
                "fixed_points": place.tolist(),
                "moving_points": target.tolist(),
            },
            {"fixed": fixed, "moving": moving, "transform": found},
        )
    )
    assert np.linalg.norm(result.transform("transform").map_points(place) - target) < 1.0
    assert result.data["landmarks_mm"]["before"] == pytest.approx(2.0, abs=1e-3)
    assert result.data["landmarks_mm"]["after"] < 1.0


def test_evaluate_matches_structures_by_name(jobs):
    truth, found = np.zeros(GRID.shape_kji, np.uint8), np.zeros(GRID.shape_kji, np.uint8)
    truth[4:12, 4:12, 4:12], found[4:12, 4:12, 5:13] = 1, 7
    truth[14:18, 14:18, 14:18], found[14:18, 14:18, 14:18] = 2, 1
    one = Labels.from_array(truth, GRID, (Structure(1, "Liver"), Structure(2, "Spleen")))
    other = Labels.from_array(found, GRID, (Structure(7, "liver"), Structure(1, "lesion")))
    scores = jobs.wait(jobs.submit("evaluate", {}, {"truth": one, "prediction": other})).data["scores"]
    scores = [StructureScores(**fields) for fields in scores]
    assert [(score.name, score.outcome) for score in scores] == [
        ("Liver", "scored"),
        ("Spleen", "missed"),
        ("lesion", "invented"),
    ]
    assert scores[0].dice == pytest.approx(7 / 8)
    same = jobs.wait(jobs.submit("evaluate", {"match": "value"}, {"truth": one, "prediction": one})).data["scores"]
    assert [StructureScores(**fields) for fields in same] == compare_labels(one, one)


def test_labels_are_renumbered_without_joining_structures():
    like = Labels.from_array(np.array([[[1, 2]]]), Geometry.from_spacing((2, 1, 1)), (Structure(1, "a"),))
    labels = Labels.from_array(
        np.array([[[0, 1, 2, 300]]]), Geometry.from_spacing((4, 1, 1)), (Structure(300, "A"), Structure(1, "b"))
    )
    renumbered = renumbered_by_name(labels, like)
    assert renumbered.tensor.tolist() == [[[0, 3, 4, 1]]]
    assert [(s.value, s.name) for s in renumbered.structures] == [(1, "A"), (3, "b")]


def test_adapt_installs_a_better_model(jobs, a_store):
    image, mask = ball(5)
    labels = Labels.from_array(mask, GRID, (Structure(1, "ball 1"),))
    arguments = {
        "model": "balls",
        "cases": [{"name": "case A"}],
        "name": "balls-here",
        "settings": {"steps": 25, "learning_rate": 0.02, "rank": 32},
        "device": "cpu",
    }
    values = {"image0": Image.from_array(image, GRID), "labels0": labels}
    data = jobs.wait(jobs.submit("adapt", arguments, values)).data
    assert data["dice_after"] > data["dice_before"]
    assert (data["model"], data["installed"]) == ("balls-here", "installed")
    assert read_spec(a_store / "balls-here").parent.name == read_spec(a_store / "balls").name
    with pytest.raises(OutputNotWritable, match="balls-here"):
        jobs.wait(jobs.submit("adapt", arguments, values))


def test_models_are_verified_exported_removed_and_installed(jobs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    package = write_random_model(folder / "cubes", small_spec(name="cubes"))
    data = jobs.wait(jobs.submit("install", {"source": str(package)})).data
    assert data == {"outcomes": {"cubes": "installed"}, "findings": []}
    assert "sign" in jobs.wait(jobs.submit("verify", {"model": "cubes"})).data["signature"]
    archive = folder / "für alle.zip"
    data = jobs.wait(jobs.submit("export", {"models": ["cubes"], "path": str(archive)})).data
    assert (data["models"], len(data["sha256"])) == (["cubes"], 64)
    jobs.wait(jobs.submit("remove", {"model": "cubes"}))
    with pytest.raises(UnknownModel):
        jobs.wait(jobs.submit("verify", {"model": "cubes"}))
    data = jobs.wait(jobs.submit("install", {"source": str(archive)})).data
    assert data["outcomes"] == {"cubes": "installed"}
    (package / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(DamagedModel):
        jobs.wait(jobs.submit("verify", {"model": str(package)}))
