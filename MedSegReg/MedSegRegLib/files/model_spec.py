"""What ``model.json`` says: the description of a model, as data checked against this schema."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from ..geometry import Geometry
from ..image import Code, Structure
from ..preprocess import IntensityStep
from .architectures import Architecture, AtlasUNetArchitecture, Strict

SpacingMm = Annotated[float, Field(ge=0.01, le=50)]
Side = Annotated[int, Field(ge=1, le=1024)]
Mm = Annotated[float, Field(ge=-1e4, le=1e4)]
Intensity = Annotated[float, Field(ge=-1e9, le=1e9)]
Unit = Annotated[float, Field(ge=0, le=1)]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
WHOLE_IMAGE_FACTOR = 1.6
WEIGHTS_FILE = r"weights(-[0-9]{1,2})?\.safetensors|delta\.safetensors|network\.onnx"
OTHER_FILE = r"int8(-[0-9]{1,2})?\.(xml|bin)|README\.md|previous/model\.json"
WeightsFile = Annotated[str, Field(pattern=rf"^({WEIGHTS_FILE})$")]
PackageFile = Annotated[str, Field(pattern=rf"^({WEIGHTS_FILE}|{OTHER_FILE})$")]


class CodeSpec(Strict):
    """A coded concept."""

    scheme: str = "SCT"
    value: str
    meaning: str

    def to_code(self) -> Code:
        """As the library's own type."""
        return Code(self.scheme, self.value, self.meaning)


class LabelSpec(Strict):
    """One label of the result."""

    value: int = Field(ge=1, le=65535)
    name: str = Field(min_length=1)
    color: tuple[Unit, Unit, Unit] = (0.5, 0.7, 0.9)
    code: CodeSpec | None = None
    modifier: CodeSpec | None = None

    def to_structure(self) -> Structure:
        """As the library's own type."""
        code, modifier = (c.to_code() if c else None for c in (self.code, self.modifier))
        return Structure(self.value, self.name, self.color, code, modifier=modifier)


class ChannelSpec(Strict):
    """One input channel.

    Attributes:
        name: of the sequence or contrast; channels are matched by it.
        modality: what the image must be.
        intensity: steps for this channel alone, in the place of the model's common ones.
        training_range: lowest and highest intensity that was trained on (0.5 % and 99.5 %); only for modalities whose
            numbers have a meaning, such as CT.
    """

    name: str
    modality: Literal["MR", "CT", "US", "PT", "XR", "any"] = "any"
    intensity: tuple[IntensityStep, ...] = ()
    training_range: tuple[Intensity, Intensity] | None = None


class RegionSpec(Strict):
    """Where to look, for a model that was trained on crops: boxes in the space of a shipped template.

    Attributes:
        template: name of the sample that carries the space.
        boxes_ras_mm: each (low r, a, s), (high r, a, s).
        prefixes: a name for each box, put before the structures' names; with laterality codes in ``modifiers``.
    """

    template: str
    boxes_ras_mm: tuple[tuple[tuple[Mm, Mm, Mm], tuple[Mm, Mm, Mm]], ...]
    prefixes: tuple[str, ...]
    modifiers: tuple[CodeSpec, ...]

    def is_part_of(self, geometry: Geometry) -> bool:
        """True when a volume is no crop: much larger than one box, along at least two axes."""
        largest = np.ptp(np.array(self.boxes_ras_mm), axis=1).max(axis=0)
        return int((np.ptp(geometry.corners_ras(), axis=0) > WHOLE_IMAGE_FACTOR * largest).sum()) >= 2


class StandardSpec(Strict):
    """The model works on one grid in the space of a shipped template; images are brought there (affine).

    Attributes:
        template: name of the sample that carries the space.
        centre_ras_mm: of the grid, which has the model's spacing and the size of one tile.
    """

    template: str
    centre_ras_mm: tuple[Mm, Mm, Mm]


