"""Align the series of one patient, then segment them as one: no grid and no position has to fit beforehand.

The walk: each series is registered to the reference, and the reference to it (:mod:`.align_check` compares the two) ->
all series on the reference's grid -> a model of several channels -> its labels on the native grid of any series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import ComponentCount, Diverged, InputError, InvalidSetting, RegistrationError
from ..files.model_spec import ModelSpec
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..register.presets import PRESETS
from ..register.run import register
from ..register.settings import RegistrationSettings
from ..report import Finding, Level
from ..resample import resample_image
from ..segment.model import Model
from ..segment.options import DEFAULTS, SegmentationOptions
from ..segment.predict import Segmentation
from ..transform import Affine, Transform
from .align_check import AlignmentCheck, check_alignment, half_way
from .locate import segment_anywhere
from .soft_labels import transfer_labels

SETTINGS = {name: PRESETS[name].model_copy(update={"linear_similarity": "nmi"}) for name in ("rigid", "affine")}
"""The normalised measure is pulled less by what only one of two series covers."""
SEGMENTED_SHARE = 0.9


@dataclass(frozen=True, eq=False)
class Series:
    """One series, aligned.

    Attributes:
        image: as it was given.
        transform: reference RAS to series RAS: place the series under it, read its voxels through it.
        inverse: series RAS to reference RAS.
        check: how far it can be trusted; None for the reference itself.
    """

    image: Image
    transform: Transform
    inverse: Transform
    check: AlignmentCheck | None


@dataclass(frozen=True, eq=False)
class Aligned:
    """Several series in the space of one of them.

    Attributes:
        series: by name, in the order given.
        reference: name of the one that did not move.
        settings: of the registrations.
        sentence: what was done, and how well.
        findings: warnings about each alignment that is not sure, and what was noticed about the images.
    """

    series: dict[str, Series]
    reference: str
    settings: RegistrationSettings
    sentence: str
    findings: tuple[Finding, ...]

    @property
    def checks(self) -> dict[str, AlignmentCheck]:
        """Of each series but the reference."""
        return {name: one.check for name, one in self.series.items() if one.check is not None}

    def resampled(self, name: str) -> Image:
        """A series on the reference's grid, its smallest value where it does not reach; the reference as it is."""
        series = self.series[name]
        if name == self.reference:
            return series.image
        grid = self.series[self.reference].image.geometry
        return resample_image(series.image, grid, series.transform, fill=float(series.image.tensor.min()))

    def native_labels(self, labels: Labels, name: str, progress: Progress = SILENT) -> Labels:
        """Labels of the reference's space on the grid of a series; 0 where the reference does not reach."""
        series = self.series[name]
        if name == self.reference and labels.geometry.same_grid(series.image.geometry):
            return labels
        return transfer_labels(labels, series.image.geometry, series.inverse, progress)


