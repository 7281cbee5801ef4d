"""Series of one phantom in three contrasts, poses and grids: aligned, checked, segmented, and back on native grids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from align_phantoms import CONTRASTS, FAST, GRIDS, TRUTH, pose, three_series
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import Cancelled, ComponentCount, InputError, InvalidSetting, RegistrationError
from MedSegRegLib.files import read_image, read_transform
from MedSegRegLib.files.model_spec import ChannelSpec
from MedSegRegLib.image import Image
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.report import Level
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.segment.model import load_model
from MedSegRegLib.transform import Affine, Transform
from MedSegRegLib.workflows.align import align_series, channels_for, segment_aligned
from MedSegRegLib.workflows.align_check import apart_mm, half_way
from small_training import small_spec, write_random_model

pytestmark = pytest.mark.usefixtures("one_thread")
PATIENT = Path(__file__).parents[3] / "shared" / "data" / "ms_longitudinal" / "patient01"


@pytest.fixture(scope="module")
def series():
    return three_series()


@pytest.fixture(scope="module")
def aligned(series):
    return align_series(series, "FLAIR", settings=FAST)


@pytest.fixture
def a_model_of_three(tmp_path):
    channels = tuple(ChannelSpec(name=name) for name in ("t2", "T1", "flair"))
    spec = small_spec(name="three", channels=channels, spacing_mm=(2.0, 2.0, 2.0))
    return load_model(write_random_model(tmp_path / "three", spec), "cpu")


def error_mm(aligned, name: str) -> float:
    return apart_mm(aligned.series[name].transform.linear_part, TRUTH[name], GRIDS["FLAIR"])


@pytest.mark.parametrize("name", TRUTH)
def test_a_series_of_another_contrast_grid_and_pose_is_aligned(aligned, name):
    assert apart_mm(np.eye(4), TRUTH[name], GRIDS["FLAIR"]) > 4
    assert error_mm(aligned, name) < 0.8
    check = aligned.series[name].check
    assert check.verdict == "aligned"
    assert check.both_ways_mm < 1.5
    assert check.after > check.before
    turn = Rotation.from_matrix(TRUTH[name][:3, :3]).magnitude()
    assert check.turn_degrees == pytest.approx(np.degrees(turn), abs=1.0)


def test_resampled_series_lie_on_the_references_grid_and_look_at_the_same_place(aligned, series):
    flair = aligned.resampled("FLAIR")
    assert flair is series["FLAIR"]
    t1 = aligned.resampled("T1")
    assert t1.geometry.same_grid(flair.geometry)
    expected = CONTRASTS["T1"](flair.tensor)
    correlation = torch.corrcoef(torch.stack((expected.flatten(), t1.tensor.flatten())))[0, 1]
    assert correlation > 0.9


def test_exchanging_the_reference_gives_the_inverse(series, aligned):
    pair = {name: series[name] for name in ("FLAIR", "T1")}
    other = align_series(pair, "T1", settings=FAST)
    there, back = aligned.series["T1"].transform.linear_part, other.series["FLAIR"].transform.linear_part
    assert apart_mm(there @ back, np.eye(4), GRIDS["T1"]) < 0.02


def test_half_way_between_two_rigid_matrices_is_rigid_and_as_far_from_both():
    one, other = pose((3, -2, 5), (1, 2, 3)), pose((-4, 6, 2), (4, 0, -3))
    middle = half_way(one, other)
    np.testing.assert_allclose(middle[:3, :3] @ middle[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.inv(one) @ middle, np.linalg.inv(middle) @ other, atol=1e-12)


def test_noise_in_the_place_of_a_series_is_told_and_not_segmented(series, a_model_of_three):
    noise = series["T2"].with_tensor(torch.rand(series["T2"].tensor.shape, generator=torch.Generator().manual_seed(0)))
    searching = FAST.model_copy(update={"linear_search": True, "linear_voxels": 8000})
    aligned = align_series({"FLAIR": series["FLAIR"], "T2": noise}, "FLAIR", settings=searching)
    check = aligned.series["T2"].check
    assert check.verdict == "failed"
    assert any("apart" in reason for reason in check.reasons)
    (warning,) = [finding for finding in aligned.findings if finding.level is Level.WARN]
    assert warning.message.startswith("T2 was not aligned")
    complete = replace(aligned, series={**aligned.series, "T1": aligned.series["FLAIR"]})
    with pytest.raises(RegistrationError, match="T2 could not be aligned to FLAIR"):
        segment_aligned(complete, a_model_of_three)


def test_labels_come_back_on_the_grid_of_each_series(aligned, series, a_model_of_three):
    result, native = segment_aligned(aligned, a_model_of_three, native=("T1", "T2", "FLAIR"))
    assert result.labels.geometry.same_grid(GRIDS["FLAIR"])
    assert native["FLAIR"] is result.labels
    for name in ("T1", "T2"):
        assert native[name].geometry.same_grid(series[name].geometry)
        to_reference = Transform((Affine(np.linalg.inv(TRUTH[name])),))
        expected = resample_labels(result.labels, series[name].geometry, to_reference)
        assert float((expected.tensor == native[name].tensor).float().mean()) > 0.9


def test_channels_are_found_by_name_in_any_order(aligned, a_model_of_three):
    assert channels_for(a_model_of_three.spec, aligned.series, "FLAIR") == {"t2": "T2", "T1": "T1", "flair": "FLAIR"}


def test_a_model_of_one_channel_takes_the_series_of_its_name_or_the_reference(aligned):
    assert channels_for(small_spec(), aligned.series, "FLAIR") == {"T1": "T1"}
    assert channels_for(small_spec(channels=(ChannelSpec(name="MR"),)), aligned.series, "FLAIR") == {"MR": "FLAIR"}


def test_a_channel_without_a_series_is_refused(aligned, a_model_of_three):
    del (without := dict(aligned.series))["T1"]
    with pytest.raises(ComponentCount, match="one for each of t2, T1, flair"):
        segment_aligned(replace(aligned, series=without), a_model_of_three)


@pytest.mark.parametrize(
    ("names", "reference", "settings", "kind"),
    [
        (("T1",), "T1", FAST, InputError),
        (("T1", "T2"), "FLAIR", FAST, InvalidSetting),
        (("T1", "T2"), "T1", PRESETS["deformable"], InvalidSetting),
    ],
)
def test_refuses_before_any_work(series, names, reference, settings, kind):
    with pytest.raises(kind):
        align_series({name: series[name] for name in names}, reference, settings=settings, progress=Progress(_never))


def _never(_fraction: float, _message: str) -> None:
    raise AssertionError("work was begun")


def test_an_error_names_the_series(series):
    empty = Image(torch.zeros_like(series["T1"].tensor), series["T1"].geometry, "nothing")
    with pytest.raises(InputError, match="T1 with FLAIR"):
        align_series({**series, "T1": empty}, "FLAIR", settings=FAST)


def test_can_be_cancelled(series):
    with pytest.raises(Cancelled):
        align_series(series, "FLAIR", settings=FAST, progress=Progress(should_cancel=lambda: True))


@pytest.mark.skipif(not PATIENT.is_dir(), reason="the shared data of patient01 are not here")
def test_real_series_agree_with_the_affine_that_comes_with_them():
    """The truth is an affine; the best rigid matrix is 0.44 mm from it. The default settings reach 0.7."""
    flair, t1 = (read_image(PATIENT / f"study2_{name}.nii.gz") for name in ("FLAIR", "T1W"))
    truth = read_transform(PATIENT / "study2_T1W_intrastudy_to_FLAIR.txt").linear_part
    settings = FAST.model_copy(update={"linear_voxels": 200_000})
    found = align_series({"FLAIR": flair, "T1": t1}, "FLAIR", settings=settings)
    assert apart_mm(np.eye(4), truth, flair.geometry) > 2.4
    assert apart_mm(found.series["T1"].transform.linear_part, truth, flair.geometry) < 1.5
    assert found.series["T1"].check.verdict == "aligned"
