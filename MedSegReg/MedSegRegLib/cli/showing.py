"""Commands: demo and info."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated

import typer

from .images import Device, Json
from .terminal import progress_bar, screen, show_result


def add_commands(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.command()(demo)
    app.command()(info)


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for scene.mrb, pictures and the table.")
    ] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Segment two real heads, register one to the other and carry the segmentation over; leaves a scene for Slicer."""
    from .demo import run_demo

    with progress_bar("demo") as progress:
        tables = run_demo(output, device, progress)
    for table in tables:
        screen.print(table)
    screen.print(
        f"written: {output}/scene.mrb and {', '.join(sorted(p.name for p in output.glob('*.png')))}", markup=False
    )


def info(as_json: Json = False) -> None:
    """Versions, devices, memory and models on this machine."""
    import importlib.metadata
    import importlib.util

    import torch

    from .. import __version__
    from ..device import free_host_bytes, pick_device
    from ..files.model_store import list_models, user_store

    def version(name: str) -> str:
        return (
            importlib.metadata.version(name)
            if importlib.util.find_spec(name.replace("slicer-core", "slicer"))
            else "not installed"
        )

    free = free_host_bytes()
    facts = {
        "medsegreg": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "SimpleITK": version("SimpleITK"),
        "monai (training)": version("monai"),
        "slicer-core (scenes)": version("slicer-core"),
        "device": str(pick_device("auto")),
        "memory free": f"{free / 2**30:.1f} GiB" if free is not None else "unknown",
        "models": ", ".join(spec.name for spec in list_models()[0].values()) or "none",
        "your models": str(user_store()),
    }
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        facts[f"cuda:{number}"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    show_result("\n".join(f"{key:>22}: {value}" for key, value in facts.items()), facts, as_json)