class FindSpec(Strict):
    """A coarse model that finds where this one has to look.

    Attributes:
        model: its name in the store.
        structures: names of its labels, of which this model's structures are parts or neighbours.
        margin_mm: added around their box.
    """

    model: ModelName
    structures: tuple[str, ...] = Field(min_length=1)
    margin_mm: float = Field(20.0, ge=0, le=200)


class GridSpec(Strict):
    """How an image is brought onto the model's grid. The defaults are MedSegReg's own; the others are what models of
    other tools were trained with.

    Attributes:
        axes: ``ras`` turns the grid's i, j, k to right, anterior, superior, ``sar`` the other way round, and so on;
            else the image's own axes that become the grid's i, j, k.
        fit: ``spacing`` keeps the spacing exact; ``field_of_view`` stretches it so that a whole number of voxels covers
            the image exactly.
        interpolation: of intensities.
        normalise_first: intensities are normalised on the image's own grid, before it is resampled.
        crop_to_nonzero: only the box of voxels above or below zero (in any channel) is looked at.
        thick_slices: from this ratio of largest to smallest spacing on, the thick axis is read by the nearest slice.
    """

    axes: Literal["ras", "rsa", "ars", "asr", "sra", "sar", "ijk", "ikj", "jik", "jki", "kij", "kji"] = "ras"
    fit: Literal["spacing", "field_of_view"] = "spacing"
    interpolation: Literal["linear", "cubic"] = "linear"
    normalise_first: bool = False
    crop_to_nonzero: bool = False
    thick_slices: float | None = Field(None, ge=1)


class TilingSpec(Strict):
    """How tiles lie, beyond their size and overlap.

    Attributes:
        placement: ``stride`` puts them a fixed step apart and the last one at the end (MONAI); ``even`` spreads them
            evenly (nnU-Net).
        padding: what an image smaller than a tile is filled with.
        mirror: axes along which the network may be averaged over mirrored tiles.
    """

    placement: Literal["stride", "even"] = "stride"
    padding: Literal["edge", "zero"] = "edge"
    mirror: tuple[Literal["i", "j", "k"], ...] = ()


class ParentSpec(Strict):
    """The model that an adapted one was made from, which must be there to load it.

    Attributes:
        name: of the parent.
        sha256: of the parent's weights file to which the differences in ``delta.safetensors`` are added.
    """

    name: ModelName
    sha256: Sha256


