"""Several processes: the result is that of one, and when one is lost the others say so."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from MedSegRegLib.errors import InvalidSetting
from MedSegRegLib.train.batches import AugmentedBatches
from MedSegRegLib.train.loop import train_network
from MedSegRegLib.train.run import train_model
from MedSegRegLib.train.settings import TrainingSettings
from MedSegRegLib.train.workers import Workers
from small_training import ball_example, small_settings, write_balls

pytestmark = pytest.mark.usefixtures("one_thread")
TESTING = Path(__file__).parents[1]
SETTINGS = small_settings(epochs=2, batch_size=4, optimizer="sgd", learning_rate=0.01, average=0.9)

TRAIN_FOR_LONG = """
import sys
from pathlib import Path
from small_training import ball_example, small_settings
from MedSegRegLib.errors import WorkerLost
from MedSegRegLib.progress import Progress
from MedSegRegLib.train.batches import AugmentedBatches
from MedSegRegLib.train.loop import train_network
from MedSegRegLib.train.workers import join_workers

settings = small_settings(epochs=10_000)
try:
    with join_workers("cpu") as (workers, device):
        source = AugmentedBatches([ball_example(n) for n in range(4)], settings)
        said = Progress(lambda fraction, message: print(message, flush=True))
        train_network(source, [ball_example(8)], settings, Path(sys.argv[1]), workers=workers, progress=said)
except WorkerLost as error:
    print("WorkerLost", error, flush=True)
"""


@pytest.fixture(scope="module")
def the_data(tmp_path_factory) -> Path:
    return write_balls(tmp_path_factory.mktemp("data"), list("abcdefgh"))


@pytest.fixture(scope="module")
def one_process(the_data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("one")
    train_model(the_data, SETTINGS, output, device="cpu")
    return output


@pytest.fixture(scope="module")
def two_processes(the_data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    (folder / "settings.json").write_text(SETTINGS.model_dump_json())
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "MedSegRegLib"]
    command = ["train", the_data, "--settings", folder / "settings.json", "--output", folder / "out", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *torchrun, *map(str, command)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ball 1: Dice") == 1
    return folder / "out"


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(TESTING), str(TESTING.parent / "MedSegReg")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **LOOPBACK, **more}


LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


def differences(first: Path, second: Path) -> float:
    """The largest between the tensors of two files of the same tensors."""
    one, other = load_file(first), load_file(second)
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_two_processes_give_the_result_of_one(one_process, two_processes):
    for file in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        assert differences(one_process / file, two_processes / file) < 1e-5
    begun = load_file(one_process / "checkpoint.previous.safetensors")
    ended = load_file(one_process / "checkpoint.safetensors")
    assert max(float((begun[name] - ended[name]).abs().max()) for name in begun) > 1e-3
    assert sorted(path.name for path in one_process.iterdir()) == sorted(path.name for path in two_processes.iterdir())
    assert len(list((two_processes / "events").iterdir())) == 1


def test_a_training_of_two_processes_goes_on_in_one(the_data, one_process, two_processes, tmp_path):
    shutil.copy(two_processes / "split.json", tmp_path)
    shutil.copy(two_processes / "checkpoint.previous.safetensors", tmp_path / "checkpoint.safetensors")
    train_model(the_data, SETTINGS, tmp_path, device="cpu")
    assert differences(one_process / "checkpoint.safetensors", tmp_path / "checkpoint.safetensors") < 1e-5


def test_when_a_process_is_killed_the_others_end_and_say_so(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", TRAIN_FOR_LONG, str(tmp_path)],
            env=environment(**together, RANK=rank, LOCAL_RANK=rank),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in "01"
    )
    with first, second:
        while "epoch 2 " not in (line := first.stdout.readline()):
            assert line
        second.kill()
        said = first.communicate(timeout=60)[0].splitlines()[-1]
    assert said.startswith("WorkerLost Another process of this training has ended")
    assert first.returncode == 0
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_refuses_a_batch_that_the_processes_cannot_share(tmp_path):
    settings: TrainingSettings = small_settings(batch_size=2)
    source = AugmentedBatches([ball_example(0)], settings)
    with pytest.raises(InvalidSetting, match="batch_size is 2, and there are 3 processes"):
        train_network(source, [ball_example(1)], settings, tmp_path, workers=Workers(1, 3))


def test_the_shares_of_all_processes_are_the_batch():
    settings = small_settings(batch_size=4, steps_per_epoch=2)
    source = AugmentedBatches([ball_example(n) for n in range(3)], settings)
    whole = [images for images, _ in source.epoch(0, 0, torch.device("cpu"))]
    shares = [[images for images, _ in source.epoch(0, 0, torch.device("cpu"), Workers(rank, 2))] for rank in (0, 1)]
    assert len(whole) == 2
    for batch, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(batch, torch.stack(parts, dim=1).flatten(0, 1))
