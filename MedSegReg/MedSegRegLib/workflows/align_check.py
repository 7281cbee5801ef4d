"""Whether a series was aligned to another: what can be known without the truth. Workflow align, after registering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

from ..geometry import Geometry
from ..register.planes import nearest_rotation
from ..register.run import Registration
from ..report import Level

Verdict = Literal["aligned", "doubtful", "failed"]

DOUBTFUL_MM, FAILED_MM = 3.0, 10.0
"""Between the two registrations, at the corners: see ``benchmarks/workflows/README.md`` for what was measured on either
side."""
LEAST_OVERLAP = 0.3
LARGEST_TURN_DEGREES = 45.0


@dataclass(frozen=True)
class AlignmentCheck:
    """How an alignment can be trusted.

    Attributes:
        before, after: similarity at the position of the files (None where nothing overlaps) and at the result.
        overlap: fraction of the reference that lies inside the series.
        shift_mm: of the centre of the reference.
        turn_degrees: about any axis.
        both_ways_mm: how far the registration and the one with exchanged roles, which begins on its own, are apart:
            mean over the corners of the reference's field of view. The result is half-way between the two.
        verdict: ``failed`` where the two contradict each other; ``doubtful`` where anything else speaks against it.
        reasons: what does, as sentences.
    """

    before: float | None
    after: float
    overlap: float
    shift_mm: float
    turn_degrees: float
    both_ways_mm: float
    verdict: Verdict
    reasons: tuple[str, ...]

    def describe(self) -> str:
        """In words."""
        apart = f"the registration and its reverse are {self.both_ways_mm:.1f} mm apart"
        how = {"aligned": "", "doubtful": "doubtful: ", "failed": "failed: "}[self.verdict]
        return f"{how}a shift of {self.shift_mm:.1f} mm, a turn of {self.turn_degrees:.1f} degrees; {apart}"


def half_way(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The 4x4 matrix in the middle of two that are near each other; rigid between rigid ones."""
    step = logm(np.linalg.inv(one) @ other).real
    return one @ expm(step / 2)


def apart_mm(one: np.ndarray, other: np.ndarray, field_of_view: Geometry) -> float:
    """Mean distance of the places where two 4x4 matrices take the corners of a field of view."""
    difference, corners = one - other, field_of_view.corners_ras()
    return float(np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1).mean())


def check_alignment(forward: Registration, backward: Registration, reference: Geometry) -> AlignmentCheck:
    """What two registrations say about each other and of themselves.

    Args:
        forward: with the reference as the fixed image, linear.
        backward: with exchanged roles.
        reference: its grid.
    """
    matrix = forward.transform.linear_part
    both_ways = apart_mm(matrix, np.linalg.inv(backward.transform.linear_part), reference)
    centre = reference.centre_ras
    turn = np.degrees(Rotation.from_matrix(nearest_rotation(matrix)).magnitude())
    quality = forward.quality
    reasons = _reasons(both_ways, quality.overlap, float(turn), _warnings(forward) or _warnings(backward))
    verdict: Verdict = "failed" if both_ways > FAILED_MM else "doubtful" if reasons else "aligned"
    return AlignmentCheck(
        quality.before,
        quality.after,
        quality.overlap,
        float(np.linalg.norm(forward.transform.map_points(centre[None])[0] - centre)),
        float(turn),
        both_ways,
        verdict,
        tuple(reasons),
    )


def _reasons(both_ways: float, overlap: float, turn: float, warnings: Sequence[str]) -> list[str]:
    reasons = []
    if both_ways > DOUBTFUL_MM:
        reasons.append(f"registering both ways gives results that are {both_ways:.1f} mm apart")
    if overlap < LEAST_OVERLAP:
        reasons.append(f"it covers only {100 * overlap:.0f} % of the reference")
    if turn > LARGEST_TURN_DEGREES:
        reasons.append(f"it was turned by {turn:.0f} degrees, more than a patient turns between two series")
    return [*reasons, *warnings]


def _warnings(found: Registration) -> list[str]:
    return [finding.message for finding in found.findings if finding.level >= Level.WARN]
