"""The dense stage: a flow on a grid of its own, coarse to fine, by smoothed Gauss-Newton steps with momentum.

``x -> matrix flow(x)``: the flow goes before the linear part and is 0 on the border of its grid, which is wider than
the fixed image. Each step is the least-squares motion of a Gaussian neighbourhood,
``sum(force * gradient) / (sum(curvature * gradient^2) + damping)`` (Lucas 1981; log-domain demons, Vercauteren 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..geometry import Geometry
from ..progress import Progress
from ..report import Finding
from .comparison import Comparison
from .confine import Confined
from .convergence import Convergence
from .filters import filter_axes, gaussian_axes
from .flow import Flow, resized
from .pyramid import Pair, Study
from .settings import DeformableSettings, DenseSimilarityName
from .terms import LandmarkPull, LandmarkTerm, RigidRegions
from .unfold import unfold

RELATIVE_DAMPING = 0.1
OVER_RELAXATION = 2.0  # one gradient direction of three sees a third of the motion; 2 measured best
MOMENTUM = 0.5
LONGEST_STEP_VOXELS = 0.5
TAPER_VOXELS = 3
PADDING_VOXELS = 4
CHECKED_EVERY = 5
STOPPED = Finding.info("Stopped on request: the result is the best of what had been done")
NOT_FINITE = Finding.warn(
    "The similarity became NaN or infinite; the last good state was kept", "Check the intensities of both images."
)


@dataclass(frozen=True, eq=False)
class Part:
    """One thing to compare: two studies, how, and how much it says beside the others.

    Attributes:
        matrix: 4x4, fixed RAS to moving RAS, applied after the flow.
    """

    fixed: Study
    moving: Study
    matrix: np.ndarray
    similarity: DenseSimilarityName
    weight: float = 1.0


@dataclass(frozen=True)
class LevelReport:
    """What is known after a level.

    Attributes:
        number: of the level, from 0, of ``levels``.
        spacing_mm: smallest spacing of the images compared.
        similarity: weighted sum over the parts; larger is better.
    """

    number: int
    levels: int
    spacing_mm: float
    similarity: float


def optimise_deformable(
    parts: Sequence[Part],
    settings: DeformableSettings,
    spacing_mm: float,
    *,
    start: Callable[[Geometry], Flow],
    landmarks: LandmarkTerm | None = None,
    rigid: RigidRegions | None = None,
    progress: Progress,
    on_level: Callable[[Flow, LevelReport], None] = lambda flow, report: None,
) -> tuple[Flow, list[Finding]]:
    """Run all levels from ``settings.first_level`` on.

    Args:
        parts: at least one; all fixed studies lie over the same field of view.
        spacing_mm: what a coarsening of 1 means.
        start: the flow to begin with, on the grid it is given.
        on_level: called with the flow and a report after each level.
    """
    levels = list(enumerate(zip(settings.coarsening, settings.iterations, strict=True)))[settings.first_level :]
    work = np.cumsum([0.0] + [iterations / coarsening**3 for _, (coarsening, iterations) in levels])
    domain = flow_domain(parts[0].fixed.coarse_grid(spacing_mm * settings.coarsening[-1]), settings.field_coarsening)
    flow, findings = None, []
    for done, ahead, (number, (coarsening, iterations)) in zip(work, work[1:], levels, strict=False):
        pairs = [Pair.at(part.fixed, part.moving, spacing_mm * coarsening) for part in parts]
        image = pairs[0].fixed.geometry
        grid = flow_grid(domain, image, settings.field_coarsening)
        flow = start(grid) if flow is None else resized(flow, grid)
        level = DeformableLevel(parts, pairs, grid, settings, landmarks, rigid)
        share = progress.part(done / work[-1], ahead / work[-1])
        flow, value, noticed = level.optimise(flow, iterations, share)
        findings += noticed
        on_level(flow, LevelReport(number, len(settings.coarsening), image.finest_spacing_mm, value))
        if progress.wants_result():
            findings.append(STOPPED)
            break
    assert flow is not None
    return flow, findings


class DeformableLevel:
    """One scale of the dense stage; everything that does not change while it runs is made once."""

    def __init__(
        self,
        parts: Sequence[Part],
        pairs: Sequence[Pair],
        grid: Geometry,
        settings: DeformableSettings,
        landmarks: LandmarkTerm | None = None,
        rigid: RigidRegions | None = None,
        confined: Confined | None = None,
    ) -> None:
        image, like = pairs[0].fixed.geometry, pairs[0].fixed.intensity
        smallest = image.finest_spacing_mm
        self._weights = [part.weight for part in parts]
        self._ahead = [make_comparison(part, pair, grid, settings) for part, pair in zip(parts, pairs, strict=True)]
        self._back = [comparison.reversed() for comparison in self._ahead] if settings.symmetric else []
        self._field_axes = gaussian_axes(grid, settings.field_sigma_voxels * smallest, like)
        self._taper = border_taper(grid, like)
        self._confined = confined
        self._grid_voxels = like.new_tensor(smallest / np.asarray(grid.spacing_mm)).reshape(3, 1, 1, 1)
        sigma_mm = settings.update_sigma_voxels * smallest
        self._landmarks = None if landmarks is None else landmarks.on(grid, sigma_mm, self._grid_voxels)
        self._rigid = None if rigid is None else rigid.on(grid, like)

    def optimise(self, flow: Flow, iterations: int, progress: Progress) -> tuple[Flow, float, list[Finding]]:
        """Improve the flow. The best of the checked states is returned, never one that is worse than the start; also
        when ``progress`` is asked to stop and keep.

        Returns:
            The flow without folds, its similarity, and what was noticed.

        Raises:
            Cancelled: asked for through ``progress``, at every iteration.
        """
        if self._rigid is not None:
            flow = replace(flow, vectors=self._rigid.stiffened(flow.vectors))
        convergence = Convergence(flow, CHECKED_EVERY * LONGEST_STEP_VOXELS)
        squarings, previous = flow.squarings(convergence.margin_voxels), None
        self.prepare(flow, squarings)
        if self._landmarks is None and all(comparison.is_matched(flow.field(squarings)) for comparison in self._ahead):
            iterations = 0
        for iteration in range(iterations + 1):
            progress.update(iteration / (iterations + 1))
            value, update = self.step(flow, squarings)
            stopped = progress.wants_result()
            if iteration % CHECKED_EVERY == 0 or iteration == iterations or stopped:
                heard = convergence.check(flow, value)
                if heard is not None:
                    over, squarings = heard
                    if over:
                        break
            if stopped:
                break
            update = update if previous is None else update.add_(previous, alpha=MOMENTUM)
            previous = update
            flow = self._regularised(flow.stepped(update))
        del previous, update, flow  # unfolding needs the memory
        best, best_value, failed = convergence.result()
        findings = [NOT_FINITE] if failed else []
        best = unfold(best)
        if self._confined is not None:
            best = replace(best, vectors=self._confined.applied(best.vectors))
        return best, best_value, findings

    def value(self, flow: Flow) -> float:
        """The similarity under a flow."""
        squarings = flow.squarings(0.0)
        self.prepare(flow, squarings)
        return float(self.step(flow, squarings)[0])

    def prepare(self, flow: Flow, squarings: int) -> None:
        """Decide what counts under a flow."""
        for comparisons, sign in ((self._ahead, 1.0), (self._back, -1.0)):
            for comparison in comparisons:
                comparison.prepare(flow.field(squarings, sign))

    def step(self, flow: Flow, squarings: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The similarity under a flow, and the update in voxels of its grid that should raise it, at most half an
        image voxel."""
        field = flow.field(squarings)
        value, update = self._motion(self._ahead, field, self._landmarks)
        if self._back:
            value_back, update_back = self._motion(self._back, flow.field(squarings, -1.0), None)
            value, update = (value + value_back) / 2, (update - update_back) / 2
        length = update.square().sum(dim=0).sqrt_()
        update.mul_(LONGEST_STEP_VOXELS / length.clamp_min_(LONGEST_STEP_VOXELS))
        return value, update.mul_(self._grid_voxels)

    def _motion(
        self, comparisons: list[Comparison], field: torch.Tensor, landmarks: LandmarkPull | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted similarity, and the motion [3, K, J, I] that all parts want together."""
        total, sums = field.new_zeros(()), field.new_zeros((4, *field.shape[1:]))
        for weight, comparison in zip(self._weights, comparisons, strict=True):
            value, wanted = comparison.gather(field)
            usual = wanted[3].square().sum() / wanted[3].sum().clamp_min(1e-20)
            sums.add_(wanted.mul_(weight / usual.clamp_min(1e-20)))
            total = total + weight * value
        sums[:3].mul_(OVER_RELAXATION)
        if landmarks is not None:
            value, wanted = landmarks.gather(field)
            sums.add_(wanted)
            total = total + value
        return total, sums[:3].div_(sums[3] + RELATIVE_DAMPING * sum(self._weights))

    def _regularised(self, flow: Flow) -> Flow:
        vectors = filter_axes(flow.vectors, self._field_axes)
        vectors = vectors.mul_(self._taper) if self._confined is None else self._confined.applied(vectors)
        return replace(flow, vectors=vectors if self._rigid is None else self._rigid.stiffened(vectors))


def make_comparison(part: Part, pair: Pair, grid: Geometry, settings: DeformableSettings) -> Comparison:
    """A part at the scale of ``pair``, for flows on ``grid``."""
    return Comparison(pair, part.matrix, grid, part.similarity, settings.window_radius, settings.update_sigma_voxels)


def flow_domain(image: Geometry, field_coarsening: float) -> Geometry:
    """The fixed image and a margin of four voxels of the flow around it, where the flow goes down to 0."""
    margin = [round(PADDING_VOXELS * field_coarsening) if n > 1 else 0 for n in image.size_ijk]
    (i, j, k), (mi, mj, mk) = image.size_ijk, margin
    return image.window((-mi, -mj, -mk), (i + 2 * mi, j + 2 * mj, k + 2 * mk))


def flow_grid(domain: Geometry, image: Geometry, field_coarsening: float) -> Geometry:
    """The flow's grid for images of this grid; an axis of one voxel stays as it is."""
    i, j, k = (
        spacing * (field_coarsening if n > 1 else 1.0)
        for spacing, n in zip(image.spacing_mm, image.size_ijk, strict=True)
    )
    return domain.with_spacing((i, j, k))


def border_taper(geometry: Geometry, like: torch.Tensor) -> torch.Tensor:
    """[K, J, I]: 0 on the border voxels, rising to 1 over three voxels; 1 along an axis of one voxel."""
    ramps = []
    for n in geometry.shape_kji:
        position = torch.arange(n, dtype=like.dtype, device=like.device)
        inside = torch.minimum(position, n - 1 - position) / TAPER_VOXELS
        ramps.append(inside.clamp_max(1) if n > 1 else torch.ones_like(position))
    return ramps[0][:, None, None] * ramps[1][:, None] * ramps[2]
