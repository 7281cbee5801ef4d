"""A segmentation of one frame of a sequence, or of a few, carried to all: in the heart, in breathing, in a joint.

The walk: each key frame is followed to the frames around it (:mod:`.motion`) -> its labels go along, and between two
key frames those of both are blended by how near they are (:mod:`.blend_labels`) -> every frame is reviewed. A frame
is handed on as soon as it is complete, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..check_image import Need, check_image
from ..errors import InputError, InvalidSetting
from ..image import Image, Labels
from ..progress import SILENT, Progress
from ..register.presets import PRESETS
from ..register.settings import RegistrationSettings
from ..report import Finding
from ..transform import Displacement, Transform
from .blend_labels import blend_labels
from .carry_review import DOUBTFUL
from .frame_review import FrameReview, KeyReview, review_frame, review_key
from .motion import Motion, follow
from .soft_labels import transfer_labels
from .trajectories import Route

SETTINGS: dict[str, RegistrationSettings] = {
    "same-contrast": PRESETS["deformable"].model_copy(update={"linear": "none"}),
    "changing-contrast": PRESETS["deformable-different-modality"].model_copy(update={"linear": "none"}),
    "moving-body": PRESETS["deformable"].model_copy(update={"linear": "rigid"}),
}
"""Named for what a person has in hand: one contrast in all frames; contrast agent, or perfusion; a head or a limb that
moves as a whole before it deforms."""
CHECKED_SHARE, FOLLOWED_SHARE = 0.02, 0.85
NAMED = 5


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame, complete.

    Attributes:
        number: of the frame, from 0.
        labels: on the frame's own grid.
        transform: frame RAS to RAS of its nearest key frame: the key frame's study is placed under it.
        inverse: the way back: what points and surfaces of the key frame go through.
        review: how far it can be trusted; None for key frames.
    """

    number: int
    labels: Labels
    transform: Transform
    inverse: Transform
    review: FrameReview | None


@dataclass(frozen=True)
class Propagation:
    """What can be said of all frames together.

    Attributes:
        reviews: of the frames without labels of their own, the least certain first.
        keys: what each key frame would have got from another, against its own labels.
        around_mm: by how much points of the structures miss themselves on the way round a cycle by steps from frame to
            frame alone, mean; None without a cycle or with several key frames.
        stiffness: of the paths through time, one a key frame; 0 where nothing was smoothed.
        sentence: what was carried, and where to look first.
        findings: what was noticed.
    """

    reviews: tuple[FrameReview, ...]
    keys: tuple[KeyReview, ...]
    around_mm: float | None
    stiffness: tuple[float, ...]
    sentence: str
    findings: tuple[Finding, ...]


