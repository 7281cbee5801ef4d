"""Networks of the benchmark: sizes in nnU-Net's layout. No package is needed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

NETWORKS = {
    "slim": (8, 16, 32, 64),
    "small": (16, 32, 64, 128, 192),
    "nnunet": (32, 64, 128, 256, 320, 320),
}
"""0.4, 4.6 and 31 million weights; the last one is nnU-Net's default for tiles of 128^3."""


@dataclass(frozen=True)
class Design:
    """A network and how it is run.

    Attributes:
        features: channels of each stage.
        classes: with background.
        tile: voxels along each side.
        overlap: of neighbouring tiles, a share of the tile.
        spacing_mm: of the network's grid.
    """

    features: tuple[int, ...]
    classes: int
    tile: int = 96
    overlap: float = 0.5
    spacing_mm: float = 1.5

    @property
    def name(self) -> str:
        """For a folder."""
        return f"{'-'.join(map(str, self.features))}-{self.classes}-classes-{self.tile}-{self.overlap:g}"

    @classmethod
    def read(cls, path: Path) -> Design:
        """From JSON."""
        values = json.loads(path.read_text())
        return cls(**{**values, "features": tuple(values["features"])})

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)))
