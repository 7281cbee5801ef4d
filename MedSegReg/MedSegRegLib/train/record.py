"""What a training leaves to look at: TensorBoard events and a curve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import MissingPackage, OutputNotWritable
from ..files.atomic import atomic_path
from .checkpoint import History


class Record:
    """Writes ``events/`` and ``curve.png`` in a training's folder."""

    def __init__(self, folder: Path) -> None:
        try:  # takes seconds, and only training needs it
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
        except ImportError as error:
            raise MissingPackage(
                f"{error.name} is not installed", "the packages for training", "install medsegreg[train]"
            ) from None
        self._folder = folder
        with _full_disk_is_said("events"):
            self._events = SummaryWriter(folder / "events")

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _full_disk_is_said("events") if error is None else suppress(OSError):
            self._events.close()

    def write(self, history: History) -> None:
        """Add the last epoch to the events and draw the curve again.

        Raises:
            OutputNotWritable: the disk is full.
        """
        epoch = len(history.losses)
        with _full_disk_is_said("events"):
            self._events.add_scalar("loss/train", history.losses[-1], epoch)
            self._events.add_scalar("learning_rate", history.learning_rates[-1], epoch)
            for number, dice in enumerate(history.validation_dice[-1], start=1):
                self._events.add_scalar(f"dice/label_{number}", dice, epoch)
            self._events.flush()
        draw_curve(history, self._folder / "curve.png")


@contextmanager
def _full_disk_is_said(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputNotWritable(
            f"'{what}' could not be written ({error.strerror})",
            "space on the disk",
            "free some space, and start the same command again: it goes on from the last checkpoint",
        ) from error


def draw_curve(history: History, path: Path) -> None:
    """Loss and validation Dice over the epochs, as a PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses = figure.add_subplot()
    epochs = range(1, len(history.losses) + 1)
    losses.plot(epochs, history.losses, color="tab:gray", label="training loss")
    losses.set(xlabel="epoch", ylabel="loss")
    dice = losses.twinx()
    for number, values in enumerate(zip(*history.validation_dice, strict=True), start=1):
        dice.plot(epochs, values, label=f"validation Dice, label {number}")
    dice.axvline(history.best_epoch + 1, color="tab:green", linestyle=":", label=f"best epoch {history.best_epoch + 1}")
    dice.set(ylabel="Dice", ylim=(max(0.0, min(map(min, history.validation_dice)) - 0.02), 1.0))
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
