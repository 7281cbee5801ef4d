"""What a supervisor tells about its jobs. Jobs walk: submit -> child -> [events] -> window or script."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import MedSegRegError
from .values import JobResult


@dataclass(frozen=True, eq=False)
class Event:
    """Something about a job.

    Attributes:
        job: its number.
    """

    job: int


@dataclass(frozen=True, eq=False)
class Started(Event):
    """The child works on it; its values have been written."""


@dataclass(frozen=True, eq=False)
class Progressed(Event):
    """How far it is.

    Attributes:
        fraction: 0..1.
        message: what is done now.
        seconds_left: if the rest goes as fast as what was done; None while that cannot be said.
    """

    fraction: float
    message: str
    seconds_left: float | None


@dataclass(frozen=True, eq=False)
class Intermediate(Event):
    """What there is so far."""

    result: JobResult


@dataclass(frozen=True, eq=False)
class Done(Event):
    """It is complete; the last event of the job."""

    result: JobResult


@dataclass(frozen=True, eq=False)
class Failed(Event):
    """It ended without a result; the last event of the job.

    Attributes:
        error: of ``errors``; ``Cancelled`` when that was asked for.
        details: for a bug report: traceback or the end of the child's log; empty when the error says all.
    """

    error: MedSegRegError
    details: str = ""
