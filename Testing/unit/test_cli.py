"""The command line as a user meets it: through its entry point, with real files; one test in a real child process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegRegLib import cli
from MedSegRegLib.files import read_image, read_labels, read_transform
from MedSegRegLib.samples import sample_path


def blob(path: Path, shift_mm: float = 0.0, size: int = 32) -> Path:
    """A smooth, lopsided blob on an oblique grid."""
    k, j, i = np.mgrid[:size, :size, :size].astype(float)
    centre = size / 2 + shift_mm
    array = 100 * np.exp(-(((i - centre) / 9) ** 2 + ((j - size / 2) / 6) ** 2 + ((k - size / 2) / 4) ** 2))
    array += 40 * np.exp(-(((i - centre - 6) / 3) ** 2 + ((j - size / 2 + 5) / 3) ** 2 + ((k - size / 2) / 3) ** 2))
    image = sitk.GetImageFromArray(array.astype(np.float32))
    angle = 0.3
    image.SetDirection((np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1))
    image.SetOrigin((10, -20, 30))
    sitk.WriteImage(image, str(path))
    return path


def test_segments_a_head_and_writes_what_slicer_reads(run, tmp_path):
    output = tmp_path / "hippocampi.seg.nrrd"
    code, out, _ = run("segment", sample_path("s1-t1"), "-o", output, "--device", "cpu", "--json")
    assert code == 0
    volumes = json.loads(out)["volumes_ml"]
    assert set(volumes) == {
        f"{side} {part} hippocampus" for side in ("left", "right") for part in ("anterior", "posterior")
    }
    for side in ("left", "right"):  # a healthy adult's hippocampus has 2 to 5 ml
        assert 1.5 < volumes[f"{side} anterior hippocampus"] + volumes[f"{side} posterior hippocampus"] < 5.5
    labels = read_labels(output)
    assert labels.geometry.same_grid(read_image(sample_path("s1-t1")).geometry)
    centre = {
        s.name: labels.geometry.map_voxels(np.argwhere(labels.numpy() == s.value)[:, ::-1].mean(0))
        for s in labels.structures
    }
    assert centre["left anterior hippocampus"][0] < centre["right anterior hippocampus"][0]
    assert centre["left anterior hippocampus"][1] > centre["left posterior hippocampus"][1]


def test_registers_applies_and_evaluates(run, tmp_path):
    fixed, moving = blob(tmp_path / "fixed.nii.gz"), blob(tmp_path / "moving.nii.gz", shift_mm=3.0)
    code, out, _ = run(
        "register",
        fixed,
        moving,
        "-o",
        tmp_path / "t.h5",
        "--inverse",
        tmp_path / "inverse.h5",
        "--moved",
        tmp_path / "moved.nii.gz",
        "--preset",
        "rigid",
        "--json",
    )
    assert code == 0
    assert "moving" in json.loads(out)["sentence"]
    points = np.array([[0.0, 0.0, 40.0], [-5.0, 10.0, 50.0]])
    there = read_transform(tmp_path / "t.h5").map_points(points)
    assert np.allclose(read_transform(tmp_path / "inverse.h5").map_points(there), points, atol=0.01)
    code, _, _ = run("apply", tmp_path / "t.h5", moving, "-r", fixed, "-o", tmp_path / "applied.nii.gz")
    assert code == 0
    applied, moved = (read_image(tmp_path / f"{name}.nii.gz").numpy() for name in ("applied", "moved"))
    assert np.allclose(applied, moved, atol=1e-3)
    still = read_image(fixed).numpy()
    assert np.abs(applied - still).mean() < 0.2 * np.abs(read_image(moving).numpy() - still).mean()


def test_preprocesses_in_the_given_order(run, tmp_path):
    code, _, _ = run(
        "preprocess",
        blob(tmp_path / "in.nii.gz"),
        "-o",
        tmp_path / "out.nii.gz",
        "-s",
        "gaussian_denoise:sigma_mm=1",
        "-s",
        "z_score",
    )
    assert code == 0
    result = read_image(tmp_path / "out.nii.gz").numpy()
    assert abs(result.mean()) < 1e-3
    assert abs(result.std() - 1) < 1e-3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["segment", "missing.nii.gz", "-o", "out.nii.gz"], "missing.nii.gz"),
        (["segment", "{blob}", "-o", "nowhere/out.nii.gz"], "folder"),
        (["segment", "{blob}", "-o", "out.docx"], "out.docx"),
        (["segment", "{blob}", "-o", "out.nii.gz", "-m", "no-such-model"], "hippocampus-mr"),
        (["segment", "{blob}", "-o", "out.nii.gz", "--region=1,2,3"], "six numbers"),
        (["segment", "{blob}", "-o", "out.nii.gz", "--device", "tpu"], "cuda"),
        (["register", "{blob}", "{blob}", "-o", "out.h5", "--preset", "magic"], "deformable"),
        (["preprocess", "{blob}", "-o", "out.nii.gz", "-s", "sharpen"], "clahe"),
        (["train", "nowhere", "-o", "out"], "nowhere"),
        (["evaluate", "{blob}", "nowhere"], "nowhere"),
    ],
)
def test_refuses_with_the_reason_and_leaves_nothing(run, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    source = blob(tmp_path / "blob.nii.gz")
    code, out, err = run(*(str(source) if a == "{blob}" else a for a in arguments))
    assert code == 3
    assert says in err
    assert "To do:" in err
    assert "Traceback" not in out + err
    assert [path.name for path in tmp_path.iterdir()] == ["blob.nii.gz"]


def test_does_not_replace_a_file_unless_told(run, tmp_path):
    source, output = blob(tmp_path / "in.nii.gz"), tmp_path / "out.nii.gz"
    output.write_bytes(b"precious")
    code, _, err = run("preprocess", source, "-o", output, "-s", "z_score")
    assert code == 3
    assert "out.nii.gz" in err
    assert output.read_bytes() == b"precious"
    assert run("preprocess", source, "-o", output, "-s", "z_score", "--overwrite")[0] == 0
    assert output.read_bytes() != b"precious"


def test_lists_models_and_facts(run):
    code, out, _ = run("model", "list", "--json")
    assert code == 0
    assert "hippocampus-mr" in [model["name"] for model in json.loads(out)["models"]]
    assert "hippocampus-mr" in run("model", "list")[1]
    code, out, _ = run("info", "--json")
    assert code == 0
    assert {"medsegreg", "torch", "device"} <= set(json.loads(out))


def test_help_does_not_load_torch(tmp_path):
    program = (
        "import sys; sys.argv = ['medsegreg', '--help']\n"
        "from MedSegRegLib import cli\n"
        "try:\n    cli.main()\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    path = os.pathsep.join([str(Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "segment" in done.stdout


def test_a_training_is_cancelled_by_ctrl_c_and_goes_on_later(tmp_path):
    for n in range(5):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
        blob(tmp_path / "data" / "images" / f"case_{n}.nii.gz", shift_mm=n / 2, size=16)
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "data" / "images" / f"case_{n}.nii.gz")))
        labels = sitk.GetImageFromArray((array > 40).astype(np.uint8))
        labels.CopyInformation(sitk.ReadImage(str(tmp_path / "data" / "images" / f"case_{n}.nii.gz")))
        sitk.WriteImage(labels, str(tmp_path / "data" / "labels" / f"case_{n}.nii.gz"))
    path = os.pathsep.join([str(Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from MedSegRegLib import cli; cli.main()",
            "train",
            "data",
            "-o",
            "run",
            "--epochs",
            "500",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Cancelled" in err
    assert "Traceback" not in err
    left = {file.name for file in (tmp_path / "run").iterdir()}
    assert "model" not in left
    assert "checkpoint.safetensors" in left
