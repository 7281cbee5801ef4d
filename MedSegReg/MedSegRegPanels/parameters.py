"""What the parameters of several panels can be, and the words that the window shows for choices."""

from __future__ import annotations

from enum import Enum
from typing import Union

from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _

LabelsNode = Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - Slicer's wrapper knows no |
"""Type of a parameter: labels of either kind, or none."""


class Device(Enum):
    """What the work runs on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self) -> str:
        """As shown in the window."""
        labels = {"auto": _("Automatic"), "cpu": _("Processor"), "cuda": _("NVIDIA or AMD GPU"), "mps": _("Apple GPU")}
        return labels[self.value]
