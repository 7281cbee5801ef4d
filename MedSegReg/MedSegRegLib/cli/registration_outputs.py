"""What a registration leaves: files, a scene that 3D Slicer opens, numbers as JSON, and a table on the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..errors import InvalidSetting, UnsupportedFile
from ..evaluate.deformation import InverseConsistency
from ..files import (
    TRANSFORM_EXTENSIONS,
    VOLUME_EXTENSIONS,
    atomic_path,
    require_writable,
    write_image,
    write_transform,
)
from ..image import Image
from ..register.quality import Quality
from ..register.run import Registration
from ..register.settings import RegistrationSettings
from ..report import findings_data
from ..resample import resample_image
from .outputs import SCENE

LINEAR_ONLY = (".tfm", ".txt", ".mat")

Names = Mapping[int, str]


@dataclass(frozen=True)
class RegistrationOutputs:
    """Files to write; all but the transform may be left out.

    Attributes:
        transform, inverse: in the format that the name asks for; the transform may be an ``.mrb`` scene.
        one_field: the whole transform on the fixed grid.
        moved: the moving image on the fixed grid.
        quality: numbers, settings and findings.
    """

    transform: Path
    inverse: Path | None = None
    one_field: Path | None = None
    moved: Path | None = None
    quality: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """Those that are asked for, in the order they are written."""
        return [path for path in astuple(self) if path is not None]

    def require_writable(self, settings: RegistrationSettings, overwrite: bool) -> None:
        """Ask before computing whether all of them can be written.

        Raises:
            InvalidSetting: one file for two results. UnsupportedFile: a deformable transform as text.
            OutputNotWritable, UnsafeFile: see :func:`~MedSegRegLib.files.require_writable`.
        """
        for path, extensions in (
            (self.transform, (*TRANSFORM_EXTENSIONS, SCENE)),
            (self.inverse, TRANSFORM_EXTENSIONS),
            (self.one_field, VOLUME_EXTENSIONS),
            (self.moved, VOLUME_EXTENSIONS),
            (self.quality, (".json",)),
        ):
            if path is not None:
                require_writable(path, overwrite, extensions)
        places = [path.resolve() for path in self.paths]
        if len(set(places)) < len(places):
            raise InvalidSetting("Two results would go to one file", "a name for each", "rename one of them")
        for path in (self.transform, self.inverse):
            if path is not None and settings.deformable is not None and path.name.lower().endswith(LINEAR_ONLY):
                raise UnsupportedFile(
                    f"The transform will be deformable, for which '{path.name}' has no room",
                    "a linear transform",
                    "write .h5 or .nii.gz, or choose a linear preset",
                )

    def write(self, result: Registration, fixed: Image, moving: Image, data: Mapping[str, object]) -> list[Path]:
        """Write all of them, each complete or not at all; returns their paths."""
        if self.transform.suffix == SCENE:
            _write_scene(result, fixed, moving, self.transform)
        else:
            write_transform(result.transform, self.transform, fixed.geometry)
        if self.inverse is not None:
            write_transform(result.inverse, self.inverse, moving.geometry)
        if self.one_field is not None:
            write_transform(result.transform, self.one_field, fixed.geometry)
        if self.moved is not None:
            write_image(resample_image(moving, fixed.geometry, result.transform), self.moved)
        if self.quality is not None:
            with atomic_path(self.quality) as temporary:
                temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return self.paths


def registration_data(result: Registration, names: Names) -> dict[str, object]:
    """All numbers, the settings and what was noticed, for JSON.

    Args:
        names: of the structures by label value.
    """
    quality = asdict(result.quality)
    quality["dice"] = [
        {"value": value, "name": names[value], **asdict(dice)} for value, dice in result.quality.dice.items()
    ]
    return {
        "sentence": result.sentence,
        "quality": quality,
        "settings": result.settings.model_dump(mode="json"),
        "findings": findings_data(result.findings),
        "seconds": result.seconds,
    }


def quality_table(quality: Quality, names: Names) -> Table:
    """All numbers of a result for the screen; ``names`` of the structures by label value."""
    table = Table("quality", "before", "after")
    before = "" if quality.before is None else f"{quality.before:.4f}"
    table.add_row(f"similarity ({quality.similarity}), larger is better", before, f"{quality.after:.4f}")
    if quality.landmarks_mm is not None:
        table.add_row("mean distance of the points", *(f"{mm:.2f} mm" for mm in astuple(quality.landmarks_mm)))
    for value, dice in quality.dice.items():
        table.add_row(Text(f"Dice, {names[value]}"), *(f"{number:.3f}" for number in astuple(dice)))
    table.add_section()
    for what, number in _facts(quality).items():
        table.add_row(what, "", number)
    return table


def _facts(quality: Quality) -> dict[str, str]:
    """What has no before."""
    folding, facts = quality.folding, {"fixed image inside the moving one": f"{100 * quality.overlap:.1f} %"}
    if folding is not None:
        facts |= {
            "folded voxels, central differences": f"{folding.voxels} ({folding.percent:.4f} %)",
            "folded voxels, any corner": f"{folding.voxels_any_corner} ({folding.percent_any_corner:.4f} %)",
            "SDlogJ": f"{quality.sdlogj:.3f}",
            "deformation: mean, largest": f"{quality.mean_motion_mm:.2f}, {quality.largest_motion_mm:.2f} mm",
        }
    return facts | {
        "inverse error from fixed: mean, 99 %, largest": _errors(quality.inverse_consistency),
        "inverse error from moving: mean, 99 %, largest": _errors(quality.inverse_consistency_of_moving),
    }


def _errors(errors: InverseConsistency) -> str:
    return f"{errors.mean_mm:.3f}, {errors.p99_mm:.3f}, {errors.max_mm:.3f} mm"


def _write_scene(result: Registration, fixed: Image, moving: Image, output: Path) -> None:
    """An ``.mrb`` scene: both images, the moving one under the transform, and the inverse transform beside it."""
    from ..mrml.headless import new_scene, save_scene
    from ..mrml.transforms import write_transform as write_transform_node
    from ..mrml.volumes import node_from_image

    scene = new_scene()
    node_from_image(fixed, scene, fixed.name)
    moving_node = node_from_image(moving, scene, moving.name)
    node = write_transform_node(result.transform, scene, f"{moving.name} to {fixed.name}")
    write_transform_node(result.inverse, scene, f"{fixed.name} to {moving.name} (inverse)")
    moving_node.SetAndObserveTransformNodeID(node.GetID())
    save_scene(scene, output)
