"""Make the picture of docs/followup.md: the sample S1 at two simulated visits."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from scipy import ndimage

from MedSegRegLib.files import read_image
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure
from MedSegRegLib.resample import resample_image
from MedSegRegLib.samples import sample_path
from MedSegRegLib.transform import Affine, Displacement, Transform
from MedSegRegLib.workflows.followup import follow_up
from MedSegRegLib.workflows.followup_midway import Visit
from MedSegRegLib.workflows.followup_report import change_columns, draw_png

SCREENSHOTS = Path(__file__).parents[1] / "Resources" / "Screenshots"
SPACING_MM, NOISE = 2.0, 2.0
BOXES = (((-35, -18), (0, 25), (18, 35)), ((18, 35), (0, 25), (18, 35)), ((18, 35), (-45, -20), (12, 30)))
"""Where, in mm from the middle, the brightest spot (white matter) gets a lesion."""
RADII_MM = (6.0, 5.0, 0.0), (8.5, 5.0, 6.0)
STRUCTURES = (Structure(1, "lesions", (0.9, 0.3, 0.2)),)


def main() -> None:
    """Compare the visits, say what was found, and write the picture."""
    sample = read_image(sample_path("s1-t1"))
    grid = sample.geometry.with_spacing((SPACING_MM,) * 3)
    ras = grid.map_voxels(np.stack(np.indices(grid.shape_kji)[::-1], axis=-1))
    spots = _white_matter(resample_image(sample, grid).numpy()[0], ras - grid.centre_ras)
    visits = [
        _visit(sample, grid, path, spots, radii, name)
        for path, radii, name in zip((Transform(), _later(grid, ras)), RADII_MM, ("2024", "2025"), strict=True)
    ]
    result = follow_up(visits)
    sys.stdout.write(f"{result.sentence}\n{change_columns(result.intervals[0])}\n")
    picture = Picture.open(io.BytesIO(draw_png(result, result.intervals[0]))).convert("RGB")
    picture.quantize(256, Picture.Quantize.FASTOCTREE).save(SCREENSHOTS / "followup-report.png", optimize=True)


def _white_matter(array: np.ndarray, offsets: np.ndarray) -> list[tuple[int, ...]]:
    """The brightest voxel of each box."""
    smooth, found = ndimage.gaussian_filter(array, 1.5), []
    for box in BOXES:
        inside = np.all(
            [(offsets[..., n] > low) & (offsets[..., n] < high) for n, (low, high) in enumerate(box)], axis=0
        )
        found.append(np.unravel_index(np.argmax(np.where(inside, smooth, -1)), array.shape))
    return found


def _later(grid: Geometry, ras: np.ndarray) -> Transform:
    """Turned by 5 degrees and shifted; the middle of the brain has grown by up to a third."""
    angle, centre = np.radians(5), grid.centre_ras
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + (3, -2, 1.5)
    offsets = ras - centre
    inwards = -0.1 * offsets * np.exp(-np.square(offsets).sum(axis=-1, keepdims=True) / (2 * 16.0**2))
    return Transform((Affine(matrix), Displacement(np.moveaxis(inwards, -1, 0).astype(np.float32), grid)))


def _visit(
    sample: Image, grid: Geometry, path: Transform, spots: list[tuple[int, ...]], radii: tuple[float, ...], name: str
) -> Visit:
    """What a scanner would see of a head whose points ``path`` finds in the sample; lesions are dark and drawn."""
    points = path.map_points(grid.map_voxels(np.stack(np.indices(grid.shape_kji)[::-1], axis=-1).reshape(-1, 3)))
    image, drawn = resample_image(sample, grid, path).numpy()[0].copy(), np.zeros(grid.shape_kji, np.uint8)
    for spot, radius in zip(spots, radii, strict=True):
        away = np.linalg.norm(points - grid.map_voxels(np.array(spot[::-1])), axis=1).reshape(grid.shape_kji)
        if radius:
            image *= 1 - 0.45 / (1 + np.exp((away - radius) / 0.6))
            drawn[away < radius] = 1
    image += np.random.default_rng(int(name)).normal(0, NOISE, image.shape)
    return Visit(Image.from_array(image, grid, name), Labels.from_array(drawn, grid, STRUCTURES))


if __name__ == "__main__":
    main()
