"""Result folders of nnU-Net v2, also those of TotalSegmentator. Import walk: run -> [nnunet] -> model package.

A result is ``<dataset>/<trainer>__<plans>__<configuration>/`` with plans.json, dataset.json and
``fold_k/checkpoint_final.pth``; a zip as nnU-Net exports it holds one or several of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..errors import ModelMismatch, UnknownModel
from ..files.model_spec import ChannelSpec, TilingSpec
from ..progress import Progress
from ..report import Finding
from .imported import Imported, Wishes, checked_spec, fitting_weights, slug
from .isolation import read_weights_of
from .nnunet_labels import Dataset, labels_of, modality_of
from .nnunet_plans import (
    CT,
    Configuration,
    Plans,
    architecture_of,
    grid_of,
    intensity_of,
    spacing_of,
)
from .source_files import SourceFiles, described

RESULT = re.compile(r"^(?P<trainer>.+?)__.+?__(?P<configuration>.+)$")
FOLD = re.compile(r"^fold_(?P<fold>[0-4]|all)/checkpoint_(?P<kind>final|best)\.pth$")
PREFERRED = ("3d_fullres", "3d_cascade_fullres", "3d_lowres", "2d")
COPIES = re.compile(r"^decoder\.encoder\.|\.all_modules\.")  # second names of the same tensors
TRAINER = "nnUNetTrainer"
TRAINER_VARIANTS = re.compile(  # of nnU-Net itself, that do not change the network
    r"\d+epochs?|NoMirroring|onlyMirror01|DA5|DAOrd0|NoDA|noDummy2DDA|\w{0,12}?Loss|CosAnneal|warmup|Adam|Adan|_"
    r"|NoDeepSupervision|probabilisticOversampling"
)
AXES = "ijk"


@dataclass(frozen=True)
class Result:
    """One trained configuration: the folder it lies in and the names of its parts."""

    folder: str
    trainer: str
    configuration: str


def is_nnunet(source: SourceFiles) -> bool:
    """Whether plans.json and dataset.json lie beside each other."""
    return bool(_results(source))


def read_nnunet(source: SourceFiles, wishes: Wishes, progress: Progress) -> Imported:
    """The model package of one configuration, with its folds as an ensemble and its previous stage beside it.

    Raises:
        UnknownModel: no such configuration or fold.
        UnsupportedFile, ModelMismatch, DamagedModel, UnsafeFile: see the parts.
    """
    results = _results(source)
    result = _chosen(results, wishes.configuration)
    imported = _read_one(source, result, wishes, progress)
    if len(results) > 1:
        others = ", ".join(sorted(r.configuration for r in results if r is not result))
        imported.findings.insert(
            0, Finding.info(f"Imported the configuration {result.configuration}; also there: {others}")
        )
    return imported


def _results(source: SourceFiles) -> list[Result]:
    names = set(source.names)
    found = []
    for name in source.names:
        folder = name.removesuffix("plans.json")
        if folder[-1:] in ("", "/") and folder != name and f"{folder}dataset.json" in names:
            said = RESULT.match(PurePosixPath(folder).name or source.place.name)
            found.append(Result(folder, said["trainer"] if said else "", said["configuration"] if said else ""))
    return found


def _chosen(results: list[Result], wanted: str | None) -> Result:
    by_rank = sorted(results, key=lambda r: PREFERRED.index(r.configuration) if r.configuration in PREFERRED else 9)
    matching = [r for r in by_rank if wanted in (None, r.configuration)] or [r for r in by_rank if not r.configuration]
    if not matching:
        raise UnknownModel(
            f"There is no configuration '{wanted}'",
            f"one of {', '.join(r.configuration for r in by_rank)}",
            "name one of them, or none",
        )
    datasets = {PurePosixPath(r.folder).parts[:-1] for r in matching if r.configuration == matching[0].configuration}
    if len(datasets) > 1:
        raise UnknownModel(
            f"There are {len(datasets)} models of the configuration {matching[0].configuration}",
            "one model at a time",
            "choose the folder of one of them",
        )
    return matching[0]


def _read_one(source: SourceFiles, result: Result, wishes: Wishes, progress: Progress) -> Imported:
    plans = described(Plans, source.json(f"{result.folder}plans.json"), "plans.json")
    dataset = described(Dataset, source.json(f"{result.folder}dataset.json"), "dataset.json")
    files, findings = _fold_files(source, result, wishes)
    read = [read_weights_of(source.file(name), progress) for name in files.values()]
    facts = {"trainer_name": result.trainer, **read[0][1]}
    facts["configuration"] = _agreed(result, [one for _, one in read], wishes)
    resolved = plans.resolved(facts["configuration"])
    configuration = described(Configuration, resolved, "plans.json")
    content, notes = _content(plans, configuration, dataset, facts)
    count = len(files)
    spec = checked_spec(
        {
            **content,
            "name": wishes.name or slug(f"{plans.dataset_name or source.title}-{facts['configuration']}"),
            "title": plans.dataset_name or source.title,
            "architecture": architecture_of(resolved),
            "licence": wishes.licence or str(dataset.licence or "not stated")[:200],
            "weights": tuple(f"weights-{n}.safetensors" for n in range(count)) if count > 1 else None,
            "training": {
                "source": "nnU-Net v2",
                "trainer": str(facts["trainer_name"])[:100],
                "configuration": facts["configuration"],
                "folds": ", ".join(files),
            },
        }
    )
    inputs = len(spec.channels) + (len(spec.labels) if spec.previous_stage else 0)
    weights = [fitting_weights(spec, inputs, tensors, COPIES) for tensors, _ in read]
    previous = _previous(source, result, configuration.previous_stage, wishes, progress)
    return Imported(spec, weights, [*findings, *notes], previous)


def _content(
    plans: Plans, configuration: Configuration, dataset: Dataset, facts: dict[str, Any]
) -> tuple[dict[str, Any], list[Finding]]:
    """What plans and dataset say of images, labels and tiles."""
    labels, regions = labels_of(dataset)
    grid, findings = grid_of(plans, configuration)
    findings += _about_trainer(str(facts["trainer_name"]))
    channels, intensity = _channels(plans, configuration, dataset, findings)
    tile = configuration.patch_size[::-1]
    content = {
        "description": str(dataset.description or dataset.title or f"nnU-Net model of {plans.dataset_name}")[:500],
        "channels": channels,
        "intensity": intensity,
        "labels": labels,
        "regions": regions,
        "spacing_mm": spacing_of(plans, configuration),
        "grid": grid,
        "tile_ijk": (*tile, 1)[:3],
        "tiling": TilingSpec(placement="even", padding="zero", mirror=_mirror(facts, len(tile))),
        "previous_stage": configuration.previous_stage is not None,
    }
    return content, findings


def _fold_files(source: SourceFiles, result: Result, wishes: Wishes) -> tuple[dict[str, str], list[Finding]]:
    """The checkpoint of each wanted fold: the final one, else the best."""
    found: dict[str, dict[str, str]] = {}
    for name in source.names:
        match = FOLD.match(name.removeprefix(result.folder)) if name.startswith(result.folder) else None
        if match:
            found.setdefault(match["fold"], {})[match["kind"]] = name
    numbered = sorted(fold for fold in found if fold != "all")
    wanted: Iterable[str] = map(str, wishes.folds) if wishes.folds else numbered or list(found)
    chosen = {fold: found.get(fold, {}) for fold in wanted}
    missing = [fold for fold, files in chosen.items() if not files]
    if missing or not chosen:
        raise UnknownModel(
            f"There is no checkpoint of fold {missing[0] if missing else 0} in '{result.folder or source.place.name}'",
            f"fold_k/checkpoint_final.pth; there are folds {', '.join(found) or 'none'}",
            "choose the folder that holds plans.json and the folds, or other folds",
        )
    findings = [
        Finding.warn(f"Fold {fold} has no final checkpoint: the best of its training is used")
        for fold, files in chosen.items()
        if "final" not in files
    ]
    return {fold: files.get("final") or files["best"] for fold, files in chosen.items()}, findings


def _agreed(result: Result, facts: list[dict[str, Any]], wishes: Wishes) -> str:
    """The configuration of the folder's name and of every checkpoint, which must be one."""
    said = {str(one["configuration"]) for one in facts if one.get("configuration")}
    names = said | ({result.configuration} if result.configuration else set())
    if not names and wishes.configuration:
        names = {wishes.configuration}
    if len(names) != 1:
        raise ModelMismatch(
            f"Folder and checkpoints name the configurations {', '.join(sorted(names)) or 'nothing'}",
            "one and the same",
            "keep nnU-Net's folder names, or name the configuration",
        )
    return names.pop()


