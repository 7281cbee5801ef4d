"""What a task sees of the job system, in the child. Jobs walk: request -> worker -> [work] -> task -> result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..progress import Progress
from .values import Carried, Value


@dataclass(frozen=True, eq=False)
class Work(Carried):
    """A job to be done. A task is a function ``task(work, **arguments) -> JobResult``.

    Attributes:
        values: what was handed over; arrays are mapped and cannot be written.
        folder: private to the job; gone after it.
        progress: to be told how far the task is; raises Cancelled after a cancel, and knows whether to
            end with what there is.
        tell: gives an intermediate result: data, and values (also as Image, Labels, Transform).
    """

    values: Mapping[str, Value]
    folder: Path
    progress: Progress
    tell: Callable[[dict[str, Any], Mapping[str, Any]], None]
