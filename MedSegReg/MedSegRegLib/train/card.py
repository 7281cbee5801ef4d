"""The card of a model: what it is for, what it was trained on, how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..evaluate.scores import StructureSummary
from ..files.architectures import Architecture, UNetArchitecture
from ..files.model_spec import ModelSpec

METRICS = ("dice", "hd95_mm", "assd_mm", "nsd")
COLUMNS = (
    "| structure | Dice mean (95 % interval) | Dice worst | HD95 mean, mm | HD95 worst, mm | ASSD mean, mm "
    "| surface Dice at 1 mm | missed |"
)


def card_numbers(summaries: Sequence[StructureSummary]) -> dict[str, dict[str, float]]:
    """Mean and worst value of the card's metrics for each structure, none for one that is in no case."""
    numbers = {}
    for summary in summaries:
        values = {"cases": float(summary.cases), "missed": float(summary.missed)}
        for name in METRICS if summary.cases else ():
            metric = summary.metrics[name]
            values |= {f"{name}_mean": round(metric.mean, 4), f"{name}_worst": round(metric.worst, 4)}
        numbers[summary.name] = values
    return numbers


def write_card(
    spec: ModelSpec,
    summaries: Sequence[StructureSummary],
    cases: Sequence[str],
    folds: Mapping[str, Sequence[float | None]] | None = None,
) -> str:
    """Markdown text; every number comes from the summaries of the held-out cases.

    Args:
        folds: of a cross-validation, the mean Dice of each structure in each fold.
    """
    rows = "\n".join(_row(summary) for summary in summaries)
    training = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in spec.training.items())
    spacing = " x ".join(f"{s:g} mm" if s else "any" for s in spec.spacing_mm)
    channels = ", ".join(f"{channel.name} ({channel.modality})" for channel in spec.channels)
    return f"""# {spec.title}

`{spec.name}` {spec.version}. {spec.description}

- input: {channels}, any orientation and spacing; worked on at {spacing}
- output: {", ".join(label.name for label in spec.labels)}
- network: {spec.architecture.name}{_features(spec.architecture)}
- licence of the weights: {spec.licence}

## Training

{training}

## Scores on held-out cases

{len(cases)} cases: {", ".join(cases)}.

{COLUMNS}
|---|---|---|---|---|---|---|---|
{rows}
{_fold_table(folds) if folds else ""}
A missed structure counts as Dice 0 and as the diagonal of the image. Not a medical device: for research.
"""


def _fold_table(folds: Mapping[str, Sequence[float | None]]) -> str:
    count = len(next(iter(folds.values())))
    rows = [["mean Dice", *(f"fold {n + 1}" for n in range(count)), "mean of the folds"], ["---"] * (count + 2)]
    for name, values in folds.items():
        known = [value for value in values if value is not None]
        mean = f"{sum(known) / len(known):.3f}" if known else ""
        rows.append([name, *("" if value is None else f"{value:.3f}" for value in values), mean])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"""
## Scores of the folds

Each case was tested by the one network that had not seen it; the model is the mean of these networks, which nothing
here tests.

{table}
"""


def _features(architecture: Architecture) -> str:
    if not isinstance(architecture, UNetArchitecture):
        return ""
    return f", features {', '.join(map(str, architecture.features))}"


def _row(summary: StructureSummary) -> str:
    if not summary.cases:
        return f"| {summary.name} | in none of these cases | | | | | | |"
    dice, hd95, assd, nsd = (summary.metrics[name] for name in ("dice", "hd95_mm", "assd_mm", "nsd"))
    interval = f" ({dice.low:.3f}-{dice.high:.3f})" if dice.low is not None and dice.high is not None else ""
    return (
        f"| {summary.name} | {dice.mean:.3f}{interval} | {dice.worst:.3f} ({dice.worst_case}) | {hd95.mean:.2f} | "
        f"{hd95.worst:.2f} | {assd.mean:.2f} | {nsd.mean:.3f} | {summary.missed} |"
    )
