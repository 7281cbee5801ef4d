"""What a model gives and takes, in a process of its own. Compression walk: package, images -> [measure] -> table.

A process of its own, so that the memory is this model's alone: an engine's library stays in memory once it was used.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ..errors import WorkerLost
from ..geometry import Geometry
from ..image import Image
from ..progress import SILENT, Progress
from ..segment.model import load_model
from ..segment.predict import segment

IMAGES, LABELS, LOG = "images.safetensors", "labels.safetensors", "log.txt"
START = f"import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from {__name__} import main; main()"


@dataclass(frozen=True, eq=False)
class Measured:
    """What a model gives on some images, and takes for one of them on average, once it is loaded.

    Attributes:
        labels: [K, J, I] of each image.
        seconds, cpu_seconds: of the clock, and of all threads together.
        memory_bytes: what it adds to the largest memory of a process; of the GPU, where it runs there. None where the
            system does not say.
    """

    labels: tuple[torch.Tensor, ...]
    seconds: float
    cpu_seconds: float
    memory_bytes: int | None


def measure(
    package: Path, engine: str, device: torch.device, images: Sequence[Image], progress: Progress = SILENT
) -> Measured:
    """Segment the images in a new process, with as many threads as this one uses.

    Args:
        engine: by its name, or ``auto``; what it prepares once should be in the cache, or it counts as memory.

    Raises:
        WorkerLost: the process ended without a result; the last line that it wrote is named.
        Cancelled: the process is ended.
    """
    tensors = {}
    for number, image in enumerate(images):
        tensors[f"{number}.image"] = image.tensor.cpu().contiguous()
        tensors[f"{number}.ijk_to_ras"] = torch.from_numpy(image.geometry.ijk_to_ras.copy())
    with tempfile.TemporaryDirectory(prefix="medsegreg-") as name:
        folder = Path(name)
        save_file(tensors, folder / IMAGES)
        task = [str(package), engine, str(device), str(torch.get_num_threads()), name]
        _run_child(task, folder / LOG, progress)
        if not (folder / LABELS).is_file():
            log = (folder / LOG).read_text("utf-8", "replace").strip().splitlines() or ["no message"]
            raise WorkerLost(
                f"The process that measured '{package.name}' ended without a result ({log[-1][:200]})",
                "enough memory for the model",
                "give fewer or smaller images",
            )
        with safe_open(folder / LABELS, "pt") as file:
            numbers = json.loads((file.metadata() or {})["numbers"])
        labels = load_file(folder / LABELS)
    return Measured(tuple(labels[str(number)] for number in range(len(images))), *numbers)


def main() -> None:
    """In the new process: the arguments are package, engine, device, threads and the folder to work in."""
    package, engine, device, threads, name = sys.argv[1:]
    folder = Path(name)
    torch.set_num_threads(int(threads))
    tensors = load_file(folder / IMAGES)
    images = []
    for number in range(len(tensors) // 2):
        tensor, matrix = tensors[f"{number}.image"], tensors[f"{number}.ijk_to_ras"].numpy()
        images.append(Image(tensor, Geometry(tuple(reversed(tensor.shape[1:])), matrix), str(number)))  # type: ignore[arg-type]
    before = _resident_bytes("VmRSS")
    model = load_model(package, torch.device(device), engine)
    segment(images[0], model)  # to warm up
    wall, cpu = time.perf_counter(), time.process_time()
    labels = {image.name: segment(image, model).labels.tensor.cpu().contiguous() for image in images}
    seconds = [(time.perf_counter() - wall) / len(images), (time.process_time() - cpu) / len(images)]
    peak = _resident_bytes("VmHWM")
    memory = None if before is None or peak is None else max(0, peak - before)
    if model.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(model.device)
    save_file(labels, folder / LABELS, {"numbers": json.dumps([*seconds, memory])})


def _run_child(task: Sequence[str], log: Path, progress: Progress) -> None:
    command = [sys.executable, "-I", "-c", START, *task, json.dumps([place for place in sys.path if place])]
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while child.poll() is None:
                progress.check_cancelled()
                time.sleep(0.05)
        finally:
            child.kill()
            child.wait()


def _resident_bytes(line: str) -> int | None:
    """Memory of this process now (``VmRSS``) or at its largest (``VmHWM``); only Linux says both."""
    try:
        text = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return None
    return next(int(one.split()[1]) * 1024 for one in text.splitlines() if one.startswith(line))
