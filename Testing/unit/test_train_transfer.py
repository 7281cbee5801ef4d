"""Starting from a trained model: what fits is taken over bit for bit, the ends are new, and the card says so."""

from __future__ import annotations

import json

import pytest
import torch

from MedSegRegLib.errors import ModelMismatch, UnknownModel
from MedSegRegLib.files import read_image, write_image
from MedSegRegLib.files.model_package import read_model, read_spec, write_model
from MedSegRegLib.preprocess import CtWindow, PercentileRange
from MedSegRegLib.segment import load_model
from MedSegRegLib.train.batches import AugmentedBatches
from MedSegRegLib.train.dataset import find_cases, load_examples
from MedSegRegLib.train.fine_tune import FineTuning, fine_tune
from MedSegRegLib.train.heads import fit_heads
from MedSegRegLib.train.loop import begin
from MedSegRegLib.train.run import train_model
from MedSegRegLib.train.transfer import matched_channels, propose_transfer, start_from, transfer
from MedSegRegLib.train.validate import validate
from small_training import (
    ball_example,
    random_network,
    small_settings,
    small_spec,
    write_balls,
    write_random_model,
)

pytestmark = pytest.mark.usefixtures("one_thread")
HEAD = ["decoder.seg_layers.0.bias", "decoder.seg_layers.0.weight"]
FIRST = "encoder.stages.0.0.convs.0.conv.weight"
NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def a_trained_parent(tmp_path_factory):
    """A package that finds balls."""
    spec = small_spec(intensity=({"step": "percentile_range"},), spacing_mm=(1.25, 1.25, 1.25))
    network = random_network(spec)
    settings = FineTuning(steps=60, learning_rate=2e-2, rank=64)
    delta = fine_tune(network, [ball_example(seed) for seed in range(4)], spec, settings, torch.device("cpu"))
    weights = {key: tensor + delta.get(key, 0) for key, tensor in network.state_dict().items()}
    folder = tmp_path_factory.mktemp("store") / "balls"
    write_model(folder, spec, [weights], "# Card\n")
    return folder


@pytest.fixture(scope="module")
def some_data(tmp_path_factory):
    return write_balls(tmp_path_factory.mktemp("data"), NAMES)


def weights_of(folder) -> dict[str, torch.Tensor]:
    return load_model(folder).sources[0].network.state_dict()


def two_channels(spec_channels=("T1", "T2")):
    return tuple({"name": name} for name in spec_channels)


def test_settings_are_the_parents_with_the_labels_of_the_data(a_trained_parent, some_data):
    settings = propose_transfer(a_trained_parent, some_data, "new")
    parent, model = read_spec(a_trained_parent), settings.model
    for key in ("architecture", "spacing_mm", "grid", "intensity", "tile_ijk", "tile_overlap", "tiling"):
        assert getattr(model, key) == getattr(parent, key)
    assert [label.name for label in model.labels] == ["label 1"]
    assert model.name == "new"
    assert settings.start.name == "balls"
    assert settings.start.sha256 == parent.sha256["weights.safetensors"]


def test_encoder_and_decoder_are_kept_bit_for_bit_and_the_head_is_new(a_trained_parent, some_data):
    settings = propose_transfer(a_trained_parent, some_data, "new")
    found, parent = transfer(settings, a_trained_parent), weights_of(a_trained_parent)
    assert sorted(found.new) == HEAD
    assert found.changed == ()
    assert sorted(found.kept) == sorted(parent.keys() - set(HEAD))
    started = begin(settings, torch.device("cpu"), None, found.weights).network.state_dict()
    assert all(torch.equal(started[name], parent[name]) for name in found.kept)
    scratch = begin(settings, torch.device("cpu")).network.state_dict()
    assert all(torch.equal(started[name], scratch[name]) for name in HEAD)


def test_the_head_is_kept_for_the_same_labels(a_trained_parent):
    same = start_from(a_trained_parent, small_settings(model=small_spec(name="again")))
    assert transfer(same, a_trained_parent).new == ()
    other = start_from(a_trained_parent, small_settings(model=small_spec(2, name="more")))
    assert sorted(transfer(other, a_trained_parent).new) == HEAD


def test_a_further_channel_gets_the_mean_of_the_first_convolution(a_trained_parent):
    spec = small_spec(name="two", channels=two_channels())
    found = transfer(start_from(a_trained_parent, small_settings(model=spec)), a_trained_parent)
    assert found.changed == (FIRST,)
    kernel = weights_of(a_trained_parent)[FIRST]
    torch.testing.assert_close(found.weights[FIRST], kernel.repeat(1, 2, 1, 1, 1) / 2)
    image = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    one, both = (
        torch.nn.functional.conv3d(x, weight)
        for x, weight in ((image, kernel), (image.repeat(1, 2, 1, 1, 1), found.weights[FIRST]))
    )
    torch.testing.assert_close(one, both)