def _channels(
    plans: Plans, configuration: Configuration, dataset: Dataset, findings: list[Finding]
) -> tuple[list[ChannelSpec], tuple[Any, ...]]:
    """Channels, with their own steps where they differ, and the steps that all of them share."""
    names = dataset.channels
    steps = intensity_of(plans, configuration, len(names))
    shared = len(set(steps)) == 1
    if not shared and any(configuration.use_mask_for_norm):
        findings.append(
            Finding.warn("Channels are normalised differently inside a mask: each by its own nonzero voxels")
        )
    channels = []
    for number, name in enumerate(names):
        is_ct = configuration.normalization_schemes[number] == CT
        trained = plans.intensities.get(str(number)) if is_ct else None
        channels.append(
            ChannelSpec(
                name=name,
                modality="CT" if is_ct else modality_of(name),
                intensity=() if shared else steps[number],
                training_range=(trained.low, trained.high) if trained else None,
            )
        )
    return channels, steps[0] if shared else ()


def _mirror(facts: dict[str, Any], dimensions: int) -> tuple[str, ...]:
    axes = facts.get("inference_allowed_mirroring_axes") or ()
    return tuple(sorted(AXES[dimensions - 1 - axis] for axis in axes if axis in range(dimensions)))


def _about_trainer(trainer: str) -> list[Finding]:
    if trainer.startswith(TRAINER) and not TRAINER_VARIANTS.sub("", trainer.removeprefix(TRAINER)):
        return []
    return [
        Finding.warn(
            f"The trainer '{trainer[:60]}' is not one of nnU-Net's that leave the network as it is",
            "compare the first results with those of nnU-Net",
        )
    ]


def _previous(
    source: SourceFiles, result: Result, stage: str | None, wishes: Wishes, progress: Progress
) -> Imported | None:
    if stage is None:
        return None
    dataset = PurePosixPath(result.folder).parts[:-1]
    matching = [
        r for r in _results(source) if r.configuration == stage and PurePosixPath(r.folder).parts[:-1] == dataset
    ]
    if not matching:
        raise UnknownModel(
            f"The cascade's first stage '{stage}' is not there",
            "both stages in one folder or zip",
            "give the folder of the data set, which holds both",
        )
    return _read_one(source, matching[0], Wishes(licence=wishes.licence, folds=wishes.folds), progress)
