"""From a status and a log to the likely cause. What a real child leaves is tried in the tests of the supervisor."""

from __future__ import annotations

import pytest

from MedSegRegLib.errors import MissingPackage, WorkerLost
from MedSegRegLib.jobs.death import cause_of_death


@pytest.mark.parametrize(
    ("status", "log", "words"),
    [
        (-9, "", "ran out of memory"),
        (137, "", "ran out of memory"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'", "ran out of memory"),
        (-11, "", "memory access violation"),
        (139, "", "memory access violation"),
        (-4, "", "instruction"),
        (0xC0000005, "", "memory access violation"),
        (0xC0000005 - 2**32, "", "memory access violation"),
        (1, "error: [x] exit abnormally - Report the problem.", "ran out of memory"),
        (1, "Fatal Python error: Bus error\nerror: [x] exit abnormally", "disk is full"),
        (3, "", "ended before its work was done"),
    ],
)
def test_names_the_likely_cause(status, log, words):
    error = cause_of_death(status, log)
    assert type(error) is WorkerLost
    assert words in error.found
    assert error.fix


def test_a_missing_package_is_named():
    log = "Traceback (most recent call last):\n  File \"x\"\nModuleNotFoundError: No module named 'numpy'\n"
    error = cause_of_death(1, log)
    assert type(error) is MissingPackage
    assert "numpy" in error.found
