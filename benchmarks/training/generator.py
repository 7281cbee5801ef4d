"""How fast examples are generated: ``python generator.py LABEL_MAPS --settings brain-any-contrast.json``.

CPU seconds a sample of 128^3 at 1 mm on one core and, where there is a GPU, samples a second on it, where no step of
the generator waits for the GPU (checked by torch's synchronisation debugging). Prints a Markdown table.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from MedSegRegLib.train.chance import Chance
from MedSegRegLib.train.dataset import find_label_maps
from MedSegRegLib.train.label_maps import LabelMaps, read_label_maps
from MedSegRegLib.train.run import read_settings
from MedSegRegLib.train.synthesise import Synthesis, synthesise

SPACING_MM = (1.0, 1.0, 1.0)


def main(
    maps: Annotated[Path, typer.Argument(help="Folder of label maps.")],
    settings: Annotated[Path, typer.Option(help="Settings of a training with 'synthesis'.")],
    side: Annotated[int, typer.Option(help="Voxels along each axis.")] = 128,
    samples: Annotated[int, typer.Option(help="Measured on the CPU; forty times as many on a GPU.")] = 10,
    threads: Annotated[int, typer.Option(help="On the CPU.")] = 1,
) -> None:
    """Measure on the CPU, and on the GPU if there is one."""
    torch.set_num_threads(threads)
    synthesis = read_settings(settings).synthesis
    loaded = read_label_maps([case.labels for case in find_label_maps(maps)[:4]], synthesis.roles, 1.0)
    typer.echo("| where | CPU s a sample | s a sample | samples a second |\n|---|---|---|---|")
    typer.echo(_row("CPU, 1 core", *_measure(loaded, synthesis, side, samples)))
    if torch.cuda.is_available():
        on_gpu = loaded.to("cuda")
        _measure(on_gpu, synthesis, side, 20)
        torch.cuda.set_sync_debug_mode("error")
        typer.echo(_row(torch.cuda.get_device_name(), *_measure(on_gpu, synthesis, side, 40 * samples)))
        peak = torch.cuda.max_memory_allocated() / 2**30
        typer.echo(f"\nPeak memory of the GPU with {len(loaded.names)} maps: {peak:.2f} GiB.")


def _measure(maps: LabelMaps, synthesis: Synthesis, side: int, samples: int) -> tuple[float, float]:
    """CPU and wall seconds a sample."""
    device = maps.targets.device
    wall, cpu = time.perf_counter(), time.process_time()
    for seed in range(samples):
        synthesise(maps, synthesis, (side,) * 3, SPACING_MM, Chance(seed, device))
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.process_time() - cpu) / samples, (time.perf_counter() - wall) / samples


def _row(where: str, cpu_seconds: float, seconds: float) -> str:
    return f"| {where} | {cpu_seconds:.3f} | {seconds:.4f} | {1 / seconds:.1f} |"


if __name__ == "__main__":
    typer.run(main)
