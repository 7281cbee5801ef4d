"""Several writers, one undo step or none: around the last stop of a walk that writes more than one node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def one_undo_step(scene: Any) -> Iterator[None]:
    """Everything that is written to a scene inside is undone, and done again, together.

    Does nothing in a scene whose undo is off, as Slicer's is unless the user turns it on.
    """
    scene.SaveStateForUndo()
    with without_undo(scene):
        yield


@contextmanager
def without_undo(scene: Any) -> Iterator[None]:
    """What is written inside leaves no state to go back to."""
    was_on = scene.GetUndoFlag()
    scene.SetUndoFlag(False)
    try:
        yield
    finally:
        scene.SetUndoFlag(was_on)
