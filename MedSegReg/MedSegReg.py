"""The Slicer module: the door through which both walks start and end inside Slicer. It holds no algorithm.

Slicer imports this file when it starts, so nothing here loads torch, the library or the panels until it is needed.
"""
# ruff: noqa: N802, N803, N806, PLC0415 - Slicer's names are camelCase; late imports keep Slicer's start quick

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

LIBRARY = Path(__file__).parent / "MedSegRegLib"
SAMPLES = {"ICBM152T1": "icbm152-t1.nii.gz", "PycortexS1T1": "s1-t1.nii.gz"}  # name in Sample Data -> file


class MedSegReg(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("MedSegReg")
        core = "qSlicerAbstractCoreModule"
        self.parent.categories = [translate(core, "Segmentation"), translate(core, "Registration")]
        self.parent.dependencies = []
        self.parent.contributors = ["MedSegReg contributors (MedSegReg)"]
        self.parent.helpText = _(
            "Segments a volume with a trained network, and registers two volumes with a transform and its inverse."
            " All work is done on this computer. Start with the volumes in Sample Data, category MedSegReg."
            ' See the <a href="https://github.com/medsegreg/SlicerMedSegReg">documentation</a>. Not a medical device.'
        )
        self.parent.acknowledgementText = _(
            "Uses PyTorch, SimpleITK and scikit-image. The sample volumes are the ICBM152 2009c template"
            " (Montreal Neurological Institute) and the subject S1 of pycortex."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer the sample volumes that lie in the extension; nothing is downloaded."""
    import SampleData

    for name, fileName in SAMPLES.items():
        path = LIBRARY / "samples" / fileName
        if path.is_file():
            SampleData.SampleDataLogic.registerCustomSampleDataSource(
                category="MedSegReg",
                sampleName=name,
                uris=path.as_uri(),
                fileNames=fileName,
                nodeNames=name,
                checksums=f"SHA256:{slicer.util.computeChecksum('SHA256', str(path))}",
                thumbnailFileName=str(LIBRARY.parent / "Resources" / "Icons" / f"{name}.png"),
            )


class MedSegRegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Wires the panels to the scene's parameter node."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panels = ()
        self._parameterNode = self._guiTag = None

    def setup(self):
        """Called when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        from MedSegRegPanels.dependencies import ensureDependencies
        from MedSegRegPanels.register_panel import RegisterPanel
        from MedSegRegPanels.segment_panel import SegmentPanel

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedSegReg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = MedSegRegLogic()
        requirements = Path(self.resourcePath("requirements.txt"))
        arguments = (self.ui, self.logic, lambda: ensureDependencies(requirements))
        self.panels = (SegmentPanel(*arguments), RegisterPanel(*arguments))
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.initializeParameterNode()

    def cleanup(self):
        """Called when the application closes or the module is reloaded."""
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        """Called each time the module is opened."""
        self.initializeParameterNode()

    def exit(self):
        """Called each time another module is opened."""
        self.setParameterNode(None)

    def onSceneStartClose(self, _caller, _event):
        """The parameter node goes away with the scene."""
        self.setParameterNode(None)

    def onSceneEndClose(self, _caller, _event):
        """An open module needs a new one at once."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Take the scene's parameter node; the first volume of the scene is the default input."""
        self.setParameterNode(self.logic.getParameterNode())
        if self._parameterNode.inputVolume is None:
            self._parameterNode.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")

    def setParameterNode(self, parameterNode):
        """Let the widgets and panels follow another parameter node, or none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updatePanels)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.updatePanels)
        self.updatePanels()

    def updatePanels(self, _caller=None, _event=None):
        """Show the current parameters."""
        for panel in self.panels:
            panel.update(self._parameterNode)


class MedSegRegLogic(ScriptedLoadableModuleLogic):
    """Nodes in, nodes out: a thin facade over MedSegRegLib that knows no widget and no scene but the input's."""

    def getParameterNode(self):
        """The scene's parameters of this module, typed."""
        from MedSegRegPanels.parameters import Parameters

        return Parameters(super().getParameterNode())

    def models(self):
        """Name -> title of each shipped model, read without loading torch."""
        found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(LIBRARY.glob("models/*/model.json")))
        return {model["name"]: model["title"] for model in found}

    def segment(self, volumeNode, modelName, outputSegmentationNode=None, *, device="auto", progress=None):
        """Segment a volume with a model.

        Args:
            volumeNode: scalar volume of a scene, anywhere under transforms; not changed.
            modelName: a key of ``models()``.
            outputSegmentationNode: segments are added to it, and none is replaced; None makes a new node, named after
                volume and model.
            device: "auto", "cpu", "cuda" or "mps".
            progress: MedSegRegLib.progress.Progress for reports and cancelling, or None.

        Returns:
            The segmentation node, with provenance as node attributes. Written only when the result is complete.

        Raises:
            MedSegRegError: with what was found, expected, and to do; the scene is unchanged.
        """
        from MedSegRegLib.mrml.provenance import write_provenance
        from MedSegRegLib.mrml.segmentations import write_segmentation
        from MedSegRegLib.mrml.volumes import image_from_node
        from MedSegRegLib.progress import SILENT
        from MedSegRegLib.workflows.locate import segment_anywhere

        image = image_from_node(volumeNode)
        result = segment_anywhere(image, modelName, device=device, progress=progress or SILENT)
        scene, name = volumeNode.GetScene(), f"{image.name} {modelName}"
        node = write_segmentation(result.labels, scene, name=name, reference=volumeNode, node=outputSegmentationNode)
        write_provenance(node, {**result.provenance, "input": image.name, "warnings": _warnings(result.findings)})
        return node

    def register(self, fixedNode, movingNode, preset="deformable", modality="same", *, device="auto", progress=None):
        """Register a moving volume to a fixed volume.

        Args:
            fixedNode, movingNode: scalar volumes of one scene, anywhere under transforms; not changed.
            preset, modality: "rigid", "affine" or "deformable"; "same" or "different".
            device, progress: as for segment.

        Returns:
            (transform node, inverse node, quality). The moving volume put under the first lies on the fixed
            one; the fixed volume put under the second lies on the moving one. Written only when both are complete.
            Quality holds the fields of MedSegRegLib.register.quality.Quality, and "sentence" and "warnings".

        Raises:
            MedSegRegError: as for segment.
        """
        from MedSegRegLib import __version__
        from MedSegRegLib.device import describe_device, pick_device
        from MedSegRegLib.mrml.provenance import write_provenance
        from MedSegRegLib.mrml.transforms import write_transform
        from MedSegRegLib.mrml.volumes import image_from_node
        from MedSegRegLib.progress import SILENT
        from MedSegRegLib.register.presets import PRESETS
        from MedSegRegLib.register.run import register

        fixed, moving, chosen = image_from_node(fixedNode), image_from_node(movingNode), pick_device(device)
        different = preset == "deformable" and modality == "different"
        settings = PRESETS["deformable-different-modality" if different else preset]
        result = register(fixed, moving, settings, device=chosen, progress=progress or SILENT)
        quality = {**asdict(result.quality), "sentence": result.sentence, "warnings": _warnings(result.findings)}
        provenance = {"fixed": fixed.name, "moving": moving.name, "medsegreg": __version__, **quality}
        provenance |= {"seconds": result.seconds, "device": describe_device(chosen).message}
        provenance |= {"settings": settings.model_dump(mode="json")}
        transformNode = write_transform(result.transform, fixedNode.GetScene(), f"{moving.name} to {fixed.name}")
        inverseNode = write_transform(result.inverse, fixedNode.GetScene(), f"{fixed.name} to {moving.name}")
        for node in (transformNode, inverseNode):
            write_provenance(node, provenance)
        return transformNode, inverseNode, quality


def _warnings(findings):
    """What the user should read, as text."""
    from MedSegRegLib.report import Level

    return [str(finding) for finding in findings if finding.level >= Level.WARN]


class MedSegRegTest(ScriptedLoadableModuleTest):
    """Runs inside Slicer: `Reload and Test`, or ctest of an extension build."""

    def runTest(self):
        """All tests, from an empty scene."""
        slicer.mrmlScene.Clear()
        self.test_two_samples_are_registered()

    def test_two_samples_are_registered(self):
        """From the module Sample Data to a pair of transform nodes."""
        import SampleData

        if importlib.util.find_spec("torch") is None:
            self.skipTest("torch is not installed")
        registerSampleData()
        fixed, moving = (SampleData.SampleDataLogic().downloadSample(name) for name in ("ICBM152T1", "PycortexS1T1"))
        nodes = MedSegRegLogic().register(fixed, moving, "rigid")[:2]
        assert [node.GetName() for node in nodes] == ["PycortexS1T1 to ICBM152T1", "ICBM152T1 to PycortexS1T1"]
