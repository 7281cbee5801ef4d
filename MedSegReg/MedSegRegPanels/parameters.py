"""Choices that several panels offer, with the words that the window shows for them."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _


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
