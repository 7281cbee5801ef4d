"""What all commands share: progress on the screen, results as text or JSON, errors without tracebacks."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from ..errors import Cancelled, MedSegRegError
from ..progress import Progress
from ..report import Finding, Level

EXIT_REFUSED = 3
EXIT_CANCELLED = 130

WIDTH_WITHOUT_TERMINAL = 120

screen = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
messages = Console(stderr=True)


def report_errors(run: Callable[[], object]) -> None:
    """Run the program; an error that a user can act on becomes one message and an exit code, Ctrl-C a cancel."""
    previous = signal.signal(signal.SIGINT, _cancel)
    try:
        run()
    except Cancelled:
        messages.print("Cancelled. No result was written.", style="yellow")
        sys.exit(EXIT_CANCELLED)
    except MedSegRegError as error:
        messages.print(plain(f"Error: {error.found}"), style="red")
        for label, text in (("Expected", error.expected), ("To do", error.fix)):
            if text:
                messages.print(plain(f"{label}: {text}"))
        sys.exit(EXIT_REFUSED)
    finally:
        signal.signal(signal.SIGINT, previous)


def _cancel(_number: int, _frame: FrameType | None) -> None:
    raise Cancelled


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A progress bar with remaining time on standard error."""
    columns = (
        TextColumn("{task.fields[title]}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=messages, transient=True) as bar:
        task = bar.add_task("", total=1.0, title=title)
        yield Progress(lambda fraction, message: bar.update(task, completed=fraction, description=message))


def show_findings(findings: Iterable[Finding]) -> None:
    """Warnings in colour, notes in grey, on standard error."""
    for finding in findings:
        style = "yellow" if finding.level >= Level.WARN else "dim"
        prefix = "Warning: " if finding.level >= Level.WARN else ""
        messages.print(plain(f"{prefix}{finding}"), style=style)


def show_result(text: str, data: Mapping[str, object], as_json: bool) -> None:
    """One JSON object a command for machines, or the text for people, on standard output."""
    if as_json:
        sys.stdout.write(json.dumps(data) + "\n")
    else:
        screen.print(plain(text))


def plain(text: str) -> Text:
    """Text of a file or a model, which anyone may have written, without what a terminal would obey."""
    return Text("".join(c for c in text if c.isprintable() or c == "\n"))
