"""A flow of compact support that takes points to their targets: how a correction by landmarks moves space.

The points go straight; between them space follows a sum of Wendland's kernels (1995) about the points as they go, as in
the landmark matching by diffeomorphisms of Joshi and Miller (2000). A flow of smooth velocities cannot fold, and the
kernels are exactly 0 beyond their radius. Close points ask for narrow kernels, all others are smoother with wide ones:
the radius is halved for what the wider ones leave (multistep interpolation, Floater and Iske 1996).
"""

from __future__ import annotations

import math

import torch

LONGEST_STEP = 0.05  # of the radius
FEWEST_STEPS = 4
RIDGE = 0.05  # what a kernel leaves to the next is less than this share where points agree


def carry(places: torch.Tensor, points: torch.Tensor, targets: torch.Tensor, radius_mm: float) -> torch.Tensor:
    """Where places go while points move to their targets.

    Args:
        places: [..., 3] mm.
        points, targets: [N, 3] mm in the same space; the points reach their targets but for a ridge of 5 %.
        radius_mm: of the kernels. Farther than this from the path of every point nothing moves.

    Returns:
        The places [..., 3] at the end.
    """
    motion = targets - points
    longest = float(motion.norm(dim=1).max())
    steps = max(FEWEST_STEPS, math.ceil(longest / (LONGEST_STEP * radius_mm)))
    flat = places.reshape(-1, 3)
    moving = (torch.cdist(flat, points).amin(dim=1) < radius_mm + 2 * longest).nonzero().flatten()
    carried, knots = flat[moving], points
    ridge = RIDGE * torch.eye(len(points), dtype=points.dtype, device=points.device)
    for _ in range(steps):
        strengths = torch.linalg.solve(_kernel(knots, knots, radius_mm) + ridge, motion / steps)
        carried = carried + _kernel(carried, knots, radius_mm) @ strengths
        knots = knots + _kernel(knots, knots, radius_mm) @ strengths
    return flat.index_copy(0, moving, carried).view_as(places)


def _kernel(places: torch.Tensor, knots: torch.Tensor, radius_mm: float) -> torch.Tensor:
    """Wendland's function of smoothness C2 in three dimensions, [M, N]; 1 at a knot, 0 from the radius on."""
    share = torch.cdist(places, knots, compute_mode="donot_use_mm_for_euclid_dist") / radius_mm
    return (1 - share).clamp_min(0).pow(4) * (4 * share + 1)
