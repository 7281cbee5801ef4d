"""Outputs: asked for before computing, complete or not there, never through a link."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from MedSegRegLib.errors import OutputNotWritable, UnsafeFile
from MedSegRegLib.files import atomic_path, read_image, require_space, require_writable, write_image
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image

LIBRARY = Path(__file__).parents[2] / "MedSegReg"
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np, torch
from MedSegRegLib.errors import OutputNotWritable
from MedSegRegLib.files import write_image, write_transform
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.transform import Displacement, Transform

grid = Geometry.from_spacing((30, 30, 30))
noise = np.random.default_rng(0).normal(size=(3, 30, 30, 30)).astype(np.float32)
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
for name in sys.argv[2:]:
    try:
        if name.startswith("image"):
            write_image(Image.from_array(noise[0], grid), path / name)
        else:
            write_transform(Transform((Displacement(torch.from_numpy(noise), grid),)), path / name, grid)
    except OutputNotWritable as error:
        print("refused", name, error, flush=True)
"""


@pytest.fixture
def image():
    return Image.from_array(np.zeros((2, 3, 4)), Geometry.from_spacing((4, 3, 2)))


@pytest.mark.skipif(sys.platform != "linux", reason="limits the file size through the kernel")
def test_full_disk_keeps_the_previous_file(tmp_path):
    names = ["image.nii.gz", "image.nii", "image.nrrd", "image.mha", "field.nii.gz", "field.h5"]
    for name in names:
        (tmp_path / name).write_bytes(b"previous")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), *names]
    run = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(LIBRARY)}, check=False)
    assert [line.split()[1] for line in run.stdout.splitlines() if line.startswith("refused")] == names, run.stderr[
        -2000:
    ]
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == dict.fromkeys(names, b"previous")


def test_name_that_is_taken_is_refused_unless_overwriting_is_allowed(tmp_path, image):
    path = tmp_path / "x.nii.gz"
    require_writable(path)
    write_image(image, path)
    with pytest.raises(OutputNotWritable, match="exists already"):
        require_writable(path)
    require_writable(path, overwrite=True)
    write_image(image, path)
    assert read_image(path).geometry.size_ijk == (4, 3, 2)


@pytest.mark.parametrize("name", ["x", "x.jpg", ".nii.gz", "x.nii.bz2", "x.seg"])
def test_unknown_extension_is_refused(tmp_path, name):
    with pytest.raises(OutputNotWritable, match="name ending in"):
        require_writable(tmp_path / name)


def test_missing_folder_is_refused(tmp_path, image):
    with pytest.raises(OutputNotWritable, match="missing"):
        require_writable(tmp_path / "no" / "x.nii.gz")
    with pytest.raises(OutputNotWritable):
        write_image(image, tmp_path / "no" / "x.nii.gz")


@pytest.mark.skipif(sys.platform != "linux", reason="uses a folder that nobody can write")
def test_read_only_folder_is_refused():
    with pytest.raises(OutputNotWritable, match="cannot be written"):
        require_writable("/proc/x.nii.gz")


def test_folder_of_that_name_is_refused(tmp_path):
    (tmp_path / "x.nrrd").mkdir()
    with pytest.raises(OutputNotWritable):
        require_writable(tmp_path / "x.nrrd", overwrite=True)


def test_link_out_of_the_folder_is_refused_and_its_target_untouched(tmp_path, image):
    outside, folder = tmp_path / "outside.nrrd", tmp_path / "out"
    outside.write_bytes(b"precious")
    folder.mkdir()
    (folder / "x.nrrd").symlink_to(outside)
    with pytest.raises(UnsafeFile, match="link"):
        require_writable(folder / "x.nrrd", overwrite=True)
    with pytest.raises(UnsafeFile, match="link"):
        write_image(image, folder / "x.nrrd")
    assert outside.read_bytes() == b"precious"


def test_failure_in_the_block_leaves_nothing(tmp_path):
    (tmp_path / "x.nrrd").write_bytes(b"previous")

    def write_half():
        with atomic_path(tmp_path / "x.nrrd") as temporary:
            temporary.write_bytes(b"half")
            assert (temporary.suffix, temporary.parent) == (".nrrd", tmp_path)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"previous"]


def test_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(OutputNotWritable), atomic_path(tmp_path / "x.nrrd"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_refused_before_writing(tmp_path):
    require_space(tmp_path / "x.h5", 1)
    with pytest.raises(OutputNotWritable, match="MiB free"):
        require_space(tmp_path / "x.h5", 1 << 62)
