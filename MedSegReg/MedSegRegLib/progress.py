"""Progress and cancelling: one object that every long-running function takes."""

from __future__ import annotations

from collections.abc import Callable

from .errors import Cancelled


class Progress:
    """Reports how far the work is and stops it when asked.

    Args:
        report: called with (fraction in 0..1, message); None reports nothing.
        should_cancel: asked at every update; True raises :class:`Cancelled`.
        should_stop: asked by work that improves a result step by step; True keeps the best so far.

    >>> seen = []
    >>> whole = Progress(lambda fraction, message: seen.append((fraction, message)))
    >>> whole.part(0.5, 1.0).update(0.5, "warping")
    >>> seen
    [(0.75, 'warping')]
    """

    def __init__(
        self,
        report: Callable[[float, str], None] | None = None,
        should_cancel: Callable[[], bool] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._report, self._should_cancel, self._should_stop = report, should_cancel, should_stop

    def update(self, fraction: float, message: str = "") -> None:
        """Say how far the work is. Raises Cancelled when the user asked to stop."""
        self.check_cancelled()
        if self._report is not None:
            self._report(min(max(fraction, 0.0), 1.0), message)

    def check_cancelled(self) -> None:
        """Raise Cancelled when the user asked to stop; cheap enough for inner loops."""
        if self._should_cancel is not None and self._should_cancel():
            raise Cancelled

    def wants_result(self) -> bool:
        """True when the user asked to stop and keep what there is."""
        return self._should_stop is not None and self._should_stop()

    def part(self, start: float, stop: float) -> Progress:
        """A Progress whose 0..1 fills start..stop of this one."""
        return Progress(
            lambda fraction, message: self.update(start + fraction * (stop - start), message),
            self._should_cancel,
            self._should_stop,
        )


SILENT = Progress()
