"""The dense stage: a stationary velocity field, coarse to fine, by smoothed Gauss-Newton steps.

``x -> matrix exp(v)(x)``: the velocity lives on the fixed grid of the level, goes before the linear part, and is 0
on the border of the grid. So the map is a diffeomorphism with inverse ``exp(-v)``, and all programs that apply it
agrees outside it. Each step is the least-squares motion of a Gaussian neighbourhood,
``sum(force * gradient) / (sum(curvature * gradient^2) + damping)`` (Lucas 1981; log-domain demons, Vercauteren 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from ..geometry import Geometry
from ..progress import Progress
from ..report import Finding
from .displacement import exponentiate
from .filters import filter_axes, gaussian_axes
from .pyramid import Pair
from .settings import DeformableSettings
from .similarity import Similarity, image_gradient, prepare_similarity
from .solution import VelocityField

RELATIVE_DAMPING = 0.1
OVER_RELAXATION = 2.0  # one gradient direction of three sees a third of the motion; 2 measured best
LONGEST_STEP_VOXELS = 0.5
FLOW_STEP_VOXELS = 1.0  # while searching; TRE 0.376 mm instead of 0.374 with the exact flow
TAPER_VOXELS = 3
CHECKED_EVERY = 5
LEAST_GAIN = 1e-4


@dataclass(eq=False)
class DeformableLevel:
    """One scale of the dense stage; everything that does not change while it runs is made once."""

    pair: Pair
    matrix: np.ndarray
    settings: DeformableSettings
    similarity: Similarity = field(init=False)

    def __post_init__(self) -> None:
        geometry, like = self.pair.fixed.geometry, self.pair.fixed.weight
        self._weight = self.pair.weight(self.pair.moving_voxels(self.matrix))
        self.similarity = prepare_similarity(
            self.settings.similarity, self.pair.fixed.intensity, self._weight, geometry, self.settings.window_radius
        )
        smallest = min(geometry.spacing_mm)
        self._update_axes = gaussian_axes(geometry, self.settings.update_sigma_voxels * smallest, like)
        self._field_axes = gaussian_axes(geometry, self.settings.field_sigma_voxels * smallest, like)
        self._taper = border_taper(geometry, like)
        metric = np.linalg.inv(geometry.ijk_to_ras[:3, :3].T @ geometry.ijk_to_ras[:3, :3]) * smallest**2
        self._metric = torch.as_tensor(metric).to(like)

    def optimise(
        self, start: VelocityField, iterations: int, progress: Progress
    ) -> tuple[VelocityField, list[Finding]]:
        """Improve the velocity. The best of the checked states is returned, never one that is worse than the start.

        Raises:
            Cancelled: asked for through ``progress``, at every iteration.
        """
        velocity = best = start.velocity
        if self.pair.is_matched(self._moved(velocity), self._weight):
            return start, []
        best_value, findings = -np.inf, []
        for iteration in range(iterations + 1):
            progress.update(iteration / (iterations + 1))
            value, update = self.step(velocity)
            if iteration % CHECKED_EVERY == 0 or iteration == iterations:
                now = float(value)
                if not np.isfinite(now):
                    findings.append(
                        Finding.warn(
                            "The similarity became NaN or infinite; the last good state was kept",
                            "Check the intensities of both images.",
                        )
                    )
                    break
                if now < best_value + LEAST_GAIN * abs(best_value):
                    best = velocity if now > best_value else best
                    break
                best, best_value = velocity, now
            velocity = filter_axes(velocity + update, self._field_axes).mul_(self._taper)
        return VelocityField(best, start.geometry), findings

    def step(self, velocity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The similarity at a velocity [3, K, J, I], and the update that should raise it, at most half a voxel."""
        moved = self._moved(velocity)
        match = self.similarity.match(moved)
        force, steepness = torch.zeros_like(velocity), torch.zeros_like(velocity[0])
        for channel, gradient, curvature in zip(moved, match.gradient, match.curvature, strict=True):
            slope = image_gradient(channel)
            force.addcmul_(slope, gradient)
            steepness.addcmul_((self._in_metric(slope) * slope).sum(dim=0), curvature)
        damping = RELATIVE_DAMPING * (steepness.square().sum() / steepness.sum().clamp_min(1e-20))
        sums = filter_axes(torch.cat((self._in_metric(force), steepness[None])), self._update_axes)
        update = sums[:3].mul_(OVER_RELAXATION).div_(sums[3] + damping + 1e-20)
        length = update.square().sum(dim=0).sqrt_()
        return match.value, update.mul_(LONGEST_STEP_VOXELS / length.clamp_min_(LONGEST_STEP_VOXELS))

    def _in_metric(self, slope: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ab,bkji->akji", self._metric, slope)

    def _moved(self, velocity: torch.Tensor) -> torch.Tensor:
        field = exponentiate(velocity, self.pair.coordinates, FLOW_STEP_VOXELS)
        return self.pair.moved(self.pair.moving_voxels(self.matrix, field))


def optimise_deformable(
    pairs: Callable[[float], Pair],
    matrix: np.ndarray,
    settings: DeformableSettings,
    *,
    progress: Progress,
    on_level: Callable[[VelocityField, int], None],
) -> tuple[VelocityField, list[Finding]]:
    """Run all levels.

    Args:
        pairs: the two studies at a coarsening.
        matrix: 4x4, fixed RAS to moving RAS; kept.
        on_level: called with the velocity after each level, and the level's number.
    """
    levels = list(zip(settings.coarsening, settings.iterations, strict=True))
    done = np.cumsum([0.0] + [iterations / coarsening**3 for coarsening, iterations in levels])
    pair = pairs(settings.coarsening[0])
    flow, findings = VelocityField.zero(pair.fixed.geometry, pair.fixed.weight), []
    for number, (coarsening, iterations) in enumerate(levels):
        pair = pairs(coarsening)
        part = progress.part(done[number] / done[-1], done[number + 1] / done[-1])
        level = DeformableLevel(pair, matrix, settings)
        flow, noticed = level.optimise(flow.resized(pair.fixed.geometry), iterations, part)
        findings += noticed
        on_level(flow, number)
    return flow, findings


def border_taper(geometry: Geometry, like: torch.Tensor) -> torch.Tensor:
    """[K, J, I]: 0 on the border voxels, rising to 1 over three voxels."""
    ramps = []
    for n in geometry.shape_kji:
        position = torch.arange(n, dtype=like.dtype, device=like.device)
        ramps.append((torch.minimum(position, n - 1 - position) / TAPER_VOXELS).clamp_max(1))
    return ramps[0][:, None, None] * ramps[1][:, None] * ramps[2]
