"""What compressing brings: ``python compression.py HIPPOCAMPUS`` (a folder with ``images`` and ``labels``).

The shipped ``hippocampus-mr`` is compressed by the product's own command on forty cases, all of them test cases of the
model's own split: it has seen none. Variants are made from twenty, whose labels nobody looks at, and measured on the
other twenty against their labels. Prints the product's table in Markdown.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from adaptation import MODEL, read_test_cases

from MedSegRegLib.train.compress import compress_model
from MedSegRegLib.train.distil import Distillation
from MedSegRegLib.train.samples import Sample


def main(
    data: Annotated[Path, typer.Argument(help="Folder with 'images' and 'labels'.")],
    cases: Annotated[int, typer.Option(help="One half to make variants from, the other to measure on.")] = 40,
    steps: Annotated[int | None, typer.Option(help="Of the student's training.")] = None,
    threads: Annotated[int, typer.Option(help="Of the CPU.")] = 1,
) -> None:
    """Compress, and say what it took."""
    torch.set_num_threads(threads)
    samples = [Sample(one.name, one.image, one.labels, one.patient) for one in read_test_cases(data)[:cases]]
    settings = Distillation() if steps is None else Distillation(steps=steps)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = compress_model(MODEL, samples, Path(folder) / "model", settings, device="cpu")
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    typer.echo(f"{result.table()}\n\n{result.verdict}. Measured {result.measured}.")
    typer.echo(f"Not made: {'; '.join(f'{name} ({why})' for name, why in result.left_out.items()) or 'none'}.")
    typer.echo(
        f"The package has {size / 2**20:.1f} MiB. {settings.steps} steps; {time.process_time() - began:.0f} CPU s on "
        f"{threads} thread(s) without the measurements, which run in processes of their own."
    )


if __name__ == "__main__":
    typer.run(main)
