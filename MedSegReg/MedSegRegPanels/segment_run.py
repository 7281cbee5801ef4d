"""One segmentation run, as it was set when the button was pressed. Window's walk: panel -> [run] -> job -> nodes."""
# ruff: noqa: N802, N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slicer.i18n import tr as _

from MedSegRegLib.jobs import JobResult
from MedSegRegLib.mrml.regions import region_corners
from MedSegRegLib.mrml.segmentation_results import write_confidence, write_result
from MedSegRegLib.mrml.sequences import sequence_of, write_segmentation_sequence
from MedSegRegLib.mrml.undo import one_undo_step

from .captured import captureFrames


class SegmentRun:
    """Takes all that a run needs out of the scene, runs it as one job a frame, and writes the complete result.

    Afterwards ``confidence`` is the volume node of the confidence, None where none was asked for.

    Args:
        model: its name.
        scene: to write to.
        volumes: a node for each channel of the model; the first one gives the result its grid and its name.
        output: segmentation to add to; None makes a new one.
        region: vtkMRMLMarkupsROINode, or None for the whole volume.
        allFrames: of the sequence that the first volume belongs to, if it does.
        writing: in ``output``, see ``write_result``.
        device: as of ``pick_device``.
        options: fields of ``SegmentationOptions``.

    Raises:
        MedSegRegError: a node cannot be used; nothing has been started.
    """

    def __init__(
        self,
        *,
        model: str,
        scene: Any,
        volumes: Mapping[str, Any],
        output: Any = None,
        region: Any = None,
        allFrames: bool = False,
        writing: str = "add",
        device: str = "auto",
        options: Mapping[str, Any],
    ) -> None:
        self.model, self.scene, self.output, self.writing = model, scene, output, writing
        self.volume = next(iter(volumes.values()))
        self.sequence = sequence_of(self.volume) if allFrames else None
        self.frames = captureFrames(volumes, self.sequence)
        self.input = self.volume.GetName() or ""
        self.region = None if region is None else region_corners(region).tolist()
        self.device, self.options = device, dict(options)
        self.results: list[JobResult] = []
        self.confidence: Any = None

    @property
    def name(self) -> str:
        """Of the result."""
        return f"{self.input} {self.model}"

    def planArguments(self) -> dict[str, Any]:
        """For the task ``plan``: what one frame will take."""
        geometry = next(iter(self.frames[0].values())).geometry
        return {
            "model": self.model,
            "size_ijk": list(geometry.size_ijk),
            "ijk_to_ras": geometry.ijk_to_ras.tolist(),
            "region": self.region,
            "mirror": self.options.get("mirror", False),
            "device": self.device,
        }

    def start(self, runner: Any, onWritten: Callable[[list[str]], None]) -> bool:
        """Run the frames one after the other; then write, and tell the user what came out, one sentence a line."""
        number = len(self.results)
        title = _("Segmenting {volume}").format(volume=self.input)
        if len(self.frames) > 1:
            title += _(" (frame {number} of {count})").format(number=number + 1, count=len(self.frames))
        arguments = {"model": self.model, "options": self.options, "region": self.region, "device": self.device}

        def onDone(result: JobResult) -> None:
            self.results.append(result)
            if len(self.results) < len(self.frames):
                self.start(runner, onWritten)
            else:
                onWritten(self._write())

        images = self.frames[number]
        if len(images) == 1:
            images = {"image": next(iter(images.values()))}
        return runner.start(title, "segment", arguments, images, onDone)

    def _write(self) -> list[str]:
        """The nodes, in one step; gives what the user should know."""
        with one_undo_step(self.scene):
            return self._writeAll()

    def _writeAll(self) -> list[str]:
        facts = {**self.results[-1].data["provenance"], "input": self.input, "warnings": self._warnings()}
        every = [result.labels("labels") for result in self.results]
        if self.sequence is not None and self._isHere(self.volume):
            node = write_segmentation_sequence(every, facts, self.volume, *self.sequence, name=self.name)
        else:
            node = write_result(
                every[0],
                facts,
                self.scene,
                name=self.name,
                volume=self.volume if self._isHere(self.volume) else None,
                node=self.output,
                writing=self.writing,  # type: ignore[arg-type]
            )
        sentence = _("{name}: {count} structures written.").format(name=node.GetName(), count=len(every[0].structures))
        return [sentence, *self._gone(), *self._confidence(), *facts["warnings"]]

    def _confidence(self) -> list[str]:
        if not self.options.get("confidence") or self.sequence is not None:
            return []
        name = f"{self.name} confidence"
        self.confidence = write_confidence(self.results[0].image("margin"), self.scene, name=name, volume=self.volume)
        return [_("{name}: how sure the model was, 255 certain, 0 undecided.").format(name=name)]

    def _gone(self) -> list[str]:
        """What was removed while the job ran."""
        if self.output is not None and not self._isHere(self.output):
            return [_("The chosen segmentation was removed meanwhile, so a new one was made.")]
        return []

    def _isHere(self, node: Any) -> bool:
        return node.GetScene() is self.scene

    def _warnings(self) -> list[str]:
        """Of all frames, each once."""
        findings = [finding for result in self.results for finding in result.data["findings"]]
        texts = [f"{f['message'].rstrip('.')}. {f['fix']}".strip() for f in findings if f["level"] == "warn"]
        return list(dict.fromkeys(texts))
