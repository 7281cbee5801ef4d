"""Where the linear stage begins: several guesses, the best of them by similarity after a short rigid search."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

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
FAIR_OVERLAP = 0.5
TRUST_IN_HEADERS, TRUST_IN_AXES = 1.0, 0.85
PREFERENCE = 1e-6


@dataclass(frozen=True, eq=False)
class Start:
    """A guess: its name, its 4x4 matrix (fixed RAS to moving RAS) and how far it is trusted, 0..1.

    Orientations in headers are nearly always right, and a head turned upside down can look much like a head: a guess
    that turns the image must be clearly better.
    """

    name: str
    matrix: np.ndarray
    trust: float = TRUST_IN_HEADERS

    def score(self, match: PairMatch) -> float:
        """What starts are compared by: similarity, less for little overlap and little trust."""
        return match.value * self.trust * min(1.0, match.overlap / FAIR_OVERLAP)


def find_start(pair: Pair, similarity: SimilarityName, progress: Progress) -> Start:
    """The best start for a pair at its coarsest scale; the earlier one in ``start_candidates`` wins ties.

    Raises:
        NoOverlap: no guess brings the images, inside their masks, together.
    """
    tried = [(start, evaluate_pair(pair, start.matrix, similarity)) for start in start_candidates(pair)]
    tried = [(start, match) for start, match in tried if match.overlap > LEAST_OVERLAP]
    if not tried:
        raise NoOverlap(
            "Fixed and moving share no space under any start (identity, centres, principal axes)",
            "a common region of at least 1 %",
            "check that the masks cover the same anatomy in both images",
        )
    ranked = sorted(range(len(tried)), key=lambda n: -tried[n][0].score(tried[n][1]))
    best, best_score = tried[0][0], -np.inf
    for start in (tried[n][0] for n in sorted(ranked[:TRIED_FURTHER])):
        matrix, match = optimise_linear(
            pair, start.matrix, "rigid", similarity, iterations=SEARCH_ITERATIONS, progress=progress
        )
        if start.score(match) > best_score + PREFERENCE:
            best, best_score = replace(start, matrix=matrix), start.score(match)
    return best


def start_candidates(pair: Pair) -> list[Start]:
    """Identity, centres of the fields of view, centres of mass, principal axes of the intensities (4 ways)."""
    fixed, moving = pair.fixed, pair.moving
    fixed_mass, fixed_axes = _moments(fixed)
    moving_mass, moving_axes = _moments(moving)
    candidates = [
        Start("identity", np.eye(4)),
        Start("centres of the fields of view", translation(moving.geometry.centre_ras - fixed.geometry.centre_ras)),
        Start("centres of mass", translation(moving_mass - fixed_mass)),
    ]
    for signs in itertools.product((1, -1), repeat=2):
        axes = moving_axes * np.array([*signs, 1.0])
        if np.linalg.det(axes @ fixed_axes.T) < 0:
            axes = axes * np.array([1.0, 1.0, -1.0])
        turn = np.eye(4)
        turn[:3, :3] = axes @ fixed_axes.T
        matrix = translation(moving_mass) @ turn @ translation(-fixed_mass)
        candidates.append(Start("principal axes", matrix, TRUST_IN_AXES))
    return candidates


def _moments(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass in RAS mm and the principal axes as columns, by the weighted intensity."""
    mass = (study.intensity.sum(dim=0) * study.weight).double()
    points = grid_coordinates(mass).reshape(-1, 3)
    share = (mass / mass.sum()).reshape(-1, 1)
    centre = (points * share).sum(dim=0)
    spread = ((points - centre) * share).T @ (points - centre)
    to_ras = study.geometry.ijk_to_ras[:3, :3]
    _, axes = np.linalg.eigh(to_ras @ spread.cpu().numpy() @ to_ras.T)
    return study.geometry.map_voxels(centre.cpu().numpy()), axes
