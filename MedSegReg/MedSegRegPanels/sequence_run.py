"""A drawing to all frames of a sequence, as it was set when the button was pressed. Window's walk: panel -> [run]."""
# ruff: noqa: N802, N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from MedSegRegLib.errors import InputError
from MedSegRegLib.image import Labels
from MedSegRegLib.jobs import Intermediate, JobResult
from MedSegRegLib.mrml.propagated import write_propagation
from MedSegRegLib.mrml.sequences import sequence_of
from MedSegRegLib.mrml.shared_labels import labels_of_node, shared_labels

from .captured import captureFrames
from .register_run import factsOf

DECIMALS = 3
NOT_KEPT = ("review", "stiffness")


@dataclass(frozen=True, eq=False)
class SequenceRun:
    """Takes frames and drawings out of the scene, runs them as a job, and writes the complete result.

    Attributes:
        volume: a node that a sequence browser plays.
        keys: (number of a frame, segmentation node), one or two; a segmentation that is itself played by the browser is
            taken as it is in that frame.
        settings: further arguments of the job ``sequence``.
    """

    volume: Any
    keys: tuple[tuple[int, Any], ...]
    settings: dict[str, Any]

    def start(
        self,
        runner: Any,
        onWritten: Callable[[Any, list[str]], None],
        onFrame: Callable[[int, float | None], None],
    ) -> bool:
        """Start the job.

        Args:
            runner: :class:`.run.Runner`.
            onWritten: given the table node of the frames, and what the user should know.
            onFrame: given each frame's number and confidence when it is complete; no confidence at key frames.

        Raises:
            MedSegRegError: a node cannot be used.
        """
        sequence = sequence_of(self.volume)
        if sequence is None:
            raise InputError(
                f"'{self.volume.GetName()}' shows no sequence",
                "a volume of a sequence",
                "select one, or load a 4D file",
            )
        frames = [frame["image"] for frame in captureFrames({"image": self.volume}, sequence)]
        values = {f"frame{number}": frame for number, frame in enumerate(frames)}
        for place, labels in enumerate(self._drawn(sequence, [frame.geometry for frame in frames])):
            values[f"key{place}"] = labels

        def onEvent(event: Intermediate) -> None:
            onFrame(event.result.data["frame"], event.result.data["confidence"])

        return runner.start(
            _("Segmenting all frames of {volume}").format(volume=self.volume.GetName()),
            "sequence",
            {**self.settings, "keys": [number for number, _node in self.keys]},
            values,
            lambda result: onWritten(*self._write(sequence, len(frames), result)),
            watched=(self.volume, *sequence),
            onEvent=onEvent,
        )

    def _drawn(self, sequence: tuple[Any, Any], grids: list[Any]) -> list[Labels]:
        """The labels of the key frames; segments of one name get one value."""
        for number, _node in self.keys:
            if not 0 <= number < len(grids):
                raise InputError(f"The frame is {number}", f"0 to {len(grids) - 1}", "choose a frame of the sequence")
        nodes = [_inFrame(node, number, *sequence) for number, node in self.keys]
        of_keys = [grids[number] for number, _node in self.keys]
        if len(nodes) == 1:
            return [labels_of_node(nodes[0], of_keys[0])]
        return list(shared_labels(*nodes, *of_keys))

    def _write(self, sequence: tuple[Any, Any], count: int, result: JobResult) -> tuple[Any, list[str]]:
        facts = {name: fact for name, fact in factsOf(result).items() if name not in NOT_KEPT}
        labels = [result.labels(f"labels{number}") for number in range(count)]
        name = _("{drawn} in all frames").format(drawn=self.keys[0][1].GetName())
        columns = _rounded(result.data["review"])
        _node, table = write_propagation(labels, columns, facts, self.volume, *sequence, name=name)
        measured = [
            _("Frame {number} from frame {key}: mean Dice {dice:.2f} with its own segmentation.").format(
                number=check["number"], key=check["key"], dice=sum(dice) / len(dice)
            )
            for check in result.data["key_dice"]
            if (dice := [value for value in check["dice"].values() if value is not None])
        ]
        return table, [facts["sentence"], *measured, *facts["warnings"]]


def _inFrame(node: Any, number: int, browser: Any, sequence: Any) -> Any:
    """The segmentation as it is in a frame; itself where the browser does not play it, or shows that frame."""
    played = browser.GetSequenceNode(node)
    if played is None or number == browser.GetSelectedItemNumber():
        return node
    return played.GetDataNodeAtValue(sequence.GetNthIndexValue(number)) or node


def _rounded(columns: Mapping[str, list]) -> dict[str, list]:
    return {
        heading: [cell if isinstance(cell, str) else round(cell, DECIMALS) for cell in cells]
        for heading, cells in columns.items()
    }
