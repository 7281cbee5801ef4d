"""Which models there are, for the window: read as plain data, because the library's own reading needs torch.

Beside the window's walk: folders of models -> [cards] -> panels Segment and Models. Here nothing is trusted or checked
beyond its form; whatever is run is read again, and checked, by the library.
"""
# ruff: noqa: N802 - the window's names are camelCase

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "MedSegRegLib" / "models"
MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelCard:
    """What the window shows of a model.

    Attributes:
        folder: of the package.
        name, title, description, version, licence: as the model states them; the folder's name where it cannot be read.
        channels: (name, modality) of each input, the modality as in DICOM or "any".
        structures: (name, (red, green, blue) in 0..1) of each label.
        mirrors: whether it can be averaged over mirror images.
        searches: whether it first looks for the place of its structures in a large volume.
        dice: mean on images that it was not trained on, None where that was not measured.
        fault: why it cannot be used, empty for a model whose description is readable.
    """

    folder: Path
    name: str
    title: str
    description: str = ""
    version: str = ""
    licence: str = ""
    channels: tuple[tuple[str, str], ...] = ()
    structures: tuple[tuple[str, tuple[float, float, float]], ...] = ()
    mirrors: bool = False
    searches: bool = False
    dice: float | None = None
    fault: str = ""

    @property
    def isShipped(self) -> bool:
        """Whether it came with the extension, and so cannot be removed."""
        return self.folder.parent == SHIPPED

    @property
    def text(self) -> str:
        """The card in Markdown, with headings that fit a narrow panel; without a card, the description."""
        path = self.folder / "README.md"
        if not path.is_file() or path.stat().st_size > MAX_CARD_BYTES:
            return f"### {self.title}\n\n{self.fault or self.description}"
        return re.sub(r"^#", "###", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)

    @property
    def sizeBytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def userStore() -> Path:
    """The user's folder of models, as in MedSegRegLib.files.model_store; it need not exist."""
    return Path(os.environ.get("MEDSEGREG_MODELS") or Path.home() / ".medsegreg" / "models")


def readCards() -> list[ModelCard]:
    """The cards of all models, shipped ones first; of two with one name the user's counts."""
    cards: dict[str, ModelCard] = {}
    for store in (SHIPPED, userStore()):
        for path in sorted(store.glob("*/model.json")):
            if not path.parent.name.startswith("."):
                card = readCard(path.parent)
                cards[card.name] = card
    return list(cards.values())


def readCard(folder: Path) -> ModelCard:
    """The card of one model; what is not in the form of a description becomes its fault."""
    try:
        return _cardWritten(folder, (folder / "model.json").stat().st_mtime_ns)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return ModelCard(folder, folder.name, folder.name, fault=f"model.json cannot be read ({type(error).__name__})")


@lru_cache(maxsize=64)
def _cardWritten(folder: Path, _time: int) -> ModelCard:
    """Read once for each time that it was written: the panels ask at each change."""
    return _card(folder, json.loads((folder / "model.json").read_text(encoding="utf-8")))


def _card(folder: Path, spec: dict) -> ModelCard:
    dice = [float(scores["dice_mean"]) for scores in spec.get("scores", {}).values() if "dice_mean" in scores]
    return ModelCard(
        folder,
        str(spec["name"]),
        str(spec["title"]),
        str(spec["description"]),
        str(spec["version"]),
        str(spec["licence"]),
        tuple((str(channel["name"]), str(channel.get("modality", "any"))) for channel in spec["channels"]),
        tuple((str(label["name"]), _color(label.get("color"))) for label in spec["labels"]),
        bool(spec.get("tiling", {}).get("mirror")),
        bool(spec.get("region") or spec.get("find")),
        sum(dice) / len(dice) if dice else None,
    )


def _color(values: list | None) -> tuple[float, float, float]:
    red, green, blue = (0.5, 0.7, 0.9) if values is None else map(float, values)
    return red, green, blue
