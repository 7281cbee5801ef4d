"""The benchmark's command line: ``run.py cpu|memory|overhead|gpu|warm --work DIR``. Start reading here, then ``runs``.

Each command runs ours and the peers side by side, each measurement in a process of its own, and prints tables with
medians and with what was asked for. They are kept in ``DIR/results``, as text and as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from designs import NETWORKS, Design
from environment import NAME
from runs import HERE, Case, Conditions, Row, label_agreement, measure
from table import Asked, as_markdown
from volumes import Phantom

sys.path.append(str(Path(__file__).parents[1]))
from isolated import Limits, python_of, run_isolated

TORCH, OPENVINO, ONNXRUNTIME = (f"medsegreg:{engine}" for engine in ("torch", "openvino", "onnxruntime"))
AS_NNUNET = f"{OPENVINO}:as-nnunet"
CT_SPACING_KJI = (1.0, 0.8, 0.8)

Work = Annotated[Path, typer.Option(help="Folder for the environment, volumes, models, runs and tables.")]
Network = Annotated[str, typer.Option(help=f"One of {', '.join(NETWORKS)}.")]
Classes = Annotated[int, typer.Option(min=2, max=255, help="With background.")]
Size = Annotated[
    tuple[int, int, int],
    typer.Option(help="Voxels of the volume, k j i. Where its first and last voxel lie on voxels of the network's grid,"
                      " as with the defaults, MONAI's grid is ours and labels can be compared."),
]  # fmt: skip
Repeats = Annotated[int, typer.Option(min=1, help="Runs of each, for medians.")]
Threads = Annotated[int, typer.Option(min=1, help="Of every method.")]
Timeout = Annotated[float, typer.Option(help="Longest for one run, in seconds.")]

app = typer.Typer(help="Segmentation, side by side.", no_args_is_help=True, add_completion=False)


@app.command()
def cpu(
    work: Work,
    network: Network = "small",
    classes: Classes = 25,
    size: Size = (286, 214, 214),
    repeats: Repeats = 3,
    threads: Threads = 1,
    timeout_s: Timeout = 3600,
) -> None:
    """CPU seconds from the array to labels on its own grid, against MONAI and nnU-Net; one network, the same tiles."""
    case = Case(Phantom(size, (1.0, 1.0, 1.0), classes), Design(NETWORKS[network], classes))
    methods = [TORCH, OPENVINO, ONNXRUNTIME, AS_NNUNET, "monai", "nnunet"]
    out = work / "results" / f"cpu-{network}-{case.phantom.name}"
    rows = measure(case, methods, _conditions(work, threads, timeout_s, repeats), out)
    asked = [
        Asked("CPU, OpenVINO over MONAI", rows[OPENVINO].ratio("cpu_s", rows["monai"]), 0.5),
        Asked("CPU, torch over MONAI", rows[TORCH].ratio("cpu_s", rows["monai"]), 0.95),
        Asked("CPU, OpenVINO over nnU-Net", rows[AS_NNUNET].ratio("cpu_s", rows["nnunet"]), 0.4),
        *_alike(rows, (OPENVINO, TORCH), (TORCH, "monai"), (AS_NNUNET, "nnunet")),
    ]
    _report(out, f"cpu: {network}, {case.phantom.name}, {threads} thread(s), {repeats} run(s)", rows, asked)


@app.command()
def memory(
    work: Work,
    network: Network = "slim",
    size: Size = (600, 512, 512),
    peers_size: Annotated[tuple[int, int, int], typer.Option(help="Where the peers fit.")] = (240, 160, 160),
    classes: Annotated[int, typer.Option(min=2, max=127, help="With background; also run with twice as many.")] = 105,
    engine: Annotated[str, typer.Option(help="Of ours.")] = "openvino",
    threads: Threads = 1,
    timeout_s: Timeout = 7200,
) -> None:
    """Largest memory of the process: a CT of the chest and abdomen, twice the classes, and beside the peers."""
    ours, conditions, asked = f"medsegreg:{engine}", _conditions(work, threads, timeout_s, 1), []
    designs = {count: Design(NETWORKS[network], count, tile=128, overlap=0.25) for count in (classes, 2 * classes)}
    whole: dict[int, Row] = {}
    for count, design in designs.items():
        phantom = Phantom(size, CT_SPACING_KJI, classes)
        out = work / "results" / f"memory-{network}-{engine}-{phantom.name}-of-{count}"
        whole[count] = measure(Case(phantom, design), [ours], conditions, out)[ours]
    peak = whole[classes].values.get("peak_mib")
    asked.append(Asked(f"GiB, {classes} classes", None if peak is None else peak / 1024, 4))
    asked.append(
        Asked("memory, twice the classes over once", whole[2 * classes].ratio("peak_mib", whole[classes]), 1.05)
    )
    title = f"memory: {network}, {'x'.join(map(str, size[::-1]))}, 1 run"
    _report(out, title, {f"{ours}, {count} classes": row for count, row in whole.items()}, asked)

    phantom = Phantom(peers_size, CT_SPACING_KJI, classes)
    out = work / "results" / f"memory-{network}-{engine}-{phantom.name}-beside-peers"
    rows = measure(Case(phantom, designs[classes]), [ours, "monai", "nnunet"], conditions, out)
    asked = [
        Asked(f"memory, ours over {peer}", rows[ours].ratio("peak_mib", rows[peer]), 0.3)
        for peer in ("monai", "nnunet")
    ]
    _report(out, f"memory: {network}, {phantom.name}, beside the peers, 1 run", rows, asked)


@app.command()
def overhead(
    work: Work,
    network: Network = "small",
    classes: Classes = 25,
    size: Size = (286, 214, 214),
    repeats: Repeats = 3,
    threads: Threads = 1,
    timeout_s: Timeout = 3600,
) -> None:
    """What the engine adds to the network alone over the same tiles."""
    case = Case(Phantom(size, (1.0, 1.0, 1.0), classes), Design(NETWORKS[network], classes))
    out = work / "results" / f"overhead-{network}-{case.phantom.name}"
    methods = [TORCH, "bare:torch", OPENVINO, "bare:openvino"]
    rows = measure(case, methods, _conditions(work, threads, timeout_s, repeats), out)
    asked = [
        Asked(f"CPU, {engine}, whole over the network alone", rows[ours].ratio("cpu_s", rows[f"bare:{engine}"]), 1.1)
        for ours, engine in ((TORCH, "torch"), (OPENVINO, "openvino"))
    ]
    _report(out, f"overhead: {network}, {case.phantom.name}, {threads} thread(s), {repeats} run(s)", rows, asked)


@app.command()
def gpu(
    work: Work,
    network: Network = "nnunet",
    classes: Classes = 25,
    size: Size = (301, 511, 511),
    repeats: Repeats = 1,
    threads: Annotated[int, typer.Option(min=1, help="Of every method.")] = 8,
    timeout_s: Timeout = 240,
) -> None:
    """Seconds and memory on a GPU against MONAI and nnU-Net; says why it skips where there is none."""
    python = python_of(work.resolve(), NAME)
    card = _card(str(python) if python.exists() else sys.executable)
    if not card:
        typer.echo("Skipped: torch finds no CUDA device here; run this on a machine with an NVIDIA GPU.")
        return
    conditions = _conditions(work, threads, timeout_s, repeats, "cuda")
    case = Case(Phantom(size, CT_SPACING_KJI, classes), Design(NETWORKS[network], classes, tile=128))
    out = work / "results" / f"gpu-{network}-{case.phantom.name}"
    ours, ours_as_nnunet = "medsegreg:auto", "medsegreg:auto:as-nnunet"
    rows = measure(case, [ours, ours_as_nnunet, "monai", "nnunet"], conditions, out)
    asked = [
        Asked("seconds, ours over MONAI", rows[ours].ratio("wall_s", rows["monai"]), 0.5),
        Asked("seconds, ours over nnU-Net", rows[ours_as_nnunet].ratio("wall_s", rows["nnunet"]), 0.5),
        *_alike(rows, (ours, "monai"), (ours_as_nnunet, "nnunet")),
    ]
    _report(out, f"gpu: {card}, {network}, {case.phantom.name}, {repeats} warm run(s)", rows, asked)


@app.command()
def warm(work: Work, repeats: Repeats = 5, threads: Annotated[int, typer.Option(min=1)] = 2) -> None:
    """Seconds to locate and segment both hippocampi in a head of 256^3, in a process that has done it once."""
    out = work / "results" / "warm"
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "methods" / "run_warm.py"), str(out / "usage.json"), str(repeats)]
    reason = run_isolated(command, out / "log.txt", Limits(threads))
    if reason:
        typer.echo(f"Failed: {reason}; see {out / 'log.txt'}")
        raise typer.Exit(1)
    found = json.loads((out / "usage.json").read_text())
    row = Row("medsegreg", found["medians"], "", out)
    _report(out, f"warm: hippocampus-mr, 256^3, {threads} threads, {repeats} run(s)", {"medsegreg": row}, [
        Asked("seconds", found["medians"]["wall_s"], 2.0)
    ])  # fmt: skip
    typer.echo((out / "profile.txt").read_text())


def _conditions(work: Path, threads: int, timeout_s: float, repeats: int, device: str = "cpu") -> Conditions:
    conditions = Conditions(work.resolve(), Limits(threads, device == "cuda", timeout_s), device, repeats)
    if not Path(conditions.python).exists():
        raise typer.BadParameter(f"no environment in '{work}': run environment.py --work '{work}' first")
    return conditions


def _card(python: str) -> str:
    """Name of the GPU; empty where there is none."""
    code = "import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else '')"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _alike(rows: dict[str, Row], *pairs: tuple[str, str]) -> list[Asked]:
    asked = []
    for one, other in pairs:
        there = rows[one].labels.exists() and rows[other].labels.exists()
        dice, equal = label_agreement(rows[one].labels, rows[other].labels) if there else (None, None)
        asked.append(Asked(f"labels, mean Dice of {one} and {other}", dice, 0.999, at_least=True))
        asked.append(Asked(f"labels, equal share of {one} and {other}", equal, 0.999, at_least=True))
    return asked


def _report(out: Path, title: str, rows: dict[str, Row], asked: list[Asked]) -> None:
    text = as_markdown(title, rows, asked)
    (out / "table.md").write_text(text)
    content = {"rows": {name: {"failure": row.failure, **row.values} for name, row in rows.items()}}
    (out / "table.json").write_text(
        json.dumps({"title": title, **content, "asked": [asdict(a) for a in asked]}, indent=1)
    )
    typer.echo(f"\n{text}")


if __name__ == "__main__":
    app()
