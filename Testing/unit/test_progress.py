"""Progress: fractions of parts, and stopping."""

from __future__ import annotations

import pytest

from MedSegRegLib.errors import Cancelled
from MedSegRegLib.progress import SILENT, Progress


def test_parts_of_parts_fill_their_share_of_the_whole():
    seen = []
    whole = Progress(lambda fraction, message: seen.append((fraction, message)))
    whole.part(0.5, 1.0).part(0.0, 0.5).update(1.0, "half of the second half")
    assert seen == [(0.75, "half of the second half")]


@pytest.mark.parametrize(("fraction", "shown"), [(-0.2, 0.0), (0.3, 0.3), (1.0000001, 1.0)])
def test_fractions_stay_between_0_and_1(fraction, shown):
    seen = []
    Progress(lambda value, _: seen.append(value)).update(fraction)
    assert seen == [shown]


def test_a_part_stops_when_the_whole_is_cancelled_and_reports_nothing_more():
    seen, asked = [], []
    whole = Progress(lambda *update: seen.append(update), lambda: bool(asked))
    part = whole.part(0.0, 0.5)
    part.update(0.5)
    asked.append("stop")
    with pytest.raises(Cancelled, match="cancelled"):
        part.update(0.6)
    with pytest.raises(Cancelled):
        part.check_cancelled()
    assert len(seen) == 1


def test_silent_progress_neither_reports_nor_stops():
    SILENT.part(0.2, 0.4).update(0.5, "nothing happens")
    SILENT.check_cancelled()
