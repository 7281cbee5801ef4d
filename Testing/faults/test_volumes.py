"""Bad volumes, one by one: each is refused with its error, or warned of, with the value and a way out."""

from __future__ import annotations

import numpy as np
import pytest

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
from MedSegRegLib.report import Level

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
