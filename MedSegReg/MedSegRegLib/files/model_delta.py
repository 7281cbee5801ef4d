"""Adapted models: differences from the weights of a parent, which is found by their hash. Beside ``model_store``.

A difference is a tensor of the name of the weight, or, as the product of two thin matrices, ``<name>.left`` and
``<name>.right``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from ..errors import ModelMismatch, UnknownModel
from .model_package import AGAIN, read_package, read_spec, read_weights
from .model_spec import ModelSpec, ParentSpec
from .model_store import SHIPPED, list_models, user_store

Weights = dict[str, torch.Tensor]
LEFT, RIGHT = ".left", ".right"
PARENT_FIRST = "install the parent with 'medsegreg model import', then use this model"


def find_parent(parent: ParentSpec, folder: Path) -> Path:
    """The package that holds the parent's weights: beside the adapted model's, in the store, or shipped.

    Args:
        parent: what the adapted model says of it.
        folder: of the adapted model.

    Raises:
        UnknownModel: there is no model of that name.
        ModelMismatch: there is, with other weights.
        DamagedModel: its description is.
    """
    named = [place / parent.name for place in (folder.parent, user_store(), SHIPPED)]
    named = [one for one in named if (one / "model.json").is_file()]
    for candidate in (*named, *list_models()[0]):
        if _file_of(parent, read_spec(candidate)):
            return candidate
    what = f"'{folder.name}' was adapted from '{parent.name}'"
    if named:
        raise ModelMismatch(
            f"{what} with the weights {parent.sha256[:12]}, and the '{parent.name}' here has others",
            "the very weights that it was adapted from (sha256)",
            PARENT_FIRST,
        )
    raise UnknownModel(f"{what}, which is not here", f"its weights, sha256 {parent.sha256[:12]}", PARENT_FIRST)


def read_parent_weights(parent: ParentSpec, folder: Path) -> Weights:
    """The verified weights that the differences in ``folder`` are added to.

    Raises:
        UnknownModel, ModelMismatch, DamagedModel: of :func:`find_parent` and of the parent's files.
    """
    spec, files = read_package(find_parent(parent, folder))
    return read_weights(files[_file_of(parent, spec)], spec.name)


def add_delta(parent: Weights, delta: Weights, name: str) -> Weights:
    """The weights of an adapted model.

    Raises:
        ModelMismatch: a difference of a tensor that the parent does not have, or of another shape.
    """
    weights = dict(parent)
    for key, tensor in delta.items():
        if key.endswith(RIGHT) and key.removesuffix(RIGHT) + LEFT in delta:
            continue
        changed, difference = key, tensor
        if key.endswith(LEFT):
            changed = key.removesuffix(LEFT)
            difference = _product(tensor, delta.get(changed + RIGHT), parent.get(changed))
        if changed not in parent or parent[changed].shape != difference.shape:
            raise ModelMismatch(
                f"'{name}' changes '{changed}', which its parent does not have in that shape",
                "differences of the parent's own tensors",
                AGAIN,
            )
        weights[changed] = parent[changed] + difference
    return weights


def join_deltas(first: Weights, second: Weights) -> Weights:
    """One difference for two that are added one after the other."""
    joined = first | second
    for key in first.keys() & second.keys():
        if key.endswith(LEFT):
            joined[key] = torch.cat((first[key], second[key]), dim=1)
        elif key.endswith(RIGHT):
            joined[key] = torch.cat((first[key], second[key]), dim=0)
        else:
            joined[key] = first[key] + second[key]
    return joined


def _product(left: torch.Tensor, right: torch.Tensor | None, like: torch.Tensor | None) -> torch.Tensor:
    """``left @ right`` in the shape of a weight; empty where they do not fit."""
    if right is None or like is None or left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        return left.new_empty(0)
    product = left @ right
    return product.reshape(like.shape) if product.numel() == like.numel() else left.new_empty(0)


def children_of(folder: Path) -> list[str]:
    """Names of the installed models that were adapted from this package, and need its weights."""
    spec = read_spec(folder)
    digests = {spec.sha256.get(name) for name in spec.weights}
    return [one.name for one in list_models()[0].values() if one.parent and one.parent.sha256 in digests]


def missing_parents(folders: Sequence[Path]) -> list[Path]:
    """Packages of parents that adapted models among ``folders`` need, that are not among them and not shipped."""
    specs = {folder: read_spec(folder) for folder in folders}
    parents = _unique(find_parent(spec.parent, folder) for folder, spec in specs.items() if spec.parent)
    names = {spec.name for spec in specs.values()}
    return [folder for folder in parents if folder.parent != SHIPPED and read_spec(folder).name not in names]


def _unique(folders: Iterable[Path]) -> list[Path]:
    return list(dict.fromkeys(folders))


def _file_of(parent: ParentSpec, spec: ModelSpec) -> str:
    """Name of the file with the parent's weights in a package, or nothing."""
    return next((name for name in spec.weights if spec.sha256.get(name) == parent.sha256), "")
