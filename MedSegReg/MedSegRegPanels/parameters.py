"""What the user chose, kept in the scene: the parameter node that the panels show and change."""
# ruff: noqa: N815 - Slicer's names are camelCase

from __future__ import annotations

from enum import Enum

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper


class Preset(Enum):
    """How far a registration goes."""

    RIGID = "rigid"
    AFFINE = "affine"
    DEFORMABLE = "deformable"

    def label(self) -> str:
        """As shown in the window."""
        return {"rigid": _("Rigid"), "affine": _("Affine"), "deformable": _("Deformable")}[self.value]


class Modality(Enum):
    """Whether alike tissues have alike intensities in both volumes."""

    SAME = "same"
    DIFFERENT = "different"

    def label(self) -> str:
        """As shown in the window."""
        return {"same": _("Same"), "different": _("Different")}[self.value]


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


@parameterNodeWrapper
class Parameters:
    """Each field without a default is a reference to a node, None at first."""

    inputVolume: vtkMRMLScalarVolumeNode
    modelName: str = ""
    outputSegmentation: vtkMRMLSegmentationNode
    fixedVolume: vtkMRMLScalarVolumeNode
    movingVolume: vtkMRMLScalarVolumeNode
    preset: Preset = Preset.DEFORMABLE
    modality: Modality = Modality.SAME
    placeMoving: bool = True
    device: Device = Device.AUTO
