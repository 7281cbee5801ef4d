"""Series aligned and segmented, as it was set when the button was pressed. Window's walk: panel -> [run] -> job."""
# ruff: noqa: N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from MedSegRegLib.jobs import JobResult
from MedSegRegLib.mrml.align import AlignedNodes, AlignedResult, write_aligned
from MedSegRegLib.mrml.result_links import in_own_place

from .captured import captureVolume
from .register_run import factsOf


@dataclass(frozen=True, eq=False)
class AlignRun:
    """Takes the series out of the scene, runs them as a job, and writes the complete result.

    Attributes:
        volumes: the node of each series, by its name.
        settings: arguments of the job ``align``.
    """

    volumes: Mapping[str, Any]
    settings: dict[str, Any]

    def start(self, runner: Any, onWritten: Callable[[AlignedNodes, list[str]], None]) -> bool:
        """Start the job; give the nodes that were written, and what the user should know, one sentence a line.

        Raises:
            MedSegRegError: a node cannot be used.
        """
        nodes = tuple(self.volumes.values())
        with in_own_place(nodes):
            values = {name: captureVolume(node) for name, node in self.volumes.items()}
        return runner.start(
            _("Aligning {count} series to {reference}").format(
                count=len(nodes) - 1, reference=self.settings["reference"]
            ),
            "align",
            self.settings,
            values,
            lambda result: onWritten(*self._write(result)),
            watched=nodes,
        )

    def _write(self, result: JobResult) -> tuple[AlignedNodes, list[str]]:
        facts = factsOf(result)
        moving = list(facts["series"])
        found = AlignedResult(
            facts["reference"],
            {name: result.transform(f"transform {name}") for name in moving},
            {name: result.image(f"resampled {name}") for name in moving},
            {name: result.labels(f"labels {name}") for name in self.volumes if f"labels {name}" in result.values},
            facts,
        )
        with in_own_place(tuple(self.volumes.values())):
            written = write_aligned(found, self.volumes, self.settings["model"] or "")
        said = [_("{name}: written.").format(name=node.GetName()) for node in written.segmentations.values()]
        return written, [facts["sentence"], *said, *facts["warnings"]]
