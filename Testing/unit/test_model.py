"""Models ready to run: from a package, from several, in stages; and what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from MedSegRegLib.errors import DamagedModel, InvalidSetting, ModelMismatch, UnknownModel
from MedSegRegLib.files.architectures import ContextUNetArchitecture, UNetArchitecture
from MedSegRegLib.files.model_package import write_model, write_package
from MedSegRegLib.files.model_spec import ModelSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.progress import Progress
from MedSegRegLib.segment import Model, join_models, load_model, make_plan, segment
from MedSegRegLib.segment.network import NEED_EINOPS, build_network
from small_training import random_network, small_spec
from streamed import CPU, MONAI, model_of, monai, noise, random_image


def written(folder: Path, spec: ModelSpec, seeds: tuple[int, ...] = (0,)) -> Path:
    write_model(folder, spec, [random_network(spec, seed).state_dict() for seed in seeds], "# A card\n")
    return folder


def stored(network: torch.nn.Module) -> torch.nn.Module:
    """The network with its weights as a package holds them."""
    network.load_state_dict({name: tensor.half().float() for name, tensor in network.state_dict().items()})
    return network


def written_cascade(folder: Path, first: ModelSpec, second: ModelSpec) -> Path:
    """A package whose network takes the image's channels and one more for each label of the first stage."""
    written(folder / "previous", first, (3,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = build_network(second.architecture, len(second.channels) + len(first.labels), second.classes)
    write_model(folder, second, [network.state_dict()], "")
    weights = (folder / second.weights[0]).read_bytes()
    previous = (folder / "previous" / "model.json").read_bytes()
    write_package(folder, second, {second.weights[0]: weights, "previous/model.json": previous}, "")
    return folder


@pytest.fixture
def two_stages(tmp_path) -> Path:
    return written_cascade(
        tmp_path / "cascade",
        small_spec(2, name="coarse", spacing_mm=(2.0, 2.0, 2.0)),
        small_spec(3, previous_stage=True),
    )


def test_a_loaded_model_is_in_evaluation_with_the_written_weights(a_model_folder):
    model = load_model(a_model_folder)
    network = model.sources[0].network
    assert not network.training
    for name, tensor in random_network(small_spec()).state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor.half().float(), rtol=0, atol=0)
    assert model.device == CPU
    assert model.previous is None
    assert len(model.engines) == len(model.sources) == 1


@pytest.mark.parametrize(
    "architecture",
    [
        UNetArchitecture(features=(4, 8), blocks_per_stage=(1, 2), decoder_blocks=(1,)),
        UNetArchitecture(name="residual_encoder_unet", features=(4, 8)),
        UNetArchitecture(dimensions=2, features=(4, 8)),
        ContextUNetArchitecture(name="context_unet", base_features=2),
    ],
)
def test_every_network_of_our_own_runs_after_it_was_written_and_loaded(architecture, tmp_path):
    tile = (32, 32, 32) if architecture.dimensions == 3 else (32, 32, 1)
    spec = small_spec(2, architecture=architecture, tile_ijk=tile)
    model = load_model(written(tmp_path / "model", spec))
    with torch.no_grad():
        batch = noise(1, 1, *tile[::-1][3 - architecture.dimensions :])
        expected = stored(random_network(spec))(batch)
    assert model.engines[0].run(noise(1, 1, *tile[::-1])).shape == (1, 3, *tile[::-1])
    torch.testing.assert_close(model.sources[0].network(batch), expected)


@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in sorted(MONAI.keys() - {"VNet"})), ("UNet", {"norm": "BATCH"})]
)
def test_networks_of_monai_run_after_they_were_written_and_loaded(name, settings, tmp_path):
    if name in NEED_EINOPS:
        pytest.importorskip("einops", reason="MONAI's transformers need it")
    spec = small_spec(1, architecture=monai(name, **settings), tile_ijk=(32, 32, 32))
    model, batch = load_model(written(tmp_path / "model", spec)), noise(1, 1, 32, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model.engines[0].run(batch), stored(random_network(spec))(batch))


def test_a_model_is_loaded_by_its_name_in_the_store(an_empty_store):
    written(an_empty_store / "balls", small_spec())
    assert load_model("balls").spec.name == "balls"


def test_a_model_that_is_not_there_is_refused(an_empty_store, tmp_path):
    for name in ("no-such-model", tmp_path / "nowhere"):
        with pytest.raises(UnknownModel):
            load_model(name)


