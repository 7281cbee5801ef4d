"""A segmentation model helps a registration: real crops that the shipped model was not trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from MedSegRegLib.errors import InvalidSetting
from MedSegRegLib.files import read_image, read_labels
from MedSegRegLib.register.guidance import Guidance
from MedSegRegLib.register.presets import PRESETS
from MedSegRegLib.register.run import register
from MedSegRegLib.resample import resample_labels
from MedSegRegLib.workflows.guided import guide_by_model

DATA = Path(__file__).parents[3] / "shared/data/hippocampus"
HELD_OUT = ("hippocampus_011", "hippocampus_023")  # see the model's card


@pytest.fixture(scope="module")
def crops():
    """Two images and their true labels."""
    if not DATA.is_dir():
        pytest.skip("the shared data set hippocampus is not here")
    images = [read_image(DATA / f"images/{name}.nii.gz") for name in HELD_OUT]
    return images, [read_labels(DATA / f"labels/{name}.nii.gz") for name in HELD_OUT]


def overlap(result, truth) -> float:
    ours = truth[0].tensor > 0
    theirs = resample_labels(truth[1], truth[0].geometry, result.transform).tensor > 0
    return float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))


def test_a_model_brings_the_true_structures_closer(crops):
    images, truth = crops
    alone = register(*images, PRESETS["deformable"])
    guidance = guide_by_model(*images, "hippocampus-mr", device="cpu")
    helped = register(*images, PRESETS["deformable"], guidance=guidance)
    assert overlap(helped, truth) > overlap(alone, truth) + 0.01
    assert set(helped.quality.dice) == {1, 2}
    assert helped.quality.folding.voxels_any_corner == 0


def test_labels_and_a_model_together_are_refused(crops):
    images, truth = crops
    with pytest.raises(InvalidSetting, match="Both labels and a model"):
        guide_by_model(*images, "hippocampus-mr", Guidance(fixed_labels=truth[0], moving_labels=truth[1]))
