"""One joint refinement, as it was set when the button was pressed. Window's walk: panel -> [run] -> job."""
# ruff: noqa: N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from MedSegRegLib.jobs import JobResult
from MedSegRegLib.mrml.joint import StudyFindings, write_joint
from MedSegRegLib.mrml.result_links import in_own_place
from MedSegRegLib.mrml.shared_labels import shared_labels
from MedSegRegLib.mrml.volumes import geometry_of_node

from .captured import captureVolume
from .register_run import factsOf

DECIMALS = 3
STUDIES = ("fixed", "moving")
NOT_KEPT = tuple(f"{study}_structures" for study in STUDIES)


@dataclass(frozen=True, eq=False)
class JointRun:
    """Takes two studies and their segmentations out of the scene, runs the job, and writes the complete result.

    Attributes:
        volumes, labels: of the fixed and of the moving study.
        settings: further arguments of the job ``joint``.
    """

    volumes: tuple[Any, Any]
    labels: tuple[Any, Any]
    settings: dict[str, Any]

    def start(self, runner: Any, onWritten: Callable[[Any, list[str]], None]) -> bool:
        """Start the job.

        Args:
            runner: :class:`.run.Runner`.
            onWritten: given the table node of the fixed study, and what the user should know.

        Raises:
            MedSegRegError: a node cannot be used.
        """
        with in_own_place((*self.volumes, *self.labels)):
            images = [captureVolume(volume) for volume in self.volumes]
            drawn = shared_labels(*self.labels, *(geometry_of_node(volume) for volume in self.volumes))
        values = dict(zip(STUDIES, images, strict=True))
        values |= {f"{study}_labels": labels for study, labels in zip(STUDIES, drawn, strict=True)}
        names = {study: volume.GetName() for study, volume in zip(STUDIES, self.volumes, strict=True)}
        return runner.start(
            _("Refining {fixed} and {moving} together").format(**names),
            "joint",
            self.settings,
            values,
            lambda result: onWritten(*self._write(result)),
            watched=(*self.volumes, *self.labels),
        )

    def _write(self, result: JobResult) -> tuple[Any, list[str]]:
        facts = {name: fact for name, fact in factsOf(result).items() if name not in NOT_KEPT}
        with in_own_place((*self.volumes, *self.labels)):
            fixed, _moving = write_joint(
                self._findings(result, 0),
                self._findings(result, 1),
                result.transform("transform"),
                result.transform("inverse"),
                facts,
            )
        return fixed.table, [facts["sentence"], *facts["warnings"]]

    def _findings(self, result: JobResult, number: int) -> StudyFindings:
        study = STUDIES[number]
        columns = {
            heading: [cell if isinstance(cell, str) else round(cell, DECIMALS) for cell in cells]
            for heading, cells in result.data[f"{study}_structures"].items()
        }
        return StudyFindings(
            self.volumes[number],
            result.labels(f"{study}_carried"),
            result.labels(f"{study}_fused"),
            result.image(f"{study}_disagreement"),
            columns,
        )
