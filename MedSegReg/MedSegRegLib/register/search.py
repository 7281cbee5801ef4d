"""Coarse starts for the linear stage: many rotations and sizes, each at all shifts at once. Between pyramid and starts.

The score of a shift is the correlation ratio (Roche 1998), which serves any two modalities: how much of the moving
image's variance the fixed intensities explain. All its sums over the overlap are correlations, so that one FFT answers
for every shift (as Padfield 2012 does for the correlation of masked images).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.spatial.transform import Rotation

from ..geometry import Geometry, translation
from ..progress import Progress
from ..sampling import map_voxel_planes, sample_linear
from .planes import align_planes, axis_order, cell_size, free_directions, grid_frame, is_slice
from .pyramid import Pair, Study

LATTICE_POINTS = 800
SPACING_DEGREES, WIDEST_DEGREES, SPACING_DEGREES_IN_PLANE = 36.0, 100.0, 15.0
CLASSES = 5
LEAST_SHARE = 0.25
NOISE_VARIANCE = 1e-3
MIDDLE_INTENSITY = 0.3
ROTATIONS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Placement:
    """A guess of the search: its 4x4 matrix (fixed RAS to moving RAS) and its score, larger is better."""

    matrix: np.ndarray
    score: float


def search_placements(pair: Pair, scales: tuple[float, ...], progress: Progress) -> list[Placement]:
    """The best shift of every rotation and scale, best first.

    Args:
        scales: moving mm per fixed mm to be tried.
        progress: asked for cancelling at every few rotations.
    """
    turns = align_planes(pair.fixed.geometry, pair.moving.geometry) @ _rotations(pair.fixed.geometry)
    free = free_directions(pair.fixed.geometry)
    spacing = max(_lattice_spacing(study.geometry) for study in (pair.fixed, pair.moving))
    fixed, moving = pair.fixed.coarsen(spacing), pair.moving.coarsen(spacing)
    found = []
    for scale in scales:
        search = ShiftSearch(fixed, moving, spacing, scale)
        stretch = np.eye(3) + (scale - 1) * free @ free.T
        for linear in np.array_split(turns @ stretch, -(-len(turns) // ROTATIONS_AT_ONCE)):
            progress.check_cancelled()
            found += search.best_shifts(linear)
    return sorted(found, key=lambda placement: -placement.score)


class ShiftSearch:
    """One fixed study against turned moving studies, on lattices of equal spacing along the fixed grid's axes."""

    def __init__(self, fixed: Study, moving: Study, spacing_mm: float, scale: float) -> None:
        frame, in_fixed, in_moving = (grid_frame(fixed.geometry), *map(_extent, (fixed.geometry, moving.geometry)))
        self._free = np.asarray(in_fixed > 0)
        diagonal = float(np.linalg.norm(in_moving)) / scale
        sizes = np.ceil(in_fixed / spacing_mm), np.where(self._free, np.ceil(diagonal / spacing_mm), 1)
        self._fixed_size, self._moving_size = (np.maximum(1, size).astype(int) for size in sizes)
        self._step = frame * spacing_mm
        self._centres = fixed.geometry.centre_ras, moving.geometry.centre_ras
        self._to_voxels = moving.geometry.ras_to_ijk
        intensity = moving.intensity[0] - MIDDLE_INTENSITY  # centred, so that float32 differences of squares hold
        self._moments = moving.weight * torch.stack((torch.ones_like(intensity), intensity, intensity.square()))
        self._moving_grid = self._lattice(self._moving_size)
        on_lattice = fixed.resampled(translation(self._centres[0]), self._lattice(self._fixed_size))

        larger, smaller = np.maximum(*self._sizes), np.minimum(*self._sizes)
        self._period = np.array([next_fast_len(int(n), real=True) for n in larger + smaller // 2])
        self._shape = tuple(int(n) for n in self._period[::-1])
        level = torch.arange(CLASSES, device=on_lattice.weight.device)[:, None, None, None]
        classes = (1 - (on_lattice.intensity[0] * (CLASSES - 1) - level).abs()).clamp_min_(0) * on_lattice.weight
        self._classes = torch.fft.rfftn(classes, s=self._shape).conj()
        self._reach = self._within_reach().to(classes.device)
        volume = spacing_mm ** int(self._free.sum())
        in_moving_points = moving.weight.sum() * float(
            cell_size(moving.geometry) / volume / scale ** int(self._free.sum())
        )
        self._most = torch.minimum(on_lattice.weight.sum(), in_moving_points)

    def best_shifts(self, linear: np.ndarray) -> list[Placement]:
        """For each 3x3 of ``linear`` [R, 3, 3] the placement of the best shift."""
        score = self._scores(torch.stack([self._sums(matrix) for matrix in linear])).flatten(1)
        best, where = score.max(dim=1)
        index = np.stack(np.unravel_index(where.cpu().numpy(), self._shape)[::-1], axis=-1)
        middle = (self._moving_size - self._fixed_size) / 2
        shift = index - middle
        shift -= np.round(shift / self._period) * self._period
        return [
            Placement(self._place(matrix, self._step @ offset), float(value))
            for matrix, offset, value in zip(linear, shift, best.tolist(), strict=True)
        ]

    def _scores(self, moving: torch.Tensor) -> torch.Tensor:
        """[R, 3, ...] weight, weighted intensity and its square -> [R, ...] for each shift."""
        spectrum = torch.fft.rfftn(moving, s=self._shape)
        count, total = (torch.fft.irfftn(self._classes * spectrum[:, n, None], s=self._shape) for n in (0, 1))
        square = torch.fft.irfftn(self._classes.sum(dim=0) * spectrum[:, 2], s=self._shape)
        explained = (total.square() / count.clamp_min(0.5)).sum(dim=1)
        count, total = count.sum(dim=1), total.sum(dim=1)
        floor = NOISE_VARIANCE * count.clamp_min(1)
        spread = (square - total.square() / count.clamp_min(0.5)).clamp_min_(0) + floor
        left = (square - explained).clamp_min_(0) + floor
        share = (count / self._most).clamp_(0, 1)
        return (torch.log(spread / left) * share).masked_fill_(~self._reach | (share < LEAST_SHARE), 0)

    def _sums(self, linear: np.ndarray) -> torch.Tensor:
        """[3, K, J, I]: weight, weighted intensity and weighted square of the turned moving study on its lattice."""
        grid = self._moving_grid
        matrix = self._to_voxels @ self._place(linear, self._centres[0]) @ grid.ijk_to_ras
        voxels = map_voxel_planes(torch.as_tensor(matrix).to(self._moments), grid.size_ijk, 0, grid.size_ijk[2])
        return sample_linear(self._moments, voxels, fill=0)

    def _place(self, linear: np.ndarray, offset_mm: np.ndarray) -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = linear
        return translation(self._centres[1]) @ matrix @ translation(offset_mm - self._centres[0])

    def _lattice(self, size: np.ndarray) -> Geometry:
        """About the origin."""
        matrix = np.eye(4)
        matrix[:3, :3] = self._step
        matrix[:3, 3] = -self._step @ ((size - 1) / 2)
        return Geometry((int(size[0]), int(size[1]), int(size[2])), matrix)

    @property
    def _sizes(self) -> tuple[np.ndarray, np.ndarray]:
        return self._fixed_size, self._moving_size

    def _within_reach(self) -> torch.Tensor:
        """[...]: shifts at which the periodic copies of the lattices do not meet."""
        reach = torch.ones(self._shape, dtype=torch.bool)
        for axis, (period, a, b) in enumerate(zip(self._period, *self._sizes, strict=True)):
            shift = np.arange(period) - (b - a) / 2
            shift -= np.round(shift / period) * period
            inside = torch.as_tensor(np.abs(shift) <= period - (a + b) / 2)
            reach &= inside.reshape([-1 if n == 2 - axis else 1 for n in range(3)])
        return reach


def _rotations(geometry: Geometry) -> np.ndarray:
    """[R, 3, 3], no turn first: a body-centred lattice of rotation vectors and right angles; in plane for a slice."""
    if is_slice(geometry):
        angles = np.radians(np.arange(0, 360, SPACING_DEGREES_IN_PLANE))
        return Rotation.from_rotvec(angles[:, None] * grid_frame(geometry)[:, 2]).as_matrix()
    step, limit = np.radians(SPACING_DEGREES), np.radians(WIDEST_DEGREES)
    ticks = step * np.arange(-np.ceil(limit / step), np.ceil(limit / step) + 1)
    corners = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = np.concatenate((corners, corners + step / 2))
    vectors = vectors[np.linalg.norm(vectors, axis=1) <= limit]
    vectors = vectors[np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")]
    right_angles = Rotation.create_group("O")
    return np.concatenate(
        (Rotation.from_rotvec(vectors).as_matrix(), right_angles[right_angles.magnitude() > limit].as_matrix())
    )


def _extent(geometry: Geometry) -> np.ndarray:
    """[3] mm along the columns of ``grid_frame``; 0 across a slice."""
    size = np.asarray(geometry.size_ijk)
    return np.where(size == 1, 0.0, size * np.asarray(geometry.spacing_mm))[axis_order(geometry)]


def _lattice_spacing(geometry: Geometry) -> float:
    extent = _extent(geometry)
    extent = extent[extent > 0]
    return float((np.prod(extent) / LATTICE_POINTS) ** (1 / len(extent)))