def test_several_weights_files_are_an_ensemble(tmp_path):
    names = tuple(f"weights-{n}.safetensors" for n in range(3))
    for labels in (2, 20):
        spec, image = small_spec(labels, weights=names), random_image((20, 18, 24))
        model = load_model(written(tmp_path / f"folds{labels}", spec, (0, 1, 2)))
        assert len(model.engines) == 3
        members = [stored(random_network(spec, seed)) for seed in range(3)]
        assert torch.equal(segment(image, model).labels.tensor, segment(image, model_of(spec, *members)).labels.tensor)
        provenance = segment(image, model).provenance
        assert provenance["weights_sha256"].split() == [model.spec.sha256[name] for name in names]


def test_joined_models_are_an_ensemble(tmp_path):
    spec, image = small_spec(2), random_image((20, 18, 24))
    models = [load_model(written(tmp_path / str(seed), spec, (seed,))) for seed in range(3)]
    joined = join_models(models)
    expected = model_of(spec, *(stored(random_network(spec, seed)) for seed in range(3)))
    assert torch.equal(segment(image, joined).labels.tensor, segment(image, expected).labels.tensor)
    assert not torch.equal(segment(image, joined).labels.tensor, segment(image, models[0]).labels.tensor)


@pytest.mark.parametrize("widths", [(4, 16), (16, 4)])
def test_models_of_unlike_networks_are_joined_too(widths):
    specs = [small_spec(10, architecture=UNetArchitecture(features=(width, 8))) for width in widths]
    labels = segment(random_image((20, 18, 24)), join_models([model_of(spec) for spec in specs])).labels
    assert len(labels.tensor.unique()) > 1


def test_the_time_of_joined_models_is_that_of_all():
    one, other = (replace(model_of(small_spec()), seconds_per_tile=seconds) for seconds in (0.5, 0.25))
    assert join_models([one, other]).seconds_per_tile == 0.75
    assert join_models([one, model_of(small_spec())]).seconds_per_tile is None


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing_mm": (1.0, 1.0, 2.0)},
        {"tile_ijk": (16, 16, 32)},
        {"tile_overlap": 0.25},
        {"tiling": {"placement": "even"}},
        {"channels": [{"name": "T2"}]},
        {"intensity": []},
        {"grid": {"axes": "ijk"}},
        {"regions": (1, 2)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_models_that_differ_in_more_than_their_weights_are_not_joined(changes):
    with pytest.raises(ModelMismatch, match=next(iter(changes))):
        join_models([model_of(small_spec(2)), model_of(small_spec(2, **changes))])


def test_a_cascade_is_not_joined(two_stages):
    cascade = load_model(two_stages)
    with pytest.raises(ModelMismatch, match="stages"):
        join_models([cascade, cascade])


def test_a_cascade_is_loaded_with_the_stage_before_it(two_stages):
    model = load_model(two_stages)
    assert model.previous.spec.name == "coarse"
    assert model.sources[0].channels == 1 + 2
    assert model.engines[0].run(noise(1, 3, 16, 16, 16)).shape == (1, 4, 16, 16, 16)


def test_the_second_stage_sees_the_labels_of_the_first_one_on_its_own_grid(two_stages):
    model, image = load_model(two_stages), random_image((25, 22, 18))
    first = segment(image, model.previous).labels
    assert len(first.tensor.unique()) == 3
    spec = model.spec.model_copy(update={"previous_stage": False, "channels": model.spec.channels * 3, "intensity": ()})
    whole = model_of(spec, model.sources[0].network)
    whole = replace(whole, sources=(replace(whole.sources[0], channels=3),))
    normalised = (image.tensor - image.tensor.mean()) / image.tensor.std()
    channels = torch.cat((normalised, *[(first.tensor == n).float()[None] for n in (1, 2)]))
    expected = segment(Image(channels, image.geometry), whole).labels
    assert torch.equal(segment(image, model).labels.tensor, expected.tensor)
    assert len(expected.tensor.unique()) > 1


def test_a_cascade_can_be_looked_at_in_a_region_and_on_other_grids(two_stages):
    model = load_model(two_stages)
    geometry = Geometry.from_spacing((20, 16, 12), (1.3, 1.4, 2.0), (4, 5, 6))
    image = Image(random_image((20, 16, 12)).tensor, geometry)
    found = segment(image, model, region=geometry.window((3, 3, 3), (12, 9, 6)).corners_ras()).labels
    assert found.geometry is geometry
    assert found.tensor.any()
    assert not found.tensor[0].any()


def test_progress_of_a_cascade_grows_from_the_first_stage_to_the_end(two_stages):
    news = []
    progress = Progress(lambda fraction, message: news.append((fraction, message)))
    segment(random_image((60, 22, 18)), load_model(two_stages), progress=progress)
    fractions = [fraction for fraction, _ in news]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert [message for _, message in news].count("tile 2 of 3") == 1  # of the first stage


def test_a_changed_first_stage_is_refused(two_stages):
    path = two_stages / "previous" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"spacing_mm": [3.0, 3.0, 3.0]}))
    with pytest.raises(DamagedModel, match=r"previous/model\.json"):
        load_model(two_stages)


