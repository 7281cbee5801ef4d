"""Where the linear stage begins: several guesses, the best of them by similarity after a short rigid search."""

from __future__ import annotations

import itertools

import numpy as np

from ..errors import NoOverlap
from ..geometry import translation
from ..progress import Progress
from .affine import LEAST_OVERLAP, PairMatch, evaluate_pair, optimise_linear
from .displacement import grid_coordinates
from .pyramid import Pair, Study
from .settings import SimilarityName

TRIED_FURTHER = 3
SEARCH_ITERATIONS = 10
PREFERENCE = 1e-6
FAIR_OVERLAP = 0.5


def find_start(pair: Pair, similarity: SimilarityName, progress: Progress) -> tuple[np.ndarray, str]:
    """The best start for a pair at its coarsest scale.

    Returns:
        (4x4 matrix, fixed RAS to moving RAS; its name). The identity wins ties.

    Raises:
        NoOverlap: no guess brings the images, inside their masks, together.
    """
    tried = [(name, matrix, evaluate_pair(pair, matrix, similarity)) for name, matrix in start_candidates(pair)]
    tried = [one for one in tried if one[2].overlap > LEAST_OVERLAP]
    if not tried:
        raise NoOverlap("Fixed and moving share no space under any start (identity, centres, moments)",
                        "a common region of at least 1 %", "check that the masks cover the same anatomy in both images")
    first = sorted(tried, key=lambda one: -_score(one[2]))[:TRIED_FURTHER]
    searched = [(name, *optimise_linear(pair, matrix, "rigid", similarity,
                                        iterations=SEARCH_ITERATIONS, progress=progress))
                for name, matrix, _ in sorted(first, key=lambda one: one[0] != "identity")]
    name, matrix, best = searched[0]
    for other_name, other_matrix, other in searched[1:]:
        if _score(other) > _score(best) + PREFERENCE:
            name, matrix, best = other_name, other_matrix, other
    return (next(m for n, m, _ in tried if n == name), name) if name == "identity" else (matrix, name)


def start_candidates(pair: Pair) -> list[tuple[str, np.ndarray]]:
    """Named 4x4 guesses: identity, centres of the fields of view, centres of mass, principal axes (4 ways)."""
    fixed, moving = pair.fixed, pair.moving
    fixed_mass, fixed_axes = _moments(fixed)
    moving_mass, moving_axes = _moments(moving)
    candidates = [
        ("identity", np.eye(4)),
        ("centres of the fields of view", translation(moving.geometry.centre_ras - fixed.geometry.centre_ras)),
        ("centres of mass", translation(moving_mass - fixed_mass)),
    ]
    for signs in itertools.product((1, -1), repeat=2):
        axes = moving_axes * np.array([*signs, 1.0])
        if np.linalg.det(axes @ fixed_axes.T) < 0:
            axes = axes * np.array([1.0, 1.0, -1.0])
        matrix = np.eye(4)
        matrix[:3, :3] = axes @ fixed_axes.T
        candidates.append(("principal axes", translation(moving_mass) @ matrix @ translation(-fixed_mass)))
    return candidates


def _score(match: PairMatch) -> float:
    return match.value * min(1.0, match.overlap / FAIR_OVERLAP)


def _moments(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass in RAS mm and the principal axes as columns, by the weighted intensity."""
    mass = (study.intensity * study.weight).double()
    points = grid_coordinates(mass).reshape(-1, 3)
    share = (mass / mass.sum()).reshape(-1, 1)
    centre = (points * share).sum(dim=0)
    spread = ((points - centre) * share).T @ (points - centre)
    to_ras = study.geometry.ijk_to_ras[:3, :3]
    _, axes = np.linalg.eigh(to_ras @ spread.cpu().numpy() @ to_ras.T)
    return study.geometry.map_voxels(centre.cpu().numpy()), axes
