"""Training: an interrupted one ends as an uninterrupted one, and a folder of pairs becomes a tested package."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch

from MedSegRegLib.errors import Cancelled, DatasetError, Diverged, InvalidSetting, ModelMismatch, OutputNotWritable
from MedSegRegLib.files import read_image
from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.files.model_package import read_model
from MedSegRegLib.progress import Progress
from MedSegRegLib.segment import load_model, segment
from MedSegRegLib.train.augment import Augmentation
from MedSegRegLib.train.batches import AugmentedBatches
from MedSegRegLib.train.checkpoint import History, Training, load_checkpoint, save_checkpoint
from MedSegRegLib.train.dataset import Example, find_cases
from MedSegRegLib.train.loop import begin, train_network
from MedSegRegLib.train.propose import propose_settings
from MedSegRegLib.train.run import change_settings, finish_model, read_cases, read_settings, train_model
from MedSegRegLib.train.split import split_by_patient
from MedSegRegLib.train.validate import validate
from small_training import ball, ball_example, random_network, small_settings, small_spec, write_balls, write_case

pytestmark = pytest.mark.usefixtures("one_thread")
LEFT_BY_A_TRAINING = ["checkpoint.previous.safetensors", "checkpoint.safetensors", "curve.png", "events"]
NAMES = ["a_visit1", "a_visit2", "b", "c", "d", "e_ses-1", "e_ses-2", "f"]


@pytest.fixture(scope="module")
def some_examples():
    return [ball_example(seed) for seed in range(4)], [ball_example(seed) for seed in (8, 9)]


@pytest.fixture(scope="module")
def a_training(tmp_path_factory):
    """A whole training on eight cases of six patients: (its folder, the data, the description it returned)."""
    folder = tmp_path_factory.mktemp("training")
    data = write_balls(folder / "data", NAMES)
    return folder / "output", data, train_model(data, small_settings(epochs=8), folder / "output", device="cpu")


def train(examples: list[Example], validation: list[Example], settings, folder, **how) -> tuple[dict, History]:
    """Weights of the best epoch, and the history."""
    training = train_network(AugmentedBatches(examples, settings), validation, settings, folder, **how)
    return training.best, training.history


def assert_equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def cancelled_in_epoch(number: int) -> Progress:
    """Asks to stop at the second step of an epoch."""
    said: list[str] = []
    return Progress(
        lambda fraction, message: said.append(message),
        lambda: sum(message.startswith(f"epoch {number} ") for message in said) == 2,
    )


def test_a_resumed_training_ends_bit_for_bit_as_an_uninterrupted_one(some_examples, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    best, history = train(*some_examples, small_settings(), whole)
    for epoch in (2, 3):
        with pytest.raises(Cancelled):
            train(*some_examples, small_settings(), broken, progress=cancelled_in_epoch(epoch))
    resumed, resumed_history = train(*some_examples, small_settings(), broken)
    assert_equal_weights(best, resumed)
    assert history == resumed_history
    assert (whole / "checkpoint.safetensors").read_bytes() == (broken / "checkpoint.safetensors").read_bytes()


def test_a_training_in_slots_ends_bit_for_bit_as_an_uninterrupted_one(some_examples, tmp_path, monkeypatch):
    from MedSegRegLib.train import loop  # noqa: PLC0415

    settings = small_settings(average=0.9, epochs=2, batch_size=1)
    best, history = train(*some_examples, settings, tmp_path / "whole")
    slots = 0
    while True:
        ticks = iter(range(1000))
        monkeypatch.setattr(loop.time, "monotonic", lambda ticks=ticks: 60.0 * next(ticks))
        slot, slot_history = train(*some_examples, settings, tmp_path / "slots", stop_after_minutes=2.5)
        slots += 1
        if len(slot_history.losses) == settings.epochs:
            break
    assert slots > 2
    assert slot_history == history
    assert_equal_weights(best, slot)


def test_a_finished_training_is_not_done_again(some_examples, tmp_path):
    first = train(*some_examples, small_settings(epochs=1), tmp_path)
    before = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    second = train(*some_examples, small_settings(epochs=1), tmp_path)
    assert_equal_weights(first[0], second[0])
    assert first[1] == second[1]
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == before


def test_the_seed_decides_the_weights_and_the_callers_random_state_is_kept(some_examples, tmp_path):
    before = torch.get_rng_state()
    trained = [
        train(*some_examples, small_settings(epochs=1, seed=seed), tmp_path / str(n))[0]
        for n, seed in enumerate((1, 1, 2))
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal_weights(trained[0], trained[1])
    assert not torch.equal(*(weights["decoder.seg_layers.0.weight"] for weights in trained[1:]))


def test_every_epoch_draws_other_patches(some_examples, tmp_path, monkeypatch):
    from MedSegRegLib.train import batches  # noqa: PLC0415

    real, patches = batches.augment, []

    def record(*arguments):
        patches.append(real(*arguments))
        return patches[-1]

    monkeypatch.setattr(batches, "augment", record)
    train(*some_examples, small_settings(epochs=2), tmp_path)
    sums = [float(image.double().abs().sum()) for image, _ in patches]
    assert len(set(sums)) == len(sums) == 8


def test_the_best_epoch_is_returned_and_not_the_last(some_examples, tmp_path):
    settings = small_settings(epochs=4, learning_rate=0.05)
    best, history = train(*some_examples, settings, tmp_path)
    network = random_network(settings.model)
    network.load_state_dict(best)
    assert validate(network, some_examples[1], settings.model) == history.validation_dice[history.best_epoch]
    assert history.means[history.best_epoch] == max(history.means)


def test_the_rate_of_learning_warms_up_and_falls_to_almost_zero(some_examples, tmp_path):
    rates = train(*some_examples, small_settings(epochs=4), tmp_path)[1].learning_rates
    assert len(rates) == 4
    assert rates[0] < 0.005
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] < 0.001


def test_the_remaining_time_is_said_once_there_is_a_speed(monkeypatch):
    from MedSegRegLib.train import loop  # noqa: PLC0415

    ticks = iter(range(0, 1000, 30))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))
    clock = loop.Clock(math.inf, 1000)
    said = []
    for step in (4, 5, 900):
        clock.tick(step)
        said.append(clock.left)
    assert said == ["", ", 8.3 h left", ", 0 min left"]


def test_a_training_leaves_a_curve_and_events(some_examples, tmp_path):
    train(*some_examples, small_settings(epochs=2), tmp_path)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == LEFT_BY_A_TRAINING
    assert list((tmp_path / "events").iterdir())


def test_refuses_a_side_without_examples_and_a_label_that_is_nowhere(some_examples, tmp_path):
    for sides in ((some_examples[0], []), ([], some_examples[1])):
        with pytest.raises(DatasetError, match=r"no (training|validation) cases"):
            train(*sides, small_settings(), tmp_path)
    with pytest.raises(DatasetError, match="In no training case: ball 2"):
        train(*some_examples, small_settings(model=small_spec(2)), tmp_path)
    assert not list(tmp_path.iterdir())


def poisoned(example: Example) -> Example:
    return Example(example.name, torch.full_like(example.image, math.nan), example.labels)


def test_steps_without_a_finite_loss_are_skipped_and_counted(some_examples, tmp_path):
    examples, validation = some_examples
    settings = small_settings(batch_size=1)
    best, history = train([*examples, poisoned(examples[0])], validation, settings, tmp_path)
    assert history.skipped_steps == settings.epochs
    assert all(torch.isfinite(tensor).all() for tensor in best.values())
    assert np.isfinite(history.losses).all()
    training = begin(settings, torch.device("cpu"))
    load_checkpoint(tmp_path / "checkpoint.safetensors", training)
    assert all(torch.isfinite(tensor).all() for tensor in training.network.state_dict().values())


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(some_examples, tmp_path, monkeypatch):
    from MedSegRegLib.train import optimise  # noqa: PLC0415

    real = optimise.deep_supervision_loss

    def finite_loss_with_an_endless_slope(scores: list[torch.Tensor], *how: object) -> torch.Tensor:
        return real(scores, *how) + (scores[0] - scores[0].detach()).square().sum().sqrt()

    monkeypatch.setattr(optimise, "deep_supervision_loss", finite_loss_with_an_endless_slope)
    best, history = train(*some_examples, small_settings(epochs=2), tmp_path)
    assert history.skipped_steps == 4
    assert all(torch.isfinite(tensor).all() for tensor in best.values())
    assert all(math.isnan(loss) for loss in history.losses)


def test_too_many_skipped_steps_end_the_training(some_examples, tmp_path):
    examples = [poisoned(some_examples[0][0])] * 12
    with pytest.raises(Diverged, match="21 steps"):
        train(examples, some_examples[1], small_settings(batch_size=1), tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    small, wide = (
        random_network(small_spec(architecture=UNetArchitecture(features=features, blocks_per_stage=1)))
        for features in ((4, 8), (4, 16))
    )
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, Training(small, torch.optim.AdamW(small.parameters())))
    with pytest.raises(ModelMismatch, match=r"c\.safetensors"):
        load_checkpoint(path, Training(wide, torch.optim.AdamW(wide.parameters())))


def test_the_package_is_written_with_the_scores_of_the_test_cases(a_training):
    output, _, spec = a_training
    assert read_model(output / "model")[0] == spec
    with open(output / "test_scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    split = json.loads((output / "split.json").read_text())
    assert sorted(row["case"] for row in rows) == sorted(split["test"])
    dice = [float(row["dice"]) for row in rows]
    assert spec.scores["ball 1"]["dice_mean"] == pytest.approx(np.mean(dice), abs=1e-3)
    assert spec.scores["ball 1"]["dice_worst"] == pytest.approx(min(dice), abs=1e-3)
    assert spec.scores["ball 1"]["dice_mean"] > 0.8
    assert spec.training["epochs"] == 8
    assert "scores are of the test cases" in spec.training["split"]


def test_the_card_says_what_the_scores_are(a_training):
    output, _, spec = a_training
    card = (output / "model" / "README.md").read_text()
    assert f"| ball 1 | {spec.scores['ball 1']['dice_mean']:.3f}" in card
    assert "CC0-1.0" in card
    for name in json.loads((output / "split.json").read_text())["test"]:
        assert name in card


def test_the_trained_model_finds_the_ball(a_training, tmp_path):
    output, _, _ = a_training
    image, mask = ball(77)
    write_case(tmp_path, "new", image, mask)
    found = segment(read_image(tmp_path / "images" / "new.nii"), load_model(output / "model")).labels.numpy()
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.8


def test_the_split_shares_no_patient_and_keeps_visits_together(a_training):
    split = json.loads((a_training[0] / "split.json").read_text())
    patients = [{name.split("_")[0] for name in group} for group in split.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6
    assert sorted(name for group in split.values() for name in group) == NAMES


def test_a_training_leaves_its_files_and_nothing_temporary(a_training):
    assert sorted(path.name for path in a_training[0].iterdir()) == [
        *LEFT_BY_A_TRAINING,
        "model",
        "settings.json",
        "split.json",
        "test_scores.csv",
    ]
    assert read_settings(a_training[0] / "settings.json") == small_settings(epochs=8)


def test_other_cases_do_not_go_on_with_a_training(a_training):
    output, data, _ = a_training
    with pytest.raises(DatasetError, match="another split"):
        train_model(data, small_settings(epochs=8, seed=4), output, device="cpu")


def test_a_structure_that_no_test_case_has_is_left_out_of_the_scores(tmp_path):
    settings = small_settings(model=small_spec(2))
    split = split_by_patient(find_cases(write_balls(tmp_path / "data", list("abc"))), 0.2, 0.4, 0)
    weights = random_network(settings.model).state_dict()
    weights["decoder.seg_layers.0.bias"] = torch.tensor([0.0, 0.0, -1000.0])
    training = begin(settings, torch.device("cpu"))
    training.best, training.history = weights, History([1.0], [[0.5, 0.5]])
    spec = finish_model(split, read_cases(split.test), settings, training, tmp_path)
    assert spec.scores["ball 2"] == {"cases": 0.0, "missed": 0.0}
    assert "dice_mean" in spec.scores["ball 1"]
    assert "| ball 2 | in none of these cases |" in (tmp_path / "model" / "README.md").read_text()


def test_faults_of_training_validation_and_test_cases_are_listed_before_the_first_epoch(tmp_path):
    image, labels = ball(0)
    for name in "abcdefgh":
        write_case(tmp_path / "data", name, image, 5 * labels)
    with pytest.raises(DatasetError, match="8 of 8 cases"):
        train_model(tmp_path / "data", small_settings(), tmp_path / "output", device="cpu")
    assert not (tmp_path / "output" / "checkpoint.safetensors").exists()


def test_an_output_that_cannot_be_made_is_refused_before_the_cases_are_read(tmp_path):
    write_balls(tmp_path / "data", list("abcd"))
    (tmp_path / "file").touch()
    read = []
    with pytest.raises(OutputNotWritable):
        train_model(
            tmp_path / "data",
            small_settings(),
            tmp_path / "file" / "output",
            device="cpu",
            progress=Progress(lambda *news: read.append(news)),
        )
    assert read == []


def test_proposed_settings_fit_the_cases(tmp_path):
    write_balls(tmp_path / "data", list("abcd"))
    settings = propose_settings(tmp_path / "data", "my-balls")
    assert settings.model.tile_ijk == (24, 24, 24)
    assert settings.model.spacing_mm == (1, 1, 1)
    assert [label.value for label in settings.model.labels] == [1]
    assert settings.model.channels[0].modality == "any"


def test_settings_are_proposed_for_ct(tmp_path):
    image, labels = ball(0)
    for name in "abc":
        write_case(tmp_path, name, image * 10 - 2000, labels)
    model = propose_settings(tmp_path, "ct").model
    assert model.channels[0].modality == "CT"
    assert model.intensity[0].step == "ct_window"


def test_refuses_to_propose_a_model_without_labels_or_with_an_impossible_name(tmp_path):
    write_balls(tmp_path / "balls", list("abc"))
    with pytest.raises(InvalidSetting, match="name"):
        propose_settings(tmp_path / "balls", "My Balls!")
    image, labels = ball(0)
    write_case(tmp_path / "empty", "a", image, 0 * labels)
    with pytest.raises(InvalidSetting, match="labels"):
        propose_settings(tmp_path / "empty", "empty")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid"),
        ("{}", "model"),
        ("\xff", "read"),
        ('{"epochs": 0}', "model"),
    ],
)
def test_settings_that_are_not_valid_are_refused_with_the_first_reason(text, reason, tmp_path):
    (tmp_path / "settings.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidSetting, match=reason):
        read_settings(tmp_path / "settings.json")
    with pytest.raises(InvalidSetting, match="read"):
        read_settings(tmp_path / "absent.json")


def test_refuses_a_fold_that_does_not_exist():
    with pytest.raises(InvalidSetting, match="fold 5"):
        change_settings(small_settings(folds=5), {"fold": 5})
    assert change_settings(small_settings(folds=5), {"fold": 4}).fold == 4


def test_settings_come_back_from_their_file(tmp_path):
    settings = small_settings(augmentation=Augmentation(noise=0.5, mirror_axes=(0, 2)))
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    assert read_settings(tmp_path / "settings.json") == settings
