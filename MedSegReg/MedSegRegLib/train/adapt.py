"""A model adapted to one patient or one site by a few corrected cases. The whole adaptation walk in one function."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from ..device import pick_device
from ..errors import DatasetError, ModelMismatch
from ..evaluate.scores import compare_labels
from ..files.atomic import atomic_path
from ..files.model_delta import Weights, add_delta, join_deltas
from ..files.model_package import read_model, write_model
from ..files.model_spec import ModelSpec, ParentSpec
from ..files.model_store import model_folder
from ..progress import SILENT, Progress
from ..segment.engines import make_engine
from ..segment.model import Model, load_model
from ..segment.network import build_network
from ..segment.predict import segment
from .corrections import Correction, HeldOut, crops_of, make_trials, to_examples, to_model_labels
from .fine_tune import FineTuning, fine_tune

LEAST_GAIN = 0.005
MEASURING, TRAINING = 0.15, 0.85


@dataclass(frozen=True)
class Score:
    """Dice of one structure on labels that were not trained on, by the parent and by the adapted model."""

    held_out: str
    structure: str
    before: float
    after: float


@dataclass(frozen=True)
class Adaptation:
    """What came of it.

    Attributes:
        scores: of the held-out labels, and ``measured`` says which these are.
        seen: mean Dice on the cases that the model was made from, before and after; ``after`` is that of the model
            as it is stored.
        spec: of the adapted model; None when it was not better, and the parent is kept.
        verdict: why, in a sentence.
        seconds: that it took.
    """

    parent: str
    measured: str
    scores: tuple[Score, ...]
    seen: tuple[float, float]
    spec: ModelSpec | None
    verdict: str
    seconds: float

    @property
    def before(self) -> float:
        """Mean Dice of the parent on held-out labels."""
        return _mean([score.before for score in self.scores])

    @property
    def after(self) -> float:
        """Mean Dice of the adapted models on held-out labels."""
        return _mean([score.after for score in self.scores])


def adapt_model(
    parent: str | Path,
    corrections: Sequence[Correction],
    output: Path,
    settings: FineTuning | None = None,
    *,
    name: str | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Adaptation:
    """Adapt a model to corrected cases, if that makes it better on labels that it was not trained on.

    First it is measured what adapting brings, on cases or halves of a case that are left out (see
    :func:`corrections.make_trials`). Only when mean Dice rises by 0.005 is a model adapted to all cases and written;
    else the parent is kept. It is kept, too, when that model is not better than the parent on the very cases.

    Args:
        parent: name or folder of a single network.
        corrections: one to a handful, with structures named as in the model, or with its label values.
        output: folder that gets ``adaptation.json`` and, when it is better, the package ``model``: only the
            differences from the parent's weights.
        name: of the adapted model; without it, the parent's with ``-adapted``.

    Raises:
        ModelMismatch: a model that cannot be adapted: an ensemble, ONNX, a cascade, overlapping regions.
        DatasetError: no cases, without labels, or with structures that the model does not have.
        InputError, ModelError, Diverged, Cancelled: as of segmentation and training; nothing is written then.
    """
    started = time.perf_counter()
    settings = settings or FineTuning()
    folder, chosen = model_folder(parent), pick_device(device)
    model = load_model(folder, chosen)
    _require_trainable(model)
    corrections = _checked(corrections, model.spec)
    trials, measured = make_trials(corrections)
    share = MEASURING / (len(trials) + 1), TRAINING / (len(trials) + 1)
    scores: list[Score] = []
    for number, trial in enumerate(trials):
        begin = number * sum(share)
        middle, end = begin + share[1], begin + sum(share)
        delta = _tuned(model, trial.train, settings, progress.part(begin, middle))
        scores += _compare(model, _adapted(model, delta), trial.test, progress.part(middle, end))
    result = Adaptation(model.spec.name, measured, tuple(scores), (0.0, 0.0), None, "", 0.0)
    verdict, delta = _doubt(result), {}
    if not verdict:
        begin = len(trials) * sum(share)
        delta = _tuned(model, corrections, settings, progress.part(begin, begin + share[1]))
        everything = [HeldOut(one.name, one, (0, 0, 0), one.labels.geometry.size_ijk) for one in corrections]
        seen = _compare(model, _adapted(model, delta), everything, progress.part(begin + share[1], 1.0))
        result = replace(result, seen=(_mean([s.before for s in seen]), _mean([s.after for s in seen])))
        if not result.seen[1] > result.seen[0]:
            verdict = f"adapted to all cases it reaches Dice {result.seen[1]:.3f} on them, after {result.seen[0]:.3f}"
    output.mkdir(parents=True, exist_ok=True)
    spec = None if verdict else _write(folder, model.spec, delta, result, corrections, name, output / "model")
    said = f"The parent is kept: {verdict}" if verdict else f"Adapted: Dice {result.before:.3f} -> {result.after:.3f}"
    result = replace(result, spec=spec, verdict=f"{said}, {measured}", seconds=time.perf_counter() - started)
    _write_report(result, output / "adaptation.json")
    progress.update(1.0, "done")
    return result


def _require_trainable(model: Model) -> None:
    spec = model.spec
    if len(model.sources) > 1:
        raise ModelMismatch(
            f"'{spec.name}' is an ensemble of {len(model.sources)} networks",
            "a single network",
            "make one of it with 'medsegreg model compress', or adapt another model",
        )
    if spec.architecture.name == "onnx" or model.previous or spec.regions or spec.merged or spec.standard:
        raise ModelMismatch(
            f"'{spec.name}' is an ONNX graph, a cascade, has overlapping regions or works in the space of a template",
            "one network of the registry that takes the image itself and gives each voxel one label",
            "adapt another model",
        )


def _checked(corrections: Sequence[Correction], spec: ModelSpec) -> list[Correction]:
    """The corrections with the model's label values; all of them fit the model."""
    crops = [crop for one in corrections for crop in crops_of(one, spec)]
    corrections = [replace(one, labels=to_model_labels(one.labels, spec)) for one in crops]
    empty = [one.name for one in corrections if not bool((one.labels.tensor > 0).any())]
    if empty or not corrections:
        raise DatasetError(
            f"Without labels: {', '.join(empty)}" if empty else "There are no corrected cases",
            "one or more cases with labels",
            "add corrected cases",
        )
    to_examples(corrections, spec)
    return corrections


