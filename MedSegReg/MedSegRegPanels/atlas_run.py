"""One segmentation by atlases, as it was set when the button was pressed. Window's walk: panel -> [run] -> job."""
# ruff: noqa: N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from MedSegRegLib.jobs import JobResult
from MedSegRegLib.mrml.result_links import in_own_place
from MedSegRegLib.mrml.segmentation_results import write_confidence, write_result
from MedSegRegLib.mrml.shared_labels import labels_of_node
from MedSegRegLib.mrml.undo import one_undo_step
from MedSegRegLib.mrml.volumes import geometry_of_node

from .captured import captureVolume
from .register_run import factsOf


@dataclass(frozen=True, eq=False)
class AtlasRun:
    """Takes the image and the atlases out of the scene, runs them as a job, and writes the complete result.

    Attributes:
        image: the volume to segment.
        atlases: (volume, segmentation or label map) of each.
        settings: further arguments of the job ``atlas``.
        agreement: whether to write, too, which share of the votes each voxel's label got.
    """

    image: Any
    atlases: tuple[tuple[Any, Any], ...]
    settings: dict[str, Any]
    agreement: bool = False

    def start(self, runner: Any, onWritten: Callable[[list[str]], None]) -> bool:
        """Start the job; tell what came out, one sentence a line.

        Raises:
            MedSegRegError: a node cannot be used.
        """
        with in_own_place([self.image, *(node for pair in self.atlases for node in pair)]):
            values = {"image": captureVolume(self.image)}
            for number, (volume, labels) in enumerate(self.atlases):
                values[f"atlas{number}"] = captureVolume(volume)
                values[f"labels{number}"] = labels_of_node(labels, geometry_of_node(volume))
        return runner.start(
            _("Segmenting {volume} by atlases").format(volume=self.image.GetName()),
            "atlas",
            self.settings,
            values,
            lambda result: onWritten(self._write(result)),
            watched=(self.image,),
        )

    def _write(self, result: JobResult) -> list[str]:
        labels, name = result.labels("labels"), f"{self.image.GetName()} by atlas"
        facts = {**factsOf(result), "atlases": [volume.GetName() for volume, _labels in self.atlases]}
        scene = self.image.GetScene()
        with one_undo_step(scene):
            write_result(labels, facts, scene, name=name, volume=self.image)
            said = [_("{name}: {count} structures written.").format(name=name, count=len(labels.structures))]
            if self.agreement:
                volume = write_confidence(
                    result.image("agreement"), scene, name=f"{name} agreement", volume=self.image, certain=1.0
                )
                said.append(_("{name}: which share of the votes each label got.").format(name=volume.GetName()))
        return [*said, *facts["warnings"]]
