"""``medsegreg segment``: plan, channels, structures, engines, and what else is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from MedSegRegLib.cli import app
from MedSegRegLib.errors import ComponentCount, InvalidSetting, MedSegRegError, NoOverlap, OutputNotWritable
from MedSegRegLib.files import read_image, read_labels, write_image
from MedSegRegLib.files.model_spec import ChannelSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.segment import load_model, segment
from small_training import small_spec, write_random_model


def run(*arguments: object) -> dict[str, object]:
    """The JSON that the command prints."""
    result = CliRunner().invoke(app, ["segment", *map(str, arguments), "--json"], catch_exceptions=True)
    if isinstance(result.exception, MedSegRegError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def an_image_file(path: Path, seed: int = 0, origin: float = 0.0) -> Path:
    geometry = Geometry.from_spacing((24, 22, 20), origin_ras=(origin, 0, 0))
    write_image(Image.from_array(np.random.default_rng(seed).normal(100, 20, geometry.shape_kji), geometry), path)
    return path


@pytest.fixture
def an_image(tmp_path) -> Path:
    return an_image_file(tmp_path / "t1.nii.gz")


@pytest.fixture
def a_model(tmp_path) -> Path:
    return write_random_model(tmp_path / "model", small_spec(2), seed=8)


@pytest.fixture
def a_model_of_two_channels(tmp_path) -> Path:
    spec = small_spec(2, channels=(ChannelSpec(name="T1"), ChannelSpec(name="FLAIR")))
    return write_random_model(tmp_path / "two", spec, seed=8)


def test_the_plan_says_what_the_run_will_take_and_writes_nothing(an_image, a_model):
    before = set(an_image.parent.iterdir())
    plan = run(an_image, "--model", a_model, "--plan", "--engine", "torch")
    assert plan["tiles"] == 2 * 2 * 2
    assert plan["grid_ijk"] == [24, 22, 20]
    assert plan["seconds"] > 0
    assert plan["host_bytes"] > 2**28
    assert set(an_image.parent.iterdir()) == before


def test_the_plan_of_a_crop_model_in_a_whole_head_counts_its_boxes(tmp_path):
    geometry = Geometry.from_spacing((160, 180, 160))
    write_image(
        Image.from_array(np.random.default_rng(0).normal(9, 1, geometry.shape_kji), geometry), tmp_path / "h.nii.gz"
    )
    assert run(tmp_path / "h.nii.gz", "--plan", "--engine", "torch")["tiles"] == 2


def test_labels_are_those_of_the_library(an_image, a_model, tmp_path):
    data = run(an_image, "--model", a_model, "--output", tmp_path / "out.nrrd", "--engine", "torch")
    expected = segment(read_image(an_image), load_model(a_model)).labels
    np.testing.assert_array_equal(read_labels(tmp_path / "out.nrrd").numpy(), expected.numpy())
    assert data["provenance"]["engine"].startswith("torch")


def test_only_the_structures_asked_for_are_written(an_image, a_model, tmp_path):
    data = run(an_image, "-m", a_model, "-o", tmp_path / "out.nrrd", "--structure", "Ball 2", "--engine", "torch")
    assert list(data["volumes_ml"]) == ["ball 2"]
    assert set(np.unique(read_labels(tmp_path / "out.nrrd").numpy())) == {0, 2}


def test_margin_and_entropy_are_written_beside_the_labels(an_image, a_model, tmp_path):
    margin, entropy = tmp_path / "margin.nii.gz", tmp_path / "entropy.nii.gz"
    run(
        an_image,
        "-m",
        a_model,
        "-o",
        tmp_path / "o.nrrd",
        "--margin",
        margin,
        "--entropy",
        entropy,
        "--engine",
        "torch",
    )
    sure, unsure = read_image(margin).numpy(), read_image(entropy).numpy()
    assert sure.shape == (1, 20, 22, 24)
    assert np.corrcoef(sure.ravel(), unsure.ravel())[0, 1] < -0.5


def test_channels_are_matched_by_name(a_model_of_two_channels, tmp_path, an_image):
    flair = an_image_file(tmp_path / "flair.nii.gz", seed=1)
    run(an_image, "-m", a_model_of_two_channels, "-c", f"flair={flair}", "-o", tmp_path / "o.nrrd", "--engine", "torch")
    images = {"FLAIR": read_image(flair), "T1": read_image(an_image)}
    expected = segment(images, load_model(a_model_of_two_channels)).labels
    np.testing.assert_array_equal(read_labels(tmp_path / "o.nrrd").numpy(), expected.numpy())


@pytest.mark.parametrize(
    ("channels", "error"),
    [
        ([], ComponentCount),
        (["-c", "T2={other}"], ComponentCount),
        (["-c", "T1={other}"], InvalidSetting),
        (["-c", "{other}"], InvalidSetting),
        (["-c", "FLAIR={far}"], NoOverlap),
    ],
)
def test_refuses_channels_that_do_not_fit_the_model(channels, error, a_model_of_two_channels, tmp_path, an_image):
    files = {"other": an_image_file(tmp_path / "b.nii.gz"), "far": an_image_file(tmp_path / "c.nii.gz", origin=500)}
    with pytest.raises(error):
        run(
            an_image,
            "-m",
            a_model_of_two_channels,
            "-o",
            tmp_path / "o.nrrd",
            "--engine",
            "torch",
            *(text.format(**files) for text in channels),
        )
    assert not (tmp_path / "o.nrrd").exists()


def test_a_coarse_model_finds_where_to_look(an_image, a_model, tmp_path):
    data = run(
        an_image,
        "-m",
        a_model,
        "-o",
        tmp_path / "o.nrrd",
        "--find",
        a_model,
        "--structure",
        "ball 1",
        "--engine",
        "torch",
    )
    assert data["provenance"]["region"].startswith("RAS mm [")


def test_two_models_are_averaged(an_image, a_model, tmp_path):
    other = write_random_model(tmp_path / "other", small_spec(2), seed=9)
    run(an_image, "-m", a_model, "-m", other, "-o", tmp_path / "both.nrrd", "--engine", "torch")
    run(an_image, "-m", a_model, "-o", tmp_path / "one.nrrd", "--engine", "torch")
    assert not np.array_equal(*(read_labels(tmp_path / name).numpy() for name in ("both.nrrd", "one.nrrd")))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], InvalidSetting),
        (["-o", "{folder}/o.txt"], OutputNotWritable),
        (["-o", "{folder}/o.nrrd", "--structure", "liver"], InvalidSetting),
        (["-o", "{folder}/o.nrrd", "--engine", "steam"], InvalidSetting),
        (["-o", "{folder}/o.nrrd", "--engine", "openvino-int8"], InvalidSetting),
        (["-o", "{folder}/o.nrrd", "--margin", "{folder}/gone/m.nii.gz"], OutputNotWritable),
    ],
)
def test_refuses_with_the_reason_and_leaves_nothing(arguments, error, an_image, a_model, tmp_path):
    before = set(tmp_path.iterdir())
    with pytest.raises(error):
        run(an_image, "-m", a_model, *(text.format(folder=tmp_path) for text in arguments))
    assert set(tmp_path.iterdir()) == before
