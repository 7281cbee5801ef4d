"""How every point of a key frame moves through a sequence, frame by frame. First half of :mod:`.sequence`.

Each frame is reached from its neighbour on the side of the key frame: the neighbour is registered to it, coarsely, and
that step is where the registration of the key frame itself begins, which corrects what would add up over the steps.
The two answers, direct and over the neighbour, check each other. The direct ones are smoothed through time
(:mod:`.trajectories`). Fields wait in a file, and of the images only those of three frames are in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ..geometry import Geometry
from ..image import Image
from ..progress import Progress
from ..register.dense import DenseTask, register_dense
from ..register.displacement import from_displacement
from ..register.flow import DisplacementField
from ..register.guidance import Guidance
from ..register.linear import register_linear
from ..register.pyramid import Study, prepare_study
from ..register.settings import DeformableSettings, RegistrationSettings
from ..register.solution import Solution
from ..register.unfold import unfold
from ..transform import Affine, Displacement, Transform
from .trajectories import Route, choose_stiffness, smoothing_matrix

STEP_SHARE, LINEAR_SHARE = 0.25, 0.1


class Motion:
    """Where the points of a key frame lie in each frame of a route; made by :func:`follow`.

    Attributes:
        route: frames by position.
        grid: the points: voxels of a grid over the key frame.
        matrices: [n] 4x4, the linear part, key frame RAS to frame RAS.
        seen: [n, 3, K, J, I] mm, displacement of each point by the direct registration; 0 at the key frame.
        via: [edges, 3, K, J, I] mm, the same at the end of each edge: where it begins, and the step from there.
        smoothing: [n, n], see :func:`.trajectories.smoothing_matrix`.
    """

    def __init__(self, route: Route, grid: Geometry, folder: Path) -> None:
        self.route, self.grid = route, grid
        n = len(route.numbers)
        self.matrices, self.smoothing = [np.eye(4)] * n, np.eye(n)
        self.seen, self.via = (
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (count, 3, *grid.shape_kji))
            for name, count in (("seen", n), ("via", len(route.edges)))
        )

    def smooth(self) -> float:
        """Smooth the places through time from now on; gives the stiffness that was chosen, 0 for none."""
        fields = self.seen.reshape(len(self.seen), -1)
        products = np.array([[float(np.dot(one, other)) for other in fields] for one in fields])
        apart = [
            np.square(via - self.seen[stop]).sum() for (_, stop), via in zip(self.route.edges, self.via, strict=True)
        ]
        stiffness = choose_stiffness(self.route, products, float(np.mean(apart)))
        self.smoothing = smoothing_matrix(self.route, stiffness)
        return stiffness

    def solution(self, position: int) -> Solution:
        """Key frame RAS to frame RAS, smoothed, without folds, with its inverse."""
        places = np.zeros(self.seen.shape[1:], np.float32)
        for weight, seen in zip(self.smoothing[position], self.seen, strict=True):
            places += np.float32(weight) * seen
        return self._solution(places, self.matrices[position])

    def measured(self, position: int) -> Transform:
        """Key frame RAS to frame RAS by the direct registration alone."""
        return self._solution(np.array(self.seen[position]), self.matrices[position]).transform

    def over_neighbour(self, position: int) -> Transform:
        """Key frame RAS to frame RAS by the place in the neighbouring frame and the step from there."""
        number = next(number for number, (_, stop) in enumerate(self.route.edges) if stop == position)
        return self._solution(np.array(self.via[number]), self.matrices[position]).transform

    def around(self) -> np.ndarray:
        """[3, K, J, I] mm: by what each point misses itself after all steps round a closed route."""
        sums = np.zeros_like(self.seen)
        *tree, gap = self.route.edges
        for (start, stop), via in zip(tree, self.via[:-1], strict=True):
            sums[stop] = sums[start] + via - self.seen[start]
        start, stop = gap
        return sums[start] + self.via[-1] - self.seen[start] - sums[stop]

    def _solution(self, places: np.ndarray, matrix: np.ndarray) -> Solution:
        total = Transform((Displacement(torch.from_numpy(places), self.grid), Affine(matrix).inverse()))
        flow = DisplacementField(from_displacement(total.to_displacement(self.grid)), self.grid)
        return Solution(matrix, unfold(flow))


@contextmanager
def follow(
    frames: Sequence[Image],
    route: Route,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> Iterator[Motion]:
    """Register the key frame of a route to all its other frames; the fields are gone afterwards.

    Args:
        frames: of the whole sequence, by number; each is asked for a few times.
        settings: with a dense stage.

    Raises:
        NoOverlap, Diverged: a frame cannot be brought together with the key frame.
        Cancelled: asked for through ``progress``.
    """
    dense = settings.deformable
    assert dense is not None
    coarse, fine = _without_finest(dense), _without_coarsest(dense)
    studies = _Studies(frames, route, device)
    edges, known = route.edges, {route.key}
    with tempfile.TemporaryDirectory(prefix="medsegreg-") as folder:
        motion: Motion | None = None
        for number, (start, stop) in enumerate(edges):
            share = progress.part(number / len(edges), (number + 1) / len(edges))
            share.update(0.0, f"following frame {route.numbers[stop]}")
            pair = studies[start], studies[stop]
            step = _register(pair, settings, coarse, None, share.part(0.0, STEP_SHARE)).transform
            before = Transform() if motion is None else motion.measured(start)
            via = before.then(step)
            if stop not in known:
                pair = studies[route.key], studies[stop]
                direct = _register(pair, settings, fine, via, share.part(STEP_SHARE, 1.0))
                assert direct.flow is not None
                motion = motion or Motion(route, direct.flow.geometry, Path(folder))
                motion.matrices[stop] = direct.matrix
                motion.seen[stop] = direct.transform.to_displacement(motion.grid).vectors_ras_mm
                known.add(stop)
            assert motion is not None
            motion.via[number] = via.to_displacement(motion.grid).vectors_ras_mm
        assert motion is not None
        yield motion


def _without_finest(dense: DeformableSettings) -> DeformableSettings:
    """A step between neighbours is small, and only a start and a check."""
    kept = max(1, len(dense.coarsening) - 1)
    change = {"coarsening": dense.coarsening[:kept], "iterations": dense.iterations[:kept], "first_level": 0}
    stiffness = 1.0 if dense.stiffness == "auto" else dense.stiffness  # as the direct registration takes it
    return dense.model_copy(update={**change, "stiffness": stiffness})


def _without_coarsest(dense: DeformableSettings) -> DeformableSettings:
    """For a start that is near."""
    return dense.model_copy(update={"first_level": max(dense.first_level, min(1, len(dense.coarsening) - 1))})


def _register(
    pair: tuple[Study, Study],
    settings: RegistrationSettings,
    dense: DeformableSettings,
    initial: Transform | None,
    progress: Progress,
) -> Solution:
    start = np.eye(4) if initial is None else initial.linear_part
    matrix, _ = register_linear(pair, settings, start, progress.part(0.0, LINEAR_SHARE))
    task = DenseTask(*pair, matrix, dense, Guidance(), initial)
    flow, _ = register_dense(task, progress.part(LINEAR_SHARE, 1.0), lambda *_: None)
    return Solution(matrix, flow)


class _Studies:
    """The frames of a route by position. Kept are the key frame and the last two others."""

    def __init__(self, frames: Sequence[Image], route: Route, device: torch.device) -> None:
        self._frames, self._route, self._device = frames, route, device
        self._kept: dict[int, Study] = {}

    def __getitem__(self, position: int) -> Study:
        if position not in self._kept:
            others = [other for other in self._kept if other != self._route.key]
            if len(others) > 1:
                del self._kept[others[0]]
            self._kept[position] = prepare_study(self._frames[self._route.numbers[position]], None, self._device)
        return self._kept[position]