class ModelSpec(Strict):
    """The content of ``model.json``.

    Attributes:
        labels: values 1, 2, 3, ...
        regions: empty for a network whose output channels are background and the labels, of which the highest score
            wins (softmax). Else the network has one channel a region (sigmoid), and this is the label that each region
            paints where its score is above zero, later ones over earlier ones.
        merged: empty: channel n of the network is label n. Else the label of each channel, 0 for the background's,
            where several channels are parts of one label.
        spacing_mm: of the model's grid along i, j, k; None keeps the image's own.
        tile_ijk: k is 1 for a network over single slices.
        find: a coarse model that finds where to look; ``region`` does so by a template.
        standard: the space of a template, in which the model works on one grid.
        previous_stage: the package in the folder ``previous`` runs first, and its labels, one channel each, follow the
            image's channels (a cascade).
        weights: more than one file is an ensemble: the mean of their scores decides.
        parent: the weights are ``delta.safetensors``, differences from those of this model.
        sha256: of every file of the package.
    """

    format: Literal[1] = 1
    name: ModelName
    title: str
    version: str
    description: str
    architecture: Architecture
    channels: tuple[ChannelSpec, ...] = Field(min_length=1, max_length=64)
    labels: tuple[LabelSpec, ...] = Field(min_length=1, max_length=1024)
    regions: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = ()
    merged: tuple[Annotated[int, Field(ge=0, le=1024)], ...] = ()
    spacing_mm: tuple[SpacingMm | None, SpacingMm | None, SpacingMm | None]
    grid: GridSpec = GridSpec()
    intensity: tuple[IntensityStep, ...] = ()
    tile_ijk: tuple[Side, Side, Side]
    tile_overlap: float = Field(0.5, ge=0, lt=1)
    tiling: TilingSpec = TilingSpec()
    keep_largest_component: bool = False
    region: RegionSpec | None = None
    find: FindSpec | None = None
    standard: StandardSpec | None = None
    previous_stage: bool = False
    licence: str
    training: dict[str, str | int | float]
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    weights: tuple[WeightsFile, ...] = Field(("weights.safetensors",), min_length=1, max_length=20)
    parent: ParentSpec | None = None
    sha256: dict[PackageFile, Sha256] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _values_in_order(cls, labels: tuple[LabelSpec, ...]) -> tuple[LabelSpec, ...]:
        if [label.value for label in labels] != list(range(1, len(labels) + 1)):
            raise ValueError("label values must be 1, 2, 3, ...: the number of the network's output channel")
        return labels

    @model_validator(mode="after")
    def _tile_fits(self) -> ModelSpec:
        multiple = self.architecture.multiple_kji[::-1]
        if any(n % m for n, m in zip(self.tile_ijk, multiple, strict=True)) or (
            max(multiple) > 1 and self.tile_ijk == multiple
        ):
            raise ValueError(f"tile_ijk must be multiples of {multiple}, and not {multiple} itself")
        if self.architecture.dimensions == 2 and self.tile_ijk[2] != 1:
            raise ValueError("tile_ijk must end with 1 for a network over single slices")
        return self

    @model_validator(mode="after")
    def _standard_is_whole(self) -> ModelSpec:
        if self.architecture.name == "atlas_unet":
            self._require_atlas_fits(self.architecture)
        if self.standard is None:
            return self
        if None in self.spacing_mm or self.grid != GridSpec():
            raise ValueError("'standard' needs a spacing along every axis, and the default 'grid'")
        if self.region or self.find or self.previous_stage:
            raise ValueError("'standard' cannot be combined with 'region', 'find' or 'previous_stage'")
        return self

    def _require_atlas_fits(self, architecture: AtlasUNetArchitecture) -> None:
        if self.standard is None or len(self.channels) > 1:
            raise ValueError("an atlas_unet needs 'standard', and a single channel")
        if len(architecture.tissues) != self.classes:
            raise ValueError(f"an atlas_unet needs {self.classes} 'tissues': of the background and of each label")
        if any(n % side for n, side in zip(self.tile_ijk[::-1], architecture.atlas_kji, strict=True)):
            raise ValueError("tile_ijk must be multiples of the atlas' sides")

    @model_validator(mode="after")
    def _parts_agree(self) -> ModelSpec:
        if set(self.regions) - {label.value for label in self.labels}:
            raise ValueError("regions must paint values that are among the labels")
        if len(set(self.regions)) != len(self.regions):
            raise ValueError("a label is painted by two regions")
        if self.merged and (self.regions or set(self.merged) != {0, *(label.value for label in self.labels)}):
            raise ValueError("merged must name the background and every label, and cannot be combined with regions")
        if len(set(self.weights)) != len(self.weights):
            raise ValueError("a weights file is named twice")
        if (self.weights == ("network.onnx",)) != (self.architecture.name == "onnx"):
            raise ValueError("weights are network.onnx for the architecture 'onnx', and for no other")
        if (self.weights == ("delta.safetensors",)) != (self.parent is not None) or (
            len(self.weights) > 1 and "delta.safetensors" in self.weights
        ):
            raise ValueError("weights are delta.safetensors, alone, for a model with a parent, and for no other")
        return self

    @property
    def classes(self) -> int:
        """Output channels of the network."""
        return len(self.regions) or len(self.merged) or len(self.labels) + 1

    @property
    def structures(self) -> tuple[Structure, ...]:
        """The labels as the library's own type."""
        return tuple(label.to_structure() for label in self.labels)
