"""Adaptation: better on what was not trained on, or the parent stays; and what is stored is what was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from MedSegRegLib.cli import app
from MedSegRegLib.errors import Cancelled, DatasetError, InvalidSetting, ModelMismatch
from MedSegRegLib.files.model_package import read_model, read_spec, write_model
from MedSegRegLib.files.model_store import model_folder
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.progress import Progress
from MedSegRegLib.segment import load_model, segment
from MedSegRegLib.train import adapt
from MedSegRegLib.train.adapt import adapt_model
from MedSegRegLib.train.augment import Augmentation
from MedSegRegLib.train.corrections import (
    UNKNOWN,
    Correction,
    crops_of,
    make_trials,
    read_corrections,
    to_examples,
    to_model_labels,
)
from MedSegRegLib.train.fine_tune import FineTuning, fine_tune
from small_training import ball, ball_example, random_network, small_spec, write_balls, write_case, write_random_model

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = FineTuning(steps=15, learning_rate=3e-2, augmentation=Augmentation(elastic_probability=0.0))
GRID = Geometry.from_spacing((24, 24, 24))


@pytest.fixture(scope="module")
def a_parent(tmp_path_factory):
    """A package that finds balls without a shade."""
    spec = small_spec()
    network = random_network(spec)
    examples = [ball_example(seed) for seed in range(4)]
    settings = FineTuning(steps=60, learning_rate=2e-2, rank=64)
    delta = fine_tune(network, examples, spec, settings, torch.device("cpu"))
    weights = {key: tensor + delta.get(key, 0) for key, tensor in network.state_dict().items()}
    folder = tmp_path_factory.mktemp("store") / "balls"
    write_model(folder, spec, [weights], "# Card\n")
    return folder


def correction(seed: int, shaded: bool = True, patient: str = "") -> Correction:
    """A ball under a strong shade, which the parent has never seen, or one as it knows."""
    image, mask = ball(seed)
    shade = np.linspace(0, 150, 24)[:, None, None] if shaded else 0.0
    labels = Labels.from_array(mask, GRID, (Structure(1, "ball 1"),))
    return Correction(f"ball{seed}", Image.from_array(image + shade, GRID), labels, patient)


def one_behind_a_wall(seed: int) -> Correction:
    """A ball beside a plate as bright as it."""
    case = correction(seed, shaded=False)
    return replace(case, image=case.image.with_tensor(torch.where(torch.arange(24) < 4, 200.0, case.image.tensor)))


def dice_of(model, case: Correction) -> float:
    found, mask = segment(case.image, model, device="cpu").labels.numpy() > 0, case.labels.numpy() > 0
    return float(2 * (found & mask).sum() / (found.sum() + mask.sum()))


@pytest.fixture(scope="module")
def an_adaptation(a_parent, tmp_path_factory):
    """To shaded balls: (output, result)."""
    output = tmp_path_factory.mktemp("adapted")
    cases = [correction(seed) for seed in (20, 21, 22)]
    return output, adapt_model(a_parent, cases, output, QUICK, device="cpu")


def test_an_adapted_model_is_better_on_cases_that_it_has_not_seen(a_parent, an_adaptation, tmp_path):
    output, result = an_adaptation
    assert result.spec is not None
    unseen = [correction(seed) for seed in range(30, 34)]
    adapted = load_model(place_beside(output / "model", a_parent, tmp_path))
    before = np.mean([dice_of(load_model(a_parent), case) for case in unseen])
    after = np.mean([dice_of(adapted, case) for case in unseen])
    assert before < 0.75
    assert after > before + 0.1
    assert result.after - result.before > 0.1


def place_beside(model, parent, folder):
    """Both packages in one folder, as in a store."""
    for one in (model, parent):
        (folder / (one.name if one is parent else "adapted")).symlink_to(one)
    return folder / "adapted"


def test_every_case_is_measured_by_a_model_that_was_not_trained_on_it(an_adaptation):
    _, result = an_adaptation
    assert sorted(score.held_out for score in result.scores) == ["ball20", "ball21", "ball22"]
    for trial in make_trials([correction(seed) for seed in range(7)])[0]:
        assert not {one.name for one in trial.train} & {one.correction.name for one in trial.test}


def test_the_report_and_the_description_say_what_was_measured(an_adaptation):
    output, result = an_adaptation
    report = json.loads((output / "adaptation.json").read_text())
    assert report["dice_after"] == pytest.approx(result.after)
    assert report["model"] == "balls-adapted"
    assert len(report["scores"]) == 3
    assert result.spec.training["adapted_from"] == "balls 1.0.0"
    assert result.spec.scores["ball 1"]["dice_mean"] == pytest.approx(result.after, abs=1e-4)
    assert f"| mean | | {result.before:.3f} | {result.after:.3f} |" in (output / "model" / "README.md").read_text()


def test_the_stored_model_is_the_measured_one(a_parent, an_adaptation, tmp_path):
    output, result = an_adaptation
    adapted = load_model(place_beside(output / "model", a_parent, tmp_path))
    seen = np.mean([dice_of(adapted, correction(seed)) for seed in (20, 21, 22)])
    assert seen == pytest.approx(result.seen[1], abs=1e-6)


def test_the_parent_is_kept_when_the_adapted_model_is_not_better(a_parent, tmp_path):
    known = [correction(seed, shaded=False) for seed in (20, 21)]
    result = adapt_model(a_parent, known, tmp_path, QUICK.model_copy(update={"steps": 1}), device="cpu")
    assert result.spec is None
    assert "The parent is kept" in result.verdict
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adaptation.json"]
    assert json.loads((tmp_path / "adaptation.json").read_text())["model"] is None


def test_harmful_training_is_rolled_back(a_parent, tmp_path):
    known = [correction(seed, shaded=False) for seed in (20, 21)]
    harmful = FineTuning(steps=12, learning_rate=0.8)
    result = adapt_model(a_parent, known, tmp_path, harmful, device="cpu")
    assert result.after < result.before
    assert result.spec is None


def test_one_case_is_measured_on_the_half_that_was_not_trained_on(a_parent, tmp_path):
    case = correction(20)
    trials, said = make_trials([case])
    assert "half" in said
    whole = case.labels.numpy()
    counted = np.zeros(whole.shape, int)
    for trial in trials:
        (part,), (trained,) = trial.test, trial.train
        i, j, k = (slice(s, s + n) for s, n in zip(part.start_ijk, part.size_ijk, strict=True))
        counted[k, j, i] += 1
        assert (trained.labels.numpy()[k, j, i] == UNKNOWN).all()
        assert (trained.labels.numpy() == 1).sum() == whole.sum() - part.cut(case.labels).numpy().sum()
        assert 0.3 < part.cut(case.labels).numpy().sum() / whole.sum() < 0.7
        (example,) = to_examples(trial.train, small_spec())
        assert (example.labels == UNKNOWN).any()
    assert (counted == 1).all()
    result = adapt_model(a_parent, [case], tmp_path, QUICK, device="cpu")
    assert len(result.scores) == 2
    assert result.after > result.before


def test_a_half_that_is_unknown_does_not_change_the_loss():
    from MedSegRegLib.train.losses import segmentation_loss  # noqa: PLC0415

    scores = torch.randn((1, 2, 4, 6, 8), generator=torch.Generator().manual_seed(0))
    labels = (scores[:, 0] > 0.3).long()
    labels[:, 2:] = UNKNOWN
    for name in ("dice_cross_entropy", "dice_focal"):
        changed = scores.clone()
        changed[:, :, 2:] = 7.0
        assert segmentation_loss(scores, labels, name) == segmentation_loss(changed, labels, name)
        half = segmentation_loss(scores[:, :, :2], labels[:, :2], name)
        torch.testing.assert_close(segmentation_loss(scores, labels, name), half)


def test_cases_of_one_patient_stay_together_when_there_are_several_patients():
    cases = [correction(n, patient=patient) for n, patient in enumerate("aabbc")]
    trials, said = make_trials(cases)
    assert "patient" in said
    for trial in trials:
        assert not {one.patient for one in trial.train} & {one.correction.patient for one in trial.test}
    trials, said = make_trials(cases[:2])
    assert "case" in said
    assert [len(trial.train) for trial in trials] == [1, 1]


def test_the_cut_of_a_single_case_gives_every_structure_to_both_sides():
    labels = np.zeros((8, 10, 12), np.uint8)
    labels[:, :5, 2:10] = 1
    labels[:, 5:, 2:10] = 2
    case = Correction(
        "a",
        Image.from_array(labels, Geometry.from_spacing((12, 10, 8))),
        Labels.from_array(labels, Geometry.from_spacing((12, 10, 8))),
    )
    for trial in make_trials([case])[0]:
        part = trial.test[0].cut(case.labels).numpy()
        assert (part == 1).sum() == (part == 2).sum() == labels.size / 12 * 8 / 4


def test_segments_are_matched_by_name_and_others_are_refused():
    array = np.zeros((4, 4, 4), np.uint8)
    array[0], array[1] = 7, 3
    grid = Geometry.from_spacing((4, 4, 4))
    named = Labels.from_array(array, grid, (Structure(7, "Ball 2"), Structure(3, "ball 1"), Structure(9, "absent")))
    matched = to_model_labels(named, small_spec(2)).numpy()
    np.testing.assert_array_equal(np.unique(matched[0]), [2])
    np.testing.assert_array_equal(np.unique(matched[1]), [1])
    plain = Labels.from_array(np.where(array == 7, 2, 0), grid)
    assert set(np.unique(to_model_labels(plain, small_spec(2)).numpy())) == {0, 2}
    other = Labels.from_array(array, grid, (Structure(7, "kidney"), Structure(3, "spleen")))
    with pytest.raises(DatasetError, match=r"spleen, kidney|kidney, spleen"):
        to_model_labels(other, small_spec(2))


def test_refuses_no_cases_and_cases_without_labels_before_any_training(a_parent, tmp_path):
    case = correction(1)
    empty = Correction("empty", case.image, Labels.from_array(np.zeros((24, 24, 24)), GRID))
    for cases in ([], [case, empty]):
        with pytest.raises(DatasetError, match=r"no corrected cases|Without labels: empty"):
            adapt_model(a_parent, cases, tmp_path / "new", device="cpu")
    assert not (tmp_path / "new").exists()


def test_refuses_a_network_of_overlapping_regions(tmp_path):
    folder = write_random_model(tmp_path / "regions", small_spec(2, regions=(2, 1)))
    with pytest.raises(ModelMismatch, match="overlapping regions"):
        adapt_model(folder, [correction(1)], tmp_path / "new", device="cpu")


def test_refuses_an_ensemble_and_says_how_to_make_one_network_of_it(tmp_path):
    spec = small_spec(weights=("weights-0.safetensors", "weights-1.safetensors"))
    write_model(tmp_path / "two", spec, [random_network(spec, seed).state_dict() for seed in (0, 1)], "")
    with pytest.raises(ModelMismatch, match=r"ensemble of 2 networks.*model compress"):
        adapt_model(tmp_path / "two", [correction(1)], tmp_path / "new", device="cpu")
    assert not (tmp_path / "new").exists()


def test_a_result_of_an_adapted_model_names_the_parent(a_parent, an_adaptation, tmp_path):
    output, _ = an_adaptation
    adapted = load_model(place_beside(output / "model", a_parent, tmp_path))
    provenance = segment(correction(1).image, adapted).provenance
    assert provenance["parent"] == "balls"
    assert provenance["parent_sha256"] == read_spec(a_parent).sha256["weights.safetensors"]
    assert "parent" not in segment(correction(1).image, load_model(a_parent)).provenance


def test_a_cancelled_adaptation_writes_nothing(a_parent, tmp_path):
    said: list[str] = []
    progress = Progress(lambda fraction, message: said.append(message), lambda: len(said) > 3)
    with pytest.raises(Cancelled):
        adapt_model(a_parent, [correction(1), correction(2)], tmp_path / "new", QUICK, device="cpu", progress=progress)
    assert not (tmp_path / "new").exists()


def test_the_seed_decides_the_differences_and_the_network_is_not_changed(a_parent):
    network, spec = load_model(a_parent).sources[0].module, small_spec()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    settings = QUICK.model_copy(update={"steps": 3})
    first, second = (fine_tune(network, [ball_example(9)], spec, settings, torch.device("cpu")) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_an_adapted_model_can_be_adapted_again(a_parent, an_adaptation, tmp_path):
    output, _ = an_adaptation
    adapted = place_beside(output / "model", a_parent, tmp_path)
    stranger = [one_behind_a_wall(seed) for seed in (40, 41)]
    longer = QUICK.model_copy(update={"steps": 25})
    result = adapt_model(adapted, stranger, tmp_path / "again", longer, name="both", device="cpu")
    assert result.spec is not None
    assert result.spec.parent.name == "balls"
    (tmp_path / "both").symlink_to(tmp_path / "again" / "model")
    again = load_model(tmp_path / "both")
    seen = np.mean([dice_of(again, one) for one in stranger])
    assert seen == pytest.approx(result.seen[1], abs=0.01)  # two differences are rounded to half precision as one


def test_the_differences_are_much_smaller_than_the_weights_of_a_usual_network(tmp_path):
    spec = small_spec(architecture={"name": "plain_conv_unet", "features": (16, 32, 64, 128)})
    delta = fine_tune(
        random_network(spec), [ball_example(1)], spec, FineTuning(steps=1, batch_size=1), torch.device("cpu")
    )
    whole = sum(tensor.numel() for tensor in random_network(spec).state_dict().values())
    assert sum(tensor.numel() for tensor in delta.values()) < 0.08 * whole


def test_corrections_are_read_from_a_folder(tmp_path):
    cases = read_corrections(write_balls(tmp_path, ["p_visit1", "p_visit2", "q"]))
    assert [(case.name, case.patient) for case in cases] == [("p_visit1", "p"), ("p_visit2", "p"), ("q", "q")]
    (tmp_path / "labels" / "q.nii").unlink()
    with pytest.raises(DatasetError):
        read_corrections(tmp_path)


def test_names_of_labels_in_nnunets_layout_are_those_of_the_structures(tmp_path):
    write_balls(tmp_path, ["a"])
    (tmp_path / "images").rename(tmp_path / "imagesTr")
    (tmp_path / "labels").rename(tmp_path / "labelsTr")
    (tmp_path / "imagesTr" / "a.nii").rename(tmp_path / "imagesTr" / "a_0000.nii")
    content = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "Ball 2": 1}, "file_ending": ".nii"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (case,) = read_corrections(tmp_path)
    assert [structure.name for structure in case.labels.structures] == ["Ball 2"]
    assert set(to_model_labels(case.labels, small_spec(2)).tensor.unique().tolist()) == {0, 2}


def test_read_model_gives_the_differences_of_an_adapted_model(an_adaptation):
    output, result = an_adaptation
    spec, (delta,) = read_model(output / "model")
    assert spec == result.spec
    assert delta


def test_the_sides_of_a_whole_head_become_crops_for_a_model_that_was_trained_on_crops():
    spec = read_spec(model_folder("hippocampus-mr"))
    grid = Geometry.from_spacing((90, 80, 60), (2.0, 2.0, 2.0), (-90.0, -80.0, -60.0))
    array = np.zeros(grid.shape_kji, np.uint8)
    array[28:34, 35:45, 28:34], array[28:34, 35:45, 56:62] = 1, 4
    structures = (Structure(1, "left anterior hippocampus"), Structure(4, "Right posterior hippocampus"))
    head = Correction("p", Image.from_array(array.astype(float), grid), Labels.from_array(array, grid, structures))
    left, right = crops_of(head, spec)
    assert (left.name, left.patient, right.name) == ("p, left", "p", "p, right")
    for crop, name, value in ((left, "anterior hippocampus", 1), (right, "posterior hippocampus", 4)):
        assert [structure.name for structure in crop.labels.structures] == [name]
        assert crop.labels.tensor.unique().tolist() == [0, value]
        assert (crop.labels.tensor > 0).sum() == 6 * 10 * 6
        np.testing.assert_array_equal(crop.image.numpy()[0], crop.labels.numpy())
        np.testing.assert_allclose(np.multiply(crop.image.geometry.size_ijk, 2), (35, 51, 36), atol=3)
    assert crops_of(head, small_spec()) == [head]
    assert crops_of(correction(1), spec)[0].name == "ball1"


def test_the_command_adapts_and_says_so(a_parent, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt, "FineTuning", lambda: QUICK)
    for seed in (20, 21):
        case = correction(seed)
        write_case(tmp_path / "cases", case.name, case.image.numpy()[0], case.labels.numpy())
    arguments = ["train", "--adapt", str(a_parent), "--cases", str(tmp_path / "cases"), "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out"), "--name", "mine", "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["dice_after"] > said["dice_before"]
    assert read_spec(tmp_path / "out" / "model").name == "mine"
    assert said["verdict"].startswith("Adapted: Dice ")


def test_the_command_refuses_half_of_an_adaptation(tmp_path):
    for arguments in ([], ["--adapt", "x"], ["--cases", str(tmp_path)], [str(tmp_path), "--adapt", "x"]):
        result = CliRunner().invoke(app, ["train", "--output", str(tmp_path / "out"), *arguments])
        assert isinstance(result.exception, InvalidSetting)
