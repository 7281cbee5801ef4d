"""The Slicer module: the door through which both walks start and end inside Slicer. It holds no algorithm.

Slicer imports this file when it starts, so nothing here loads torch, the library or the panels until it is needed.
"""
# ruff: noqa: N802, N803, N806, PLC0415 - Slicer's names are camelCase; late imports keep Slicer's start quick

import importlib.util
from dataclasses import asdict
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

PANELS = ("Segment", "Register", "Correct", "Transform", "Carry", "Atlas", "Align", "Joint",
          "Followup", "Sequence", "Evaluate", "Adapt", "Models", "Compute")  # fmt: skip
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
    """Puts the panels into the window and lets them follow the scene."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.runner = None
        self.panels = {}

    def setup(self):
        """Called when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        from MedSegRegPanels.dependencies import ensureDependencies
        from MedSegRegPanels.run import Runner

        frame = slicer.util.loadUI(self.resourcePath("UI/MedSegReg.ui"))
        self.layout.addWidget(frame)
        self.ui = slicer.util.childWidgetVariables(frame)
        frame.setMRMLScene(slicer.mrmlScene)
        self.logic = MedSegRegLogic()
        requirements = Path(self.resourcePath("requirements.txt"))
        self.runner = Runner(self.ui, lambda: ensureDependencies(requirements), self.updatePanels)
        for name in PANELS:
            self.panels[name] = self.makePanel(name)
        scene = slicer.mrmlScene  # when it is imported, nodes that the parameters refer to may be read after them
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, lambda *_: self.logic.getParameterNode().Modified())
        self.setParameterNode(self.logic.getParameterNode())

    def makePanel(self, name):
        """Load a panel's widgets into its section and hand them to its class."""
        import qt

        contents = slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
        contents.setMRMLScene(slicer.mrmlScene)
        section = getattr(self.ui, f"{name.lower()}CollapsibleButton")
        section.icon = qt.QIcon(self.resourcePath(f"Icons/{name}.svg"))
        section.layout().addWidget(contents)
        section.connect("contentsCollapsed(bool)", lambda collapsed: collapsed or self.showOnly(name))
        panelClass = getattr(importlib.import_module(f"MedSegRegPanels.{name.lower()}_panel"), f"{name}Panel")
        return panelClass(slicer.util.childWidgetVariables(contents), self.logic, self.runner)

    def showOnly(self, name):
        """One section is open at a time, so that the window stays short."""
        for other in PANELS:
            if other != name:
                getattr(self.ui, f"{other.lower()}CollapsibleButton").collapsed = True

    def cleanup(self):
        """Called when the application closes or the module is reloaded."""
        self.removeObservers()
        if self.runner is not None:
            self.runner.close()
        for panel in self.panels.values():
            panel.cleanup()

    def enter(self):
        """Called each time the module is opened."""
        self.setParameterNode(self.logic.getParameterNode())

    def exit(self):
        """Called each time another module is opened: a running job goes on, and the panels follow it."""

    def onSceneStartClose(self, _caller, _event):
        """The parameter node goes away with the scene, and so does what a job would write to."""
        self.runner.abandon(_("The scene was closed: the job was stopped."))
        self.setParameterNode(None)

    def onSceneEndClose(self, _caller, _event):
        """An open module needs a new one at once."""
        if self.parent.isEntered:
            self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, node):
        """Let all panels follow a parameter node, or none."""
        for panel in self.panels.values():
            panel.setParameterNode(node)

    def updatePanels(self):
        """A job began or ended."""
        for panel in self.panels.values():
            panel.update()


class MedSegRegLogic(ScriptedLoadableModuleLogic):
    """Nodes in, nodes out: a thin facade over MedSegRegLib that knows no widget and no scene but the input's.

    It works in the calling process, for scripts and other modules; the window runs the same work as jobs.
    """

    def models(self):
        """Name -> title of each model, shipped ones first, read without loading torch."""
        from MedSegRegPanels.model_cards import readCards

        return {card.name: card.title for card in readCards() if not card.fault}

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
        from MedSegRegLib.mrml.segmentation_results import write_result
        from MedSegRegLib.mrml.volumes import image_from_node
        from MedSegRegLib.progress import SILENT
        from MedSegRegLib.workflows.locate import segment_anywhere

        image = image_from_node(volumeNode)
        result = segment_anywhere(image, modelName, device=device, progress=progress or SILENT)
        facts = {**result.provenance, "input": image.name, "warnings": _warnings(result.findings)}
        scene, name = volumeNode.GetScene(), f"{image.name} {modelName}"
        return write_result(result.labels, facts, scene, name=name, volume=volumeNode, node=outputSegmentationNode)

    def register(self, fixedNode, movingNode, preset="deformable", modality="same", *, device="auto", progress=None):
        """Register a moving volume to a fixed volume.

        Args:
            fixedNode, movingNode: scalar volumes of one scene, anywhere under transforms; not changed.
            preset, modality: "rigid", "affine" or "deformable"; "same" or "different".
            device, progress: as for segment.

        Returns:
            (transform node, inverse node, quality). The moving volume put under the first lies on the fixed
            one; the fixed volume put under the second lies on the moving one. Written only when both are complete.
            Quality: the fields of MedSegRegLib.register.quality.Quality, and "sentence", "warnings", "seconds".
        """
        from MedSegRegLib import __version__
        from MedSegRegLib.device import describe_device, pick_device
        from MedSegRegLib.mrml.registration_results import Result, linked, write_registration
        from MedSegRegLib.mrml.volumes import image_from_node
        from MedSegRegLib.progress import SILENT
        from MedSegRegLib.register.presets import PRESETS
        from MedSegRegLib.register.run import register

        fixed, moving, chosen = image_from_node(fixedNode), image_from_node(movingNode), pick_device(device)
        different = preset == "deformable" and modality == "different"
        settings = PRESETS["deformable-different-modality" if different else preset]
        result = register(fixed, moving, settings, device=chosen, progress=progress or SILENT)
        told = {"sentence": result.sentence, "warnings": _warnings(result.findings), "seconds": result.seconds}
        made = {"medsegreg": __version__, "preset": preset, "settings": settings.model_dump(mode="json")}
        facts = {**made, **told, "device": describe_device(chosen).message, "landmarks_mm": None, "dice": {}}
        facts["quality"] = asdict(result.quality)
        node = write_registration(Result(result.transform, result.inverse, facts), fixedNode, movingNode)
        return node, linked(node, "inverse"), {**facts["quality"], **told}


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