def align_series(
    images: Mapping[str, Image],
    reference: str,
    *,
    settings: RegistrationSettings = SETTINGS["rigid"],
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> Aligned:
    """Bring several series of one patient into the space of one of them.

    Args:
        images: two or more by name, each with one channel, on any grids; never changed. Any modalities.
        reference: name of the series that stays where it is.
        settings: of the registrations, linear ones; see :data:`SETTINGS`.
        device, progress: as in :func:`~MedSegRegLib.register.run.register`.

    Returns:
        Also where an alignment failed: its ``check`` says so, and so do the findings.

    Raises:
        InvalidSetting: no such reference, or a deformable registration.
        InputError, RegistrationError, Diverged: a series that cannot be worked on, or not be brought onto the
            reference; the message names it.
        Cancelled: asked for through ``progress``.
    """
    _require(images, reference, settings)
    fixed, aligned = images[reference], {}
    findings: list[Finding] = []
    moving = [name for name in images if name != reference]
    for name, image in images.items():
        if name == reference:
            aligned[name] = Series(image, Transform(), Transform(), None)
            continue
        number = moving.index(name)
        part = progress.part(number / len(moving), (number + 1) / len(moving))
        try:
            aligned[name], noticed = _align(fixed, image, settings, device, part)
        except (InputError, RegistrationError, Diverged) as error:
            raise type(error)(f"{name} with {reference}: {error.found}", error.expected, error.fix) from error
        findings += [*_doubts(name, aligned[name]), *noticed]
    progress.update(1.0, "aligned")
    told = [f"{name}: {one.check.describe()}." for name, one in aligned.items() if one.check is not None]
    sentence = " ".join([f"Aligned {', '.join(moving)} to {reference}.", *told])
    return Aligned(aligned, reference, settings, sentence, tuple(dict.fromkeys(findings)))


def segment_aligned(
    aligned: Aligned,
    model: Model,
    options: SegmentationOptions = DEFAULTS,
    *,
    native: tuple[str, ...] = (),
    progress: Progress = SILENT,
) -> tuple[Segmentation, dict[str, Labels]]:
    """Segment aligned series with a model of several channels.

    Args:
        model: its channels are named as the series are (upper and lower case are the same). A model of one channel
            whose name no series has segments the reference.
        options: as in :func:`~MedSegRegLib.segment.predict.segment`.
        native: names of the series on whose own grids the labels are wanted.

    Returns:
        The segmentation on the reference's grid, and its labels on the grids asked for.

    Raises:
        RegistrationError: a series that the model needs was not aligned.
        ComponentCount: there is no series for a channel of the model.
        InvalidSetting: an unknown name in ``native``.
        InputError, ModelError, NoOverlap, NonFiniteOutput, Cancelled: of the segmentation.
    """
    for name in native:
        _require_known(name, aligned.series)
    names = channels_for(model.spec, aligned.series, aligned.reference)
    checks = aligned.checks
    failed = [name for name in names.values() if name in checks and checks[name].verdict == "failed"]
    if failed:
        raise RegistrationError(
            f"{', '.join(failed)} could not be aligned to {aligned.reference}",
            "series of one patient that show the same part of the body",
            "look at them together in the slice views; leave them out, or place them roughly by hand first",
        )
    images = {channel: aligned.resampled(name) for channel, name in names.items()}
    part = progress.part(0.0, SEGMENTED_SHARE)
    image = images if len(model.spec.channels) > 1 else next(iter(images.values()))
    result = segment_anywhere(image, model, options, progress=part)
    labels = {}
    for number, name in enumerate(native):
        share = (1 - SEGMENTED_SHARE) / len(native)
        part = progress.part(SEGMENTED_SHARE + number * share, SEGMENTED_SHARE + (number + 1) * share)
        labels[name] = aligned.native_labels(result.labels, name, part)
    progress.update(1.0, "done")
    return result, labels


def channels_for(spec: ModelSpec, names: Iterable[str], reference: str) -> dict[str, str]:
    """Which series is which channel of a model: channel -> series. To be asked before anything is aligned.

    Raises:
        ComponentCount: as :func:`segment_aligned`.
    """
    known = {name.casefold(): name for name in names}
    wanted = [channel.name for channel in spec.channels]
    found = {name: known[name.casefold()] for name in wanted if name.casefold() in known}
    if not found and len(wanted) == 1:
        return {wanted[0]: reference}
    if len(found) < len(wanted):
        raise ComponentCount(
            f"The series are {', '.join(known.values())}",
            f"one for each of {', '.join(wanted)}, which '{spec.name}' was trained on",
            "name the series as the model names its channels",
        )
    return found


def _align(
    fixed: Image, image: Image, settings: RegistrationSettings, device: torch.device | str, progress: Progress
) -> tuple[Series, list[Finding]]:
    """Both ways, each from a start of its own; the result lies half-way."""
    forward = register(fixed, image, settings, device=device, progress=progress.part(0.0, 0.5))
    backward = register(image, fixed, settings, device=device, progress=progress.part(0.5, 1.0))
    check = check_alignment(forward, backward, fixed.geometry)
    matrix = forward.transform.linear_part
    if check.verdict != "failed":
        matrix = half_way(matrix, np.linalg.inv(backward.transform.linear_part))
    stage = Affine(matrix)
    infos = [one for one in (*forward.findings, *backward.findings) if one.level < Level.WARN]
    return Series(image, Transform((stage,)), Transform((stage.inverse(),)), check), infos


def _doubts(name: str, series: Series) -> list[Finding]:
    check = series.check
    if check is None or check.verdict == "aligned":
        return []
    return [
        Finding.warn(
            f"{name} {'was not aligned' if check.verdict == 'failed' else 'may not be aligned'}: "
            f"{'; '.join(check.reasons)}",
            "Look at both in the slice views; check that they show the same part of one patient.",
        )
    ]


def _require(images: Mapping[str, Image], reference: str, settings: RegistrationSettings) -> None:
    if len(images) < 2 or len({name.casefold() for name in images}) < len(images):
        raise InputError(
            f"The series are {', '.join(images) or 'none'}", "two or more, each with a name of its own", "give more"
        )
    _require_known(reference, images)
    if settings.deformable is not None or settings.linear == "none":
        raise InvalidSetting(
            "The settings are not those of a linear registration",
            "series of one patient, aligned by shift and turn (or affine)",
            "choose the preset 'rigid' or 'affine'; 'carry' and 'register' deform",
        )
    for name, image in images.items():
        if image.tensor.shape[0] != 1:
            raise InputError(f"{name} has {image.tensor.shape[0]} channels", "1", "choose one component or one frame")


def _require_known(name: str, series: Mapping[str, object]) -> None:
    if name not in series:
        raise InvalidSetting(f"There is no series '{name}'", f"one of {', '.join(series)}", "choose one of these")
