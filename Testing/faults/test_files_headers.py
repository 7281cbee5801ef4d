"""Bad files: a typed error with found, expected and a way out, before any reader runs."""

from __future__ import annotations

import gzip
import os
import re
import struct
import sys
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegRegLib.errors import (
    DamagedFile,
    FileError,
    InvalidGeometry,
    MedSegRegError,
    TooLarge,
    UnsafeFile,
    UnsupportedFile,
)
from MedSegRegLib.files import VOLUME_EXTENSIONS, headers, read_image, read_labels, read_transform
from MedSegRegLib.files import volume_file as volume_file_module

VOXELS = np.random.default_rng(0).integers(-500, 500, (12, 11, 10)).astype(np.int16)


@pytest.fixture
def valid(tmp_path):
    """Write a valid file of one extension and return its path."""

    def write(extension, compressed=True, voxels=VOXELS):
        path = tmp_path / f"x{extension}"
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=compressed)
        return path

    return write


def replaced(path, old, new, count=1):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, count))
    return path


def patched(path, code, at, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into(code, content, at, *values)
    path.write_bytes(content)
    return path


def refusal(path, kind=FileError, read=read_image):
    with pytest.raises(kind) as caught:
        read(path)
    assert caught.value.found
    assert caught.value.expected
    assert caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.95, "all but one byte"])
def test_truncated_file_is_refused(valid, extension, compressed, kept):
    path = valid(extension, compressed)
    content = path.read_bytes()
    path.write_bytes(content[:-1] if isinstance(kept, str) else content[: int(len(content) * kept)])
    refusal(path, FileError)


@pytest.mark.parametrize("extension", [".nii.gz", ".nrrd", ".mha"])
def test_altered_compressed_voxels_are_refused(valid, extension):
    path = valid(extension)
    content = bytearray(path.read_bytes())
    content[-200] ^= 0xFF
    path.write_bytes(content)
    refusal(path, DamagedFile)


def huge_nifti(path):
    return patched(path, "<4h", 40, 3, 30000, 30000, 30000)


def test_header_that_claims_more_than_the_file_can_hold_is_refused_at_once(valid):
    raw = huge_nifti(valid(".nii")).read_bytes()
    path = valid(".nii.gz")
    path.write_bytes(gzip.compress(raw[:352]))
    started = time.perf_counter()
    tracemalloc.start()
    refusal(path, UnsafeFile)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - started < 1
    assert peak < 10 << 20
    refusal(huge_nifti(valid(".nii")), DamagedFile)


@pytest.mark.parametrize(
    "size", ["-4 5 6", "4 -5 6", "0 5 6", "4 999999999 6", "4294967296 4294967296 1", "4 5", "4 5 6 7", "a b c", ""]
)
def test_mha_with_impossible_size_is_refused(valid, size):
    refusal(replaced(valid(".mha", False), b"DimSize = 10 11 12", f"DimSize = {size}".encode()))


@pytest.mark.parametrize("axes", ["65536", "999999999", "-3", "0", "11", "3.5", "x"])
def test_mha_with_impossible_number_of_axes_is_refused(valid, axes):
    refusal(replaced(valid(".mha", False), b"NDims = 3", f"NDims = {axes}".encode()))


@pytest.mark.parametrize("new", [b"CompressedDataSize = 0", b"CompressedDataSize = 5", b"Nothing = 1"])
def test_mha_with_wrong_compressed_size_is_refused_because_itk_makes_garbage_of_it(valid, new):
    path = valid(".mha")
    line = next(text for text in path.read_bytes().split(b"\n") if text.startswith(b"CompressedDataSize"))
    refusal(replaced(path, line, new), DamagedFile)


