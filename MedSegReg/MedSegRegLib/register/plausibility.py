"""Whether the result of the linear stage can be believed: what is told to the user before anything dense begins."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..geometry import translation
from ..report import Finding
from .planes import free_directions, is_slice
from .pyramid import Pair
from .similarity import prepare_similarity
from .starts import possible_overlap

VOLUME_RATIOS = (0.4, 2.5)
LARGEST_STRETCH = 1.8
LEAST_POSSIBLE_OVERLAP = 0.1
SHIFT_OF_EXTENT, TURN_DEGREES = 0.2, 30.0
WINDOW_RADIUS = 2
LEAST_DISTINCTNESS, LEAST_DISTINCTNESS_OF_SLICES = 1.45, 1.2
ADVICE = "Look at both images together; give an initial transform or masks, or check that both show the same body part."


def check_plausibility(pair: Pair, matrix: np.ndarray) -> list[Finding]:
    """What speaks against a matrix, fixed RAS to moving RAS.

    Args:
        pair: at a scale of some 25,000 voxels.

    Returns:
        Warnings: an implausible change of size, an implausible stretch, a tiny overlap, or images that agree hardly
        better than after being displaced.
    """
    findings = []
    free = free_directions(pair.fixed.geometry)
    stretches = np.linalg.svd(matrix[:3, :3] @ free, compute_uv=False)
    volume = float(np.prod(stretches))
    if not VOLUME_RATIOS[0] <= volume <= VOLUME_RATIOS[1]:
        findings.append(f"The moving image would change its size by a factor of {1 / volume:.2f}")
    if stretches[0] > LARGEST_STRETCH * stretches[-1]:
        findings.append(f"The moving image would be stretched {stretches[0] / stretches[-1]:.1f} times along one axis")
    weight = pair.weight(pair.moving_voxels(matrix))
    overlap = float(weight.sum() / pair.fixed.weight.sum()) / possible_overlap(pair)
    if overlap < LEAST_POSSIBLE_OVERLAP:
        findings.append(f"The images share only {100 * overlap:.1f} % of what they could")
    expected = LEAST_DISTINCTNESS_OF_SLICES if is_slice(pair.fixed.geometry) else LEAST_DISTINCTNESS
    found = distinctness(pair, matrix)
    if found < expected:
        findings.append(
            f"The images agree hardly better than after being displaced ({found:.2f} times, "
            f"{expected:g} expected): they may not be aligned"
        )
    return [Finding.warn(message, ADVICE) for message in findings]


def distinctness(pair: Pair, matrix: np.ndarray) -> float:
    """The squared local correlation at a matrix over its mean after shifts by a fifth and turns by 30 degrees.

    Mutual information would not do: two unlike bodies in air share much of it. Where anatomy corresponds, images are
    alike in every neighbourhood; where it does not, hardly more so than anywhere else.
    """
    here = _local_correlation(pair, matrix)
    displaced = [value for other in _displaced(pair, matrix) if (value := _local_correlation(pair, other)) > 0]
    return here / float(np.mean(displaced)) if displaced else 0.0


def _displaced(pair: Pair, matrix: np.ndarray) -> list[np.ndarray]:
    """The matrix after shifts and turns about the centre of the overlap."""
    geometry = pair.fixed.geometry
    weight = pair.weight(pair.moving_voxels(matrix)).flatten()
    points = pair.coordinates.reshape(-1, 3)
    share = (weight / weight.sum()).unsqueeze(1)
    middle = (points * share).sum(dim=0)
    spread = ((points - middle) * share).T @ (points - middle)
    free = free_directions(geometry)
    to_free = free.T @ geometry.ijk_to_ras[:3, :3]
    deviation = np.sqrt(np.trace(to_free @ spread.cpu().numpy() @ to_free.T) / free.shape[1])
    shift_mm = SHIFT_OF_EXTENT * np.sqrt(12) * deviation
    centre = geometry.map_voxels(middle.cpu().numpy())
    axes = free.T if free.shape[1] == 3 else np.cross(*free.T)[None]
    moves = [translation(sign * shift_mm * axis) for axis in free.T for sign in (1, -1)]
    for turn in Rotation.from_rotvec(np.radians(TURN_DEGREES) * np.concatenate((axes, -axes))).as_matrix():
        move = np.eye(4)
        move[:3, :3] = turn
        moves.append(translation(centre) @ move @ translation(-centre))
    return [matrix @ move for move in moves]


def _local_correlation(pair: Pair, matrix: np.ndarray) -> float:
    voxels = pair.moving_voxels(matrix)
    weight = pair.weight(voxels)
    if not bool(torch.any(weight > 0)):
        return 0.0
    measure = prepare_similarity("lncc", pair.fixed.intensity, weight, pair.fixed.geometry, WINDOW_RADIUS)
    return float(measure.match(pair.moved(voxels)).value)
