"""A model on disk: a folder with ``weights.safetensors``, ``model.json`` and a card ``README.md``.

Opening a model never runs anything: weights are plain tensors, ``model.json`` is data checked against the schema below,
and the architecture comes from a fixed registry.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from ..errors import DamagedModel, ModelMismatch, UnknownModel
from ..image import Code, Structure
from ..preprocess import IntensityStep
from .atomic import atomic_path

MAX_HEADER_BYTES = 1 << 20  # about 10,000 tensors: parsing the header stays below a second
MAX_JSON_BYTES = 1 << 20
AGAIN = "install the model again"

SpacingMm = Annotated[float, Field(ge=0.01, le=50)]
Side = Annotated[int, Field(ge=1, le=1024)]
Unit = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class UNetArchitecture(Strict):
    """Settings of :class:`MedSegRegLib.segment.network.PlainConvUNet`."""

    name: Literal["plain_conv_unet"] = "plain_conv_unet"
    features: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((16, 32, 64, 128), min_length=2, max_length=8)
    blocks_per_stage: int = Field(2, ge=1, le=8)

    @property
    def stride(self) -> int:
        """Each axis of the input must be a multiple of this many voxels."""
        return 2 ** (len(self.features) - 1)


class CodeSpec(Strict):
    """A coded concept."""

    scheme: str = "SCT"
    value: str
    meaning: str

    def to_code(self) -> Code:
        """As the library's own type."""
        return Code(self.scheme, self.value, self.meaning)


class LabelSpec(Strict):
    """One class of the network's output."""

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
    """One input channel."""

    name: str
    modality: Literal["MR", "CT", "US", "PT", "XR", "any"] = "any"


class RegionSpec(Strict):
    """Where to look, for a model that was trained on crops: boxes in the space of a shipped template.

    Attributes:
        template: name of the sample that carries the space.
        boxes_ras_mm: each (low r, a, s), (high r, a, s).
        prefixes: a name for each box, put before the structures' names; with laterality codes in ``modifiers``.
    """

    template: str
    boxes_ras_mm: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...]
    prefixes: tuple[str, ...]
    modifiers: tuple[CodeSpec, ...]


