"""Paths through time: which frames are reached from a key frame in which order, and how their places are smoothed.

Every frame is measured for itself, so its error is its own; a body moves smoothly. The path of a point is the one that
lies near its measured places and changes its acceleration little (third differences; Whittaker 1923, with a periodic
form for closed routes). How little is chosen by generalised cross-validation (Craven and Wahba 1979), but never so much
that more is taken away than two measurements of the same place disagree: motion that jumps is left as it was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIFFERENCES = 3
STIFFNESSES = np.logspace(-3, 2, 21)


@dataclass(frozen=True)
class Route:
    """Consecutive frames that are reached from one key frame.

    Attributes:
        numbers: of the frames, in the order of time.
        key: position of the key frame among them.
        closed: the first frame follows the last one, as in a cycle of the heart.
    """

    numbers: tuple[int, ...]
    key: int
    closed: bool = False

    @property
    def edges(self) -> list[tuple[int, int]]:
        """Positions (from, to) of neighbours: each frame is reached from the side of the key frame. A closed route is
        walked from both sides, and has one edge more: the gap where they meet.

        >>> Route((0, 1, 2, 3), key=0, closed=True).edges
        [(0, 1), (1, 2), (0, 3), (2, 3)]
        """
        n = len(self.numbers)
        if not self.closed:
            ahead = [(p, p + 1) for p in range(self.key, n - 1)]
            return ahead + [(p, p - 1) for p in range(self.key, 0, -1)]
        places = [(self.key + step) % n for step in range(n)]
        half = n // 2
        ahead = [(places[p], places[p + 1]) for p in range(half)]
        back = [(places[-p % n], places[-p - 1]) for p in range(n - 1 - half)]
        return [*ahead, *back, (places[half], places[(half + 1) % n])]


def smoothing_matrix(route: Route, stiffness: float) -> np.ndarray:
    """[n, n]: the smoothed places are ``matrix @ places``; displacements from the key frame, whose own stays 0.

    >>> smoothing_matrix(Route((0, 1, 2, 3, 4), key=0), 1e6) @ [0, 1, 4, 9, 16]  # constant acceleration is left alone
    array([ 0.,  1.,  4.,  9., 16.])
    """
    n = len(route.numbers)
    changes = _differences(n, route.closed)
    inverse, free = np.zeros((n, n)), [p for p in range(n) if p != route.key]
    inverse[np.ix_(free, free)] = np.linalg.inv((np.eye(n) + stiffness * changes.T @ changes)[np.ix_(free, free)])
    return inverse.round(12)


def choose_stiffness(route: Route, products: np.ndarray, disagreement: float) -> float:
    """The stiffness with the lowest generalised cross-validation score; 0 for routes too short to tell.

    Args:
        products: [n, n], of the measured displacements at two positions, summed over all points.
        disagreement: squared distance of two measurements of one place, summed over all points, mean over the frames.
            Smoothing moves places by no more than that.
    """
    free = [p for p in range(len(route.numbers)) if p != route.key]
    if len(free) <= DIFFERENCES:
        return 0.0
    best, lowest = 0.0, np.inf
    for stiffness in STIFFNESSES:
        left = (np.eye(len(products)) - smoothing_matrix(route, stiffness))[np.ix_(free, free)]
        taken = np.trace(left @ products[np.ix_(free, free)] @ left.T)
        score = taken / np.trace(left) ** 2
        if score < lowest and taken / len(free) <= disagreement:
            best, lowest = float(stiffness), score
    return best


def _differences(n: int, closed: bool) -> np.ndarray:
    """[rows, n]: how the acceleration changes between successive frames."""
    matrix = np.eye(n)
    for _ in range(DIFFERENCES):
        matrix = np.roll(matrix, -1, axis=0) - matrix if closed else np.diff(matrix, axis=0)
    return matrix
