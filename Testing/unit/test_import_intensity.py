"""The intensity steps that imported models bring, against the tools they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import NormalizeIntensity, ScaleIntensityRange
from scipy import ndimage

from MedSegRegLib.errors import NoContrast
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.model_import.nnunet import _about_trainer
from MedSegRegLib.preprocess import ClipStandardize, NonzeroZScore, ScaleRange


@pytest.fixture
def head() -> Image:
    """Two channels, zero outside a ball, with a hole inside it."""
    distance = np.linalg.norm(np.indices((12, 14, 16)) - np.array([6, 7, 8])[:, None, None, None], axis=0)
    values = np.random.default_rng(0).normal(50, 9, (2, 12, 14, 16)).astype(np.float32)
    values[:, (distance > 5) | (distance < 1.5)] = 0
    values[1, distance > 4] = 0
    return Image(torch.from_numpy(values), Geometry((16, 14, 12), np.eye(4)))


def test_nonzero_z_score_is_monais(head: Image) -> None:
    expected = NormalizeIntensity(nonzero=True, channel_wise=True)(head.tensor)
    torch.testing.assert_close(NonzeroZScore().apply(head).tensor, torch.as_tensor(expected), atol=1e-5, rtol=0)


def test_filled_nonzero_z_score_is_nnunets(head: Image) -> None:
    values = head.numpy().copy()
    mask = ndimage.binary_fill_holes((values != 0).any(axis=0))
    for channel in values:
        channel[mask] = (channel[mask] - channel[mask].mean()) / channel[mask].std()
    np.testing.assert_allclose(NonzeroZScore(filled=True).apply(head).numpy(), values, atol=1e-5)
    assert values[0, 6, 7, 8] != 0  # the hole counts


def test_nonzero_z_score_refuses_an_empty_channel(head: Image) -> None:
    with pytest.raises(NoContrast):
        NonzeroZScore().apply(head.with_tensor(torch.zeros_like(head.tensor)))


@pytest.mark.parametrize("clip", [True, False])
def test_scale_range_is_monais(head: Image, clip: bool) -> None:
    expected = ScaleIntensityRange(20, 60, -1, 1, clip=clip)(head.tensor)
    ours = ScaleRange(low=20, high=60, new_low=-1, new_high=1, clip=clip).apply(head).tensor
    torch.testing.assert_close(ours, torch.as_tensor(expected), atol=1e-5, rtol=0)


def test_clip_standardize_is_nnunets_normalisation_of_ct(head: Image) -> None:
    expected = (np.clip(head.numpy(), 30, 60) - 45) / 7
    np.testing.assert_allclose(
        ClipStandardize(low=30, high=60, mean=45, std=7).apply(head).numpy(), expected, atol=1e-5
    )
    plain = ClipStandardize(mean=45, std=7).apply(head).numpy()
    np.testing.assert_allclose(plain, (head.numpy() - 45) / 7, atol=1e-5)


@pytest.mark.parametrize(
    ("trainer", "known"),
    [
        ("nnUNetTrainer", True),
        ("nnUNetTrainerNoMirroring", True),
        ("nnUNetTrainer_4000epochs_NoMirroring", True),
        ("nnUNetTrainerDiceCELoss_noSmooth", False),
        ("nnUNetTrainerUMambaBot", False),
        ("nnUNetTrainerBN", False),
        ("MyTrainer", False),
        ("nnUNetTrainer" + "Loss" * 5000 + "x", False),
    ],
)
def test_tells_of_trainers_that_may_change_the_network(trainer: str, known: bool) -> None:
    assert bool(_about_trainer(trainer)) is not known
