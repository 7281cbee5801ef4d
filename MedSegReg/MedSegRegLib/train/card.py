"""The card of a model: what it is for, what it was trained on, how good it is."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluate.scores import StructureSummary
from ..files.architectures import Architecture, UNetArchitecture
from ..files.model_spec import ModelSpec

COLUMNS = (
    "| structure | Dice mean (95 % interval) | Dice worst | HD95 mean, mm | HD95 worst, mm | ASSD mean, mm "
    "| surface Dice at 1 mm | missed |"
)


def write_card(spec: ModelSpec, summaries: Sequence[StructureSummary], cases: Sequence[str]) -> str:
    """Markdown text; every number comes from the summaries of the held-out cases."""
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

A missed structure counts as Dice 0 and as the diagonal of the image. Not a medical device: for research.
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
