"""Weights of HD-BET, version 1. Import walk: run -> [hd_bet] -> model package.

Isensee et al., "Automated brain extraction of multisequence MRI using artificial neural networks", Human Brain Mapping
2019. Its images are resampled to 1.5 mm by cubic splines and then have their mean taken away and are divided by their
deviation; its networks look at whole heads, here at tiles that hold one.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import torch

from ..errors import UnknownModel
from ..files.model_spec import ChannelSpec, CodeSpec, GridSpec, LabelSpec, TilingSpec
from ..preprocess import ZScore
from ..progress import Progress
from ..report import Finding
from .imported import Imported, Wishes, checked_spec, fitting_weights
from .isolation import read_weights_of
from .source_files import SourceFiles

FOLD = re.compile(r"^(?:.*/)?[0-4]\.model$")
SIGNS = ("init_conv.weight", "context5.conv2.weight", "loc3.conv2.weight", "seg_layer.weight")
SUPERFLUOUS = re.compile(r"\.running_(mean|var)$|^loc[23]_seg\.")  # statistics it does not use; deep supervision
TILE = (144, 160, 144)  # 216 x 240 x 216 mm: one tile holds a head
SPACING_MM = 1.5


def hd_bet_files(source: SourceFiles) -> list[str]:
    """The names of the weights of its folds."""
    return [name for name in source.names if FOLD.match(name)]


def read_hd_bet(source: SourceFiles, wishes: Wishes, progress: Progress) -> Imported:
    """The model package of one or several folds.

    Raises:
        UnknownModel: a fold that is not there.
    """
    names = hd_bet_files(source)
    if wishes.folds:
        by_fold = {int(PurePosixPath(name).stem): name for name in names}
        missing = set(wishes.folds) - by_fold.keys()
        if missing:
            raise UnknownModel(f"There is no fold {min(missing)}", f"some of {sorted(by_fold)}", "choose other folds")
        names = [by_fold[fold] for fold in wishes.folds]
    return from_tables([read_weights_of(source.file(name), progress)[0] for name in names], wishes)


def is_hd_bet(tensors: dict[str, torch.Tensor]) -> bool:
    """Whether the weights have the names of this network."""
    return all(name in tensors for name in SIGNS)


def from_tables(tables: list[dict[str, torch.Tensor]], wishes: Wishes) -> Imported:
    """The model package of these weights, one table a fold."""
    content: dict[str, Any] = {
        "name": wishes.name or "hd-bet",
        "title": "HD-BET brain extraction",
        "description": "Brain mask of T1, contrast-enhanced T1, T2 or FLAIR images (Isensee et al., 2019).",
        "architecture": {"name": "context_unet", "base_features": tables[0]["init_conv.weight"].shape[0]},
        "channels": (ChannelSpec(name="T1, T2 or FLAIR", modality="MR"),),
        "labels": (
            LabelSpec(value=1, name="brain", color=(0.98, 0.7, 0.6), code=CodeSpec(value="12738006", meaning="Brain")),
        ),
        "spacing_mm": (SPACING_MM,) * 3,
        "grid": GridSpec(axes="ras", fit="field_of_view", interpolation="cubic"),
        "intensity": (ZScore(),),
        "tile_ijk": TILE,
        "tiling": TilingSpec(placement="even", padding="zero", mirror=("i", "j", "k")),
        "licence": wishes.licence or "not stated",
        "weights": tuple(f"weights-{n}.safetensors" for n in range(len(tables))) if len(tables) > 1 else None,
        "training": {"source": "HD-BET 1", "folds": len(tables)},
    }
    spec = checked_spec(content)
    weights = [fitting_weights(spec, 1, table, SUPERFLUOUS) for table in tables]
    note = Finding.info(
        "HD-BET looks at the whole head at once and averages probabilities; here scores of tiles are averaged"
    )
    return Imported(spec, weights, [note])
