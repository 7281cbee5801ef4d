"""What pairs of points say: a robust linear start, a smooth field of what it leaves, and forces at points."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError
from ..geometry import Geometry, translation
from ..report import Finding
from ..sampling import map_voxel_planes, plane_slabs
from .settings import LinearModel

FEWEST_FOR_AFFINE = 4
FEWEST_FOR_OUTLIERS = 6
TRIPLES_TRIED = 300
TUKEY = 4.685
NOISE_MM = 1.0  # a careful click
STRETCH = 0.3  # how far an affine differs from a rigid motion, entry by entry
ROUNDS = 30
SAME_POINT_MM = 1e-3


@dataclass(frozen=True, eq=False)
class LandmarkFit:
    """A linear transform from pairs of points.

    Attributes:
        matrix: 4x4, fixed RAS to moving RAS.
        inliers: [N] bool; False for a pair that contradicts the others.
        residuals_mm: [N], distance from where the matrix takes the fixed point to the moving point.
        findings: a warning that names the outliers, when there are any.
    """

    matrix: np.ndarray
    inliers: np.ndarray
    residuals_mm: np.ndarray
    findings: tuple[Finding, ...]


def check_landmarks(fixed_ras: np.ndarray, moving_ras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 [N, 3] in RAS mm.

    Raises:
        InputError: not [N, 3], none, different counts, not finite, or the same point twice in one list.
    """
    fixed, moving = np.asarray(fixed_ras, np.float64), np.asarray(moving_ras, np.float64)
    for name, points in (("fixed", fixed), ("moving", moving)):
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise InputError(
                f"The {name} landmarks have shape {points.shape}",
                "[N, 3] points (r, a, s) in mm, at least one",
                "place landmarks in both images",
            )
        if not np.isfinite(points).all():
            first = int(np.isfinite(points).all(axis=1).argmin()) + 1
            raise InputError(
                f"{name.capitalize()} landmark {first} is not finite",
                "millimetres",
                "place it again or remove it",
            )
    if len(fixed) != len(moving):
        raise InputError(
            f"There are {len(fixed)} fixed and {len(moving)} moving landmarks",
            "pairs in the same order",
            "place the missing landmarks or remove the spare ones",
        )
    for name, points in (("fixed", fixed), ("moving", moving)):
        distances = np.linalg.norm(points[:, None] - points, axis=-1) + np.diag(np.full(len(points), np.inf))
        if distances.min() < SAME_POINT_MM:
            one, other = np.unravel_index(distances.argmin(), distances.shape)
            raise InputError(
                f"The {name} landmarks {one + 1} and {other + 1} lie at the same place",
                "different places",
                "move or remove one of the two pairs",
            )
    return fixed, moving


def fit_landmarks(fixed_ras: np.ndarray, moving_ras: np.ndarray, largest: LinearModel = "affine") -> LandmarkFit:
    """The linear transform that pairs of points support, whatever some wrong pairs say.

    One pair gives a translation, two or three a rigid motion, more an affine one, no larger than ``largest``; what the
    points leave open (a turn about the line through them, a stretch across their plane) stays as it is. From 6 pairs
    on, pairs that contradict the others are found: the rigid motion of three pairs with the least median residue
    (Rousseeuw 1984), refined by reweighted least squares with Tukey's weights, which are 0 for outliers.

    Args:
        fixed_ras, moving_ras: [N, 3] in RAS mm, row n of one corresponds to row n of the other.
        largest: the largest model allowed; ``none`` gives the identity.

    Raises:
        InputError: see :func:`check_landmarks`.

    >>> fit_landmarks(np.zeros((1, 3)), np.array([[5.0, 0.0, 0.0]])).matrix[:3, 3]
    array([5., 0., 0.])
    """
    fixed, moving = check_landmarks(fixed_ras, moving_ras)
    weights, model = np.ones(len(fixed)), _supported_model(len(fixed), largest)
    matrix = _least_squares(fixed, moving, weights, model)
    if len(fixed) >= FEWEST_FOR_OUTLIERS and model != "none":
        residuals = _least_median_residuals(fixed, moving, _residuals(matrix, fixed, moving))
        for _ in range(ROUNDS):
            weights = _tukey_weights(residuals)
            matrix = _least_squares(fixed, moving, weights, _supported_model(int((weights > 0).sum()), largest))
            residuals = _residuals(matrix, fixed, moving)
    inliers = weights > 0
    return LandmarkFit(matrix, inliers, _residuals(matrix, fixed, moving), _name_outliers(inliers))


