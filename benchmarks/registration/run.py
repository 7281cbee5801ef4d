"""The benchmark's command line: ``run.py SET --methods ... --work DIR``. Start reading here, then ``pairs.py``.

Makes the pairs of a set, runs every method on every pair, each in a process of its own, scores the fields that they
leave, and prints one table a group. What already ran is not run again: a long set can be run in pieces.
"""

from __future__ import annotations

import json
import signal
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Annotated

import hippocampus
import known
import real
import simulated
import typer
from child import METHODS, OURS, Conditions, method_named, run_once
from pairs import Pair
from table import as_markdown, collect

DATA = Path(__file__).parents[3] / "shared" / "data"
SETS: dict[str, ModuleType] = {"hippocampus": hippocampus, "known": known, "simulated": simulated, "real": real}
DEFAULT_METHODS = f"{OURS},ants-quick,greedy,convexadam,elastix,fireants"


class Split(str, Enum):
    """Disjoint cases: to choose settings on, and to report."""

    tune = "tune"
    report = "report"


def main(
    set_name: Annotated[str, typer.Argument(metavar="SET", help=f"One of {', '.join(SETS)}.")],
    work: Annotated[Path, typer.Option(help="Folder for data, environments, runs and tables.")],
    methods: Annotated[
        str, typer.Option(help=f"By comma: {', '.join(METHODS)}; {OURS}:PRESET for a preset.")
    ] = DEFAULT_METHODS,
    groups: Annotated[str, typer.Option(help="By comma; all of the set when empty.")] = "",
    pairs: Annotated[int, typer.Option(min=1, help="At most so many of each group.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, for medians.")] = 3,
    split: Annotated[Split, typer.Option(help="Which cases.")] = Split.report,
    threads: Annotated[int, typer.Option(min=1, help="Of every method.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda; methods without a GPU stay on the CPU.")] = "cpu",
    timeout_s: Annotated[float, typer.Option(help="Longest for one registration.")] = 3600,
    data: Annotated[Path, typer.Option(help="Folder with the sets that are no packages.")] = DATA,
    retry: Annotated[bool, typer.Option(help="Run again what failed.")] = False,
    keep_fields: Annotated[bool, typer.Option(help="Keep the fields beside the scores.")] = False,
    prepare: Annotated[bool, typer.Option(help="Only make the pairs.")] = False,
) -> None:
    """Side-by-side registration benchmark."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops this stops the child too
    problems, names = _choose(set_name, groups, methods)
    work = work.resolve()
    conditions = Conditions(work, threads, device, timeout_s, keep_fields)
    _check_device(device)
    for group in names:
        made = problems.make_pairs(work, data, split.value, group, pairs)
        if prepare:
            typer.echo("\n".join(str(pair.folder) for pair in made))
            continue
        results = work / "results" / f"{device}-{threads}" / made[0].folder.parent.relative_to(work)
        rows = ["initial", *methods.split(",")]
        for repeat in range(1, repeats + 1):
            for pair in made:
                for method in rows if repeat == 1 else rows[1:]:
                    _run_unless_done(pair, method, results / pair.name / method / str(repeat), conditions, retry)
        _report(results, rows, made)


def _choose(set_name: str, groups: str, methods: str) -> tuple[ModuleType, list[str]]:
    if set_name not in SETS:
        raise typer.BadParameter(f"no set '{set_name}'; there are {', '.join(SETS)}")
    problems = SETS[set_name]
    names = groups.split(",") if groups else list(problems.GROUPS)
    if unknown := set(names) - set(problems.GROUPS):
        raise typer.BadParameter(f"no group {', '.join(sorted(unknown))}; there are {', '.join(problems.GROUPS)}")
    for method in methods.split(","):
        try:
            method_named(method)
        except KeyError as error:
            raise typer.BadParameter(f"no method {error}; there are {', '.join(METHODS)}") from None
    return problems, names


def _check_device(device: str) -> None:
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415  (the CPU runs start faster without)

        if not torch.cuda.is_available():
            typer.echo("Skipped: torch finds no CUDA device here; run with --device cpu, or on a machine with a GPU.")
            raise typer.Exit


def _run_unless_done(pair: Pair, method: str, run: Path, conditions: Conditions, retry: bool) -> None:
    failed = (run / "failure.txt").exists()
    if (run / "score.json").exists() or (failed and not retry):
        return
    typer.echo(f"{pair.folder.parent.name}/{pair.name} {method} #{run.name} ...", nl=False)
    run_once(pair, method, run, conditions)
    failure = run / "failure.txt"
    typer.echo(f" {failure.read_text() if failure.exists() else 'done'}")


def _report(results: Path, methods: list[str], pairs: list[Pair]) -> None:
    table = collect(results, methods, [pair.name for pair in pairs])
    text = as_markdown(f"{results.parent.name}, {results.name}", table)
    (results / "table.json").write_text(json.dumps(table, indent=1))
    (results / "table.md").write_text(text)
    typer.echo(f"\n{text}")


if __name__ == "__main__":
    typer.run(main)