def _tuned(model: Model, corrections: Sequence[Correction], settings: FineTuning, progress: Progress) -> Weights:
    """Differences as they are stored, in half precision."""
    examples = to_examples(corrections, model.spec)
    delta = fine_tune(_network(model), examples, model.spec, settings, model.device, progress)
    return {key: tensor.half().float() for key, tensor in delta.items()}


def _network(model: Model) -> nn.Module:
    return model.sources[0].module


def _adapted(model: Model, delta: Weights) -> Model:
    """The model as it will be when it is loaded again."""
    spec = model.spec
    weights = add_delta(dict(_network(model).state_dict()), delta, spec.name)
    network = build_network(spec.architecture, len(spec.channels), spec.classes)
    network.load_state_dict(weights)
    source = replace(model.sources[0], network=network.eval())
    return replace(model, sources=(source,), engines=(make_engine("torch", source, model.device),))


def _compare(parent: Model, adapted: Model, held_out: Sequence[HeldOut], progress: Progress) -> list[Score]:
    """Both models on the whole image, by the product's own predictor, and Dice where labels count."""
    scores = []
    for number, one in enumerate(held_out):
        progress.update(number / len(held_out), f"measuring {one.name}")
        truth = one.cut(one.correction.labels)
        before, after = (
            compare_labels(truth, one.cut(segment(one.correction.image, model).labels), parent.spec.structures)
            for model in (parent, adapted)
        )
        scores += [
            Score(one.name, old.name, old.dice or 0.0, new.dice or 0.0)
            for old, new in zip(before, after, strict=True)
            if not (old.dice is None and new.dice is None)
        ]
    return scores


def _doubt(result: Adaptation) -> str:
    """Why the adapted model is not better; empty when it is."""
    if not result.scores:
        return "nothing could be measured"
    if result.after - result.before < LEAST_GAIN:
        return f"mean Dice {result.before:.3f} -> {result.after:.3f}, less than {LEAST_GAIN} better"
    return ""


def _write(
    folder: Path,
    spec: ModelSpec,
    delta: Weights,
    result: Adaptation,
    corrections: Sequence[Correction],
    name: str | None,
    output: Path,
) -> ModelSpec:
    """The package of differences. Of a parent that was itself adapted, the differences from its own parent."""
    if spec.parent:
        origin, delta = spec.parent, join_deltas(read_model(folder)[1][0], delta)
    else:
        origin = ParentSpec(name=spec.name, sha256=spec.sha256[spec.weights[0]])
    adapted = ModelSpec.model_validate(
        {
            **spec.model_dump(),
            "name": name or f"{spec.name}-adapted"[:64],
            "title": f"{spec.title}, adapted",
            "parent": origin.model_dump(),
            "weights": ("delta.safetensors",),
            "scores": _by_structure(result),
            "training": {
                **spec.training,
                "adapted_from": f"{spec.name} {spec.version}",
                "adapted_to": f"{len(corrections)} cases: {', '.join(one.name for one in corrections)}",
                "dice_before_and_after": f"{result.before:.4f}, {result.after:.4f}, {result.measured}",
            },
        }
    )
    return write_model(output, adapted, [delta], _card(adapted, result))


def _by_structure(result: Adaptation) -> dict[str, dict[str, float]]:
    """Mean Dice on held-out labels, before and after."""
    names = dict.fromkeys(score.structure for score in result.scores)
    return {
        name: {
            "dice_mean": round(_mean([s.after for s in result.scores if s.structure == name]), 4),
            "dice_mean_of_parent": round(_mean([s.before for s in result.scores if s.structure == name]), 4),
        }
        for name in names
    }


def _card(spec: ModelSpec, result: Adaptation) -> str:
    rows = "\n".join(f"| {s.held_out} | {s.structure} | {s.before:.3f} | {s.after:.3f} |" for s in result.scores)
    return f"""# {spec.title}

Adapted from `{result.parent}`, whose weights are needed to use it. {spec.training["adapted_to"]}.

Dice {result.measured}. These are scores of models that did not see what they were measured on; the stored model was
adapted to all cases. On images of other kinds it may be worse than its parent: that was not measured.

| held out | structure | before | after |
|---|---|---|---|
{rows}
| mean | | {result.before:.3f} | {result.after:.3f} |

On the cases themselves, with the stored model: {result.seen[0]:.3f} before, {result.seen[1]:.3f} after.

Licence of the weights: {spec.licence}. Not a medical device: for research.
"""


def _write_report(result: Adaptation, path: Path) -> None:
    content = {
        "parent": result.parent,
        "model": result.spec.name if result.spec else None,
        "verdict": result.verdict,
        "measured": result.measured,
        "dice_before": result.before,
        "dice_after": result.after,
        "dice_on_the_cases": result.seen,
        "scores": [asdict(score) for score in result.scores],
        "seconds": round(result.seconds, 1),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
