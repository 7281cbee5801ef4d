"""On a GPU: ``gpu.py --output DIR``. Time, memory, agreement with the CPU, where time and bytes go; FireANTs beside.

Without one it says so and is done. Pairs: two simulated brains of 160x192x224 (set (c); a phantom of that size where
the label maps are absent), and a phantom of a body in CT of 512x512x400.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import simulated
import torch
import typer
from child import Conditions, run_once
from isolated import python_of
from pairs import Contents, Pair, make_pair
from traffic import as_text, memory_bandwidth, profile_traffic

from MedSegRegLib.files.images import read_image
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.progress import SILENT
from MedSegRegLib.register.dense import DenseTask, register_dense
from MedSegRegLib.register.guidance import Guidance
from MedSegRegLib.register.linear import register_linear
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.pyramid import prepare_study
from MedSegRegLib.register.run import register
from MedSegRegLib.register.settings import RegistrationSettings
from MedSegRegLib.register.solution import Solution

DATA = Path(__file__).parents[3] / "shared" / "data"
BODY_SIZE, BODY_SPACING_MM = (512, 512, 400), (0.8, 0.8, 1.0)
BODY_HU, ORGANS_HU, NOISE_HU = 40.0, (-700.0, 300.0), 15.0
ORGANS, MOTION_MM, TIMEOUT_S = 40, 8.0, 1800


@dataclass(frozen=True)
class Result:
    """One pair, ours. Seconds are medians of warm runs; memory is the most that torch held at once.

    Attributes:
        affine_deformable_s: from images on the device to a flow; of it affine_s and deformable_s.
        whole_s: ``register``, with transforms, inverse and quality, which are computed on the CPU.
        from_cpu_mm: mean distance from what the CPU finds; None where that was not asked for.
    """

    pair: str
    affine_deformable_s: float
    affine_s: float
    deformable_s: float
    whole_s: float
    peak_gib: float
    whole_peak_gib: float
    from_cpu_mm: float | None


def main(
    output: Annotated[Path, typer.Option(help="Folder for pairs, results and tables.")],
    work: Annotated[Path | None, typer.Option(help="Folder of environment.py, for FireANTs; OUTPUT if none.")] = None,
    data: Annotated[Path, typer.Option(help="Folder with brain_label_maps.")] = DATA,
    preset: Annotated[str, typer.Option(help="Of ours.")] = "brain-same-contrast",
    repeats: Annotated[int, typer.Option(min=1, help="Runs, for medians.")] = 10,
    warm_ups: Annotated[int, typer.Option(min=1, help="Runs before them.")] = 3,
) -> None:
    """Registration on a GPU, measured."""
    if not torch.cuda.is_available():
        typer.echo("Skipped: torch finds no CUDA device here; run this on a machine with an NVIDIA GPU.")
        return
    output, device = output.resolve(), torch.device("cuda")
    settings, bandwidth = PRESETS[preset], memory_bandwidth(device)
    brain = _brain_pair(output, data)
    images = read_image(brain.path("fixed")), read_image(brain.path("moving"))
    ours = [
        _measure(brain.name, images, settings, (repeats, warm_ups), compare=True),
        _measure("body-ct", phantom_pair(BODY_SIZE, BODY_SPACING_MM, device), settings, (repeats, warm_ups)),
    ]
    studies = _studies(images, device)
    rows = profile_traffic(lambda: _dense(studies, settings, _linear(studies, settings)), bandwidth)
    report = {
        "card": torch.cuda.get_device_name(device),
        "bandwidth_gb_s": bandwidth / 1e9,
        "torch": torch.__version__,
        "preset": preset,
        "ours": [asdict(result) for result in ours],
        "fireants": _run_fireants(brain, (work or output).resolve(), output / "fireants"),
        "profile": [asdict(row) for row in rows],
    }
    (output / "gpu.json").write_text(json.dumps(report, indent=1))
    text = f"{_as_markdown(report)}\n\n{as_text(rows)}\n"
    (output / "gpu.md").write_text(text)
    typer.echo(text)


def _measure(
    name: str, images: tuple[Image, Image], settings: RegistrationSettings, runs: tuple[int, int], compare: bool = False
) -> Result:
    device = torch.device("cuda")
    whole_s, whole_peak = _timed(lambda: register(*images, settings, device=device), runs)
    studies = _studies(images, device)
    affine_s, affine_peak = _timed(lambda: _linear(studies, settings), runs)
    matrix = _linear(studies, settings)
    deformable_s, peak = _timed(lambda: _dense(studies, settings, matrix), runs)
    both_s, both_peak = _timed(lambda: _dense(studies, settings, _linear(studies, settings)), runs)
    apart = None
    if compare:
        found = Solution(matrix, _dense(studies, settings, matrix))
        apart = _distance_mm(found, _on_cpu(images, settings), images[0].geometry)
    gib = max(affine_peak, peak, both_peak) / 2**30
    return Result(name, both_s, affine_s, deformable_s, whole_s, gib, whole_peak / 2**30, apart)


def _timed(work: Callable[[], object], runs: tuple[int, int]) -> tuple[float, int]:
    """Median seconds of warm runs, and the most bytes held during one, its inputs on the device included."""
    repeats, warm_ups = runs
    for _ in range(warm_ups):
        work()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), torch.cuda.max_memory_allocated()


def _studies(images: tuple[Image, Image], device: torch.device) -> tuple:
    return tuple(prepare_study(image, None, device) for image in images)


def _linear(studies: tuple, settings: RegistrationSettings) -> np.ndarray:
    return register_linear(studies, settings, None, SILENT)[0]


def _dense(studies: tuple, settings: RegistrationSettings, matrix: np.ndarray) -> Any:
    task = DenseTask(*studies, matrix, settings.deformable, Guidance())
    return register_dense(task, SILENT, lambda flow, level: None)[0]


def _on_cpu(images: tuple[Image, Image], settings: RegistrationSettings) -> Solution:
    studies = _studies(images, torch.device("cpu"))
    matrix = _linear(studies, settings)
    return Solution(matrix, _dense(studies, settings, matrix))


def _distance_mm(one: Solution, other: Solution, grid: Geometry) -> float:
    fields = (solution.transform.to_displacement(grid).vectors_ras_mm for solution in (one, other))
    return float((next(fields) - next(fields)).norm(dim=0).mean())


def _run_fireants(pair: Pair, work: Path, run: Path) -> dict:
    """FireANTs in its own environment, on the same pair and card: its usage, or why not."""
    if not python_of(work, "fireants").exists():
        return {"skipped": "not installed; `environment.py --work DIR` does it, then pass `--work DIR`"}
    run_once(pair, "fireants", run, Conditions(work, 1, "cuda", TIMEOUT_S, keep_fields=False))
    failure = run / "failure.txt"
    return {"skipped": failure.read_text()} if failure.exists() else json.loads((run / "usage.json").read_text())


def _brain_pair(output: Path, data: Path) -> Pair:
    if (data / "brain_label_maps").exists():
        return simulated.make_pairs(output, data, "report", "t1-t1", 1)[0]
    return make_pair(output / "phantom" / "brain-sized", _phantom_contents)


def _phantom_contents() -> Contents:
    images = phantom_pair(simulated.SIZE, (1.0, 1.0, 1.0), torch.device("cuda"))
    return {role: _as_sitk(image) for role, image in zip(("fixed", "moving"), images, strict=True)}


def _as_sitk(image: Image) -> sitk.Image:
    out = sitk.GetImageFromArray(image.tensor[0].numpy())
    out.SetSpacing(image.geometry.spacing_mm)
    return out


def phantom_pair(
    size_ijk: tuple[int, int, int], spacing_mm: tuple[float, float, float], device: torch.device
) -> tuple[Image, Image]:
    """A body of ellipsoids in Hounsfield units, and the same after a smooth motion of up to 8 mm, both with noise.

    Args:
        device: where they are computed; they are left on the CPU.
    """
    rng = np.random.default_rng(0)
    extent = np.asarray(size_ijk) * spacing_mm
    shapes = [(np.zeros(3), 0.42 * extent, BODY_HU + 1000)]
    for _ in range(ORGANS):
        direction = rng.normal(size=3)
        centre = 0.3 * extent * rng.random() * direction / np.linalg.norm(direction)
        shapes.append((centre, rng.uniform(0.02, 0.09, 3) * extent.min(), rng.uniform(*ORGANS_HU)))
    waves = rng.normal(size=(3, 3)), rng.uniform(0, 2 * np.pi, 3)
    grid = Geometry.from_spacing(size_ijk, spacing_mm)
    draw = torch.Generator(device).manual_seed(0)
    images = []
    for motion_mm in (0.0, MOTION_MM):
        volume = torch.empty((1, *grid.shape_kji))
        for k in range(size_ijk[2]):
            hounsfield = _plane(k, size_ijk, spacing_mm, shapes, waves, motion_mm, device)
            noise = torch.randn(hounsfield.shape, generator=draw, device=device)
            volume[0, k] = (hounsfield + NOISE_HU * noise).cpu()
        images.append(Image(volume, grid))
    return images[0], images[1]


def _plane(
    k: int,
    size_ijk: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    shapes: list[tuple[np.ndarray, np.ndarray, float]],
    waves: tuple[np.ndarray, np.ndarray],
    motion_mm: float,
    device: torch.device,
) -> torch.Tensor:
    """[J, I]: a plane of the phantom; an edge is about a voxel wide."""
    i, j = (torch.arange(n, device=device, dtype=torch.float32) for n in size_ijk[:2])
    x, y = (spacing_mm[0] * (i - (size_ijk[0] - 1) / 2)).expand(len(j), -1), spacing_mm[1] * (j - (len(j) - 1) / 2)
    z = spacing_mm[2] * (k - (size_ijk[2] - 1) / 2)
    where = torch.stack((x, y[:, None].expand_as(x), torch.full_like(x, z)), dim=-1)
    phase = where @ torch.as_tensor(waves[0].T * 2e-2).to(where) + torch.as_tensor(waves[1]).to(where)
    where = where + motion_mm * phase.sin()
    plane = torch.full_like(x, -1000.0)
    for centre, radii, hounsfield in shapes:
        scaled = (where - torch.as_tensor(centre).to(where)) / torch.as_tensor(radii).to(where)
        depth_mm = (1 - scaled.norm(dim=-1)) * float(radii.min())
        plane += hounsfield * torch.sigmoid(3 * depth_mm / spacing_mm[0])
    return plane


def _as_markdown(report: dict) -> str:
    lines = [
        f"{report['card']} ({report['bandwidth_gb_s']:.0f} GB/s), torch {report['torch']}, `{report['preset']}`\n",
        "| pair | affine + deformable s | affine s | deformable s | GiB | whole s | whole GiB | mm from the CPU's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["ours"]:
        apart = "" if row["from_cpu_mm"] is None else f"{row['from_cpu_mm']:.4f}"
        lines.append(
            f"| {row['pair']} | {row['affine_deformable_s']:.3f} | {row['affine_s']:.3f} | {row['deformable_s']:.3f} "
            f"| {row['peak_gib']:.2f} | {row['whole_s']:.3f} | {row['whole_peak_gib']:.2f} | {apart} |"
        )
    peer = report["fireants"]
    stated = peer.get("skipped") or f"{peer['wall_s']:.3f} s warm, {peer['gpu_peak_mib'] / 1024:.2f} GiB"
    return "\n".join([*lines, f"\nFireANTs, same pair, file to transform: {stated}"])


if __name__ == "__main__":
    typer.run(main)
