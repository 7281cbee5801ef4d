"""What a job can be: each task is a function ``task(work, **arguments) -> JobResult``. Jobs walk: worker -> [tasks].

Each is a thin door to one walk: plain arguments and values in, plain data and values out. A task and its libraries are
imported when it is asked for the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ...errors import InvalidSetting
from ..values import JobResult

MODULES = {
    "segment": "segmenting",
    "plan": "segmenting",
    "register": "registering",
    "correct": "registering",
    "check_transform": "checking",
    "carry": "carrying",
    "atlas": "atlases",
    "align": "aligning",
    "joint": "joining",
    "template": "templating",
    "sequence": "sequencing",
    "evaluate": "evaluating",
    "adapt": "adapting",
    "followup": "following",
    "compute": "computing",
    "verify": "storing",
    "install": "storing",
    "export": "storing",
    "remove": "storing",
}


def find_task(name: str) -> Callable[..., JobResult]:
    """The task of that name.

    Raises:
        InvalidSetting: there is none.
    """
    if name not in MODULES:
        raise InvalidSetting(f"There is no task '{name}'", f"one of {', '.join(MODULES)}", "choose one of these")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
