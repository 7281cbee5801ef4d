"""Visits compared, as it was set when the button was pressed. Window's walk: panel -> [run] -> job."""
# ruff: noqa: N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from MedSegRegLib.errors import InputError
from MedSegRegLib.image import Labels
from MedSegRegLib.jobs import JobResult, Voxels
from MedSegRegLib.mrml.followup import FollowUpNodes, Maps, write_followup
from MedSegRegLib.mrml.result_links import in_own_place
from MedSegRegLib.mrml.shared_labels import labels_of_node
from MedSegRegLib.mrml.volumes import geometry_of_node

from .captured import captureVolume
from .register_run import factsOf

DECIMALS = 4
NOT_KEPT = ("to_visit", "volumes", "changes", "places_ras", "report")


@dataclass(frozen=True, eq=False)
class FollowupRun:
    """Takes the visits out of the scene, runs them as a job, and writes the complete result.

    Attributes:
        visits: (volume, segmentation or label map or None) of each, oldest first.
        reference: name of the structure that keeps its place; "" for none.
        settings: further arguments of the job ``followup``.
    """

    visits: Sequence[tuple[Any, Any]]
    reference: str
    settings: dict[str, Any]

    def start(self, runner: Any, onWritten: Callable[[FollowUpNodes, list[str]], None]) -> bool:
        """Start the job.

        Args:
            runner: :class:`.run.Runner`.
            onWritten: given the new nodes, and what the user should know.

        Raises:
            MedSegRegError: a node cannot be used, or a visit lacks the reference structure.
        """
        values: dict[str, Any] = {}
        with in_own_place(self._nodes()):
            for number, (volume, drawn) in enumerate(self.visits):
                values[f"image{number}"] = captureVolume(volume)
                labels = None if drawn is None else labels_of_node(drawn, geometry_of_node(volume))
                if labels is not None:
                    values[f"labels{number}"] = labels
                if self.reference:
                    values[f"reference{number}"] = self._mask(labels, volume)
        names = {"first": self.visits[0][0].GetName(), "last": self.visits[-1][0].GetName()}
        return runner.start(
            _("Comparing {first} with {last}").format(**names),
            "followup",
            self.settings,
            values,
            lambda result: onWritten(*self._write(result)),
            watched=tuple(self._nodes()),
        )

    def _nodes(self) -> list[Any]:
        return [node for pair in self.visits for node in pair if node is not None]

    def _mask(self, labels: Labels | None, volume: Any) -> Voxels:
        structures = () if labels is None else labels.structures
        found = [structure.value for structure in structures if structure.name == self.reference]
        if labels is None or not found:
            raise InputError(
                f"'{volume.GetName()}' has no structure '{self.reference}'",
                "the structure that is held still in the labels of every visit",
                "select labels that have it, or leave its name empty",
            )
        return Voxels((labels.numpy() == found[0]).astype(np.uint8), labels.geometry)

    def _write(self, result: JobResult) -> tuple[FollowUpNodes, list[str]]:
        data = result.data
        facts = {name: fact for name, fact in factsOf(result).items() if name not in NOT_KEPT}
        maps = [
            Maps(
                result.transform(f"transform{number}"),
                result.transform(f"inverse{number}"),
                result.image(f"change{number}"),
                result.image(f"jacobian{number}"),
                _rounded(columns),
                data["places_ras"][number],
            )
            for number, columns in enumerate(data["changes"])
        ]
        nodes = write_followup(
            [volume for volume, _labels in self.visits],
            [np.array(matrix) for matrix in data["to_visit"]],
            [result.image(f"midway{number}") for number in range(len(self.visits))],
            maps,
            data["volumes"],
            facts,
            data["report"],
        )
        return nodes, [facts["sentence"], *facts["warnings"]]


def _rounded(columns: dict[str, list]) -> dict[str, list]:
    return {
        heading: [cell if isinstance(cell, str) else round(cell, DECIMALS) for cell in cells]
        for heading, cells in columns.items()
    }
