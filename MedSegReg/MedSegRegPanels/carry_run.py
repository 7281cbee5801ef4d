"""One study's drawings to another, as it was set when the button was pressed. Window's walk: panel -> [run] -> job."""
# ruff: noqa: N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from MedSegRegLib.jobs import JobResult
from MedSegRegLib.mrml.carry import Cargo, write_carried
from MedSegRegLib.mrml.result_links import in_own_place
from MedSegRegLib.mrml.review_links import link_review

from .captured import captureVolume
from .register_run import factsOf

DECIMALS = 3
NOT_KEPT = ("review", "points_ras", "points_disagreement_mm", "points_inside")


@dataclass(frozen=True, eq=False)
class CarryRun:
    """Takes what is carried out of the scene, runs it as a job, and writes the complete result.

    Attributes:
        source, target: the volumes.
        segmentation, markups, models: see :class:`MedSegRegLib.mrml.carry.Cargo`.
        settings: further arguments of the job ``carry``.
    """

    source: Any
    target: Any
    segmentation: Any
    markups: tuple[Any, ...]
    models: tuple[Any, ...]
    settings: dict[str, Any]

    def start(self, runner: Any, onWritten: Callable[[Any, list[str]], None]) -> bool:
        """Start the job.

        Args:
            runner: :class:`.run.Runner`.
            onWritten: given the table node of the review, None without a segmentation, and what the user should know.

        Raises:
            MedSegRegError: a node cannot be used.
        """
        cargo = Cargo(self.source, self.target, self.segmentation, self.markups, self.models)
        with in_own_place(self._nodes()):
            values = {"source": captureVolume(self.source), "target": captureVolume(self.target)}
            labels, points = cargo.labels(), cargo.points()
        if labels is not None:
            values["labels"] = labels
        names = {"source": self.source.GetName(), "target": self.target.GetName()}
        return runner.start(
            _("Carrying from {source} to {target}").format(**names),
            "carry",
            {**self.settings, "points": None if points is None else points.tolist()},
            values,
            lambda result: onWritten(*self._write(cargo, result)),
            watched=self._nodes(),
        )

    def _nodes(self) -> tuple[Any, ...]:
        drawn = () if self.segmentation is None else (self.segmentation,)
        return (self.source, self.target, *drawn, *self.markups, *self.models)

    def _write(self, cargo: Cargo, result: JobResult) -> tuple[Any, list[str]]:
        facts = {name: fact for name, fact in factsOf(result).items() if name not in NOT_KEPT}
        drawn = "labels" in result.values
        with in_own_place(self._nodes()):
            nodes = write_carried(
                cargo,
                result.transform("transform"),
                result.transform("inverse"),
                result.labels("labels") if drawn else None,
                {**(self._review(result) if drawn else {}), **(self._points(cargo, result) if self.markups else {})},
                facts,
            )
        review = nodes.tables[0] if drawn else None
        if review is not None:
            link_review(review, nodes.segmentation)
        return review, [facts["sentence"], *facts["warnings"]]

    def _review(self, result: JobResult) -> dict[str, dict[str, list]]:
        columns = {
            heading: [cell if isinstance(cell, str) else round(cell, DECIMALS) for cell in cells]
            for heading, cells in result.data["review"].items()
        }
        return {_("Review of {name}").format(name=self.segmentation.GetName()): columns}

    def _points(self, cargo: Cargo, result: JobResult) -> dict[str, dict[str, list]]:
        apart = [round(mm, DECIMALS) for mm in result.data["points_disagreement_mm"]]
        inside = [_("yes") if one else _("no") for one in result.data["points_inside"]]
        columns = {"point": cargo.point_names(), "two registrations apart (mm)": apart, "inside the target": inside}
        return {_("Review of points on {name}").format(name=self.target.GetName()): columns}
