"""Making a motion obey a person: points go where they should, bodies move as one, in as few millimetres as possible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import max_pool3d

from ..evaluate.deformation import smallest_corner_determinant
from ..geometry import Geometry
from ..sampling import sample_linear
from .confine import Window
from .displacement import grid_coordinates, to_displacement
from .fill import fill_smoothly
from .flow import DisplacementField
from .kernel_flow import carry
from .landmarks import fit_landmarks
from .terms import LandmarkTerm, RigidBodies
from .unfold import LEAST_DETERMINANT, unfold

TOLERANCE_MM = 0.1
ROUNDS = 8
HALVINGS = 8
NARROWEST_VOXELS = 2.5  # kernels that the grid of the motion can still hold


@dataclass(frozen=True, eq=False)
class Orders:
    """What a person wants of the motion in a window.

    Attributes:
        landmarks: where points should be taken, before the linear part; None without.
        bodies: voxels that move as one; None without.
        around_bodies: [K, J, I] bool, the voxels in which the motion of the bodies fades out.
        reach_mm: radius of the widest kernels.
    """

    landmarks: LandmarkTerm | None
    bodies: RigidBodies | None
    around_bodies: torch.Tensor
    reach_mm: float


def settle(vectors: torch.Tensor, standing: torch.Tensor, window: Window, orders: Orders) -> torch.Tensor:
    """A motion [3, K, J, I], in voxels of the window's grid, after rounds of: points, folds, bodies.

    Each round moves the points by a flow of compact support (see ``kernel_flow``), takes out folds, and gives every
    body its best rigid motion, which fades out around it. It ends when no point lacks more than 0.1 mm.

    Args:
        standing: [3, K, J, I], the motion before the correction. Where nothing else helps against a fold that it does
            not have, the motion goes back to it.
    """
    for radius_mm in _radii(window, orders.reach_mm):
        if orders.landmarks is not None:
            vectors = _lead(vectors, window, orders, radius_mm)
        vectors = _without_new_folds(vectors, standing, window)
        if orders.bodies is not None:
            vectors = _stiffen(vectors, window, orders)
        if orders.landmarks is None or lacking_mm(vectors, window.geometry, orders.landmarks).max() < TOLERANCE_MM:
            break
    return vectors


def lacking_mm(vectors: torch.Tensor, grid: Geometry, landmarks: LandmarkTerm) -> np.ndarray:
    """[N]: how far each point is taken from where it should be."""
    reached, targets = _ends(vectors, grid, landmarks)
    return (targets - reached).norm(dim=1).cpu().numpy()


def _radii(window: Window, reach_mm: float) -> Iterator[float]:
    narrowest = min(reach_mm, NARROWEST_VOXELS * max(window.geometry.spacing_mm))
    for number in range(ROUNDS):
        yield max(narrowest, reach_mm / 2 ** max(0, number - 1))


def _lead(vectors: torch.Tensor, window: Window, orders: Orders, radius_mm: float) -> torch.Tensor:
    """The points outside bodies, taken to their targets with all that is around them."""
    assert orders.landmarks is not None
    free = (~_in_bodies(window, orders).any(axis=0)).nonzero()[0]
    if not len(free):
        return vectors
    to_mm = _to_mm(vectors, window.geometry)
    reached, targets = _ends(vectors, window.geometry, orders.landmarks)
    voxels = grid_coordinates(vectors)
    places = (voxels + vectors.movedim(0, -1)) @ to_mm.T
    carried = carry(places, reached[free], targets[free], radius_mm) @ torch.linalg.inv(to_mm).T
    change = (carried - voxels).movedim(-1, 0) - vectors
    return torch.addcmul(vectors, window.weight, change)


def _without_new_folds(vectors: torch.Tensor, standing: torch.Tensor, window: Window) -> torch.Tensor:
    """Smoothed where it folds; what is left, mostly where little may change, goes half of the way back each time."""
    unfolded = unfold(DisplacementField(vectors, window.geometry)).vectors
    vectors = torch.where(window.weight > 0, unfolded, vectors)
    least = smallest_corner_determinant(to_displacement(standing, window.geometry)).clamp_max(LEAST_DETERMINANT / 2)
    for _ in range(HALVINGS):
        bad = smallest_corner_determinant(to_displacement(vectors, window.geometry)) < least
        if not bool(bad.any()):
            break
        vectors = torch.lerp(vectors, standing, max_pool3d(bad.to(vectors)[None], 3, stride=1, padding=1)[0] / 2)
    return vectors


def _stiffen(vectors: torch.Tensor, window: Window, orders: Orders) -> torch.Tensor:
    """Every body moves as one: as its voxels do on average or, if it holds points, so that these reach their targets.
    What this changes fades out around them.
    """
    assert orders.bodies is not None
    stiff = orders.bodies.stiffened(vectors)
    to_mm = _to_mm(vectors, window.geometry)
    for body, own in zip(orders.bodies.bodies, _in_bodies(window, orders), strict=True):
        if not own.any():
            continue
        assert orders.landmarks is not None
        reached, targets = (end[own].double().cpu().numpy() for end in _ends(stiff, window.geometry, orders.landmarks))
        matrix = to_mm.new_tensor(fit_landmarks(reached, targets, "rigid").matrix)
        before = grid_coordinates(stiff).view(-1, 3)[body]
        after = (before + stiff.flatten(1)[:, body].T) @ to_mm.T @ matrix[:3, :3].T + matrix[:3, 3]
        stiff.flatten(1)[:, body] = (after @ torch.linalg.inv(to_mm).T - before).T
    change = fill_smoothly(stiff - vectors, orders.around_bodies, window.geometry)
    return torch.addcmul(vectors, window.weight, change)


def _in_bodies(window: Window, orders: Orders) -> np.ndarray:
    """[bodies, N] bool: which points lie in which body."""
    bodies = [] if orders.bodies is None else orders.bodies.bodies
    fixed = np.zeros((0, 3)) if orders.landmarks is None else orders.landmarks.fixed_ras
    i, j, _ = window.geometry.size_ijk
    nearest = np.rint(window.geometry.map_points(fixed)).astype(int) @ (1, i, i * j)
    return np.array([np.isin(nearest, body.cpu().numpy()) for body in bodies]).reshape(len(bodies), len(fixed))


def _ends(vectors: torch.Tensor, grid: Geometry, landmarks: LandmarkTerm) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the points are taken, and where they should be: [N, 3] each, mm along the world's axes from the grid's
    first voxel."""
    points, targets = (
        vectors.new_tensor(grid.map_points(ends)) for ends in (landmarks.fixed_ras, landmarks.target_ras)
    )
    to_mm = _to_mm(vectors, grid)
    return (points + sample_linear(vectors, points).T) @ to_mm.T, targets @ to_mm.T


def _to_mm(vectors: torch.Tensor, grid: Geometry) -> torch.Tensor:
    return torch.tensor(grid.ijk_to_ras[:3, :3]).to(vectors)