def propagate(
    frames: Sequence[Image],
    keys: Mapping[int, Labels],
    on_frame: Callable[[Frame], None],
    *,
    settings: RegistrationSettings = SETTINGS["same-contrast"],
    cyclic: bool = False,
    smooth: bool = True,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> Propagation:
    """Carry the labels of key frames to all frames of a sequence.

    Args:
        frames: in the order of time, on any grids; asked for by number, a few times each, and never kept.
        keys: number of a key frame -> its labels, on any grid in its space; values mean the same in all.
        on_frame: given each frame in the order of time.
        settings: of the registrations; with a dense stage. A linear stage before it serves whole bodies that move.
        cyclic: the last frame is followed by the first one.
        smooth: let paths be smooth through time, as far as the frames themselves say that they are.
        device, progress: as in :func:`~MedSegRegLib.register.run.register`.

    Raises:
        InputError: fewer than two frames, no labels, a key frame that is not there, a frame that cannot be worked on.
        InvalidSetting: settings without a dense stage.
        NoOverlap, Diverged, Cancelled: as :func:`~MedSegRegLib.register.run.register`.
    """
    keys, device = dict(sorted(keys.items())), torch.device(device)
    findings = _check(frames, keys, settings, progress.part(0.0, CHECKED_SHARE))
    routes = plan_routes(len(frames), list(keys), cyclic)
    with ExitStack() as stack:
        motions, edges = [], sum(len(route.edges) for route in routes)
        done = 0
        for route in routes:
            shares = (
                CHECKED_SHARE + (FOLLOWED_SHARE - CHECKED_SHARE) * n / edges for n in (done, done + len(route.edges))
            )
            motions.append(stack.enter_context(follow(frames, route, settings, device, progress.part(*shares))))
            done += len(route.edges)
        stiffness = tuple(motion.smooth() if smooth else 0.0 for motion in motions)
        carried = _Carrying(frames, keys, motions)
        reviews, checks = [], []
        for number in range(len(frames)):
            share = FOLLOWED_SHARE + (1 - FOLLOWED_SHARE) * number / len(frames)
            progress.update(share, f"carrying the labels to frame {number}")
            frame = carried.frame(number)
            checks += carried.checks_of_key(number)
            if frame.review is not None:
                reviews.append(frame.review)
            on_frame(frame)
        around = carried.around_mm()
    progress.update(1.0, "done")
    reviews.sort(key=lambda review: review.confidence)
    return Propagation(
        tuple(reviews), tuple(checks), around, stiffness, _describe(len(frames), keys, reviews, around), tuple(findings)
    )


def plan_routes(count: int, keys: Sequence[int], cyclic: bool) -> list[Route]:
    """One route a key frame: from the key frame before it, or the first frame, to the next one, or the last frame.

    >>> [(route.numbers, route.key) for route in plan_routes(6, [1, 4], cyclic=False)]
    [((0, 1, 2, 3, 4), 1), ((1, 2, 3, 4, 5), 3)]
    """
    if cyclic and len(keys) == 1:
        return [Route(tuple(range(count)), keys[0], closed=True)]
    routes = []
    for place, key in enumerate(keys):
        first, last = place == 0, place == len(keys) - 1
        before = keys[place - 1] - (count if first else 0) if cyclic or not first else 0
        after = keys[(place + 1) % len(keys)] + (count if last else 0) if cyclic or not last else count - 1
        routes.append(Route(tuple(n % count for n in range(before, after + 1)), key - before))
    return routes


class _Carrying:
    """Labels of the key frames along their motions."""

    def __init__(self, frames: Sequence[Image], keys: Mapping[int, Labels], motions: Sequence[Motion]) -> None:
        self._frames, self._keys, self._motions = frames, keys, motions
        self._key_images = {number: frames[number] for number in keys}

    def frame(self, number: int) -> Frame:
        """The labels of one frame, with their review."""
        image = self._frames[number]
        if number in self._keys:
            own = transfer_labels(self._keys[number], image.geometry, Transform())
            return Frame(number, own, Transform(), Transform(), None)
        found = [(motion, position) for motion in self._motions for position in self._positions(motion, number)]
        weights = [self._weight(motion, position) for motion, position in found]
        solutions = [motion.solution(position) for motion, position in found]
        maps = [
            transfer_labels(self._labels(motion), image.geometry, solution.inverse)
            for (motion, _), solution in zip(found, solutions, strict=True)
        ]
        labels = blend_labels(maps, weights)
        nearest = int(np.argmax(weights))
        (motion, position), solution = found[nearest], solutions[nearest]
        key = motion.route.numbers[motion.route.key]
        images, drawn = (self._key_images[key], image), (self._keys[key], labels)
        review = review_frame(number, key, images, drawn, solution, motion.over_neighbour(position))
        return Frame(number, labels, solution.inverse, solution.transform, review)

    def checks_of_key(self, number: int) -> list[KeyReview]:
        """What a key frame would have got from the others; nothing for other frames."""
        if number not in self._keys:
            return []
        own = transfer_labels(self._keys[number], self._frames[number].geometry, Transform())
        checks = []
        for motion in self._motions:
            for position in self._positions(motion, number):
                key = motion.route.numbers[motion.route.key]
                inverse = motion.solution(position).inverse
                checks.append(review_key(number, key, own, transfer_labels(self._keys[key], own.geometry, inverse)))
        return checks

    def around_mm(self) -> float | None:
        """See :class:`Propagation`."""
        if len(self._motions) > 1 or not self._motions[0].route.closed:
            return None
        motion, labels = self._motions[0], self._labels(self._motions[0])
        points = labels.geometry.map_voxels(np.argwhere(labels.numpy() > 0)[:, ::-1])
        missed = Transform((Displacement(torch.from_numpy(motion.around()), motion.grid),)).map_points(points) - points
        return float(np.linalg.norm(missed, axis=1).mean())

    def _labels(self, motion: Motion) -> Labels:
        return self._keys[motion.route.numbers[motion.route.key]]

    def _positions(self, motion: Motion, number: int) -> list[int]:
        """Where a frame is on a route other than as its key; twice where the route begins and ends at the same one."""
        route = motion.route
        return [place for place, other in enumerate(route.numbers) if other == number and place != route.key]

    def _weight(self, motion: Motion, position: int) -> float:
        """1 at the key frame, falling to 0 at the next one."""
        route = motion.route
        end = 0 if position < route.key else len(route.numbers) - 1
        if route.closed or route.numbers[end] not in self._keys:
            return 1.0
        return (position - end) / (route.key - end)


def _check(
    frames: Sequence[Image], keys: Mapping[int, Labels], settings: RegistrationSettings, progress: Progress
) -> list[Finding]:
    """Refuse what cannot be carried, before any work."""
    if settings.deformable is None:
        raise InvalidSetting(
            "The settings have no deformable stage",
            "settings that let the anatomy deform",
            "choose a deformable preset",
        )
    if len(frames) < 2:
        raise InputError(f"The sequence has {len(frames)} frames", "two or more", "choose a sequence")
    if not keys or not all(0 <= number < len(frames) for number in keys):
        raise InputError(
            f"The key frames are {list(keys)}",
            f"one or more of 0 to {len(frames) - 1}",
            "choose frames of the sequence",
        )
    names: dict[int, str] = {}
    for number, labels in keys.items():
        if not (labels.numpy() > 0).any():
            raise InputError(f"The labels of frame {number} are empty", "at least one voxel", "choose its segmentation")
        for structure in labels.structures:
            if names.setdefault(structure.value, structure.name) != structure.name:
                raise InputError(
                    f"Label {structure.value} is '{structure.name}' in frame {number} and "
                    f"'{names[structure.value]}' in another key frame",
                    "values that mean the same in all key frames",
                    "renumber or rename the labels",
                )
    return _check_frames(frames, progress)


def _check_frames(frames: Sequence[Image], progress: Progress) -> list[Finding]:
    findings: dict[tuple[str, str], Finding] = {}
    channels = None
    for number, frame in enumerate(frames):
        progress.update(number / len(frames), f"checking frame {number}")
        slices = min(frame.geometry.size_ijk) == 1
        need = Need("register", channels=channels, minimum_size=4, allow_single_slice=slices)
        for finding in check_image(frame, need)[1]:
            told = replace(finding, message=f"Frame {number}: {finding.message}")
            findings.setdefault((finding.message, finding.fix), told)
        channels = len(frame.tensor)
    return list(findings.values())


def _describe(count: int, keys: Mapping[int, Labels], reviews: Sequence[FrameReview], around_mm: float | None) -> str:
    structures = len({value for labels in keys.values() for value in np.unique(labels.numpy()).tolist()} - {0})
    doubtful = [review for review in reviews if review.confidence < DOUBTFUL]
    look = ", ".join(f"{review.number} ({review.doubtful})" for review in doubtful[:NAMED])
    more = " and others" if doubtful[NAMED:] else ""
    sentences = [
        f"Carried {structures} structure{'s' if structures > 1 else ''} from frame {', '.join(map(str, keys))} to "
        f"{count - len(keys)} others."
    ]
    if look:
        sentences.append(f"Look first at frame {look}{more}.")
    if around_mm is not None:
        sentences.append(f"From frame to frame round the cycle, points miss themselves by {around_mm:.1f} mm.")
    return " ".join(sentences)
