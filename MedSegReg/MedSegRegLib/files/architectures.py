"""The registry of networks that a model package may name: only their settings, checked.

The networks themselves are in ``segment``; a name that is not here is refused, so a package can never name code.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Width = Annotated[int, Field(ge=1, le=2048)]
Blocks = Annotated[int, Field(ge=1, le=16)]
Kernel = Annotated[int, Field(ge=1, le=9)]
AtlasSide = Annotated[int, Field(ge=2, le=256, multiple_of=2)]
Stride = Annotated[int, Field(ge=1, le=8)]


class Strict(BaseModel):
    """Unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class UNetArchitecture(Strict):
    """Settings of the U-Nets of the nnU-Net family (Isensee et al., Nature Methods 2021).

    Attributes:
        name: ``plain_conv_unet``, or ``residual_encoder_unet`` with residual blocks in the encoder.
        dimensions: 3, or 2 for a network over single slices.
        features: channels of each stage, finest first.
        blocks_per_stage: convolution or residual blocks of each encoder stage; one number serves all stages.
        decoder_blocks: convolution blocks of each decoder stage, finest last as the network runs; empty: as the
            encoder's stage of that resolution.
        kernels_kji: kernel size of each stage; empty: 3 along every axis.
        strides_kji: stride at the entry of each stage; empty: 1, then 2 along every axis.
    """

    name: Literal["plain_conv_unet", "residual_encoder_unet"] = "plain_conv_unet"
    dimensions: Literal[2, 3] = 3
    features: tuple[Width, ...] = Field((16, 32, 64, 128), min_length=2, max_length=10)
    blocks_per_stage: Blocks | tuple[Blocks, ...] = 2
    decoder_blocks: tuple[Blocks, ...] = ()
    kernels_kji: tuple[tuple[Kernel, ...], ...] = ()
    strides_kji: tuple[tuple[Stride, ...], ...] = ()

    @model_validator(mode="after")
    def _lengths_agree(self) -> UNetArchitecture:
        stages = len(self.features)
        per_stage = {"kernels_kji": self.kernels_kji, "strides_kji": self.strides_kji}
        for name, rows in per_stage.items():
            if rows and (len(rows) != stages or any(len(row) != self.dimensions for row in rows)):
                raise ValueError(f"{name} must have {stages} entries of {self.dimensions} numbers")
        if any(size % 2 == 0 for size in itertools.chain(*self.kernels_kji)):
            raise ValueError("kernels must have odd sizes")
        if isinstance(self.blocks_per_stage, tuple) and len(self.blocks_per_stage) != stages:
            raise ValueError(f"blocks_per_stage must be one number or {stages}")
        if self.decoder_blocks and len(self.decoder_blocks) != stages - 1:
            raise ValueError(f"decoder_blocks must be {stages - 1} numbers")
        return self

    @property
    def encoder_blocks(self) -> tuple[int, ...]:
        """Blocks of each encoder stage."""
        blocks = self.blocks_per_stage
        return blocks if isinstance(blocks, tuple) else (blocks,) * len(self.features)

    @property
    def kernels(self) -> tuple[tuple[int, ...], ...]:
        """Kernel size of each stage."""
        return self.kernels_kji or ((3,) * self.dimensions,) * len(self.features)

    @property
    def strides(self) -> tuple[tuple[int, ...], ...]:
        """Stride at the entry of each stage."""
        one, two = (1,) * self.dimensions, (2,) * self.dimensions
        return self.strides_kji or (one, *(two,) * (len(self.features) - 1))

    @property
    def multiple_kji(self) -> tuple[int, int, int]:
        """Each axis of the input must be a multiple of this many voxels."""
        totals = [1, 1, 1]
        for row in self.strides:
            for axis, stride in enumerate(row, start=3 - len(row)):
                totals[axis] *= stride
        return totals[0], totals[1], totals[2]


class AtlasUNetArchitecture(UNetArchitecture):
    """Settings of a U-Net over one fixed field of view in a template's space, with an atlas (``segment.atlas_unet``).

    Attributes:
        atlas_kji: voxels of the atlas over that field of view; means of tissues are local to boxes of two of them.
        tissues: for the background and each label the tissue whose intensities it has, 0 for the background's.
    """

    name: Literal["atlas_unet"]  # type: ignore[assignment]
    dimensions: Literal[3] = 3
    atlas_kji: tuple[AtlasSide, AtlasSide, AtlasSide]
    tissues: tuple[Annotated[int, Field(ge=0, le=255)], ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _tissues_in_order(self) -> AtlasUNetArchitecture:
        if self.tissues[0] != 0 or set(self.tissues) != set(range(max(self.tissues) + 1)):
            raise ValueError("tissues must begin with 0 and use every number up to the largest")
        return self


class ContextUNetArchitecture(Strict):
    """Settings of the U-Net with residual context modules of Isensee et al. (BraTS 2017), which HD-BET uses."""

    name: Literal["context_unet"]
    dimensions: Literal[3] = 3
    base_features: Annotated[int, Field(ge=1, le=256)] = 16

    @property
    def multiple_kji(self) -> tuple[int, int, int]:
        """Each axis of the input must be a multiple of this many voxels."""
        return 16, 16, 16


class MonaiArchitecture(Strict):
    """A network of MONAI by its name, with plain settings; needs the package ``monai`` when it is built."""

    name: Literal["monai"]
    dimensions: Literal[2, 3] = 3
    network: Literal["UNet", "BasicUNet", "DynUNet", "SegResNet", "AttentionUnet", "VNet", "UNETR"]
    settings: dict[str, Any]
    multiple: Annotated[int, Field(ge=1, le=256)] = 32

    @model_validator(mode="after")
    def _plain_settings(self) -> MonaiArchitecture:
        _require_plain(self.settings, depth=0)
        return self

    @property
    def multiple_kji(self) -> tuple[int, int, int]:
        """Each axis of the input must be a multiple of this many voxels."""
        return self.multiple if self.dimensions == 3 else 1, self.multiple, self.multiple


class OnnxArchitecture(Strict):
    """A graph in ``network.onnx`` beside ``model.json``; its input is [1, channels, *tile]."""

    name: Literal["onnx"]
    dimensions: Literal[2, 3] = 3

    @property
    def multiple_kji(self) -> tuple[int, int, int]:
        """The tile is the graph's own: nothing more is asked of it."""
        return 1, 1, 1


Architecture = Annotated[
    UNetArchitecture | AtlasUNetArchitecture | ContextUNetArchitecture | MonaiArchitecture | OnnxArchitecture,
    Field(discriminator="name"),
]


def _require_plain(value: object, depth: int) -> None:
    """Numbers, words and lists of them; no text that some tool would evaluate."""
    if depth > 4:
        raise ValueError("settings are nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(key, depth + 1)
            _require_plain(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_plain(item, depth + 1)
    elif isinstance(value, str):
        if not value.replace("_", "").replace(".", "").replace("-", "").isalnum() or value.startswith("_"):
            raise ValueError(f"'{value[:40]}' is not a plain word")
    elif not (value is None or isinstance(value, bool | int | float)):
        raise ValueError(f"settings hold a {type(value).__name__}")
