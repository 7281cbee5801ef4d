"""Where the linear stage begins: several guesses and a search, the best of them by similarity after a short descent."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from ..errors import NoOverlap
from ..geometry import translation
from ..progress import Progress
from .affine import LEAST_OVERLAP, PairMatch, evaluate_pair, optimise_linear
from .displacement import grid_coordinates
from .planes import align_planes, cell_size, free_directions, nearest_rotation
from .pyramid import Pair, Study
from .search import search_placements
from .settings import LinearModel, SimilarityName

GUESSES_TRIED, PLACEMENTS_TRIED, JUDGED = 3, 6, 3
DESCENT_ITERATIONS = 10
FAIR_OVERLAP = 0.5
SCALES = (1.0, 0.8, 1.25)
FREE_TURN_DEGREES, FULL_TURN_DEGREES, TRUST_IN_FULL_TURNS = 30.0, 90.0, 0.85
DISTINCT_DEGREES = 40.0
PREFERENCE = 1e-6
UNRELATED: dict[SimilarityName, float] = {"nmi": 1.0}  # the value of two images that have nothing in common


@dataclass(frozen=True, eq=False)
class Start:
    """A guess: its name and its 4x4 matrix, fixed RAS to moving RAS."""

    name: str
    matrix: np.ndarray


def find_start(
    pair: Pair,
    similarity: SimilarityName,
    progress: Progress,
    *,
    model: LinearModel = "rigid",
    judge: Pair | None = None,
    search: bool = True,
) -> Start:
    """The best start for a pair at its coarsest scale; the earlier one in ``start_candidates`` wins ties.

    Args:
        model: ``rigid`` keeps sizes; any other lets a start grow or shrink the image.
        judge: the pair at a finer scale, where the last few are compared; None takes the best at the coarse one.
        search: look at rotations and sizes beyond the guesses too.

    Raises:
        NoOverlap: no guess brings the images, inside their masks, together.
        Diverged: the similarity is not a number.
        Cancelled: asked for through ``progress``.
    """
    guesses = [(start, evaluate_pair(pair, start.matrix, similarity)) for start in start_candidates(pair)]
    if guesses[0][1].finished:
        return guesses[0][0]
    rigid = model == "rigid"
    tried = [start for start, _ in _best(pair, guesses, similarity, GUESSES_TRIED)]
    if search:
        tried += _search(pair, SCALES[:1] if rigid else SCALES, progress)
    for stage, kept in ((pair, 1),) if judge is None else ((pair, JUDGED), (judge, 1)):
        descents = [_descend(stage, start, "rigid" if rigid else "similarity", similarity, progress) for start in tried]
        tried = [start for start, _ in _best(stage, descents, similarity, kept)]
    if not tried:
        raise NoOverlap(
            "Fixed and moving share no space under any start (identity, centres, principal axes, search)",
            "a common region of at least 1 %",
            "check that the masks cover the same anatomy in both images",
        )
    return tried[0]


def start_candidates(pair: Pair) -> list[Start]:
    """Identity, centres of the fields of view, centres of mass, principal axes of the intensities (4 ways).

    Of a slice the axes fit in 2 ways, and all but the identity lay its plane into that of the moving slice.
    """
    fixed, moving = pair.fixed, pair.moving
    (fixed_mass, fixed_axes), (moving_mass, moving_axes) = _moments(fixed), _moments(moving)
    base = align_planes(fixed.geometry, moving.geometry)
    centres = _place(base, fixed.geometry.centre_ras, moving.geometry.centre_ras)
    candidates = [
        Start("identity", np.eye(4)),
        Start("centres of the fields of view", centres),
        Start("centres of mass", _place(base, fixed_mass, moving_mass)),
    ]
    across = base @ (np.eye(3) - fixed_axes @ fixed_axes.T)
    for signs in itertools.product((1, -1), repeat=fixed_axes.shape[1] - 1):
        turned = moving_axes * np.array([*signs, 1.0])
        turn = turned @ fixed_axes.T + across
        if np.linalg.det(turn) < 0:
            turn -= 2 * np.outer(turned[:, -1], fixed_axes[:, -1])
        candidates.append(Start("principal axes", _place(turn, fixed_mass, moving_mass)))
    return candidates


def turn_trust(pair: Pair, matrix: np.ndarray) -> float:
    """How far a matrix is trusted for its rotation, 0..1.

    Orientations in headers are nearly always right, and a head turned upside down can look much like a head: what turns
    the image far must be clearly better.
    """
    turn = nearest_rotation(matrix) @ align_planes(pair.fixed.geometry, pair.moving.geometry).T
    degrees = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    share = (degrees - FREE_TURN_DEGREES) / (FULL_TURN_DEGREES - FREE_TURN_DEGREES)
    return float(1 - (1 - TRUST_IN_FULL_TURNS) * np.clip(share, 0, 1))


def possible_overlap(pair: Pair) -> float:
    """The overlap, as a fraction of the fixed weight, when the smaller image lies wholly inside the larger."""
    sizes = [study.weight.double().sum() * cell_size(study.geometry) for study in (pair.moving, pair.fixed)]
    return min(1.0, float(sizes[0] / sizes[1]))


def _descend(
    pair: Pair, start: Start, model: LinearModel, similarity: SimilarityName, progress: Progress
) -> tuple[Start, PairMatch]:
    matrix, match = optimise_linear(
        pair, start.matrix, model, similarity, iterations=DESCENT_ITERATIONS, progress=progress
    )
    return replace(start, matrix=matrix), match


def _best(
    pair: Pair, tried: list[tuple[Start, PairMatch]], similarity: SimilarityName, kept: int
) -> list[tuple[Start, PairMatch]]:
    """Best first, without those that share no space; the earlier one wins ties."""
    fair = FAIR_OVERLAP * possible_overlap(pair)

    def score(start: Start, match: PairMatch) -> float:
        alike = match.value - UNRELATED.get(similarity, 0.0)
        trust = turn_trust(pair, start.matrix) * min(1.0, match.overlap / fair)
        return alike * trust if alike > 0 else alike / trust

    together = [(start, match) for start, match in tried if match.overlap > LEAST_OVERLAP]
    return sorted(together, key=lambda one: -np.round(score(*one) / PREFERENCE))[:kept]


def _search(pair: Pair, scales: tuple[float, ...], progress: Progress) -> list[Start]:
    """The best placements of the search that differ in rotation."""
    chosen: list[Start] = []
    turns: list[np.ndarray] = []
    placements = search_placements(pair, scales, progress)
    for placement in sorted(placements, key=lambda one: -one.score * turn_trust(pair, one.matrix)):
        turn = nearest_rotation(placement.matrix)
        cosines = [(np.trace(turn @ other.T) - 1) / 2 for other in turns]
        if placement.score > 0 and all(cosine < np.cos(np.radians(DISTINCT_DEGREES)) for cosine in cosines):
            chosen.append(Start("search", placement.matrix))
            turns.append(turn)
        if len(chosen) == PLACEMENTS_TRIED:
            break
    return chosen


def _moments(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass in RAS mm and the principal axes as columns [3, 3] (of a slice [3, 2]), by weighted intensity."""
    mass = (study.intensity.sum(dim=0) * study.weight).double()
    points = grid_coordinates(mass).reshape(-1, 3)
    share = (mass / mass.sum()).reshape(-1, 1)
    centre = (points * share).sum(dim=0)
    spread = ((points - centre) * share).T @ (points - centre)
    free = free_directions(study.geometry)
    to_free = free.T @ study.geometry.ijk_to_ras[:3, :3]
    _, axes = np.linalg.eigh(to_free @ spread.cpu().numpy() @ to_free.T)
    return study.geometry.map_voxels(centre.cpu().numpy()), free @ axes


def _place(turn: np.ndarray, fixed_point: np.ndarray, moving_point: np.ndarray) -> np.ndarray:
    """The rotation that takes one point to another."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    return translation(moving_point) @ matrix @ translation(-fixed_point)
