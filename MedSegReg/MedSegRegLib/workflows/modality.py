"""A registration whose preset the images choose: do bright and dark mean the same in both?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..register.linear import spacing_for
from ..register.presets import PRESETS
from ..register.pyramid import Pair, prepare_study
from ..register.run import Registration, register
from ..register.settings import RegistrationSettings

ROUGH = RegistrationSettings(deformable=None)
ROUGH_SHARE = 0.2
VOXELS = 100_000
WINDOW = 3
DARK = 0.1
ALIKE = 0.3
"""Of the local correlation: see ``benchmarks/workflows/README.md`` for what was measured on either side."""


def register_by_modality(
    fixed: Image,
    moving: Image,
    settings: RegistrationSettings | None = None,
    *,
    fixed_mask: Labels | None = None,
    moving_mask: Labels | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> Registration:
    """Register, with settings that are chosen after a rough, affine alignment when None are given.

    Args, raises:
        As :func:`~MedSegRegLib.register.run.register`. ``settings`` of the result are those of its dense stage; what
        was noticed at the rough alignment is among its findings.
    """
    look = partial(register, fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, device=device)
    if settings is not None:
        return look(settings, progress=progress)
    rough = look(ROUGH, progress=progress.part(0.0, ROUGH_SHARE))
    chosen = choose_settings(fixed, moving, rough.transform.linear_part).model_copy(update={"linear": "none"})
    found = look(chosen, initial=rough.transform, progress=progress.part(ROUGH_SHARE, 1.0))
    return replace(found, findings=tuple(dict.fromkeys((*rough.findings, *found.findings))))


def choose_settings(fixed: Image, moving: Image, matrix: np.ndarray) -> RegistrationSettings:
    """The deformable preset for one modality, or for two: by the local correlation of the aligned images.

    Args:
        fixed, moving: with one channel each.
        matrix: 4x4, fixed RAS to moving RAS, that aligns them roughly.
    """
    same = local_correlation(fixed, moving, matrix) >= ALIKE
    return PRESETS["deformable" if same else "deformable-different-modality"]


def local_correlation(fixed: Image, moving: Image, matrix: np.ndarray) -> float:
    """Covariance over the product of standard deviations, both summed over small windows: -1 to 1.

    Only windows without dark voxels count: the edge between body and air is alike in all modalities. Slow shading does
    not count either. Two images of one modality are well above 0.
    """
    studies = [prepare_study(image, None, torch.device("cpu")) for image in (fixed, moving)]
    pair = Pair.at(studies[0], studies[1], spacing_for(studies[0], VOXELS))
    voxels = pair.moving_voxels(matrix)
    a, b = pair.fixed.intensity[0], pair.moved(voxels)[0]
    bright = (torch.minimum(a, b) > DARK) & (pair.weight(voxels) > 0)
    inside = (_means(bright.to(a)) > 1 - 1e-3).to(a)
    covariance, variance_a, variance_b = (_means(x * y) - _means(x) * _means(y) for x, y in ((a, b), (a, a), (b, b)))
    spread = (variance_a.clamp_min(0) * variance_b.clamp_min(0)).sqrt()
    return float((covariance * inside).sum() / (spread * inside).sum().clamp_min(1e-12))


def _means(volume: torch.Tensor) -> torch.Tensor:
    """The mean of the window around each voxel, [K, J, I]; what lies beyond the border is 0."""
    return functional.avg_pool3d(volume[None, None], WINDOW, stride=1, padding=WINDOW // 2)[0, 0]
