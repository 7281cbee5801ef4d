"""The network over the image, tile by tile, giving finished planes. Segmentation walk: tiles -> [stream] -> restore.

Overlapping tiles are blended with a Gaussian weight (as in nnU-Net and MONAI). Only the planes that a later tile can
still reach are held: a ring of one tile's depth along the first axis. What is blended are the features before the
network's last 1x1x1 convolution where these are fewer than the classes: blending and that convolution are both linear,
so their order does not matter, and memory does not grow with the number of classes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch

from ..errors import NonFiniteOutput
from ..progress import SILENT, Progress
from .engines import Engine
from .tiles import Tiling, gaussian_weight

PLANE_GROUP_BYTES = 32 << 20
WAITING_BATCHES = 2


@dataclass(frozen=True, eq=False)
class Planes:
    """Finished planes of the image.

    Attributes:
        first: number of the first one.
        features: [F, n, J, I] float32, blended.
        covered: [n, J, I], False where every tile was left out; None where none was.
    """

    first: int
    features: torch.Tensor
    covered: torch.Tensor | None


@dataclass(frozen=True)
class Streaming:
    """How the network is run over the tiles.

    Attributes:
        order: the axis of the network (0, 1, 2 of k, j, i) that each axis of the image is; planes are streamed along
            the image's first axis.
        features: channels that are blended; scores where they are as many as the classes.
        batch: tiles at once.
        mirror: axes of the network over whose mirror images the features are averaged.
        blend_on: device that holds the ring; None: where the engines are.
    """

    order: tuple[int, int, int]
    features: int
    batch: int = 1
    mirror: tuple[int, ...] = ()
    blend_on: torch.device | None = None


def stream_planes(
    engines: Sequence[Engine],
    image: torch.Tensor,
    tiling: Tiling,
    streaming: Streaming,
    wanted: Callable[[torch.Tensor], bool] | None = None,
    progress: Progress = SILENT,
) -> Iterator[Planes]:
    """Finished planes of the blended features, in their order.

    Args:
        engines: members of an ensemble; their features are joined, or their scores averaged (``streaming.features``).
        image: [C, *tiling.padded].
        tiling: of the image, with axes in the image's order.
        streaming: how.
        wanted: told each tile [C, *tile]; False leaves it out. None runs all.
        progress: told before each batch; may cancel.

    Raises:
        NonFiniteOutput: a score is NaN or infinite.
        Cancelled: between two batches.
        torch.OutOfMemoryError: of the engines or of the ring, also from the thread that blends.
    """
    device = streaming.blend_on or engines[0].device
    ring = _Ring(streaming.features, tiling, device)
    ends = [*tiling.starts[0][1:], tiling.padded[0]]
    done = 0
    with _Blender(ring, beside=device != engines[0].device) as blender:
        for start, end in zip(tiling.starts[0], ends, strict=True):
            places = list(itertools.product(*tiling.starts[1:]))
            run = [p for p in places if wanted is None or wanted(_cut(image, (start, *p), tiling.tile))]
            done += len(places) - len(run)
            for first in range(0, len(run), streaming.batch):
                progress.update(done / tiling.count, f"tile {done + 1} of {tiling.count}")
                batch = run[first : first + streaming.batch]
                tiles = torch.stack([_cut(image, (start, *place), tiling.tile) for place in batch])
                blender.add(_features(engines, tiles, streaming), batch)
                done += len(batch)
            blender.wait()
            yield from ring.finish(start, end - start, may_have_holes=wanted is not None)


def stream_order(tiling: Tiling) -> tuple[int, int, int]:
    """Axes (0, 1, 2 of k, j, i), first the one along which a tile is the smallest share of the image."""
    shares = [tile / size for tile, size in zip(tiling.tile, tiling.padded, strict=True)]
    first = shares.index(min(shares))
    second, third = (axis for axis in range(3) if axis != first)
    return first, second, third


def _features(engines: Sequence[Engine], tiles: torch.Tensor, streaming: Streaming) -> torch.Tensor:
    """[N, C, *tile] in the image's axes -> [N, F, *tile] in the image's axes."""
    there = [2 + streaming.order.index(axis) for axis in range(3)]
    back = [2 + axis for axis in streaming.order]
    tiles = tiles.permute(0, 1, *there).to(engines[0].device).contiguous()
    flips = [c for n in range(len(streaming.mirror) + 1) for c in itertools.combinations(streaming.mirror, n)]
    found: torch.Tensor | None = None
    for flip in flips:
        axes = [2 + axis for axis in flip]
        one = _run(engines, tiles.flip(axes) if axes else tiles, streaming.features)
        one = one.flip(axes) if axes else one
        found = one if found is None else found + one
    assert found is not None
    return (found / len(flips) if len(flips) > 1 else found).permute(0, 1, *back)


def _run(engines: Sequence[Engine], tiles: torch.Tensor, features: int) -> torch.Tensor:
    """Joined features of all engines, or the mean of their scores where that many channels are asked for."""
    joined, total = [], None
    for engine in engines:
        result = engine.run(tiles)
        if engine.head and features < engine.head.weight.shape[0]:
            joined.append(result)
        else:
            scores = engine.head.scores(result) if engine.head else result
            total = scores if total is None else total + scores
    if total is None:
        return torch.cat(joined, dim=1) if len(joined) > 1 else joined[0]
    return total / len(engines) if len(engines) > 1 else total


def _cut(image: torch.Tensor, start: tuple[int, int, int], size: tuple[int, int, int]) -> torch.Tensor:
    k, j, i = (slice(s, s + n) for s, n in zip(start, size, strict=True))
    return image[:, k, j, i]


class _Ring:
    """Weighted sums over one tile's depth of planes."""

    def __init__(self, features: int, tiling: Tiling, device: torch.device) -> None:
        self._tiling = tiling
        self._weight = gaussian_weight(tiling.tile, tiling.even).to(device)
        self._total = torch.zeros((features, tiling.tile[0], *tiling.padded[1:]), device=device)
        self._weights = torch.zeros_like(self._total[0])

    def add(self, features: torch.Tensor, places: Sequence[tuple[int, int]]) -> None:
        """Add tiles [N, F, *tile] at (j, i)."""
        _, rows, columns = self._tiling.tile
        for one, (j, i) in zip(features, places, strict=True):
            window = (slice(None), slice(j, j + rows), slice(i, i + columns))
            self._total[slice(None), window[0], window[1], window[2]].addcmul_(one.to(self._weight), self._weight)
            self._weights[window] += self._weight

    def finish(self, start: int, count: int, may_have_holes: bool) -> Iterator[Planes]:
        """Give the first ``count`` planes, a few at a time and without padding, then move on by as many."""
        tiling = self._tiling
        group = max(1, PLANE_GROUP_BYTES // (4 * self._total[:, 0].numel()))
        rows, columns = (slice(b, b + n) for b, n in zip(tiling.before[1:], tiling.size[1:], strict=True))
        low, high = (min(max(edge - start, 0), count) for edge in (tiling.before[0], tiling.before[0] + tiling.size[0]))
        for first in range(low, high, group):
            planes = slice(first, min(first + group, high))
            weights = self._weights[planes, rows, columns]
            covered = weights > 0 if may_have_holes else None
            features = self._total[:, planes, rows, columns] / (weights.clamp(min=1e-9) if may_have_holes else weights)
            _require_finite(features)
            yield Planes(start + first - tiling.before[0], features, covered)
        kept = self._total.shape[1] - count
        for sums in (self._total, self._weights[None]):
            sums[:, :kept] = sums[:, count:].clone()
            sums[:, kept:] = 0


class _Blender:
    """Adds tiles to the ring: at once, or in a thread beside the network where the ring is on another device."""

    def __init__(self, ring: _Ring, beside: bool) -> None:
        self._ring = ring
        self._pool = ThreadPoolExecutor(1) if beside else None
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _Blender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, features: torch.Tensor, places: Sequence[tuple[int, int]]) -> None:
        """What went wrong with an earlier tile is raised here."""
        if self._pool is None:
            self._ring.add(features, places)
            return
        self._waiting.append(self._pool.submit(self._ring.add, features, places))
        while len(self._waiting) > WAITING_BATCHES:
            self._waiting.popleft().result()

    def wait(self) -> None:
        """Until every tile is in the ring; what went wrong with one is raised here."""
        while self._waiting:
            self._waiting.popleft().result()


def _require_finite(scores: torch.Tensor) -> None:
    if not torch.isfinite(torch.stack(scores.aminmax())).all():  # reads once and writes nothing; NaN passes on
        raise NonFiniteOutput(
            "The network gave NaN or infinite scores",
            "finite scores",
            "check the intensities of the image (units, NaN) and the model",
        )
