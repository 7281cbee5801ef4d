"""What is optional in a segmentation, apart from the model, the device and where to look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentationOptions:
    """Settings of :func:`MedSegRegLib.segment.predict.segment`.

    Attributes:
        structures: names of the labels to give; empty gives all.
        mirror: average over mirror images along the axes that the model allows: twice the time for each axis.
        skip_air: leave out tiles that hold no body.
        confidence: also give how sure the network is at each voxel.
        islands_mm3: components below this volume are removed.
        largest_component: keep only the largest component of each label; None does what the model's description says.
        replace_nonfinite: replace NaN and infinite voxels by the minimum instead of refusing them.
    """

    structures: tuple[str, ...] = ()
    mirror: bool = False
    skip_air: bool = False
    confidence: bool = False
    islands_mm3: float = 0.0
    largest_component: bool | None = None
    replace_nonfinite: bool = False


DEFAULTS = SegmentationOptions()
