"""Findings: what a check saw, how bad it is and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from .errors import MedSegRegError


class Level(IntEnum):
    """How much a finding matters."""

    INFO = 0
    WARN = 1
    REFUSE = 2


@dataclass(frozen=True)
class Finding:
    """One observation about an input or a result.

    Attributes:
        level: INFO, WARN or REFUSE.
        message: what was seen, with the actual value.
        fix: what the user can do.
        error: the exception to raise for a REFUSE, else None.
    """

    level: Level
    message: str
    fix: str = ""
    error: MedSegRegError | None = None

    @classmethod
    def refuse(cls, error: MedSegRegError) -> Finding:
        """A finding that stops the work with this error."""
        return cls(Level.REFUSE, error.found, error.fix, error)

    @classmethod
    def warn(cls, message: str, fix: str = "") -> Finding:
        """A finding that is shown and recorded; the work goes on."""
        return cls(Level.WARN, message, fix)

    @classmethod
    def info(cls, message: str) -> Finding:
        """A finding that is only recorded."""
        return cls(Level.INFO, message)

    def __str__(self) -> str:
        return self.message if not self.fix else f"{self.message.rstrip('.')}. {self.fix}"


def findings_data(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings for JSON: level (``info``, ``warn``, ``refuse``), message and fix of each."""
    return [{"level": one.level.name.lower(), "message": one.message, "fix": one.fix} for one in findings]


def raise_refusals(findings: Iterable[Finding]) -> None:
    """Raise the error of the first finding of level REFUSE, if there is one."""
    for finding in findings:
        if finding.error is not None:
            raise finding.error
