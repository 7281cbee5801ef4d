"""What each method's own process shares: the task that it is given, how it is measured, the fields that it leaves.

A method is a script in this folder that does its imports, then calls :func:`main` with a function from a task to a
function that writes the result. Only the former is measured: from file paths to transforms in memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from measured import child_peak_mib, cpu_seconds, peak_mib, resident_mib

MIB = 2**20
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Task:
    """One registration.

    Attributes:
        fixed, moving: images; fixed_mask, moving_mask: where to look, or None.
        contrast: ``same`` or ``different``; motion: ``rigid`` or ``deformable`` (affine, then dense).
        variant: the method's own, after the colon of its name.
        run: folder for results and for whatever the method writes.
    """

    fixed: Path
    moving: Path
    fixed_mask: Path | None
    moving_mask: Path | None
    contrast: str
    motion: str
    variant: str
    run: Path
    threads: int
    device: str

    @classmethod
    def read(cls, path: Path) -> Task:
        """From ``task.json``."""
        values = json.loads(path.read_text())
        paths = {key: Path(values[key]) for key in ("fixed", "moving", "fixed_mask", "moving_mask") if values[key]}
        return cls(**{**values, **paths, "run": path.parent})


@dataclass(frozen=True)
class Usage:
    """What a registration took.

    Attributes:
        cpu_s: user and system time of the process and its children; wall_s: elapsed. On a GPU of the second, warm run.
        process_cpu_s: the same with imports and the first, cold run.
        peak_mib: largest resident memory; above_imports_mib: the same less what the imports had taken.
        gpu_peak_mib: largest memory allocated by torch on the GPU.
        parts: CPU-seconds of named parts, where a method states them.
        version: of the method.
    """

    cpu_s: float
    wall_s: float
    process_cpu_s: float
    peak_mib: float
    above_imports_mib: float
    gpu_peak_mib: float | None
    parts: dict[str, float]
    version: str


def main(register: Callable[[Task], Callable[[], None]], version: str = "") -> None:
    """Run, measure and write: ``field.mha``, perhaps ``inverse.mha``, and ``usage.json``."""
    task = Task.read(Path(sys.argv[1]))
    on_gpu = task.device.startswith("cuda")
    if on_gpu:
        import torch  # noqa: PLC0415  (methods without torch do not pay for it)

        register(task)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    imported_mib, cpu, wall = resident_mib(), cpu_seconds(), time.perf_counter()
    write = register(task)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    usage = Usage(
        cpu_s=cpu,
        wall_s=wall,
        process_cpu_s=cpu_seconds(),
        peak_mib=max(peak_mib(), child_peak_mib()),
        above_imports_mib=max(peak_mib() - imported_mib, child_peak_mib()),
        gpu_peak_mib=torch.cuda.max_memory_allocated() / MIB if on_gpu else None,
        parts=PARTS,
        version=version,
    )
    write()
    (task.run / "usage.json").write_text(json.dumps(asdict(usage), indent=1))


PARTS: dict[str, float] = {}


class Part:
    """``with Part("affine"):`` states the CPU-seconds of a part of a registration."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        self.began = cpu_seconds()

    def __exit__(self, *_: object) -> None:
        PARTS[self.name] = cpu_seconds() - self.began


def write_fields(task: Task, forward: sitk.Transform, inverse: sitk.Transform | None = None) -> None:
    """Transforms as dense ITK fields: the forward one on the fixed grid, the inverse on the moving grid.

    Args:
        forward: fixed to moving, LPS mm; inverse: moving to fixed.
    """
    for transform, grid, name in ((forward, task.fixed, "field.mha"), (inverse, task.moving, "inverse.mha")):
        if transform is not None:
            image = sitk.ReadImage(str(grid))
            dense = sitk.TransformToDisplacementField(
                transform, sitk.sitkVectorFloat32, image.GetSize(), image.GetOrigin(), image.GetSpacing(),
                image.GetDirection(),
            )  # fmt: skip
            sitk.WriteImage(dense, str(task.run / name))


def affine_transform(matrix_lps: np.ndarray) -> sitk.AffineTransform:
    """A 4x4 matrix as an ITK transform."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix_lps[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix_lps[:3, 3].tolist())
    return transform


def dense_transform(path: Path) -> sitk.DisplacementFieldTransform:
    """A displacement field file as an ITK transform."""
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))


def affine_then_dense(affine: sitk.Transform, dense: sitk.Transform) -> sitk.CompositeTransform:
    """x -> affine(dense(x)): what a pipeline means that first finds the affine, then the rest on the fixed grid."""
    return sitk.CompositeTransform([affine, dense])


def dense_then_affine_inverse(affine: sitk.AffineTransform, dense_inverse: sitk.Transform) -> sitk.CompositeTransform:
    """The inverse of :func:`affine_then_dense`: y -> dense_inverse(affine_inverse(y))."""
    return sitk.CompositeTransform([dense_inverse, affine.GetInverse()])
