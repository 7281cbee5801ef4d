"""What the stories of the window share: a child that stays warm, volumes, and what a run may have left behind."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from small_training import ball


class Borrowed:
    """A job system that outlives the window: closing it only cancels."""

    def __init__(self, jobs: Any) -> None:
        self._jobs, self._numbers = jobs, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    def submit(self, *arguments: Any) -> int:
        self._numbers.append(self._jobs.submit(*arguments))
        return self._numbers[-1]

    def close(self) -> None:
        for number in self._numbers:
            self._jobs.cancel(number)
        while self._jobs.busy:
            self._jobs.poll()


def add_volume(scene: Any, array: np.ndarray, name: str, origin: Iterable[float] = (0, 0, 0)) -> Any:
    """A volume node of an array [K, J, I] with voxels of 1 mm."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array, np.float32))
    node.SetOrigin(*origin)
    return node


def add_ball(scene: Any, name: str = "head", side: int = 24) -> Any:
    return add_volume(scene, ball(0, side)[0], name)


def contents(scene: Any) -> list[tuple]:
    """What a run that wrote nothing leaves as it was: all nodes, their names, places and voxels."""
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    nodes = [node for node in nodes if not node.IsA("vtkMRMLScriptedModuleNode")]
    return [(n.GetID(), n.GetName(), *map(n.GetNthNodeReferenceID, _references(n), [0] * 99)) for n in nodes]


def _references(node: Any) -> list[str]:
    return [node.GetNthNodeReferenceRole(index) for index in range(node.GetNumberOfNodeReferenceRoles())]


def observers(*observed: Any) -> int:
    """How many observers these VTK objects have; VTK tells only by printing."""
    return sum(str(one).count("vtkObserver (") for one in observed)


def child_processes() -> set[int]:
    """Of this process (Linux)."""
    return {int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}


def memory_bytes() -> int:
    """Of this process, resident (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
