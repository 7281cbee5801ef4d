"""What a segmentation will take, before it is run: tiles, memory, time. Beside the segmentation walk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..files.architectures import UNetArchitecture
from ..files.model_spec import ModelSpec
from ..geometry import Geometry
from .model import Model
from .prepare import grid_of
from .stream import PLANE_GROUP_BYTES, stream_order
from .tiles import lay_tiles

IMPORTS_BYTES = 450 << 20
"""Of the process before any work: torch, SimpleITK, scikit-image (measured on Linux)."""
BATCH_VOXELS, LARGEST_BATCH = 1 << 21, 8
"""Tiles are run together on a GPU up to this many voxels: small tiles leave it idle."""
WORKING_FEATURES = 4
"""Full-resolution tensors of the finest stage that live at once: joined input (twice), convolution, normalisation."""
WORKSPACE_FACTOR = 1.6
"""Memory of a tile over the activations that must live at once: layouts and buffers of convolutions (measured)."""
OTHER_FEATURES = 96
"""Full-resolution channels that a network outside the U-Net family is taken to hold at once."""


@dataclass(frozen=True)
class Plan:
    """How a segmentation will be run and what it is expected to take.

    Attributes:
        grid_ijk: voxels of the model's grid.
        spacing_mm: of that grid.
        tile_ijk: voxels of a tile.
        tiles: how many, over all stages and members of an ensemble.
        batch: tiles at once.
        device: where the network runs.
        blend_on: where tiles are blended.
        engine: the network's, in words.
        device_bytes: expected peak on the GPU; 0 on the CPU.
        host_bytes: expected peak of the process.
        seconds: expected, None where the engine has not been measured.
    """

    grid_ijk: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    tile_ijk: tuple[int, int, int]
    tiles: int
    batch: int
    device: torch.device
    blend_on: torch.device
    engine: str
    device_bytes: int
    host_bytes: int
    seconds: float | None

    def sentence(self) -> str:
        """The plan for people."""
        i, j, k = self.grid_ijk
        x, y, z = self.spacing_mm
        time = "time not measured yet" if self.seconds is None else f"about {_duration(self.seconds)}"
        gpu = f", {_gib(self.device_bytes)} on the GPU" if self.device_bytes else ""
        where = f"{self.engine} on {self.device}"
        return (
            f"{self.tiles} tiles of {' x '.join(map(str, self.tile_ijk))} voxels on a grid of {i} x {j} x {k} "
            f"({x:.3g} x {y:.3g} x {z:.3g} mm), {where}: {_gib(self.host_bytes)} of memory{gpu}, "
            f"{time}"
        )


def make_plan(model: Model, geometry: Geometry, region: Geometry | None = None, mirror: bool = False) -> Plan:
    """What segmenting a volume will take.

    Args:
        model: with its engines.
        geometry: of the volume.
        region: the part of the model's grid that is looked at; None: all of it.
        mirror: whether tiles are mirrored.
    """
    spec = model.spec
    grid = region or grid_of(geometry, spec)
    tiling = lay_tiles(spec, grid.shape_kji)
    runs = 2 ** len(spec.tiling.mirror) if mirror else 1
    seconds = None if model.seconds_per_tile is None else model.seconds_per_tile * tiling.count * runs
    before = make_plan(model.previous, geometry) if model.previous else None
    on_gpu = model.device.type == "cuda"
    batch = max(1, min(LARGEST_BATCH, BATCH_VOXELS // math.prod(spec.tile_ijk))) if on_gpu else 1
    first, *area = stream_order(tiling)
    channels = model.blended_features
    plane_bytes = 4 * (channels + 1) * math.prod(tiling.padded[axis] for axis in area)
    blending = plane_bytes * tiling.tile[first] + 3 * max(PLANE_GROUP_BYTES, plane_bytes)
    images = 4 * len(spec.channels) * (math.prod(geometry.size_ijk) + 2 * math.prod(grid.size_ijk))
    network = batch * tile_bytes(spec, 2 if on_gpu else 4) + model.weight_bytes
    host = IMPORTS_BYTES + images + math.prod(geometry.size_ijk) + (0 if on_gpu else blending + network)
    return Plan(
        grid.size_ijk,
        grid.spacing_mm,
        spec.tile_ijk,
        tiling.count * runs * len(model.engines) + (before.tiles if before else 0),
        batch,
        model.device,
        model.device,
        model.engines[0].description,
        blending + network + images if on_gpu else 0,
        max(host, before.host_bytes if before else 0),
        None
        if seconds is None or (before and before.seconds is None)
        else seconds + (before.seconds or 0 if before else 0),
    )


def tile_bytes(spec: ModelSpec, number_bytes: int) -> int:
    """Memory of one tile inside the network."""
    voxels = math.prod(spec.tile_ijk)
    architecture = spec.architecture
    if not isinstance(architecture, UNetArchitecture):
        return int(OTHER_FEATURES * voxels * number_bytes * WORKSPACE_FACTOR)
    held, share = 0.0, 1.0
    for features, stride in zip(architecture.features, architecture.strides, strict=True):
        share /= math.prod(stride)
        held += features * share
    return int((held + WORKING_FEATURES * architecture.features[0]) * voxels * number_bytes * WORKSPACE_FACTOR)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
