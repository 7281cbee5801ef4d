"""One registration, as it was set when the button was pressed. Window's walk: panel -> [run] -> job -> nodes."""
# ruff: noqa: N802, N803 - Slicer's names are camelCase

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from MedSegRegLib import __version__
from MedSegRegLib.jobs import JobResult
from MedSegRegLib.mrml.live_preview import LivePreview
from MedSegRegLib.mrml.moving_study import place_under, study_nodes
from MedSegRegLib.mrml.registration_inputs import RegistrationNodes
from MedSegRegLib.mrml.registration_results import Result, write_registration


@dataclass(frozen=True, eq=False)
class RegisterRun:
    """Takes what a registration needs out of the scene, runs it as a job, and writes the complete result.

    Attributes:
        nodes: what is registered, and what is known about it.
        settings: further arguments of the job ``register``.
        output: transform of an earlier result to write to; None makes a new one.
        place: whether the moving study is put under the result.
        live: whether it is shown on the way.
    """

    nodes: RegistrationNodes
    settings: dict[str, Any]
    output: Any = None
    place: bool = True
    live: bool = True

    def start(self, runner: Any, onWritten: Callable[[Any, list[str]], None]) -> LivePreview | None:
        """Start the job.

        Args:
            runner: :class:`.run.Runner`.
            onWritten: given the transform node, and what the user should know beside its facts.

        Returns:
            What shows the moving study on the way, to be ended with the job; None when nothing was started.

        Raises:
            MedSegRegError: a node cannot be used.
        """
        arguments, values = self.nodes.read()
        preview = LivePreview(self._study())
        names = {"fixed": self.nodes.fixed.GetName(), "moving": self.nodes.moving.GetName()}
        started = runner.start(
            _("Registering {moving} to {fixed}").format(**names),
            "register",
            {**arguments, **self.settings},
            values,
            lambda result: onWritten(*self._write(result)),
            watched=(self.nodes.fixed, self.nodes.moving),
            onEvent=(lambda event: preview.show(event.result.transform("transform"))) if self.live else None,
        )
        return preview if started else None

    def _study(self) -> list[Any]:
        return study_nodes(self.nodes.moving, (self.nodes.moving_segments, self.nodes.moving_points))

    def _write(self, result: JobResult) -> tuple[Any, list[str]]:
        values = {name: result.image(name) for name in ("resampled", "jacobian") if name in result.values}
        found = Result(result.transform("transform"), result.transform("inverse"), factsOf(result), **values)
        node = write_registration(found, self.nodes.fixed, self.nodes.moving, self.output)
        here = [one for one in self._study() if one.GetScene() is node.GetScene()]
        kept = place_under(here, node) if self.place else []
        said = _("{name} is under a transform of its own and was not moved: put that one under {result}.")
        return node, [said.format(name=one.GetName(), result=node.GetName()) for one in kept]


def factsOf(result: JobResult) -> dict[str, Any]:
    """What a registration says about itself, for the attributes of its nodes."""
    findings = [finding for finding in result.data["findings"] if finding["level"] == "warn"]
    warnings = [f"{finding['message'].rstrip('.')}. {finding['fix']}".strip() for finding in findings]
    facts = {name: fact for name, fact in result.data.items() if name != "findings"}
    return {**facts, "warnings": warnings, "medsegreg": __version__}