def test_mha_that_hides_its_compression_is_refused(valid):
    refusal(replaced(valid(".mha", voxels=np.zeros((2, 2, 2), np.uint8)), b"CompressedData = True", b"Nothing = 1"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 0 1 0 0 0 nan"),
        (b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 1 0 0 0 0 1"),
        (b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 0 1"),
        (b"ElementSpacing = 1 1 1", b"ElementSpacing = inf 1 1"),
        (b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 0 1 0 0 1e308 1"),
    ],
)
def test_mha_without_usable_position_is_refused(valid, old, new):
    refusal(replaced(valid(".mha", False), old, new), InvalidGeometry)


@pytest.mark.parametrize(
    "line",
    [
        b"NDims = 3\nNDims = 65536",
        b"NDims = 3\nndims = 65536",
        b"NDims = 3\nnonsense",
        b"NDims 3",
        b"NDims = 3\nA = " + b"x" * 5000,
    ],
)
def test_mha_with_ambiguous_lines_is_refused(valid, line):
    refusal(replaced(valid(".mha", False), b"NDims = 3", line))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"dimension: 3", b"dimension: 99"),
        (b"dimension: 3", b"dimension: -1"),
        (b"dimension: 3", b"dimension: 16"),
        (b"sizes: 10 11 12", b"sizes: -10 11 12"),
        (b"sizes: 10 11 12", b"sizes: 10 11"),
        (b"type: short", b"type: block"),
        (b"sizes: 10 11 12", b"sizes: 99999 99999 99999"),
        (b"encoding: raw", b"encoding: bzip2"),
        (b"type: short", b"type: short\nbyte skip: -7"),
        (b"type: short", b"type: short\ntype: double"),
        (b"type: short", b"type: short\nbyte skip: 1000000"),
        (b"type: short", b"type: short\nline skip: 3"),
        (b"kinds: domain domain domain", b"kinds: domain domain"),
        (b"type: short", b"type: short\nnonsense"),
    ],
)
def test_nrrd_with_impossible_fields_is_refused(valid, old, new):
    refusal(replaced(valid(".nrrd", False), old, new))


@pytest.mark.parametrize(
    "directions", ["(0,0,0) (0,1,0) (0,0,1)", "(1,0,0) (1,0,0) (0,0,1)", "(nan,0,0) (0,1,0) (0,0,1)"]
)
def test_nrrd_without_usable_directions_is_refused(valid, directions):
    path = replaced(valid(".nrrd", False), b"(1,0,0) (0,1,0) (0,0,1)", directions.encode())
    refusal(path, InvalidGeometry)


@pytest.mark.parametrize(
    ("code", "at", "values"),
    [
        ("<f", 280, [np.nan]),
        ("<3f", 280, [0, 0, 0]),
        ("<f", 80, [np.nan]),
        ("<f", 84, [0.0]),
        ("<f", 80, [np.inf]),
    ],
)
def test_nifti_without_usable_position_is_refused(valid, code, at, values):
    path = patched(patched(valid(".nii"), "<h", 254, 1), code, at, *values)
    refusal(path, InvalidGeometry)


def test_qform_that_is_not_finite_is_refused(valid):
    refusal(patched(patched(valid(".nii"), "<2h", 252, 1, 0), "<f", 256, np.nan), InvalidGeometry)


@pytest.mark.parametrize(
    ("code", "at", "values"),
    [
        ("<h", 40, [0]),
        ("<h", 40, [9]),
        ("<h", 40, [-3]),
        ("<h", 42, [-10]),
        ("<h", 42, [0]),
        ("<h", 70, [999]),
        ("<f", 108, [np.nan]),
        ("<f", 108, [1e30]),
        ("<f", 108, [-5.0]),
        ("<f", 108, [5000.0]),
    ],
)
def test_nifti_with_impossible_fields_is_refused(valid, code, at, values):
    refusal(patched(valid(".nii"), code, at, *values))