def spline_displacement(
    fixed_ras: np.ndarray, target_ras: np.ndarray, geometry: Geometry, like: torch.Tensor, smoothing_mm: float = 1.0
) -> torch.Tensor:
    """The smooth field that takes points to their targets: a thin-plate spline (Bookstein 1989, in 3D) held at 0
    in the corners, edges and faces of the grid, so that it does not grow away from the points. In 3D
    it has a peak at each point: a grid much coarser than the distances between them cuts the peaks.

    Args:
        fixed_ras, target_ras: [N, 3] in RAS mm, in one space. Where the field goes before a linear part, the target
            is the inverse of that part applied to the moving points.
        geometry: the grid of the field.
        like: its device and dtype.
        smoothing_mm: 0 meets every point; the larger, the straighter.

    Returns:
        [3, K, J, I] in voxels of ``geometry``.

    Raises:
        InputError: see :func:`check_landmarks`.
    """
    fixed, target = check_landmarks(fixed_ras, target_ras)
    held = _border_points(geometry)
    centre = geometry.centre_ras
    points = np.concatenate((fixed, held)) - centre
    vectors = np.concatenate((target - fixed, np.zeros_like(held))) @ geometry.ras_to_ijk[:3, :3].T
    knots, bending, straight = (
        torch.as_tensor(part).to(like) for part in (points, *_spline_coefficients(points, vectors, smoothing_mm))
    )
    to_centred = torch.as_tensor(translation(-centre) @ geometry.ijk_to_ras).to(like)
    field = like.new_empty((3, *geometry.shape_kji))
    for start, stop in plane_slabs((geometry.size_ijk[0], geometry.size_ijk[1] * len(knots), geometry.size_ijk[2])):
        voxels = map_voxel_planes(to_centred, geometry.size_ijk, start, stop).flatten(0, 2)
        values = straight[0] + voxels @ straight[1:] - _distances(voxels, knots) @ bending
        field[:, start:stop] = values.T.unflatten(1, (-1, *geometry.shape_kji[1:]))
    return field


def splat(points_ijk: torch.Tensor, values: torch.Tensor, shape_kji: tuple[int, int, int]) -> torch.Tensor:
    """Spread values at points over the 8 voxels around each: the adjoint of ``sample_linear``.

    Args:
        points_ijk: voxel coordinates [N, 3]; beyond the grid, the border voxel takes all.
        values: [C, N].

    Returns:
        [C, K, J, I]. Deterministic on the CPU; on CUDA the order of the sums varies, and with it the last digits.
    """
    k, j, i = shape_kji
    points = torch.minimum(points_ijk.clamp_min(0), points_ijk.new_tensor((i - 1, j - 1, k - 1)))
    first = points.floor()
    share = points - first
    out = values.new_zeros((values.shape[0], k * j * i))
    for corner in itertools.product((0, 1), repeat=3):
        beside = first.new_tensor(corner)
        part = torch.where(beside == 1, share, 1 - share).prod(dim=-1)
        at_i, at_j, at_k = (first + beside).long().unbind(-1)
        index = (at_k.clamp_max(k - 1) * j + at_j.clamp_max(j - 1)) * i + at_i.clamp_max(i - 1)
        out.index_add_(1, index, values * part.to(values))
    return out.view(values.shape[0], k, j, i)


