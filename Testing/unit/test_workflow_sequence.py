"""Labels carried through phantoms whose motion is known: there and back, in a cycle, between two key frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from register_phantoms import bent, make_bend, make_head
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import Cancelled, InputError, InvalidSetting
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.invert import invert
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings
from MedSegRegLib.resample import resample_image
from MedSegRegLib.transform import Affine, Displacement, Transform
from MedSegRegLib.workflows.frame_review import frame_columns
from MedSegRegLib.workflows.sequence import SETTINGS, plan_routes, propagate
from MedSegRegLib.workflows.soft_labels import transfer_labels

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Geometry.from_spacing((24, 24, 24), (2.0, 2.0, 2.0), (-23.0, -23.0, -23.0))
FAST = RegistrationSettings(
    linear="none", deformable=DeformableSettings(coarsening=(2.0, 1.0), iterations=(12, 8), stiffness=1.0)
)
COUNT = 6
HEAD = make_head(GRID)
BEND = make_bend(GRID, largest_mm=5.0, sigma_mm=8.0)
AMPLITUDES = [(1 - np.cos(2 * np.pi * n / COUNT)) / 2 for n in range(COUNT)]


def ball(centre: tuple[float, float, float], radius_mm: float = 8.0) -> Labels:
    k, j, i = np.indices(GRID.shape_kji)
    ras = GRID.map_voxels(np.stack((i, j, k), axis=-1))
    array = (np.linalg.norm(ras - centre, axis=-1) < radius_mm).astype(np.uint8) * 4
    return Labels.from_array(array, GRID, (Structure(4, "ball"),), "drawn")


DRAWN = ball((2.0, -3.0, 1.0))
PLACES = [Transform((Displacement(amplitude * BEND.vectors_ras_mm, GRID),)) for amplitude in AMPLITUDES]
"""From each frame to the key frame."""
FRAMES = [bent(HEAD, place.stages[0], seed=number) for number, place in enumerate(PLACES)]
TRUTH = [transfer_labels(DRAWN, GRID, place) for place in PLACES]


def dice(a: Labels, b: Labels) -> float:
    one, other = a.numpy() == 4, b.numpy() == 4
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def run(frames=FRAMES, keys=None, **options):
    carried = []
    told = propagate(frames, keys or {0: DRAWN}, carried.append, settings=FAST, **options)
    return told, carried


@pytest.fixture(scope="module")
def cycle():
    return run(cyclic=True)


def test_labels_follow_the_anatomy_in_every_frame(cycle):
    _, frames = cycle
    assert [frame.number for frame in frames] == list(range(COUNT))
    far = frames[COUNT // 2]
    assert dice(DRAWN, TRUTH[COUNT // 2]) < 0.88
    for frame, truth in zip(frames, TRUTH, strict=True):
        assert dice(frame.labels, truth) > 0.9
        assert frame.labels.structures == DRAWN.structures
    assert far.labels.geometry.same_grid(GRID)


def test_the_key_frame_keeps_its_own_labels(cycle):
    first = cycle[1][0]
    assert np.array_equal(first.labels.numpy(), DRAWN.numpy())
    assert first.review is None
    assert first.transform.stages == ()


def test_transforms_lead_from_each_frame_to_the_key_frame_and_back(cycle):
    points = GRID.map_voxels(np.argwhere(DRAWN.numpy() > 0)[::5, ::-1])
    for frame, place in zip(cycle[1], PLACES, strict=True):
        errors = np.linalg.norm(frame.transform.map_points(points) - place.map_points(points), axis=1)
        assert errors.mean() < 0.5
        np.testing.assert_allclose(frame.inverse.map_points(frame.transform.map_points(points)), points, atol=0.1)


def test_every_other_frame_is_reviewed_the_least_certain_first(cycle):
    told, frames = cycle
    assert {review.number for review in told.reviews} == {1, 2, 3, 4, 5}
    confidences = [review.confidence for review in told.reviews]
    assert confidences == sorted(confidences)
    for review in told.reviews:
        assert 0.6 < review.confidence < 1
        assert review.doubtful == "ball"
        assert review.disagreement_mm < 0.6
    moved = {review.number: review.motion_mm for review in told.reviews}
    assert moved[3] > moved[1] + 0.5
    assert frames[3].review in told.reviews


def test_a_cycle_is_told_how_well_it_closes(cycle):
    told, _ = cycle
    assert told.around_mm < 1.0
    assert "Carried 1 structure from frame 0 to 5 others." in told.sentence
    assert f"miss themselves by {told.around_mm:.1f} mm" in told.sentence


def test_smooth_paths_tremble_less(cycle):
    rough = run(cyclic=True, smooth=False)
    points = GRID.map_voxels(np.argwhere(DRAWN.numpy() > 0)[::5, ::-1])
    true = np.stack([invert(place).map_points(points) for place in PLACES])
    trembling = []
    for _, frames in (cycle, rough):
        errors = np.stack([frame.inverse.map_points(points) for frame in frames]) - true
        bends = np.roll(errors, 1, axis=0) - 2 * errors + np.roll(errors, -1, axis=0)
        trembling.append(np.linalg.norm(bends, axis=-1).mean())
    assert cycle[0].stiffness[0] > 0
    assert rough[0].stiffness == (0.0,)
    assert trembling[0] < trembling[1]


def test_a_frame_that_shows_something_else_is_named_first():
    frames = list(FRAMES[:4])
    frames[2] = Image(make_head(GRID, seed=91).tensor, GRID, "another head")
    told, _ = run(frames)
    assert told.reviews[0].number == 2
    assert told.reviews[0].confidence < told.reviews[-1].confidence - 0.1
    assert told.around_mm is None
    assert "Look first at frame 2 (ball)" in told.sentence


def test_frames_between_two_key_frames_get_something_of_both():
    lower = ball((2.0, -3.0, -3.0), radius_mm=6.0)
    still = [HEAD] * 4
    told, frames = run(still, {0: ball((2.0, -3.0, 3.0), 6.0), 3: lower})
    heights = [GRID.map_voxels(np.argwhere(frame.labels.numpy() == 4)[:, ::-1]).mean(axis=0)[2] for frame in frames]
    np.testing.assert_allclose(heights, (3.0, 1.0, -1.0, -3.0), atol=0.7)
    assert [(check.number, check.key) for check in told.keys] == [(0, 3), (3, 0)]
    assert told.keys[0].dice["ball"] < 0.6, "they were drawn at different places of a head that did not move"
    assert [review.key for review in sorted(told.reviews, key=lambda review: review.number)] == [0, 3]


def test_no_more_than_a_few_frames_are_asked_for_at_a_time():
    alive: list[int] = []

    class Counted(list):
        def __getitem__(self, number):
            import weakref  # noqa: PLC0415

            image = replace(FRAMES[number], name=f"frame {number}")
            alive.append(number)
            weakref.finalize(image, alive.remove, number)
            most.append(len(alive))
            return image

    most: list[int] = []
    run(Counted(FRAMES[:5]))
    assert max(most) <= 4


def test_a_slice_in_time_is_a_sequence_too():
    flat = [Image(frame.tensor[:, 11:12], GRID.window((0, 0, 11), (24, 24, 1))) for frame in FRAMES[:3]]
    drawn = Labels.from_array(DRAWN.numpy()[11:12], flat[0].geometry, DRAWN.structures)
    _, frames = run(flat, {1: drawn})
    assert [frame.labels.numpy().shape for frame in frames] == [(1, 24, 24)] * 3
    assert all((frame.labels.numpy() == 4).sum() > 20 for frame in frames)


def test_a_body_that_moves_as_a_whole_is_followed_by_a_linear_stage_first():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 8, degrees=True).as_matrix()
    turn[:3, 3] = 5.0, -3.0, 2.0
    places = [Transform(), Transform((Affine(np.linalg.inv(turn)),))]
    frames = [resample_image(HEAD, GRID, place) for place in places]
    carried = []
    settings = FAST.model_copy(update={"linear": "rigid", "linear_search": False, "linear_voxels": 8000})
    propagate(frames, {0: DRAWN}, carried.append, settings=settings)
    points = GRID.map_voxels(np.argwhere(DRAWN.numpy() > 0)[::5, ::-1])
    moved = places[1].map_points(points)
    assert np.linalg.norm(moved - points, axis=1).mean() > 5
    assert np.linalg.norm(carried[1].transform.map_points(points) - moved, axis=1).mean() < 0.6
    np.testing.assert_allclose(carried[1].inverse.map_points(carried[1].transform.map_points(points)), points, atol=0.1)


def test_a_contrast_that_turns_round_is_followed_by_its_preset():
    far = COUNT // 2
    other = Image(torch.where(FRAMES[far].tensor > 0.5, 12 - FRAMES[far].tensor, 0.0), GRID)
    carried = []
    propagate([HEAD, other], {0: DRAWN}, carried.append, settings=SETTINGS["changing-contrast"])
    assert dice(carried[1].labels, TRUTH[far]) > dice(DRAWN, TRUTH[far]) + 0.05


def test_the_table_has_a_row_a_frame_in_the_order_of_time(cycle):
    columns = frame_columns(cycle[0].reviews)
    assert columns["frame"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert {len(cells) for cells in columns.values()} == {5}


def test_routes_reach_from_key_frame_to_key_frame():
    (whole,) = plan_routes(5, [2], cyclic=True)
    assert (whole.numbers, whole.key, whole.closed) == ((0, 1, 2, 3, 4), 2, True)
    routes = plan_routes(6, [1, 4], cyclic=True)
    assert [route.numbers for route in routes] == [(4, 5, 0, 1, 2, 3, 4), (1, 2, 3, 4, 5, 0, 1)]
    assert [route.numbers[route.key] for route in routes] == [1, 4]


def test_carrying_can_be_cancelled():
    with pytest.raises(Cancelled):
        run(progress=Progress(should_cancel=lambda: True))


@pytest.mark.parametrize(
    ("frames", "keys", "complaint"),
    [
        (FRAMES[:1], {0: DRAWN}, "1 frames"),
        (FRAMES, {9: DRAWN}, r"\[9\]"),
        (FRAMES, {1: Labels(torch.zeros_like(DRAWN.tensor), GRID, DRAWN.structures)}, "empty"),
        (FRAMES, {0: DRAWN, 2: replace(DRAWN, structures=(Structure(4, "cube"),))}, "'cube' in frame 2"),
        ([HEAD, Image(torch.full_like(HEAD.tensor, torch.nan), GRID)], {0: DRAWN}, "NaN"),
    ],
)
def test_what_cannot_be_carried_is_refused_before_any_work(frames, keys, complaint):
    with pytest.raises(InputError, match=complaint):
        run(frames, keys)


def test_settings_that_cannot_deform_are_refused():
    with pytest.raises(InvalidSetting, match="deformable"):
        propagate(FRAMES, {0: DRAWN}, lambda frame: None, settings=RegistrationSettings(deformable=None))
