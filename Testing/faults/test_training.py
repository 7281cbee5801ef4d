"""Trainings that are killed, run out of disk or get bad data: what is on disk stays whole, and going on is exact."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from MedSegRegLib.errors import DamagedFile, DatasetError, OutputNotWritable
from MedSegRegLib.train import loop
from MedSegRegLib.train.batches import AugmentedBatches
from MedSegRegLib.train.checkpoint import History, Training, load_checkpoint, save_checkpoint
from MedSegRegLib.train.loop import begin, train_network
from MedSegRegLib.train.record import Record
from MedSegRegLib.train.run import train_model
from small_training import ball, ball_example, small_settings, small_spec, write_balls, write_case

pytestmark = pytest.mark.usefixtures("one_thread")
TESTING = Path(__file__).parents[1]
needs_limits = pytest.mark.skipif(os.name != "posix", reason="limits on the size of files are those of POSIX")

STOP_HALFWAY_IN_A_CHECKPOINT = """
import sys, time
from pathlib import Path
import torch
from MedSegRegLib.train.checkpoint import Training, save_checkpoint

network = torch.nn.Linear(10, 10)
real = Path.write_bytes

def write_bytes(path, content):
    real(path, content[: len(content) // 2])
    print("writing", path.suffix, flush=True)
    time.sleep(60)

Path.write_bytes = write_bytes
save_checkpoint(Path(sys.argv[1]) / "checkpoint.safetensors", Training(network, torch.optim.SGD(network.parameters())))
"""


@pytest.fixture(scope="module")
def an_uninterrupted_training(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor], History]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, *train(folder)


def train(folder: Path) -> tuple[dict[str, torch.Tensor], History]:
    """Weights of the best epoch, and the history."""
    examples, validation = [ball_example(n) for n in range(4)], [ball_example(8)]
    settings = small_settings()
    training = train_network(AugmentedBatches(examples, settings), validation, settings, folder)
    return training.best, training.history


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk is to a program: no file can grow beyond this many bytes."""
    import resource  # noqa: PLC0415  (POSIX)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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


def begun(folder: Path, whole: tuple[Path, dict[str, torch.Tensor], History]) -> Path:
    """A folder in which that training has not done its last epoch."""
    folder.mkdir(exist_ok=True)
    shutil.copy(whole[0] / "checkpoint.previous.safetensors", folder / "checkpoint.safetensors")
    return folder


def test_killed_while_a_checkpoint_is_written_the_previous_one_loads_and_goes_on_exactly(
    tmp_path, an_uninterrupted_training
):
    begun(tmp_path, an_uninterrupted_training)
    paths = os.pathsep.join([str(TESTING), str(TESTING.parent / "MedSegReg")])
    command = [sys.executable, "-c", STOP_HALFWAY_IN_A_CHECKPOINT, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as process:
        assert process.stdout.readline() == "writing .safetensors\n"
        process.kill()
        assert process.wait(10) != 0
    half = [path for path in tmp_path.iterdir() if path.name.startswith(".writing-")]
    assert len(half) == 1
    assert 0 < half[0].stat().st_size < (tmp_path / "checkpoint.safetensors").stat().st_size
    assert len(load(tmp_path).losses) == 2
    assert_same_training(tmp_path, an_uninterrupted_training)


@needs_limits
def test_a_full_disk_is_said_and_the_previous_checkpoint_goes_on_exactly(
    tmp_path, an_uninterrupted_training, monkeypatch
):
    begun(tmp_path, an_uninterrupted_training)

    def save(path: Path, training: Training) -> None:
        with files_of_at_most(10_000):
            save_checkpoint(path, training)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", save)
        with pytest.raises(OutputNotWritable, match=r"'checkpoint\.safetensors' could not be written") as caught:
            train(tmp_path)
    assert "space" in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".writing-")]
    assert len(load(tmp_path).losses) == 2
    assert_same_training(tmp_path, an_uninterrupted_training)


@needs_limits
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
@pytest.mark.parametrize(("what", "size"), [("curve.png", 4000), ("events", 10)])
def test_a_disk_too_full_for_the_curve_or_the_events_is_said_and_costs_no_epoch(
    what, size, tmp_path, an_uninterrupted_training, monkeypatch
):
    shutil.copy(an_uninterrupted_training[0] / "curve.png", begun(tmp_path, an_uninterrupted_training))
    curve = (tmp_path / "curve.png").read_bytes()
    real = Record.write

    def write(record: Record, history: History) -> None:
        with files_of_at_most(size):
            real(record, history)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "write", write)
        with pytest.raises(OutputNotWritable, match=what) as caught:
            train(tmp_path)
    assert "space" in str(caught.value)
    assert (tmp_path / "curve.png").read_bytes() == curve
    assert len(load(tmp_path).losses) == 3
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