def test_channels_are_found_by_their_names(tmp_path):
    parent = write_random_model(tmp_path / "two", small_spec(channels=two_channels()))
    spec = small_spec(name="new", channels=two_channels(("FLAIR", "t2", "t1")))
    assert matched_channels(read_spec(parent), spec.channels) == [None, 1, 0]
    weights = transfer(start_from(parent, small_settings(model=spec)), parent).weights[FIRST]
    kernel = weights_of(parent)[FIRST]
    torch.testing.assert_close(weights[:, 1:] * 1.5, kernel.flip(1))
    torch.testing.assert_close(weights[:, 0] * 1.5, kernel.mean(1))
    swapped = small_spec(name="swapped", channels=two_channels(("T2", "T1")))
    turned = transfer(start_from(parent, small_settings(model=swapped)), parent)
    assert torch.equal(turned.weights[FIRST], kernel.flip(1))
    unnamed = small_spec(name="unnamed", channels=two_channels(("x", "y")))
    assert matched_channels(read_spec(parent), unnamed.channels) == [0, 1]


def test_a_channel_that_the_parent_does_not_know_is_normalised_as_the_data_ask_for(a_trained_parent, tmp_path):
    write_balls(tmp_path, NAMES)
    lines = ["image_T1,image_CT,labels"]
    for name in NAMES:
        image = read_image(tmp_path / "images" / f"{name}.nii")
        write_image(image.with_tensor(image.tensor * 10 - 2000), tmp_path / f"{name}_ct.nii")
        lines.append(f"images/{name}.nii,{name}_ct.nii,labels/{name}.nii")
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    first, second = propose_transfer(a_trained_parent, tmp_path / "cases.csv", "new").model.channels
    assert (first.name, first.intensity or (PercentileRange(),)) == ("T1", (PercentileRange(),))
    assert (second.name, second.modality, second.intensity) == ("CT", "CT", (CtWindow(),))


def test_residual_networks_change_their_stem(tmp_path):
    architecture = {"name": "residual_encoder_unet", "features": (4, 8), "blocks_per_stage": 1}
    parent = write_random_model(tmp_path / "residual", small_spec(architecture=architecture))
    spec = small_spec(2, name="new", architecture=architecture, channels=two_channels())
    found = transfer(start_from(parent, small_settings(model=spec)), parent)
    assert found.changed == ("encoder.stem.convs.0.conv.weight",)
    assert sorted(found.new) == HEAD


def test_a_new_head_is_fitted_to_what_the_kept_layers_see(a_trained_parent, some_data):
    settings = propose_transfer(a_trained_parent, some_data, "new")
    initial = transfer(settings, a_trained_parent).weights
    examples = load_examples(find_cases(some_data), settings.model)
    batches = AugmentedBatches(examples, settings).epoch(0, 0, torch.device("cpu"))
    fitted = fit_heads(initial, settings.model, batches, torch.device("cpu"))
    assert sorted(fitted.keys() - initial.keys()) == HEAD
    assert all(torch.equal(fitted[name], tensor) for name, tensor in initial.items())
    network = random_network(settings.model)
    network.load_state_dict({**network.state_dict(), **initial})
    before = validate(network, examples, settings.model)[0]
    network.load_state_dict(fitted)
    assert validate(network, examples, settings.model)[0] > max(0.85, before + 0.1)