def _distances(points: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    # The default goes through squares, whose rounding is felt near a knot.
    return torch.cdist(points, knots, compute_mode="donot_use_mm_for_euclid_dist")


def _supported_model(count: int, largest: LinearModel) -> LinearModel:
    return "rigid" if count < FEWEST_FOR_AFFINE and largest != "none" else largest


def _least_squares(fixed: np.ndarray, moving: np.ndarray, weights: np.ndarray, model: LinearModel) -> np.ndarray:
    """4x4 of a model, drawn to the identity (rotation) or to the rigid motion (affine) where points leave it open."""
    if model == "none":
        return np.eye(4)
    share = weights / weights.sum()
    centre_fixed, centre_moving = share @ fixed, share @ moving
    x, y = fixed - centre_fixed, moving - centre_moving
    covariance = (x * weights[:, None]).T @ y
    left, scales, right = np.linalg.svd(covariance + np.eye(3) * (1e-6 * np.abs(covariance).max() + 1e-9))
    signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    linear = right.T @ np.diag(signs) @ left.T
    if model == "similarity" and len(fixed) > 1:
        linear = linear * ((scales * signs).sum() / (weights @ (x**2).sum(axis=1)))
    if model == "affine":
        prior = np.eye(3) * (NOISE_MM / STRETCH) ** 2
        spread = (x * weights[:, None]).T @ x
        linear = np.linalg.solve(spread + prior, covariance + prior @ linear.T).T
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    return translation(centre_moving) @ matrix @ translation(-centre_fixed)


def _least_median_residuals(fixed: np.ndarray, moving: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Residuals of the rigid motion of three pairs whose median is smallest; ``best`` if none is below it."""
    triples = list(itertools.islice(_triples(len(fixed)), TRIPLES_TRIED))
    for triple in triples:
        matrix = _least_squares(fixed[triple], moving[triple], np.ones(3), "rigid")
        residuals = _residuals(matrix, fixed, moving)
        best = residuals if np.median(residuals) < np.median(best) else best
    return best


def _triples(count: int) -> Iterator[list[int]]:
    """All triples when they are few, else distinct points drawn at random, the same on every run."""
    everything = itertools.combinations(range(count), 3)
    if count * (count - 1) * (count - 2) // 6 <= TRIPLES_TRIED:
        return (list(triple) for triple in everything)
    draw = np.random.default_rng(0)
    return (list(draw.choice(count, 3, replace=False)) for _ in itertools.repeat(None))


def _tukey_weights(residuals: np.ndarray) -> np.ndarray:
    scale = max(1.4826 * float(np.median(residuals)), NOISE_MM)
    return np.clip(1 - (residuals / (TUKEY * scale)) ** 2, 0, None) ** 2


def _residuals(matrix: np.ndarray, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    return np.linalg.norm(fixed @ matrix[:3, :3].T + matrix[:3, 3] - moving, axis=1)


def _name_outliers(inliers: np.ndarray) -> tuple[Finding, ...]:
    if inliers.all():
        return ()
    names = ", ".join(str(n + 1) for n in np.flatnonzero(~inliers))
    return (
        Finding.warn(
            f"Landmark pairs {names} of {len(inliers)} contradict the others and were left out",
            "Check that these points mark the same place in both images.",
        ),
    )


def _border_points(geometry: Geometry) -> np.ndarray:
    """[26, 3] RAS mm: the corners, the middles of the edges and of the faces of the field of view."""
    steps = [step for step in itertools.product((-0.5, 0, 0.5), repeat=3) if any(step)]
    return geometry.map_voxels((np.asarray(geometry.size_ijk) - 1) / 2 + np.array(steps) * geometry.size_ijk)


def _spline_coefficients(points: np.ndarray, vectors: np.ndarray, smoothing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights [N, 3] of the kernel ``-|r|``, and the linear part [4, 3], of the smoothing spline through vectors."""
    count = len(points)
    kernel = -np.linalg.norm(points[:, None] - points, axis=-1) + smoothing_mm * np.eye(count)
    linear = np.concatenate((np.ones((count, 1)), points), axis=1)
    system = np.block([[kernel, linear], [linear.T, np.zeros((4, 4))]])
    solution = np.linalg.solve(system, np.concatenate((vectors, np.zeros((4, 3)))))
    return solution[:count], solution[count:]