@pytest.mark.parametrize("extension", [".nii.gz", ".nrrd", ".mha"])
def test_bomb_is_stopped_at_the_size_of_the_header(valid, extension):
    path = valid(extension)
    bomb = VOXELS.tobytes() + bytes(100 << 20)
    if extension == ".nii.gz":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:352] + bomb, 9))
    else:
        content = path.read_bytes()
        start = content.index(b"\n\n") + 2 if extension == ".nrrd" else content.index(b"LOCAL\n") + 6
        inflated = zlib.compress(bomb, 9) if extension == ".mha" else gzip.compress(bomb, 9)
        head = content[:start]
        if extension == ".mha":
            head = re.sub(rb"CompressedDataSize = \d+", b"CompressedDataSize = %d" % len(inflated), head)
        path.write_bytes(head + inflated)
    tracemalloc.start()
    refusal(path, UnsafeFile)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 << 20


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.raw", "sub/../../secret.raw", "C:\\secret.raw", "..\\secret.raw", "link.raw"]
)
@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_data_file_outside_the_folder_is_refused(tmp_path, name, kind):
    folder = tmp_path / "case"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(1000))
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    text = {
        "mhd": f"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {name}\n",
        "nhdr": f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {name}\n",
    }[kind]
    (folder / f"x.{kind}").write_text(text)
    message = refusal(folder / f"x.{kind}", UnsafeFile)
    assert "same folder" in message


@pytest.mark.parametrize("extension", [".mhd", ".nhdr"])
def test_data_file_in_the_same_folder_is_read(valid, extension):
    assert np.array_equal(read_image(valid(extension, False)).numpy()[0], VOXELS)


@pytest.mark.parametrize("extension", [".mhd", ".nhdr"])
def test_missing_data_file_is_refused(valid, extension):
    path = valid(extension, False)
    next(p for p in path.parent.iterdir() if p != path).unlink()
    refusal(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"patient list\n" * 50, "a text file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(400), "a PNG picture"),
        (b"\xff\xd8\xff" + bytes(400), "a JPEG picture"),
        (bytes(128) + b"DICM" + bytes(300), "a DICOM file"),
        (b"PK\x03\x04" + bytes(400), "a zip archive"),
        (b"MZ" + bytes(400), "a program"),
        (bytes(400), "unknown type"),
    ],
)
@pytest.mark.parametrize("extension", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_wrong_content_is_named(tmp_path, content, words, extension):
    (tmp_path / f"x{extension}").write_bytes(content)
    assert words in refusal(tmp_path / f"x{extension}", UnsupportedFile)


def test_unknown_extension_is_refused(tmp_path):
    (tmp_path / "x.bmp").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "a PNG picture" in refusal(tmp_path / "x.bmp", UnsupportedFile)


@pytest.mark.parametrize("read", [read_image, read_labels, read_transform])
@pytest.mark.parametrize("name", ["absent.nii.gz", "a\0b.nii.gz", "x" * 5000 + ".nii.gz"])
def test_missing_file_is_refused(tmp_path, name, read):
    refusal(tmp_path / name, FileError, read)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_name_that_is_not_unicode_is_refused_because_simpleitk_aborts_on_it(tmp_path):
    path = os.fsencode(tmp_path) + b"/bad\xff.nrrd"
    with open(path, "wb") as file:
        file.write(b"NRRD0004\n")
    refusal(tmp_path / os.fsdecode(b"bad\xff.nrrd"), UnsupportedFile)


def test_more_than_the_free_memory_is_refused_before_reading(valid, monkeypatch):
    monkeypatch.setattr(headers.header, "free_host_bytes", lambda: 1000)
    refusal(valid(".nii.gz"), TooLarge)


def test_file_that_changes_while_it_is_read_is_reported(valid, monkeypatch):
    path = valid(".nrrd")
    count = volume_file_module.count_non_finite

    def count_and_touch(header):
        os.utime(path, (1, 1))
        return count(header)

    monkeypatch.setattr(volume_file_module, "count_non_finite", count_and_touch)
    assert "changed while it was read" in read_image(path).findings[0].message


@pytest.mark.parametrize("name", ["t.h5", "t.tfm", "t.txt"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello\n" * 30, b"\x89HDF\r\n\x1a\n", b"#Insight Transform File V1.0\nTransform: Evil_double_3_3\n"],
)
def test_wrong_transform_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name, FileError, read_transform)


def test_singular_matrix_in_a_transform_file_is_refused(tmp_path):
    text = (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        "Parameters: 1 0 0 0 1 0 0 0 0 0 0 0\nFixedParameters: 0 0 0\n"
    )
    (tmp_path / "t.tfm").write_text(text)
    refusal(tmp_path / "t.tfm", MedSegRegError, read_transform)