class ModelSpec(Strict):
    """The content of ``model.json``."""

    format: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")
    title: str
    version: str
    description: str
    architecture: UNetArchitecture
    channels: tuple[ChannelSpec, ...] = Field(min_length=1, max_length=64)
    labels: tuple[LabelSpec, ...] = Field(min_length=1, max_length=1024)
    spacing_mm: tuple[SpacingMm, SpacingMm, SpacingMm]
    intensity: tuple[IntensityStep, ...] = ()
    tile_ijk: tuple[Side, Side, Side]
    tile_overlap: float = Field(0.5, ge=0, lt=1)
    keep_largest_component: bool = False
    region: RegionSpec | None = None
    licence: str
    training: dict[str, str | int | float]
    scores: dict[str, dict[str, float]] = {}
    sha256: dict[Literal["weights.safetensors"], Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = {}

    @field_validator("labels")
    @classmethod
    def _values_in_order(cls, labels: tuple[LabelSpec, ...]) -> tuple[LabelSpec, ...]:
        if [label.value for label in labels] != list(range(1, len(labels) + 1)):
            raise ValueError("label values must be 1, 2, 3, ...: the number of the network's output channel")
        return labels

    @model_validator(mode="after")
    def _tile_fits(self) -> ModelSpec:
        stride = self.architecture.stride
        if any(n % stride for n in self.tile_ijk) or max(self.tile_ijk) == stride:
            raise ValueError(f"tile_ijk must be multiples of {stride}, and not {stride} along all axes")
        return self

    @property
    def classes(self) -> int:
        """Output channels of the network: background and the labels."""
        return len(self.labels) + 1

    @property
    def structures(self) -> tuple[Structure, ...]:
        """The labels as the library's own type."""
        return tuple(label.to_structure() for label in self.labels)


def read_model(folder: Path) -> tuple[ModelSpec, dict[str, torch.Tensor]]:
    """Read and verify a model package.

    Returns:
        The checked description and the weights (float32, on the CPU).

    Raises:
        UnknownModel: no such folder or no ``model.json`` in it.
        DamagedModel: schema, sha256, truncation, header limits, NaN.
    """
    spec = read_spec(folder)
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise DamagedModel(f"{path.name} is missing in '{folder.name}'", "the weights beside model.json", AGAIN)
    content = path.read_bytes()
    digest, wanted = hashlib.sha256(content).hexdigest(), spec.sha256.get("weights.safetensors", "none")
    if digest != wanted:
        raise DamagedModel(
            f"The weights of '{spec.name}' have sha256 {digest[:12]}", f"{wanted[:12]}, of model.json", AGAIN
        )
    return spec, read_weights(content, spec.name)


def read_spec(folder: Path) -> ModelSpec:
    """Only the description of a model package, checked against the schema."""
    path = folder / "model.json"
    if not path.is_file():
        raise UnknownModel(
            f"There is no model in '{folder}'",
            "a folder with model.json and weights.safetensors",
            "list the models with 'medsegreg model list'",
        )
    what = f"model.json of '{folder.name}'"
    if path.stat().st_size > MAX_JSON_BYTES:
        raise DamagedModel(f"{what} has {path.stat().st_size} bytes", f"at most {MAX_JSON_BYTES}", AGAIN)
    try:
        return ModelSpec.model_validate(json.loads(path.read_bytes(), object_pairs_hook=_no_duplicates))
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedModel(
            f"{what} is not valid: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            "a description in the format of MedSegReg models",
            f"{AGAIN}, or correct the file",
        ) from None
    except (ValueError, RecursionError) as error:
        raise DamagedModel(f"{what} cannot be read: {error}", "JSON text", AGAIN) from None


def read_weights(content: bytes, name: str) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file given as bytes, as float32; the header's length is checked before it is parsed."""
    header = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else -1
    if not 0 < header <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise DamagedModel(
            f"The weights of '{name}' claim a header of {header} bytes in a file of {len(content)}",
            f"a whole file with a header of at most {MAX_HEADER_BYTES} bytes",
            AGAIN,
        )
    try:
        stored = load_safetensors(content)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch has not
        raise DamagedModel(
            f"The weights of '{name}' are damaged ({error})", "a whole safetensors file", AGAIN
        ) from None
    whole = [key for key, tensor in stored.items() if not tensor.is_floating_point()]
    weights = {key: tensor.float() for key, tensor in stored.items() if key not in whole}
    bad = whole + [key for key, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise DamagedModel(f"The weights '{bad[0]}' of '{name}' are not finite real numbers", "finite weights", AGAIN)
    return weights


def write_model(folder: Path, spec: ModelSpec, weights: dict[str, torch.Tensor], card: str) -> None:
    """Write a model package: weights as float16, their sha256 into ``model.json``, and the card."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {key: tensor.detach().cpu().half().contiguous() for key, tensor in sorted(weights.items())}
    content = save_safetensors(half)
    spec = spec.model_copy(update={"sha256": {"weights.safetensors": hashlib.sha256(content).hexdigest()}})
    for name, data in (
        ("weights.safetensors", content),
        ("model.json", (json.dumps(spec.model_dump(mode="json", exclude_none=True), indent=2) + "\n").encode()),
        ("README.md", card.encode()),
    ):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(data)


def require_weights_fit(network: torch.nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    """Raise ModelMismatch, listing the first differences, unless names and shapes are the network's."""
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    given = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    if wanted != given:
        differing = sorted(key for key in wanted.keys() | given.keys() if wanted.get(key) != given.get(key))
        listed = "; ".join(
            f"{key}: {given.get(key, 'missing')} for {wanted.get(key, 'nothing')}" for key in differing[:5]
        )
        raise ModelMismatch(
            f"{len(differing)} tensors of '{name}' do not fit its architecture ({listed})",
            "the names and shapes of the architecture in model.json",
            AGAIN,
        )


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)
