"""Ours, warm: both hippocampi in a head of 256^3, repeatedly in one process. ``run_warm.py USAGE.json REPEATS``."""

from __future__ import annotations

import cProfile
import io
import json
import os
import pstats
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from measured import cpu_seconds, peak_mib

from MedSegRegLib.files import read_image
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.resample import resample_image
from MedSegRegLib.samples import sample_path
from MedSegRegLib.segment.model import load_model
from MedSegRegLib.workflows.locate import segment_anywhere

MODEL, SAMPLE, SIDE = "hippocampus-mr", "s1-t1", 256
PROFILED = 30


def main(usage: Path, repeats: int) -> None:
    """Write the medians, and a profile of one more run beside them."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    image, model = _head(), load_model(MODEL)
    segment_anywhere(image, model)
    walls, cpus = [], []
    for _ in range(repeats):
        cpu, wall = cpu_seconds(), time.perf_counter()
        segment_anywhere(image, model)
        walls.append(time.perf_counter() - wall)
        cpus.append(cpu_seconds() - cpu)
    profile = cProfile.Profile()
    profile.runcall(segment_anywhere, image, model)
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("cumtime").print_stats("MedSegRegLib", PROFILED)
    (usage.parent / "profile.txt").write_text(text.getvalue())
    medians = {"wall_s": statistics.median(walls), "cpu_s": statistics.median(cpus), "peak_mib": peak_mib()}
    usage.write_text(json.dumps({"medians": medians, "walls": walls}))


def _head() -> Image:
    """One person's head, of whom there is a sample, on a grid of 256^3 voxels of 1 mm."""
    sample = read_image(sample_path(SAMPLE))
    matrix = np.eye(4)
    matrix[:3, 3] = sample.geometry.centre_ras - (SIDE - 1) / 2
    return resample_image(sample, Geometry((SIDE,) * 3, matrix))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