def test_heads_of_every_resolution_are_fitted(tmp_path):
    spec = small_spec(2, architecture={"name": "plain_conv_unet", "features": (4, 6, 8), "blocks_per_stage": 1})
    weights = {k: v for k, v in random_network(spec).state_dict().items() if "seg_layers" not in k}
    images = torch.randn((2, 1, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    labels = (images[:, 0] > 0.5).long() + (images[:, 0] > 1.5).long()
    labels[:, :2] = -1
    fitted = fit_heads(weights, spec, [(images, labels)], torch.device("cpu"))
    assert fitted.keys() == random_network(spec).state_dict().keys()
    network = random_network(spec)
    network.load_state_dict(fitted)
    with torch.no_grad():
        scores = network.train()(images)
    known = labels >= 0
    share = scores[0].softmax(1).transpose(0, 1)[:, known].mean(1)
    torch.testing.assert_close(share, torch.bincount(labels[known]) / known.sum(), rtol=0, atol=0.02)


def test_a_training_from_a_model_says_so_and_is_better_than_one_from_scratch(a_trained_parent, some_data, tmp_path):
    started = propose_transfer(a_trained_parent, some_data, "new")
    short = {"epochs": 2, "steps_per_epoch": 4, "validation": 0.2, "test": 0.4, "learning_rate": 5e-3}
    dice = {}
    for name, start in (("transfer", started.start), ("scratch", None)):
        settings = started.model_copy(update={**short, "start": start})
        spec = train_model(some_data, settings, tmp_path / name, device="cpu", parent=a_trained_parent)
        dice[name] = spec.scores["label 1"]["dice_mean"]
    assert dice["transfer"] > max(0.8, dice["scratch"] + 0.1)
    spec, _ = read_model(tmp_path / "transfer" / "model")
    assert spec.training["started_from"].startswith("balls 1.0.0, weights sha256 ")
    assert "new: decoder.seg_layers.0.weight, decoder.seg_layers.0.bias" in spec.training["taken_from_it"]
    assert spec.training["taken_from_it"] in (tmp_path / "transfer" / "model" / "README.md").read_text()
    assert json.loads((tmp_path / "transfer" / "settings.json").read_text())["start"]["name"] == "balls"


def test_a_training_in_slots_ends_as_one_without_a_break(a_trained_parent, some_data, tmp_path):
    settings = propose_transfer(a_trained_parent, some_data, "new").model_copy(
        update={"epochs": 2, "steps_per_epoch": 2}
    )
    how = {"device": "cpu", "parent": a_trained_parent}
    assert train_model(some_data, settings, tmp_path / "slots", stop_after_minutes=0, **how) is None
    whole, slots = (train_model(some_data, settings, tmp_path / name, **how) for name in ("whole", "slots"))
    assert whole.sha256["weights.safetensors"] == slots.sha256["weights.safetensors"]


def test_of_an_ensemble_the_first_network_is_taken(tmp_path):
    spec = small_spec(weights=("weights-0.safetensors", "weights-1.safetensors"))
    networks = [random_network(spec, seed).state_dict() for seed in (0, 1)]
    write_model(tmp_path / "two", spec, networks, "")
    found = transfer(start_from(tmp_path / "two", small_settings()), tmp_path / "two")
    assert torch.equal(found.weights[FIRST], networks[0][FIRST].half().float())
    assert "of its 2 networks the first one" in found.sentence


def test_an_adapted_model_can_be_started_from(a_trained_parent, tmp_path):
    parent = read_spec(a_trained_parent)
    content = {
        **parent.model_dump(),
        "name": "adapted",
        "weights": ("delta.safetensors",),
        "parent": {"name": "balls", "sha256": parent.sha256["weights.safetensors"]},
    }
    (tmp_path / "balls").symlink_to(a_trained_parent)
    write_model(tmp_path / "adapted", parent.model_validate(content), [{HEAD[0]: torch.ones(2)}], "")
    found = transfer(start_from(tmp_path / "adapted", small_settings()), tmp_path / "adapted")
    torch.testing.assert_close(found.weights[HEAD[0]], weights_of(a_trained_parent)[HEAD[0]] + 1)


def test_refuses_other_weights_another_network_and_a_model_that_is_not_there(
    a_trained_parent, tmp_path, an_empty_store
):
    settings = start_from(a_trained_parent, small_settings())
    other = write_random_model(tmp_path / "other", small_spec(), seed=9)
    with pytest.raises(ModelMismatch, match="the very weights"):
        transfer(settings, other)
    with pytest.raises(UnknownModel):
        train_model(tmp_path, settings, tmp_path / "output", device="cpu")
    wider = small_settings(model=small_spec(architecture={"name": "plain_conv_unet", "features": (5, 9)}))
    with pytest.raises(ModelMismatch, match="Nothing of 'balls' fits"):
        start_from(a_trained_parent, wider)
    assert not (tmp_path / "output").exists()


def test_the_command_starts_from_a_model_and_reports_it(run, a_trained_parent, some_data, tmp_path):
    command = ("train", some_data, "--from", a_trained_parent, "--output", tmp_path / "out", "--epochs", "1")
    code, out, err = run(*command, "--device", "cpu")
    assert code == 0, err
    assert "started from: balls 1.0.0" in out
    assert "new: decoder.seg_layers.0.weight" in out.replace("\n", " ")
    code, _, err = run("train", some_data, "--from", "no-such-model", "-o", tmp_path / "other")
    assert code == 3
    assert "no-such-model" in err
    assert not (tmp_path / "other").exists()


def test_refuses_settings_that_do_not_fit_the_start():
    with pytest.raises(ValueError, match="sha256"):
        small_settings(start={"name": "balls", "sha256": "short"})
