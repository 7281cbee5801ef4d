"""What a person knows beside two images: points that belong together, labels, features, rigid or ignored regions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..check_image import check_mask, check_same_grid
from ..errors import InputError
from ..image import Image, Labels
from .landmarks import check_landmarks
from .pyramid import Study, everywhere


@dataclass(frozen=True, eq=False)
class Guidance:
    """Everything is optional; what comes in pairs needs both.

    Attributes:
        fixed_points, moving_points: [N, 3] RAS mm, row by row the same place: the flow is pulled there.
        fixed_labels, moving_labels: on any grids; structures with equal values should come to lie on each other.
        fixed_features, moving_features: [C, K, J, I] on any grids, alike where the images show the same: soft
            segmentations, or what a network sees. Channels pair up in order.
        rigid: on the fixed grid; each value above 0 is a body that the flow moves as a whole.
        ignore: on the fixed grid; what the images show where it is above 0 does not count.
    """

    fixed_points: np.ndarray | None = None
    moving_points: np.ndarray | None = None
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    fixed_features: Image | None = None
    moving_features: Image | None = None
    rigid: Labels | None = None
    ignore: Labels | None = None

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Both lists, checked; None without."""
        if self.fixed_points is None or self.moving_points is None:
            return None
        return check_landmarks(self.fixed_points, self.moving_points)

    def with_points(self, kept: np.ndarray) -> Guidance:
        """With only the pairs of points for which ``kept`` [N] is True."""
        assert self.fixed_points is not None
        assert self.moving_points is not None
        return replace(self, fixed_points=self.fixed_points[kept], moving_points=self.moving_points[kept])

    def check(self, fixed: Image) -> None:
        """Refuse what cannot guide a registration of this fixed image.

        Raises:
            InputError: half of a pair, no structure in common, different numbers of channels, unusable points.
            GeometryMismatch, EmptyVolume: a region that is not on the fixed grid, or is empty.
        """
        for what in ("points", "labels", "features"):
            given = [getattr(self, f"{side}_{what}") is not None for side in ("fixed", "moving")]
            if given[0] != given[1]:
                raise InputError(
                    f"Only the {'fixed' if given[0] else 'moving'} {what} were given",
                    f"{what} of both images",
                    "give the other too, or neither",
                )
        _ = self.points
        if self.fixed_labels is not None and not self.shared_values:
            raise InputError(
                "The labels of the two images have no value in common",
                "at least one structure with the same value in both",
                "give the structures that belong together the same label value",
            )
        if self.fixed_features is not None and self.moving_features is not None:
            channels = len(self.fixed_features.tensor), len(self.moving_features.tensor)
            if channels[0] != channels[1]:
                raise InputError(
                    f"The features have {channels[0]} and {channels[1]} channels",
                    "as many in both",
                    "make both with the same model",
                )
        if self.rigid is not None:
            check_mask(self.rigid, fixed)
        if self.ignore is not None:
            check_same_grid(self.ignore.geometry, fixed.geometry, "ignored region and fixed image")

    @property
    def shared_values(self) -> list[int]:
        """Label values above 0 that both images have."""
        if self.fixed_labels is None or self.moving_labels is None:
            return []
        present = (set(labels.tensor.unique().tolist()) for labels in (self.fixed_labels, self.moving_labels))
        return sorted(set.intersection(*present) - {0})


def label_study(labels: Labels, values: list[int], spacing_mm: float, device: torch.device) -> Study:
    """One soft channel a structure [C, K, J, I] in 0..1, at about this spacing."""
    channels = []
    grid = labels.geometry
    for value in values:
        present = (labels.tensor.to(device) == value).float()[None]
        study = Study(present, everywhere(present), labels.geometry).coarsen(spacing_mm)
        channels.append(study.intensity)
        grid = study.geometry
    intensity = torch.cat(channels)
    return Study(intensity, everywhere(intensity), grid)
