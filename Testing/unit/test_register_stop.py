"""A registration that is asked to stop keeps the best of what it has done."""

from __future__ import annotations

import numpy as np
import pytest
from register_phantoms import bent, make_bend, make_head

from MedSegRegLib.errors import Cancelled
from MedSegRegLib.progress import Progress
from MedSegRegLib.register.run import Registration, register
from MedSegRegLib.register.settings import DeformableSettings, RegistrationSettings

SETTINGS = RegistrationSettings(linear="none", deformable=DeformableSettings(stiffness=1.0))


class StopAfter:
    """True from the n-th level on, for ``should_stop``."""

    def __init__(self, levels: int) -> None:
        self.left = levels

    def __call__(self) -> bool:
        return self.left <= 0

    def on_level(self, *_) -> None:
        self.left -= 1


def stopped_after(levels: int) -> tuple[Registration, int]:
    """A result, and how many levels were reported."""
    head, bend, stop, shown = make_head(), make_bend(), StopAfter(levels), []

    def on_level(transform, report) -> None:
        shown.append(report)
        stop.on_level()

    result = register(bent(head, bend), head, SETTINGS, progress=Progress(should_stop=stop), on_level=on_level)
    return result, len(shown)


def test_the_work_of_the_levels_so_far_is_kept():
    whole, all_levels = stopped_after(100)
    early, levels = stopped_after(1)
    assert all_levels == 3
    assert levels == 1
    assert early.quality.before < early.quality.after < whole.quality.after
    assert early.quality.folding.voxels_any_corner == 0
    assert early.quality.inverse_consistency.mean_mm < 0.1
    assert any("Stopped on request" in finding.message for finding in early.findings)
    assert not any("Stopped" in finding.message for finding in whole.findings)


def test_stopping_before_the_dense_stage_keeps_the_linear_part():
    result, levels = stopped_after(0)
    assert levels == 1
    assert result.quality.largest_motion_mm == 0
    np.testing.assert_array_equal(result.transform.linear_part, np.eye(4))


def test_cancelling_wins_over_stopping():
    head = make_head()
    asked = Progress(should_cancel=lambda: True, should_stop=lambda: True)
    with pytest.raises(Cancelled):
        register(head, head, SETTINGS, progress=asked)


def test_a_part_hears_the_wish_of_the_whole():
    asked: list[str] = []
    part = Progress(should_stop=lambda: bool(asked)).part(0.2, 0.4).part(0.0, 1.0)
    assert not part.wants_result()
    asked.append("stop")
    assert part.wants_result()
    part.update(0.5)  # which goes on, unlike one that is cancelled
