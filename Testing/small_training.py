"""What the tests of models and of training share: a tiny model, its package, and a tiny set of cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from MedSegRegLib.files import write_image, write_labels
from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.files.model_package import write_model
from MedSegRegLib.files.model_spec import ChannelSpec, LabelSpec, ModelSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.preprocess import ZScore
from MedSegRegLib.segment.network import build_network
from MedSegRegLib.train.augment import Augmentation
from MedSegRegLib.train.dataset import Example
from MedSegRegLib.train.settings import TrainingSettings


def small_spec(label_count: int = 1, **changes: Any) -> ModelSpec:
    """A valid description of a network of a few thousand weights."""
    content: dict[str, Any] = {
        "name": "balls",
        "title": "Balls",
        "version": "1.0.0",
        "description": "Bright balls in noise.",
        "architecture": UNetArchitecture(features=(4, 8), blocks_per_stage=1),
        "channels": (ChannelSpec(name="T1"),),
        "labels": tuple(LabelSpec(value=n, name=f"ball {n}") for n in range(1, label_count + 1)),
        "spacing_mm": (1.0, 1.0, 1.0),
        "intensity": (ZScore(),),
        "tile_ijk": (16, 16, 16),
        "licence": "CC0-1.0",
        "training": {"data": "synthetic"},
    }
    return ModelSpec.model_validate({**content, **changes})


def random_network(spec: ModelSpec, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(spec.architecture, len(spec.channels), spec.classes).eval()


def write_random_model(folder: Path, spec: ModelSpec, seed: int = 0) -> Path:
    write_model(folder, spec, [random_network(spec, seed).state_dict()], "# A card\n")
    return folder


def small_settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings.model_validate(
        {
            "model": small_spec(),
            "epochs": 3,
            "learning_rate": 5e-3,
            "validation": 0.2,
            "test": 0.2,
            "seed": 3,
            "augmentation": Augmentation(mirror_axes=(0,)),
            **changes,
        }
    )


def ball(seed: int, side: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball somewhere in noise [K, J, I] float32, and its mask uint8."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(side * 0.35, side * 0.65, 3)
    distance = np.linalg.norm(np.moveaxis(np.indices((side,) * 3), 0, -1) - centre, axis=-1)
    mask = distance < side / 4
    return (100 * mask + rng.normal(100, 10, mask.shape)).astype(np.float32), mask.astype(np.uint8)


def ball_example(seed: int, side: int = 24) -> Example:
    """A ball, normalised, as the training loop takes it."""
    image, mask = ball(seed, side)
    normalised = (image - image.mean()) / image.std()
    return Example(f"ball{seed}", torch.from_numpy(normalised)[None], torch.from_numpy(mask).long())


def write_case(
    folder: Path, name: str, image: np.ndarray, labels: np.ndarray, geometry: Geometry | None = None
) -> None:
    """One pair in ``folder/images`` and ``folder/labels``; ``geometry`` is of the image, if it is another one."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    geometry = geometry or Geometry.from_spacing(image.shape[::-1])
    write_image(Image.from_array(image, geometry), folder / "images" / f"{name}.nii")
    label_grid = Geometry.from_spacing(labels.shape[::-1])
    write_labels(Labels.from_array(labels, label_grid), folder / "labels" / f"{name}.nii")


def write_balls(folder: Path, names: list[str]) -> Path:
    for seed, name in enumerate(names):
        write_case(folder, name, *ball(seed))
    return folder
