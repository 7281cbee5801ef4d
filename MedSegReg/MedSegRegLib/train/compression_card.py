"""What was measured of a model's variants, which one is best, and what its package says. Last stop of compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..evaluate.scores import StructureScores
from ..files.model_spec import ModelSpec
from ..segment.model import Model
from .measure import Measured
from .samples import Sample

METHODS = {
    "half": "weights stored in half precision",
    "int8": "weights and convolutions in 8-bit integers (NNCF), ranges read off the images",
    "student": "half of the channels kept by their importance, then trained on the full model's scores",
    "student-int8": "half of the channels kept, trained on the full model's scores, then 8-bit integers",
}
COLUMNS = ("variant", "engine", "Dice", "HD95, mm", "s an image", "CPU s", "memory, MiB", "weights, MiB")


@dataclass(frozen=True)
class Row:
    """One variant, measured.

    Attributes:
        engine: that runs it here.
        dice, hd95_mm: means over all images and structures that are in truth or result.
        by_structure: mean Dice of each.
        seconds, cpu_seconds, memory_bytes: see :class:`measure.Measured`.
        weights_bytes: of the files that are computed with.
    """

    variant: str
    engine: str
    dice: float
    hd95_mm: float | None
    by_structure: Mapping[str, float]
    seconds: float
    cpu_seconds: float
    memory_bytes: int | None
    weights_bytes: int

    @classmethod
    def of(
        cls, variant: str, engine: str, scores: Sequence[StructureScores], found: Measured, weights_bytes: int
    ) -> Row:
        """From the scores of all images."""
        distances = [score.hd95_mm for score in scores if score.hd95_mm is not None]
        names = dict.fromkeys(score.name for score in scores)
        return cls(
            variant,
            engine,
            _mean([score.dice or 0.0 for score in scores]),
            _mean(distances) if distances else None,
            {name: _mean([score.dice or 0.0 for score in scores if score.name == name]) for name in names},
            found.seconds,
            found.cpu_seconds,
            found.memory_bytes,
            weights_bytes,
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of ``COLUMNS``."""
        return (
            self.variant,
            self.engine,
            f"{self.dice:.4f}",
            "" if self.hd95_mm is None else f"{self.hd95_mm:.2f}",
            f"{self.seconds:.3f}",
            f"{self.cpu_seconds:.3f}",
            "" if self.memory_bytes is None else f"{self.memory_bytes / 2**20:.0f}",
            f"{self.weights_bytes / 2**20:.2f}",
        )


@dataclass(frozen=True)
class Compression:
    """What came of it.

    Attributes:
        parent: name of the full model.
        rows: the full model first.
        left_out: why other variants could not be made.
        measured: on what and against what, in words.
        made_from: how many images.
        tolerance: of mean Dice.
        spec: of the package that was written; None where the full model is the best.
    """

    parent: str
    rows: tuple[Row, ...]
    left_out: Mapping[str, str]
    measured: str
    against_labels: bool
    made_from: int
    tolerance: float
    spec: ModelSpec | None = None

    @property
    def best(self) -> Row:
        """The fastest whose mean Dice is not more than the tolerance below the full model's."""
        good = [row for row in self.rows if row.dice >= self.rows[0].dice - self.tolerance]
        return min(good, key=lambda row: row.seconds)

    @property
    def verdict(self) -> str:
        """Which one is the best, and by which rule."""
        rule = f"the fastest here whose mean Dice is not more than {self.tolerance:g} below the full model's"
        if self.best is self.rows[0]:
            return f"The full model stays: it is {rule}"
        faster = self.rows[0].seconds / max(self.best.seconds, 1e-9)
        return f"Best here: {self.best.variant}, {rule}; {faster:.1f} times as fast"

    def written(self, spec: ModelSpec) -> Compression:
        """With the description of the package that was written."""
        return replace(self, spec=spec)

    def package(self, full: Model, spec: ModelSpec, name: str | None) -> tuple[ModelSpec, str]:
        """Description and card of the best variant's package."""
        best, parent = self.best, full.spec
        made = {
            "compressed_from": f"{parent.name} {parent.version}",
            "compressed_from_sha256": " ".join(full.weights_sha256),
            "compressed_by": f"{best.variant}: {METHODS[best.variant]}, {self.made_from} images",
            "compression_measured": f"mean Dice {best.dice:.4f}, full model {self.rows[0].dice:.4f}, {self.measured}",
            "run_it_with": f"--engine {best.engine}",
        }
        described = ModelSpec.model_validate(
            {
                **spec.model_dump(),
                "name": name or name_of(parent.name, best.variant),
                "title": f"{parent.title}, {best.variant}",
                "training": {**parent.training, **made},
                "scores": self._scores(),
            }
        )
        return described, self._card(described)

    def _scores(self) -> dict[str, dict[str, float]]:
        full, best = self.rows[0].by_structure, self.best.by_structure
        if not self.against_labels:
            return {name: {"dice_with_full_model": round(dice, 4)} for name, dice in best.items()}
        return {
            name: {"dice_mean": round(dice, 4), "dice_mean_of_full_model": round(full[name], 4)}
            for name, dice in best.items()
            if name in full
        }

    def table(self) -> str:
        """Markdown."""
        lines = [COLUMNS, ("---",) * len(COLUMNS), *(row.cells for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _card(self, spec: ModelSpec) -> str:
        training = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in spec.training.items())
        left_out = "".join(f"\nNot made: {name} ({why})." for name, why in self.left_out.items())
        return f"""# {spec.title}

`{spec.name}` {spec.version}. {spec.description}

Made smaller from `{self.parent}`. {self.verdict}.

- output: {", ".join(label.name for label in spec.labels)}
- licence of the weights: {spec.licence}

## Measured when it was made, {self.measured}

{self.table()}
{left_out}
Seconds and memory are of the machine on which it was made. On images of other kinds it may be worse than the full
model: that was not measured. Not a medical device: for research.

## Training of the full model, and what was done to it

{training}
"""


def name_of(model: str, variant: str) -> str:
    """Of the package of a variant."""
    return f"{model[: 63 - len(variant)]}-{variant}"


def describe(
    full: Model,
    rows: Sequence[Row],
    left_out: Mapping[str, str],
    made_from: Sequence[Sample],
    measured: Sequence[Sample],
    tolerance: float,
) -> Compression:
    """The result of a compression, before anything is written."""
    labelled = measured[0].labels is not None
    against = "their labels" if labelled else "what the full model finds"
    said = f"on {len(measured)} images that it was not made from, against {against}"
    return Compression(full.spec.name, tuple(rows), dict(left_out), said, labelled, len(made_from), tolerance)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
