"""Filling a part of a field from its surroundings: inside an ignored region, and around a rigid one."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import cg

from ..geometry import Geometry

TOLERANCE = 1e-5


def fill_smoothly(field: torch.Tensor, unknown: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """The field with its unknown voxels replaced by the harmonic function of what surrounds them.

    It is the membrane that the known voxels hold, and has no extremes of its own; the border of the grid is free.

    Args:
        field: [C, K, J, I].
        unknown: [K, J, I] bool, not True everywhere.
        geometry: of the grid, for the distances between its voxels.
    """
    if not bool(unknown.any()):
        return field
    inside = unknown.flatten().cpu().numpy()
    values = field.flatten(1).cpu().numpy().astype(np.float64)
    rows = _laplacian(geometry)[inside]
    system, held = rows[:, inside], rows[:, ~inside] @ values[:, ~inside].T
    for channel, sums in zip(values, held.T, strict=True):
        channel[inside] = cg(system, -sums, x0=channel[inside], rtol=TOLERANCE)[0]
    return torch.as_tensor(values).view(field.shape).to(field)


def _laplacian(geometry: Geometry) -> sparse.csr_matrix:
    """Minus the second differences between a grid's voxels, [voxels, voxels], k slowest."""
    whole = sparse.csr_matrix((1, 1))
    for n, spacing in zip(geometry.size_ijk, geometry.spacing_mm, strict=True):
        steps = sparse.diags([-1.0, 1.0], [0, 1], (n - 1, n)) if n > 1 else sparse.csr_matrix((1, 1))
        along = steps.T @ steps / spacing**2
        whole = sparse.kron(along, sparse.eye(whole.shape[0])) + sparse.kron(sparse.eye(n), whole)
    return whole.tocsr()