def test_a_first_stage_that_is_missing_or_not_listed_is_refused(two_stages, tmp_path):
    with pytest.raises(DamagedModel, match="no sha256"):
        load_model(written(tmp_path / "unlisted", small_spec(3, previous_stage=True)))
    (two_stages / "previous" / "model.json").unlink()
    with pytest.raises(DamagedModel, match="missing"):
        load_model(two_stages)


def test_weights_of_another_network_are_refused_before_it_is_built(tmp_path):
    huge = {"name": "plain_conv_unet", "features": (1024,) * 8, "blocks_per_stage": 8}
    spec = small_spec(architecture=huge, tile_ijk=(256, 128, 128))
    write_model(tmp_path / "huge", spec, [random_network(small_spec()).state_dict()], "")
    with pytest.raises(ModelMismatch) as caught:
        load_model(tmp_path / "huge")
    assert caught.value.found.count(";") == 4
    assert "decoder.seg_layers.0.weight: (2, 4, 1, 1, 1) for (2, 1024, 1, 1, 1)" in caught.value.found


def test_without_an_engine_named_torch_runs_it_and_nothing_is_measured(a_model_folder):
    model = load_model(a_model_folder)
    assert model.engines[0].name == "torch"
    assert model.seconds_per_tile is None


def test_a_named_engine_is_measured_once(a_model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGREG_CACHE", str(tmp_path / "cache"))  # in that of all tests it may be measured already
    said = []
    progress = Progress(lambda fraction, message: said.append(message))
    first, second = (load_model(a_model_folder, engine="torch", progress=progress) for _ in range(2))
    assert 0 < first.seconds_per_tile == second.seconds_per_tile
    assert said == ["measuring the engine torch"]
    assert make_plan(first, Geometry.from_spacing((40, 40, 40))).seconds > 0
    assert any("torch" in finding.message for finding in first.findings)


@pytest.mark.parametrize("setting", [{"engine": "steam"}, {"device": "abacus"}])
def test_unknown_engines_and_devices_are_refused(setting, a_model_folder):
    with pytest.raises(InvalidSetting, match=r"steam|abacus"):
        load_model(a_model_folder, **setting)


def test_the_same_model_on_another_device_is_run_by_torch_there():
    model = replace(model_of(small_spec(20)), seconds_per_tile=0.1)
    assert model.on(CPU) is model
    moved = model.on(torch.device("cpu", 0))
    assert moved.device == torch.device("cpu", 0)
    assert moved.seconds_per_tile is None
    batch = noise(1, 1, 16, 16, 16)
    assert torch.equal(moved.engines[0].run(batch), model.engines[0].run(batch))


def test_the_memory_of_the_weights_is_counted(tmp_path):
    spec = small_spec(weights=("weights-0.safetensors", "weights-1.safetensors"))
    model: Model = load_model(written(tmp_path / "two", spec, (0, 1)))
    numbers = sum(tensor.numel() for tensor in random_network(spec).state_dict().values())
    assert model.weight_bytes == 2 * 4 * numbers


def test_joined_models_have_joined_features():
    spec = small_spec(20)
    members = [model_of(spec) for _ in range(3)]
    assert join_models(members).blended_features == 3 * 4
    assert [tuple(head.weight.shape) for head in join_models(members).heads] == [(21, 4)] * 3
    assert join_models([model_of(small_spec(2)) for _ in range(3)]).blended_features == 3
