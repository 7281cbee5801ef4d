"""Small fuzzing: mutated headers of valid files never do more than raise a FileError or an InputError."""

from __future__ import annotations

import faulthandler
import random
import re

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegRegLib.errors import FileError, InputError
from MedSegRegLib.files import read_image, read_labels, read_transform, write_transform
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.transform import Affine, Transform

CASES = 150
NUMBERS = (
    b"-1",
    b"0",
    b"65536",
    b"999999999",
    b"4294967297",
    b"99999999999999999999",
    b"nan",
    b"inf",
    b"1e308",
    b"-4 5",
    b"",
    b"x",
    b"%d",
)


def flipped_bytes(content, rng, header_bytes):
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(min(header_bytes, len(changed)))] = rng.randrange(256)
    return bytes(changed)


def exchanged_number(content, rng, header_bytes):
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:header_bytes]))
    place = rng.choice(found)
    return content[: place.start()] + rng.choice(NUMBERS) + content[place.end() :]


def exchanged_lines(content, rng, header_bytes):
    lines = content[:header_bytes].split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a] = rng.choice((b"", lines[b], lines[a] + lines[b], lines[a][: len(lines[a]) // 2]))
    return b"\n".join(lines) + content[header_bytes:]


def outcome(read, path):
    try:
        read(path)
    except (FileError, InputError):
        return "refused"
    return "read"


def valid_image(path, compressed):
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((-10.0, 20.0, 5.0))
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def _stack_on_crash():
    faulthandler.enable()


@pytest.mark.parametrize(
    ("extension", "compressed", "mutations"),
    [
        (".nii", False, (flipped_bytes,)),
        (".nrrd", False, (flipped_bytes, exchanged_number, exchanged_lines)),
        (".nrrd", True, (flipped_bytes, exchanged_number, exchanged_lines)),
        (".mha", False, (flipped_bytes, exchanged_number, exchanged_lines)),
        (".mha", True, (flipped_bytes, exchanged_number, exchanged_lines)),
        (".nii.gz", True, (flipped_bytes,)),
    ],
)
def test_mutated_volume_is_read_or_refused(tmp_path, extension, compressed, mutations, capfd):
    content = valid_image(tmp_path / f"valid{extension}", compressed)
    header_bytes = 348 if extension == ".nii" else min(len(content), 450)
    rng, outcomes = random.Random(1), []
    for n in range(CASES * len(mutations)):
        path = tmp_path / f"x{extension}"
        path.write_bytes(mutations[n % len(mutations)](content, rng, header_bytes))
        outcomes.append(outcome(read_image if n % 2 else read_labels, path))
    assert "refused" in outcomes
    capfd.readouterr()


def test_mutated_text_transform_is_read_or_refused(tmp_path, capfd):
    matrix = np.eye(4)
    matrix[:3, 3] = 1.5, -2.5, 3.5
    write_transform(Transform((Affine(matrix),)), tmp_path / "valid.tfm", Geometry.from_spacing((4, 5, 6)))
    content = (tmp_path / "valid.tfm").read_bytes()
    rng, outcomes = random.Random(2), []
    for n in range(CASES):
        mutate = (flipped_bytes, exchanged_number, exchanged_lines)[n % 3]
        (tmp_path / "x.tfm").write_bytes(mutate(content, rng, len(content)))
        outcomes.append(outcome(read_transform, tmp_path / "x.tfm"))
    assert set(outcomes) == {"refused", "read"}
    capfd.readouterr()
