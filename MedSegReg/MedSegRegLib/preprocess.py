"""Preparing intensities by named steps. Both walks: checked image -> [preprocess] -> algorithm.

Each step is data (it is written into a model's ``model.json``) with one method, ``apply(image) -> image``. No step
changes the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
import SimpleITK as sitk
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from scipy import ndimage
from skimage import exposure

from .errors import InvalidSetting, NoContrast, TooFewVoxels
from .geometry import Geometry
from .image import Image


class Step(BaseModel):
    """Base of all steps: unknown settings are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def apply(self, image: Image) -> Image:
        """A new image; the input is not changed."""
        raise NotImplementedError


class GaussianDenoise(Step):
    """Gaussian smoothing, ``sigma_mm`` in millimetres along every axis."""

    step: Literal["gaussian_denoise"] = "gaussian_denoise"
    sigma_mm: float = Field(0.5, gt=0, le=20)

    def apply(self, image: Image) -> Image:
        i, j, k = image.geometry.spacing_mm
        sigma = (self.sigma_mm / k, self.sigma_mm / j, self.sigma_mm / i)
        return _each_channel(image, lambda channel: ndimage.gaussian_filter(channel, sigma, mode="nearest"))


class N4BiasCorrection(Step):
    """N4 bias field correction (Tustison et al., IEEE TMI 2010) by SimpleITK, estimated on a shrunken image.

    ``shrink`` is the reduction of each axis for the estimate; ``iterations`` are per level, coarse to fine.
    """

    step: Literal["n4_bias_correction"] = "n4_bias_correction"
    shrink: int = Field(4, ge=1, le=8)
    iterations: tuple[Annotated[int, Field(ge=1, le=500)], ...] = Field((50, 50, 50), min_length=1)

    def apply(self, image: Image) -> Image:
        if min(image.geometry.size_ijk) < 2:
            raise TooFewVoxels(
                f"The image has {image.geometry.size_ijk} voxels: one slice",
                "a volume for N4",
                "choose a volume, or leave this step out",
            )
        return _each_channel(image, lambda channel: self._correct(channel, image.geometry))

    def _correct(self, channel: np.ndarray, geometry: Geometry) -> np.ndarray:
        offset = float(channel.min()) - 1e-3 * (float(np.ptp(channel)) or 1.0)
        full = sitk.GetImageFromArray(channel - offset)  # N4 works on the logarithm: positive values
        full.SetSpacing(geometry.spacing_mm)
        mask = sitk.OtsuThreshold(full, 0, 1, 200)
        shrink = [max(1, min(self.shrink, n // 8)) for n in geometry.size_ijk]
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(list(self.iterations))
        n4.Execute(sitk.Shrink(full, shrink), sitk.Shrink(mask, shrink))
        log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(full))
        return sitk.GetArrayFromImage(full) / np.exp(log_field) + offset


class HistogramEqualization(Step):
    """Global histogram equalisation to 0..1."""

    step: Literal["histogram_equalization"] = "histogram_equalization"
    bins: int = Field(256, ge=2, le=65536)

    def apply(self, image: Image) -> Image:
        def equalize(channel: np.ndarray) -> np.ndarray:
            return exposure.equalize_hist(_unit_range(channel)[..., None], self.bins)[..., 0]

        return _each_channel(image, equalize)


class Clahe(Step):
    """Contrast-limited adaptive histogram equalisation (Pizer et al. 1987; Zuiderveld 1994) in 3D, to 0..1.

    ``window_mm`` is the side of the local window, ``clip_limit`` in 0..1 (higher gives more contrast).
    """

    step: Literal["clahe"] = "clahe"
    window_mm: float = Field(30.0, gt=0)
    clip_limit: float = Field(0.01, gt=0, le=1)

    def apply(self, image: Image) -> Image:
        sides = zip(image.geometry.shape_kji, image.geometry.spacing_mm[::-1], strict=True)
        window = tuple(int(np.clip(round(self.window_mm / spacing), 1, size)) for size, spacing in sides)

        def equalize(channel: np.ndarray) -> np.ndarray:
            return exposure.equalize_adapthist(_unit_range(channel)[..., None], (*window, 1), self.clip_limit)[..., 0]

        return _each_channel(image, equalize)


class ZScore(Step):
    """Zero mean and unit standard deviation, of all voxels or of those above zero (``nonzero_only``)."""

    step: Literal["z_score"] = "z_score"
    nonzero_only: bool = False

    def apply(self, image: Image) -> Image:
        tensor = torch.empty_like(image.tensor)
        for number, channel in enumerate(image.tensor):
            sample = channel[channel > 0] if self.nonzero_only else channel
            if not sample.numel() or sample.min() == sample.max():  # the deviation of equal numbers is not always 0
                raise _no_contrast(f"All {sample.numel()} voxels of channel {number} that count are equal")
            tensor[number] = (channel - sample.mean()) / sample.std()
        return image.with_tensor(tensor)


class PercentileRange(Step):
    """The percentiles ``low`` and ``high`` become 0 and 1; values beyond are clipped."""

    step: Literal["percentile_range"] = "percentile_range"
    low: float = Field(1.0, ge=0, lt=100)
    high: float = Field(99.0, gt=0, le=100)

    @model_validator(mode="after")
    def _in_order(self) -> PercentileRange:
        if not self.high > self.low:
            raise ValueError("the low percentile must be below the high one")
        return self

    def apply(self, image: Image) -> Image:
        def scale(channel: np.ndarray) -> np.ndarray:
            low, high = np.percentile(channel, (self.low, self.high))
            if not high > low:
                raise _no_contrast(f"The percentiles {self.low:g} and {self.high:g} are both {low:g}")
            return np.clip((channel - low) / (high - low), 0, 1)

        return _each_channel(image, scale)


class CtWindow(Step):
    """Hounsfield units ``low_hu``..``high_hu`` become 0..1; values beyond (air, metal) are clipped."""

    step: Literal["ct_window"] = "ct_window"
    low_hu: float = -160.0
    high_hu: float = 240.0

    @model_validator(mode="after")
    def _in_order(self) -> CtWindow:
        if not self.high_hu > self.low_hu:
            raise ValueError("the low end of the window must be below the high one")
        return self

    def apply(self, image: Image) -> Image:
        return image.with_tensor(((image.tensor - self.low_hu) / (self.high_hu - self.low_hu)).clamp(0, 1))


class ScaleRange(Step):
    """``low``..``high`` become ``new_low``..``new_high``; values beyond go beyond, unless ``clip``."""

    step: Literal["scale_range"] = "scale_range"
    low: float = 0.0
    high: float = 255.0
    new_low: float = 0.0
    new_high: float = 1.0
    clip: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> ScaleRange:
        if not self.high > self.low:
            raise ValueError("the low end of the range must be below the high one")
        return self

    def apply(self, image: Image) -> Image:
        unit = (image.tensor - self.low) / (self.high - self.low)
        unit = unit.clamp(0, 1) if self.clip else unit
        return image.with_tensor(unit * (self.new_high - self.new_low) + self.new_low)


class ClipStandardize(Step):
    """Clipped to ``low``..``high``, then less ``mean`` and divided by ``std``: constants of the training set (nnU-Net's
    normalisation of CT). None clips nothing."""

    step: Literal["clip_standardize"] = "clip_standardize"
    low: float | None = None
    high: float | None = None
    mean: float = 0.0
    std: float = Field(100.0, gt=0)

    def apply(self, image: Image) -> Image:
        clip = self.low is not None or self.high is not None
        clipped = image.tensor.clamp(self.low, self.high) if clip else image.tensor
        return image.with_tensor((clipped - self.mean) / self.std)


class NonzeroZScore(Step):
    """Zero mean and unit standard deviation of the voxels that are not zero; the others become zero.

    ``filled``: of the voxels where any channel is not zero, with the holes inside them (nnU-Net); else of each
    channel's own (MONAI).
    """

    step: Literal["nonzero_z_score"] = "nonzero_z_score"
    filled: bool = False

    def apply(self, image: Image) -> Image:
        inside = image.numpy() != 0
        if self.filled:
            inside = np.broadcast_to(ndimage.binary_fill_holes(inside.any(axis=0)), inside.shape)
        tensor = torch.zeros_like(image.tensor)
        masks = torch.from_numpy(inside.copy()).to(tensor.device)
        for number, (channel, mask) in enumerate(zip(image.tensor, masks, strict=True)):
            sample = channel[mask]
            if not sample.numel() or sample.min() == sample.max():
                raise _no_contrast(f"All {sample.numel()} voxels of channel {number} that are not zero are equal")
            tensor[number][mask] = (sample - sample.mean()) / sample.std(correction=0)
        return image.with_tensor(tensor)


IntensityStep = Annotated[
    GaussianDenoise
    | N4BiasCorrection
    | HistogramEqualization
    | Clahe
    | ZScore
    | NonzeroZScore
    | PercentileRange
    | CtWindow
    | ScaleRange
    | ClipStandardize,
    Field(discriminator="step"),
]
STEPS: dict[str, type[Step]] = {
    kind.model_fields["step"].default: kind
    for kind in (
        GaussianDenoise,
        N4BiasCorrection,
        HistogramEqualization,
        Clahe,
        ZScore,
        NonzeroZScore,
        PercentileRange,
        CtWindow,
        ScaleRange,
        ClipStandardize,
    )
}


def step_from_text(text: str) -> Step:
    """``"z_score"`` or ``"ct_window:low_hu=-160,high_hu=240"``, as typed on the command line.

    >>> step_from_text("gaussian_denoise:sigma_mm=1.5").sigma_mm
    1.5
    """
    name, _, settings = text.partition(":")
    values = dict(pair.partition("=")[::2] for pair in settings.split(",") if pair)
    try:
        return TypeAdapter(IntensityStep).validate_python({"step": name, **values})
    except ValidationError as error:
        raise InvalidSetting(
            f"The preprocessing step '{text}' is not valid ({error.errors()[0]['msg']})",
            f"one of {', '.join(STEPS)}, with settings as name:setting=value,setting=value",
            "correct the step",
        ) from None


def apply_steps(image: Image, steps: Sequence[Step]) -> Image:
    """Apply the steps in their order."""
    for step in steps:
        image = step.apply(image)
    return image


def _each_channel(image: Image, work: Callable[[np.ndarray], np.ndarray]) -> Image:
    channels = [np.asarray(work(channel), np.float32) for channel in image.numpy()]
    return image.with_tensor(torch.from_numpy(np.stack(channels)).to(image.tensor.device))


def _unit_range(channel: np.ndarray) -> np.ndarray:
    """To 0..1. scikit-image takes a last axis of 3 or 4 for colour: its callers add an axis of one."""
    low, high = float(channel.min()), float(channel.max())
    if not high > low:
        raise _no_contrast(f"All intensities are {low:g}")
    return (channel - low) / (high - low)


def _no_contrast(found: str) -> NoContrast:
    return NoContrast(found, "an image with contrast", "choose another image, channel or region")
