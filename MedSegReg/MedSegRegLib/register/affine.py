"""The linear stage: rigid, similarity, affine by Gauss-Newton on the group, coarse to fine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import Diverged
from ..geometry import Geometry, translation
from ..progress import Progress
from .planes import free_directions
from .pyramid import Pair
from .settings import LinearModel, SimilarityName
from .similarity import Match, image_gradient, prepare_similarity

LINEAR_WINDOW_RADIUS = 4
LEAST_OVERLAP = 0.01
OVERLAP_KEPT = 0.5
STEP_THAT_ENDS_IN_SPACINGS = 1e-3
DAMPING_THAT_ENDS = 1e6
GAIN_THAT_ENDS = 1e-5
SERIES_TERMS = 14  # with norms below 1/4 the rest is below 1e-19


@dataclass(frozen=True, eq=False)
class PairMatch:
    """How well a matrix does.

    Attributes:
        value: similarity, larger is better; -inf without overlap.
        overlap: fraction of the fixed weight that lies inside the moving image.
        match, moved: per voxel, for the next step.
        finished: the moved image is the fixed one.
    """

    value: float
    overlap: float
    match: Match
    moved: torch.Tensor
    finished: bool


def evaluate_pair(
    pair: Pair, matrix: np.ndarray, similarity: SimilarityName, field: torch.Tensor | None = None
) -> PairMatch:
    """Similarity of the pair under a 4x4 matrix (fixed RAS to moving RAS), after a field in fixed voxels if given."""
    voxels = pair.moving_voxels(matrix, field)
    weight, moved = pair.weight(voxels), pair.moved(voxels)
    measure = prepare_similarity(similarity, pair.fixed.intensity, weight, pair.fixed.geometry, LINEAR_WINDOW_RADIUS)
    match = measure.match(moved)
    value, overlap = torch.stack((match.value.double(), (weight.sum() / pair.fixed.weight.sum()).double())).tolist()
    if overlap <= LEAST_OVERLAP:
        return PairMatch(-np.inf, overlap, match, moved, False)
    return PairMatch(value, overlap, match, moved, pair.is_matched(moved, weight))


def optimise_linear(
    pair: Pair,
    start: np.ndarray,
    model: LinearModel,
    similarity: SimilarityName,
    *,
    iterations: int,
    progress: Progress,
) -> tuple[np.ndarray, PairMatch]:
    """Improve a matrix by Levenberg-Marquardt steps ``T <- T exp(step)``; only steps that help are taken.

    Raises:
        Diverged: the similarity is not a number.
        Cancelled: asked for through ``progress``, at every iteration.
    """
    generators = linear_generators(model, pair.fixed.geometry)
    matrix, best, damping = start, evaluate_pair(pair, start, similarity), 1e-3
    for _ in range(iterations):
        progress.check_cancelled()
        if np.isnan(best.value):
            raise Diverged(
                "The similarity became NaN in the linear stage",
                "a finite similarity",
                "check the intensities of both images, or give an initial transform",
            )
        if best.finished:
            break
        slope, curvature = _normal_equations(pair, best, generators)
        while damping < DAMPING_THAT_ENDS:
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature) + 1e-12), slope)
            trial_matrix = matrix @ _exponential(np.tensordot(step, generators, 1))
            trial = evaluate_pair(pair, trial_matrix, similarity)
            if trial.value > best.value and trial.overlap > OVERLAP_KEPT * best.overlap:
                break
            damping *= 10
        else:
            break
        gain, matrix, best, damping = trial.value - best.value, trial_matrix, trial, damping / 10
        small = np.abs(step).max() < STEP_THAT_ENDS_IN_SPACINGS * pair.fixed.geometry.finest_spacing_mm
        if small or gain < GAIN_THAT_ENDS * abs(best.value):
            break
    return matrix, best


def linear_generators(model: LinearModel, geometry: Geometry) -> np.ndarray:
    """[P, 4, 4]: the directions a model may move in, about the centre of the field of view.

    A coefficient of 1 moves a point at half the diagonal by about 1 mm. P is 6 (rigid), 7 (similarity) or 12 (affine);
    for a slice 3, 4 or 6, all in its plane.
    """
    radius = np.linalg.norm(geometry.corners_ras()[0] - geometry.centre_ras)
    axes = free_directions(geometry).T
    pairs = list(itertools.combinations(axes, 2))
    shift = np.zeros((len(axes), 4, 4))
    shift[:, :3, 3] = axes
    turn, shear, stretch = np.zeros((len(pairs), 4, 4)), np.zeros((len(pairs), 4, 4)), np.zeros((len(axes), 4, 4))
    turn[:, :3, :3] = [(np.outer(b, a) - np.outer(a, b)) / radius for a, b in pairs]
    shear[:, :3, :3] = [(np.outer(b, a) + np.outer(a, b)) / radius for a, b in pairs]
    stretch[:, :3, :3] = [np.outer(a, a) / radius for a in axes]
    parts = {
        "rigid": [shift, turn],
        "similarity": [shift, turn, stretch.sum(axis=0, keepdims=True)],
        "affine": [shift, turn, stretch, shear],
    }[model]
    centre = geometry.centre_ras
    return translation(centre) @ np.concatenate(parts) @ translation(-centre)


def _normal_equations(pair: Pair, at: PairMatch, generators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient [P] and Gauss-Newton matrix [P, P] of the similarity by the coefficients of the generators.

    The moved image is differentiated, not the moving one: the step goes before the matrix, in fixed space.
    """
    geometry = pair.fixed.geometry
    size = np.asarray(geometry.size_ijk)
    from_unit = translation((size - 1) / 2) @ np.diag([*size, 1.0])
    unit = (pair.coordinates - pair.coordinates.new_tensor((size - 1) / 2)) / pair.coordinates.new_tensor(size)
    unit = torch.cat((unit, torch.ones_like(unit[..., :1])), dim=-1).reshape(-1, 1, 4)
    products = []
    for channel, gradient, bend in zip(at.moved, at.match.gradient, at.match.curvature, strict=True):
        columns = (image_gradient(channel).reshape(3, -1).T[:, :, None] * unit).reshape(-1, 12)
        products.append(columns.T @ torch.cat((columns * bend.reshape(-1, 1), gradient.reshape(-1, 1)), dim=1))
    product = torch.stack(products).double().sum(dim=0).cpu().numpy()
    basis = (geometry.ras_to_ijk @ generators @ geometry.ijk_to_ras @ from_unit)[:, :3].reshape(-1, 12)
    return basis @ product[:, 12], basis @ product[:, :12] @ basis.T


def _exponential(matrix: np.ndarray) -> np.ndarray:
    """exp of a 4x4 matrix by its series and squaring; scipy's and torch's take milliseconds on busy processors."""
    halvings = max(0, int(np.ceil(np.log2(max(np.abs(matrix).sum(axis=1).max(), 1e-30)))) + 2)
    small, term = matrix / 2**halvings, np.eye(4)
    total = np.eye(4)
    for n in range(1, SERIES_TERMS):
        term = term @ small / n
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total
