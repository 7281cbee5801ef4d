"""Smaller models: every variant is measured on what it was not made from, the rule decides, and the package says it."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from MedSegRegLib.errors import Cancelled, DamagedModel, DatasetError, ModelMismatch, WorkerLost
from MedSegRegLib.files.model_package import read_package, read_spec, write_model, write_package
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.progress import Progress
from MedSegRegLib.segment import load_model, segment
from MedSegRegLib.train import compress
from MedSegRegLib.train.augment import Augmentation
from MedSegRegLib.train.compress import compress_model, make_variants
from MedSegRegLib.train.compression_card import Compression, Row
from MedSegRegLib.train.distil import Distillation, distil, distillation_loss, teacher_shares
from MedSegRegLib.train.fine_tune import FineTuning, fine_tune
from MedSegRegLib.train.measure import Measured, measure
from MedSegRegLib.train.prune import thinner
from MedSegRegLib.train.samples import Sample, part_samples, read_samples
from small_training import ball, ball_example, random_network, small_spec, write_balls, write_random_model

pytestmark = pytest.mark.usefixtures("one_thread")
GRID = Geometry.from_spacing((24, 24, 24))
QUICK = Distillation(steps=2, batch_size=1, augmentation=Augmentation(elastic_probability=0.0))
ENSEMBLE = ("weights-0.safetensors", "weights-1.safetensors")


def sample(seed: int, labelled: bool = True, patient: str = "") -> Sample:
    image, mask = ball(seed)
    labels = Labels.from_array(mask, GRID, small_spec().structures) if labelled else None
    return Sample(f"ball{seed}", Image.from_array(image, GRID, f"ball{seed}"), labels, patient)


def row(variant: str, dice: float, seconds: float) -> Row:
    return Row(variant, "torch", dice, 1.0, {"ball 1": dice}, seconds, seconds, 1 << 20, 1 << 10)


def compression(*rows: Row, tolerance: float = 0.01) -> Compression:
    return Compression("balls", rows, {}, "on 1 image", True, 1, tolerance)


@pytest.fixture(scope="module")
def a_trained_model(tmp_path_factory):
    """A package that finds balls."""
    spec = small_spec()
    network = random_network(spec)
    settings = FineTuning(steps=60, learning_rate=2e-2, rank=64)
    delta = fine_tune(network, [ball_example(seed) for seed in range(4)], spec, settings, torch.device("cpu"))
    weights = {key: tensor + delta.get(key, 0) for key, tensor in network.state_dict().items()}
    folder = tmp_path_factory.mktemp("models") / "balls"
    write_model(folder, spec, [weights], "# Card\n")
    return folder


@pytest.fixture
def measured_here(monkeypatch):
    """Variants are measured in this process, and each one is said to be faster than the one before."""
    count = iter(range(1, 100))

    def _measure(package, engine, device, images, progress):
        model = load_model(package, device, engine)
        labels = tuple(segment(image, model).labels.tensor for image in images)
        return Measured(labels, 1 / next(count), 1.0, None)

    monkeypatch.setattr(compress, "measure", _measure)


@pytest.fixture
def torch_alone(monkeypatch):
    """No engine but torch, and no int8."""

    def refuse(*_):
        raise ModelMismatch("int8 was left out of this test")

    monkeypatch.setattr(compress, "add_int8", refuse)
    real = compress.load_model
    monkeypatch.setattr(compress, "load_model", lambda name, device, *_: real(name, device, "torch"))


def test_the_best_is_the_fastest_that_is_good_enough():
    rows = row("full", 0.9, 4.0), row("int8", 0.895, 2.0), row("student", 0.88, 1.0)
    assert compression(*rows).best.variant == "int8"
    assert compression(*rows, tolerance=0.05).best.variant == "student"
    assert compression(*rows, tolerance=0.0).best.variant == "full"
    assert "stays" in compression(*rows, tolerance=0.0).verdict
    assert "2.0 times as fast" in compression(*rows).verdict
    assert compression(row("full", 0.9, 1.0), row("int8", 0.95, 2.0)).best.variant == "full"


def test_a_child_measures_what_this_process_finds(a_trained_model):
    images = [sample(seed).image for seed in (5, 6)]
    found = measure(a_trained_model, "torch", torch.device("cpu"), images)
    model = load_model(a_trained_model)
    for labels, image in zip(found.labels, images, strict=True):
        assert torch.equal(labels, segment(image, model).labels.tensor)
    assert found.seconds > 0
    assert found.cpu_seconds > 0
    assert found.memory_bytes is None or 0 < found.memory_bytes < 1 << 30


def test_a_child_that_ends_without_a_result_is_an_error_and_a_cancel_ends_it(tmp_path):
    with pytest.raises(WorkerLost, match="UnknownModel"):
        measure(tmp_path, "torch", torch.device("cpu"), [sample(1).image])
    began = time.monotonic()
    with pytest.raises(Cancelled):
        measure(tmp_path, "torch", torch.device("cpu"), [sample(1).image], Progress(None, lambda: True))
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("measured_here", "torch_alone")
def test_the_package_says_what_it_was_made_of(a_trained_model, tmp_path):
    samples = [sample(seed) for seed in range(4, 8)]
    result = compress_model(a_trained_model, samples, tmp_path / "new", QUICK, tolerance=1.0, device="cpu")
    assert [one.variant for one in result.rows] == ["full", "student"]
    assert result.left_out.keys() == {"half", "int8", "student-int8"}
    assert result.best.variant == "student"
    spec, files = read_package(tmp_path / "new")
    parent = read_spec(a_trained_model)
    assert spec == result.spec
    assert spec.name == "balls-student"
    assert spec.architecture.features == (2, 4)
    assert spec.training["compressed_from"] == "balls 1.0.0"
    assert spec.training["compressed_from_sha256"] == parent.sha256["weights.safetensors"]
    assert spec.training["compressed_by"].startswith("student: half of the channels")
    assert f"mean Dice {result.best.dice:.4f}" in spec.training["compression_measured"]
    scores = spec.scores["ball 1"]
    assert scores["dice_mean"] == pytest.approx(result.best.dice, abs=1e-4)
    assert scores["dice_mean_of_full_model"] == pytest.approx(result.rows[0].dice, abs=1e-4)
    assert result.table() in files["README.md"].decode()
    assert len(files["weights.safetensors"]) < 0.6 * len(read_package(a_trained_model)[1]["weights.safetensors"])
    load_model(tmp_path / "new")


@pytest.mark.usefixtures("measured_here", "torch_alone")
def test_without_labels_the_full_model_is_the_measure(a_trained_model, tmp_path):
    samples = [sample(seed, labelled=False) for seed in (4, 5)]
    result = compress_model(a_trained_model, samples, tmp_path / "new", QUICK, tolerance=1.0, device="cpu")
    assert result.rows[0].dice == 1.0
    assert "against what the full model finds" in result.measured
    assert set(result.spec.scores["ball 1"]) == {"dice_with_full_model"}


@pytest.mark.usefixtures("measured_here", "torch_alone")
def test_nothing_is_written_when_the_full_model_is_the_best(a_trained_model, tmp_path):
    samples = [sample(seed) for seed in (4, 5)]
    result = compress_model(a_trained_model, samples, tmp_path / "new", QUICK, tolerance=0.0, device="cpu")
    assert result.best.variant == "full"
    assert result.spec is None
    assert not (tmp_path / "new").exists()


def test_variants_are_measured_on_other_patients_than_they_are_made_from():
    samples = [sample(n, patient=patient) for n, patient in enumerate("aabbc")]
    made_from, measured = part_samples(samples)
    assert [one.patient for one in made_from] == ["a", "a", "c"]
    assert [one.patient for one in measured] == ["b", "b"]
    for wrong in ([], samples[:2], [sample(1), sample(2, labelled=False)]):
        with pytest.raises(DatasetError, match="two patients"):
            part_samples(wrong)


def test_samples_are_images_alone_or_cases_with_labels(tmp_path):
    data = write_balls(tmp_path / "data", ["a", "b_visit1"])
    labelled = read_samples(data, small_spec())
    assert [(one.name, one.patient, one.labels is None) for one in labelled] == [
        ("a", "a", False),
        ("b_visit1", "b", False),
    ]
    for folder in (data / "images", tmp_path / "bare"):
        (tmp_path / "bare").mkdir(exist_ok=True)
        if folder.name == "bare":
            (data / "images").rename(folder / "images")
        bare = read_samples(folder, small_spec())
        assert [(one.name, one.patient, one.labels) for one in bare] == [("a", "a", None), ("b_visit1", "b", None)]


def test_refuses_whole_heads_for_a_model_of_crops(tmp_path):
    from MedSegRegLib.files import write_image  # noqa: PLC0415

    head = Geometry.from_spacing((90, 100, 90), (2.0, 2.0, 2.0))
    write_image(Image.from_array(np.ones(head.shape_kji), head), tmp_path / "head.nii")
    with pytest.raises(DatasetError, match="Not crops: head"):
        read_samples(tmp_path, read_spec(compress.model_folder("hippocampus-mr")))


def test_weights_in_half_precision_are_loaded_in_full_precision_and_verified(tmp_path):
    network = random_network(small_spec())
    spec = write_model(tmp_path / "half", small_spec(), [network.state_dict()], "")
    file = tmp_path / "half" / "weights.safetensors"
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}
    loaded = load_model(tmp_path / "half")
    assert loaded.weights_sha256 == (spec.sha256["weights.safetensors"],)
    for name, tensor in loaded.sources[0].network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, network.state_dict()[name].half().float())
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedModel, match="sha256"):
        load_model(tmp_path / "half")


@pytest.mark.usefixtures("torch_alone")
def test_weights_in_full_precision_are_stored_in_half_of_it(tmp_path):
    network, spec = random_network(small_spec()), small_spec()
    save_file(dict(network.state_dict()), tmp_path / "full.safetensors")
    write_package(tmp_path / "full", spec, {"weights.safetensors": (tmp_path / "full.safetensors").read_bytes()}, "")
    model = load_model(tmp_path / "full")
    variants, _ = make_variants(model, tmp_path / "full", [sample(1)], tmp_path, QUICK, Progress())
    assert list(variants) == ["full", "half", "student"]
    sizes = [len(read_package(variants[name])[1]["weights.safetensors"]) for name in ("full", "half")]
    assert sizes[1] < 0.65 * sizes[0]
    again = make_variants(model, variants["half"], [sample(1)], tmp_path / "again", QUICK, Progress())
    assert "half precision already" in again[1]["half"]


@pytest.mark.usefixtures("torch_alone")
def test_an_ensemble_and_an_adapted_model_become_one_network(a_trained_model, tmp_path):
    networks = [random_network(small_spec(), seed).state_dict() for seed in (0, 1)]
    write_model(tmp_path / "two", small_spec(weights=ENSEMBLE), networks, "")
    parent = read_spec(a_trained_model)
    content = {
        **parent.model_dump(),
        "name": "adapted",
        "weights": ("delta.safetensors",),
        "parent": {"name": "balls", "sha256": parent.sha256["weights.safetensors"]},
    }
    (tmp_path / "balls").symlink_to(a_trained_model)
    delta = {"decoder.seg_layers.0.bias": torch.ones(2)}
    write_model(tmp_path / "adapted", parent.model_validate(content), [delta], "")
    for name in ("two", "adapted"):
        model = load_model(tmp_path / name)
        place = tmp_path / f"variants of {name}"
        variants, _ = make_variants(model, tmp_path / name, [sample(1)], place, QUICK, Progress())
        student = read_spec(variants["student"])
        assert student.weights == ("weights.safetensors",)
        assert student.parent is None
        load_model(variants["student"])


def test_refuses_a_model_in_a_templates_space_before_any_work(tmp_path):
    spec = small_spec(standard={"template": "icbm152-t1", "centre_ras_mm": (0, 0, 0)})
    folder = write_random_model(tmp_path / "standard", spec)
    with pytest.raises(ModelMismatch, match="space of a template"):
        compress_model(folder, [sample(1), sample(2)], tmp_path / "new", device="cpu")
    assert not (tmp_path / "new").exists()


def test_a_student_learns_the_teachers_scores(a_trained_model):
    teacher, examples = load_model(a_trained_model), [ball_example(seed) for seed in (5, 6)]
    thin = teacher.spec.model_copy(update={"architecture": thinner(teacher.spec.architecture)})
    tile = ball_example(8).image[None, :, 4:20, 4:20, 4:20]

    def differs(steps: int) -> float:
        student = random_network(thin)
        settings = QUICK.model_copy(update={"steps": steps, "learning_rate": 1e-2})
        student.load_state_dict(distil(teacher, thin, {}, examples, settings))
        with torch.no_grad():
            return float(distillation_loss(student(tile), teacher_shares(teacher, tile)))

    assert differs(40) < 0.6 * differs(1)


def test_a_student_of_slices_and_one_of_regions_are_trained(tmp_path):
    flat = {"architecture": {"name": "plain_conv_unet", "dimensions": 2, "features": (4, 8)}, "tile_ijk": (16, 16, 1)}
    for number, changes in enumerate((flat, {"regions": (2, 1)})):
        teacher = load_model(write_random_model(tmp_path / str(number), small_spec(2, **changes)))
        thin = teacher.spec.model_copy(update={"architecture": thinner(teacher.spec.architecture)})
        ball = ball_example(1)
        weights = distil(teacher, thin, {}, [replace(ball, labels=2 * ball.labels)], QUICK)
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())
        assert weights.keys() == random_network(thin).state_dict().keys()


@pytest.mark.parametrize("regions", [False, True])
def test_the_loss_is_least_for_the_teachers_own_scores(regions):
    own = torch.randn((2, 3, 4, 4, 4), generator=torch.Generator().manual_seed(0)) * 4
    wanted = own.sigmoid() if regions else own.softmax(1)
    scores = own.clone().requires_grad_()
    distillation_loss(scores, wanted, regions).backward()
    least = distillation_loss(own, wanted, regions)
    assert scores.grad.abs().max() < 1e-3
    for scale in (0.5, 2.0):
        assert distillation_loss(scale * own, wanted, regions) > least
    assert distillation_loss(own.roll(1, 1), wanted, regions) > least + 1


def test_int8_is_made_and_chosen(measured_here, a_trained_model, tmp_path):
    pytest.importorskip("nncf", reason="NNCF is not installed")
    samples = [sample(seed) for seed in (4, 5)]
    result = compress_model(a_trained_model, samples, tmp_path / "new", QUICK, tolerance=0.2, device="cpu")
    names = [one.variant for one in result.rows]
    assert names == ["full", "int8", "student", "student-int8"]
    assert result.rows[1].engine == "openvino-int8"
    assert abs(result.rows[1].dice - result.rows[0].dice) < 0.1
    assert result.spec.training["run_it_with"] == f"--engine {result.best.engine}"


@pytest.mark.usefixtures("measured_here", "torch_alone")
def test_the_command_prints_the_table_and_installs_the_best(run, a_trained_model, an_empty_store, tmp_path):
    data = write_balls(tmp_path / "data", ["a", "b"])
    command = ("model", "compress", a_trained_model, "--cases", data, "--steps", "1", "--device", "cpu")
    assert run(*command)[0] == 3
    code, out, err = run(*command, "--install", "--tolerance", "1")
    assert code == 0, err
    for word in ("Dice", "HD95", "student", "full", "Best here: student", "balls-student: installed"):
        assert word in out
    assert read_spec(an_empty_store / "balls-student").name == "balls-student"
    code, _, err = run(*command, "--install")
    assert code == 3
    assert "There is a model 'balls-student' already" in err
    code, out, err = run(*command, "--output", tmp_path / "new", "--name", "mine", "--tolerance", "1", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["best"], result["model"]) == ("student", "mine")
    assert {"dice", "hd95_mm", "seconds", "cpu_seconds", "memory_bytes", "weights_bytes"} <= result["rows"][0].keys()
    assert read_spec(tmp_path / "new").name == "mine"
