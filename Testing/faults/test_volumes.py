"""Bad volumes, one by one: each is refused with its error, or warned of, with the value and a way out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from MedSegRegLib import image_checks
from MedSegRegLib.check_image import Need, check_image, inspect_image
from MedSegRegLib.errors import (
    ComponentCount,
    InputError,
    NoContrast,
    NonFiniteVoxels,
    SpacingOutOfRange,
    TooFewVoxels,
    TooLarge,
)
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.preprocess import ClipStandardize, CtWindow, NonzeroZScore, PercentileRange, ZScore
from MedSegRegLib.report import Level
from MedSegRegLib.segment import Model, make_plan, segment
from MedSegRegLib.segment.prepare import prepare
from MedSegRegLib.segment.slices import SliceMap
from small_training import small_spec
from streamed import Function, LiveMemory, model_of

SEGMENT = Need("segment", allow_single_slice=True)
REGISTER = Need("register")
CT = Need("segment", contrast=False, training_range=(-1024.0, 3071.0))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, shape or (16, 16, 16)).astype(np.float32)


def volume(array: np.ndarray, spacing=(1.0, 1.0, 1.0), directions=None, origin=(0.0, 0.0, 0.0)) -> Image:
    return Image.from_array(array, Geometry.from_spacing(array.shape[:-4:-1], spacing, origin, directions))


def with_voxels(value: float, count: int) -> np.ndarray:
    array = noise()
    array.reshape(-1)[:count] = value
    return array


def ct(offset: float) -> np.ndarray:
    return np.clip(np.random.default_rng(1).normal(0, 600, (16, 16, 16)), -1024, 3071) + offset


SHEARED = np.array([[1.0, 0.3, 0], [0, 1, 0], [0, 0, 1]])
SHEARED /= np.linalg.norm(SHEARED, axis=0)

REFUSED = {
    "all NaN": (volume(noise() * np.nan), SEGMENT, NonFiniteVoxels, "4096 of 4096"),
    "one NaN": (volume(with_voxels(np.nan, 1)), SEGMENT, NonFiniteVoxels, "1 of 4096"),
    "infinite": (volume(with_voxels(np.inf, 2)), REGISTER, NonFiniteVoxels, "2 of 4096"),
    "minus infinite": (volume(with_voxels(-np.inf, 3)), REGISTER, NonFiniteVoxels, "3 of 4096"),
    "constant": (volume(np.full((8, 8, 8), 7.0)), SEGMENT, NoContrast, "are 7"),
    "all zero": (volume(np.zeros((8, 8, 8))), REGISTER, NoContrast, "are 0"),
    "a constant channel": (
        volume(np.stack((noise(), noise() * 0 + 3))),
        Need("segment", 2, allow_single_slice=True),
        NoContrast,
        "channel 1 are 3",
    ),
    "one voxel": (volume(np.ones((1, 1, 1))), SEGMENT, TooFewVoxels, "1 x 1 x 1"),
    "a line of voxels": (volume(noise(1, 1, 9)), SEGMENT, TooFewVoxels, "9 x 1 x 1"),
    "fewer voxels than needed": (volume(noise(16, 7, 7)), Need("segment", minimum_size=8), TooFewVoxels, "7 x 7 x 16"),
    "one slice to register": (volume(noise(1, 16, 16)), REGISTER, TooFewVoxels, "2D"),
    "one sagittal slice to register": (volume(noise(16, 16, 1)), REGISTER, TooFewVoxels, "one slice"),
    "RGB or a time series": (volume(noise(3, 8, 8, 8)), SEGMENT, ComponentCount, "3 channels"),
    "no channel": (volume(noise(0, 8, 8, 8)), Need("segment", None), ComponentCount, "0 channels"),
    "more than memory holds": (volume(noise()), Need("register", bytes_needed=2**60), TooLarge, "1073741824.00 GiB"),
    "micrometres": (volume(noise(), (0.001, 0.001, 0.001)), SEGMENT, SpacingOutOfRange, "units"),
    "metres as millimetres": (volume(noise(), (1.0, 1.0, 1000.0)), REGISTER, SpacingOutOfRange, "1 x 1 x 1000 mm"),
    "a missing-value sentinel": (volume(with_voxels(3.4e38, 1)), SEGMENT, InputError, r"3\.4e\+38"),
    "a float64 beyond float32": (volume(noise().astype(float) * 1e300), SEGMENT, NonFiniteVoxels, "4096"),
}

WARNED = {
    "a constant CT": (volume(np.full((8, 8, 8), -1000.0)), CT, "are -1000"),
    "mostly zero after a truncated or NaN file": (volume(with_voxels(0, 3900)), SEGMENT, "95.2 %"),
    "CT without its offset": (volume(ct(1024)), CT, "the model knows -1024 to 3071"),
    "another scale": (volume(noise() / 200), Need("segment", training_range=(0.0, 1000.0)), "the model knows"),
    "beyond half precision": (volume(with_voxels(90000, 5)), SEGMENT, "90000"),
    "shear": (volume(noise(), directions=SHEARED), SEGMENT, "73.3 degrees"),
    "long voxels": (volume(noise(), (0.3, 0.3, 12.0)), SEGMENT, "40 times"),
    "a label map": (volume(np.arange(16 * 16 * 16).reshape(16, 16, 16) // 1024), SEGMENT, "4 different values"),
    "large integers": (volume(np.arange(4096).reshape(16, 16, 16) * 2**13), SEGMENT, "33546240"),
}

FINE = {
    "a left-handed grid": (volume(noise(), directions=np.diag([1, 1, -1])), SEGMENT),
    "one slice to segment": (volume(noise(1, 16, 16)), SEGMENT),
    "one thick slice to segment": (volume(noise(1, 16, 16), (0.3, 0.3, 12.0)), SEGMENT),
    "two slices": (volume(noise(2, 16, 16)), REGISTER),
    "a far origin": (volume(noise(), origin=(1e9, -1e9, 1e9)), REGISTER),
    "CT in HU": (volume(ct(0)), CT),
    "CT with metal": (volume(np.concatenate((ct(0), np.full((1, 16, 16), 30000.0)))), CT),
    "several channels where any will do": (volume(noise(2, 8, 8, 8)), Need("segment", None)),
    "a work that fits": (volume(noise()), Need("segment", bytes_needed=1)),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refuses(fault):
    image, need, error, value = REFUSED[fault]
    before = image.numpy().copy()
    with pytest.raises(error, match=value) as caught:
        check_image(image, need)
    assert type(caught.value) is error
    assert caught.value.expected
    assert caught.value.fix
    np.testing.assert_array_equal(image.numpy(), before)


@pytest.mark.parametrize("fault", WARNED)
def test_warns_of(fault):
    image, need, value = WARNED[fault]
    _, findings = check_image(image, need)
    assert all(finding.level == Level.WARN and finding.fix for finding in findings)
    assert any(value in finding.message for finding in findings)


@pytest.mark.parametrize("case", FINE)
def test_finds_nothing_wrong_with(case):
    image, need = FINE[case]
    assert check_image(image, need) == (image, [])


def test_names_of_patients_are_in_no_message():
    for image, need, *_ in (*REFUSED.values(), *WARNED.values()):
        named = Image(image.tensor, image.geometry, "Doe^Jane/../1970")
        findings = inspect_image(named, need)
        assert findings
        assert "Doe" not in "".join(f"{finding} {finding.error}" for finding in findings)


def ct_model(**changes: object) -> Model:
    channel = {"name": "CT", "modality": "CT", "training_range": (-1024.0, 3071.0)}
    return model_of(small_spec(2, channels=[channel], intensity=[CtWindow()], **changes))


def test_row_17_a_huge_volume_is_refused_by_its_estimate_before_anything_is_copied_or_run(monkeypatch):
    """Its voxels are one number that is repeated: 2^24 of them, which take no memory."""
    free = 1 << 29
    monkeypatch.setattr(image_checks, "free_host_bytes", lambda: free)
    voxel = torch.zeros(1)
    huge = Image(voxel.expand(1, 256, 256, 256), Geometry.from_spacing((256, 256, 256)))
    model, runs = ct_model(), []
    engine = Function(lambda tiles: runs.append(1) or tiles)
    with LiveMemory(voxel) as memory, pytest.raises(TooLarge) as caught:
        segment(huge, replace(model, engines=(engine,)))
    needed = make_plan(model, huge.geometry).host_bytes
    assert needed > 4 * 256**3
    assert f"takes {needed / 2**30:.2f} GiB" in caught.value.found
    assert "0.50 GiB are free" in caught.value.found
    assert memory.peak < 1 << 20
    assert not runs


def test_row_17_what_is_needed_of_2048_cubed_voxels_is_known_exactly():
    plan = make_plan(ct_model(spacing_mm=(4.0, 4.0, 4.0)), Geometry.from_spacing((2048, 2048, 2048)))
    assert type(plan.host_bytes) is int
    assert plan.host_bytes > 5 * 2048**3
    assert plan.grid_ijk == (512, 512, 512)
    assert plan.tiles == 63**3


def test_row_18_slices_of_a_volume_of_more_than_2_to_31_voxels_are_written_where_they_belong():
    size = (1300, 1300, 1300)
    geometry = Geometry.from_spacing(size, (0.1, 0.1, 0.1), directions=np.diag([-1, 1, -1]))
    grid = Geometry.from_spacing((200, 200, 200), (0.65, 0.65, 0.65), (-129.9, 0, -129.9))
    volume = torch.from_numpy(np.zeros(size, np.uint8))  # numpy takes no memory until it is written
    assert volume.numel() > 2**31
    slices = SliceMap(grid, geometry)
    last = slices.slices_before(200)
    assert last == 1300
    slices.view(volume, last - 1, last)[:, -1, -3:] = torch.tensor([1, 2, 3], dtype=torch.uint8)
    assert volume.flatten()[1300 * 1300 - 3 : 1300 * 1300].tolist() == [1, 2, 3]  # planes come in the other direction
    slices.view(volume, 0, 1)[:, -1, -3:] = torch.tensor([4, 5, 6], dtype=torch.uint8)
    assert volume.flatten()[-3:].tolist() == [4, 5, 6]
    place = slices.locate(1299, 1300, 199, torch.device("cpu"))
    assert place.index(torch.Size((1, 200, 200))).max() < 200 * 200


def test_row_21_ct_without_its_offset_is_segmented_with_a_warning_of_what_the_model_knows():
    model = ct_model()
    shifted, right = (segment(volume(ct(offset)), model) for offset in (1024, 0))
    (said,) = (finding for finding in shifted.findings if "the model knows -1024 to 3071" in finding.message)
    low, high = ct(1024).min(), ct(1024).max()
    assert f"from {low:g} to {high:g}" in said.message
    assert said.level is Level.WARN
    assert "offset" in said.fix
    assert not any("the model knows" in finding.message for finding in right.findings)


def test_row_22_metal_counts_as_the_upper_end_of_the_window():
    model = ct_model()
    array = ct(0)
    array[4:8, 4:8, 4:8] = 30_000
    with_metal, clipped = (segment(volume(values), model).labels.tensor for values in (array, array.clip(max=240)))
    assert torch.equal(with_metal, clipped)
    assert len(clipped.unique()) > 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    value=st.floats(-1e15, 1e15),
    count=st.integers(1, 4000),
    step=st.sampled_from(
        [
            CtWindow(),
            ClipStandardize(low=-1000, high=1000, mean=50, std=200),
            ZScore(),
            NonzeroZScore(),
            PercentileRange(),
        ]
    ),
)
def test_row_22_no_intensity_overflows_half_precision_once_it_is_normalised(value, count, step):
    spec = small_spec(intensity=[step])
    prepared = prepare(volume(with_voxels(value, count)), spec).tensor
    assert torch.isfinite(prepared.half()).all()


def test_row_22_scores_of_a_volume_with_metal_are_finite_in_half_precision():
    model = model_of(small_spec(2, intensity=[ZScore()]))
    engine = model.engines[0]
    half = Function(lambda tiles: engine.run(tiles.half().float()).half(), head=engine.head)
    array = with_voxels(30_000, 3)
    found = segment(volume(array), replace(model, engines=(half,))).labels
    assert found.tensor.shape == (16, 16, 16)
