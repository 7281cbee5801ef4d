"""Trainings that are killed, run out of disk or get bad data: what is on disk stays whole, and going on is exact."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from MedSegRegLib.errors import DamagedFile, DatasetError
from MedSegRegLib.train.batches import AugmentedBatches
from MedSegRegLib.train.checkpoint import History, load_checkpoint
from MedSegRegLib.train.loop import begin, train_network
from MedSegRegLib.train.run import train_model
from small_training import ball, ball_example, small_settings, small_spec, write_balls, write_case

TESTING = Path(__file__).parents[1]

TRAIN = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from small_training import ball_example, small_settings
from MedSegRegLib.train.batches import AugmentedBatches
from MedSegRegLib.train.loop import train_network

folder = Path(sys.argv[1])
examples, validation = [ball_example(n) for n in range(4)], [ball_example(8)]

def train(epochs):
    settings = small_settings(epochs=epochs)
    return train_network(AugmentedBatches(examples, settings), validation, settings, folder)
"""

WAIT_IN_THE_SECOND_CHECKPOINT = (
    TRAIN
    + """
real, written = Path.write_bytes, []

def write_bytes(path, content):
    written.append(path)
    if len(written) == 2:
        real(path, content[: len(content) // 2])
        print("writing", path.suffix, flush=True)
        time.sleep(60)
    real(path, content)

Path.write_bytes = write_bytes
train(3)
"""
)

FULL_DISK = (
    TRAIN
    + """
import resource
from MedSegRegLib.errors import OutputNotWritable
from MedSegRegLib.progress import Progress
from MedSegRegLib.train import checkpoint, loop

def save(path, training):
    if path.exists():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    checkpoint.save_checkpoint(path, training)

loop.save_checkpoint = save
try:
    train(3)
except OutputNotWritable as error:
    print(type(error).__name__, error, flush=True)
"""
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sums of several threads are not the same twice."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def an_uninterrupted_training(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor], History]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, *train(folder)


def train(folder: Path) -> tuple[dict[str, torch.Tensor], History]:
    """The same training as that of the child processes."""
    examples, validation = [ball_example(n) for n in range(4)], [ball_example(8)]
    settings = small_settings()
    training = train_network(AugmentedBatches(examples, settings), validation, settings, folder)
    return training.best, training.history


def child(script: str, folder: Path) -> subprocess.Popen:
    """A process of its own that trains in this folder."""
    paths = os.pathsep.join([str(TESTING), str(TESTING.parent / "MedSegReg")])
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def load(folder: Path) -> History:
    training = begin(small_settings(), torch.device("cpu"))
    load_checkpoint(folder / "checkpoint.safetensors", training)
    return training.history


def assert_same_training(folder: Path, whole: tuple[Path, dict[str, torch.Tensor], History]) -> None:
    """Going on from here gives the bytes of the uninterrupted training."""
    best, history = train(folder)
    assert history == whole[2]
    assert [name for name in best if not torch.equal(best[name], whole[1][name])] == []
    first, second = (place / "checkpoint.safetensors" for place in (folder, whole[0]))
    assert first.read_bytes() == second.read_bytes()


def test_killed_while_a_checkpoint_is_written_the_previous_one_loads_and_goes_on_exactly(
    tmp_path, an_uninterrupted_training
):
    with child(WAIT_IN_THE_SECOND_CHECKPOINT, tmp_path) as process:
        assert process.stdout.readline() == "writing .safetensors\n"
        process.kill()
        assert process.wait(10) != 0
    half = [path for path in tmp_path.iterdir() if path.name.startswith(".writing-")]
    assert len(half) == 1
    assert 0 < half[0].stat().st_size < (tmp_path / "checkpoint.safetensors").stat().st_size
    assert len(load(tmp_path).losses) == 1
    assert_same_training(tmp_path, an_uninterrupted_training)


@pytest.mark.skipif(os.name != "posix", reason="limits on the size of files are those of POSIX")
def test_a_full_disk_is_said_and_the_previous_checkpoint_goes_on_exactly(tmp_path, an_uninterrupted_training):
    with child(FULL_DISK, tmp_path) as process:
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert said.startswith("OutputNotWritable 'checkpoint.safetensors' could not be written completely")
    assert "space" in said
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".writing-")]
    assert len(load(tmp_path).losses) == 1
    assert_same_training(tmp_path, an_uninterrupted_training)


@pytest.mark.parametrize("length", [0, 10, "half", -5])
def test_a_truncated_checkpoint_is_refused(length, tmp_path, an_uninterrupted_training):
    content = (an_uninterrupted_training[0] / "checkpoint.safetensors").read_bytes()
    damaged = tmp_path / "checkpoint.safetensors"
    damaged.write_bytes(content[: len(content) // 2 if length == "half" else length])
    with pytest.raises(DamagedFile, match="checkpoint") as caught:
        train(tmp_path)
    assert "delete it" in caught.value.fix


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_without_the_last_checkpoint_the_one_before_goes_on_exactly(damage, tmp_path, an_uninterrupted_training):
    shutil.copytree(an_uninterrupted_training[0], tmp_path, dirs_exist_ok=True)
    last = tmp_path / "checkpoint.safetensors"
    if damage == "missing":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:-5])
    assert len(load(tmp_path).losses) == 2
    assert_same_training(tmp_path, an_uninterrupted_training)


def test_a_file_of_weights_is_no_checkpoint(a_model_folder, tmp_path):
    (a_model_folder / "weights.safetensors").rename(tmp_path / "checkpoint.safetensors")
    with pytest.raises(DamagedFile, match="history"):
        load(tmp_path)


def test_all_faults_of_a_dataset_are_listed_at_once_and_before_the_first_epoch(tmp_path):
    image, labels = ball(0)
    data = write_balls(tmp_path / "data", list("abc"))
    write_case(data, "other size", image, labels[1:])
    write_case(data, "unknown label", image, labels * 3)
    write_case(data, "constant", np.zeros_like(image), labels)
    (data / "images" / "c.nii").write_bytes(b"not an image")
    with pytest.raises(DatasetError) as caught:
        train_model(data, small_settings(), tmp_path / "output", device="cpu")
    assert caught.value.found.startswith("4 of 6 cases have faults")
    for name in ("other size", "unknown label", "constant", "c"):
        assert f"\n  {name}: " in caught.value.found
    assert not (tmp_path / "output" / "checkpoint.safetensors").exists()


def test_files_without_partner_are_listed_at_once(tmp_path):
    data = write_balls(tmp_path / "data", list("abcd"))
    (data / "images" / "a.nii").unlink()
    (data / "labels" / "c.nii").unlink()
    with pytest.raises(DatasetError, match="without partner: a, c"):
        train_model(data, small_settings(), tmp_path / "output", device="cpu")
    assert not (tmp_path / "output").exists()


def test_a_label_that_no_training_case_has_is_refused_before_the_first_epoch(tmp_path):
    data = write_balls(tmp_path / "data", list("abcd"))
    with pytest.raises(DatasetError, match="ball 2"):
        train_model(data, small_settings(model=small_spec(2)), tmp_path / "output", device="cpu")
    assert not (tmp_path / "output" / "checkpoint.safetensors").exists()
