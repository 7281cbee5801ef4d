"""Three orthogonal planes of a volume as pictures see them. Evaluation, before the pictures.

Planes are cut from a grid along R, A and S, whatever the orientation of the volume, and shown as radiologists look at
them: the patient's right and the front are on the left of the picture, superior (in axial planes anterior) is up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Geometry
from ..image import Image, Labels
from ..resample import resample_image, resample_labels

LARGEST_PLANE = 480
POINTS_FOR_CENTRE = 1_000_000
ENOUGH_AREA = 0.5


@dataclass(frozen=True)
class View:
    """How one of the three planes is looked at: world axes 0, 1, 2 are R, A, S.

    Attributes:
        name: of the plane.
        normal, across, up: the world axis through the plane, to the left, and upwards in the picture.
        left, right, bottom, top: letters of the sides.
    """

    name: str
    normal: int
    across: int
    up: int
    left: str
    right: str
    bottom: str
    top: str


VIEWS = (
    View("axial", 2, 0, 1, "R", "L", "P", "A"),
    View("coronal", 1, 0, 2, "R", "L", "I", "S"),
    View("sagittal", 0, 1, 2, "A", "P", "I", "S"),
)


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane through a point: a grid of one voxel along its normal.

    Attributes:
        view: which one.
        geometry: its grid, axes along R, A, S.
    """

    view: View
    geometry: Geometry

    @property
    def position(self) -> str:
        """Where it cuts its normal axis, e.g. "L 12 mm"."""
        position_mm = float(self.geometry.origin_ras[self.view.normal])
        return f"{('RL', 'AP', 'SI')[self.view.normal][position_mm < 0]} {abs(position_mm):.0f} mm"

    @property
    def width_mm(self) -> float:
        """Of the picture, left to right."""
        return self.extent_mm[1] - self.extent_mm[0]

    @property
    def height_mm(self) -> float:
        """Of the picture, bottom to top."""
        return self.extent_mm[3] - self.extent_mm[2]

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """World coordinates of the (right, left, bottom, top) edges of :meth:`sample`'s array."""
        corners = self.geometry.corners_ras()[:, [self.view.across, self.view.up]]
        (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
        return float(x0), float(x1), float(y0), float(y1)

    def sample(self, image: Image) -> np.ndarray:
        """First channel [rows, columns] along (up, across), ascending world coordinates; NaN outside the image."""
        values = resample_image(image.with_tensor(image.tensor[:1].float()), self.geometry, fill=float("nan"))
        return values.numpy()[0].squeeze(2 - self.view.normal)

    def sample_labels(self, labels: Labels) -> np.ndarray:
        """[rows, columns] label values, 0 outside."""
        return resample_labels(labels, self.geometry).numpy().squeeze(2 - self.view.normal)


def cut_planes(field_of_view: Geometry, through_ras: np.ndarray) -> list[Plane]:
    """The axial, coronal and sagittal plane through a point, each over the whole field of view.

    Pixels have the side of the smallest voxel side, or more where a plane would have over 480 pixels a side.
    """
    corners = field_of_view.corners_ras()
    low, high = corners.min(axis=0), corners.max(axis=0)
    pixel_mm = max(min(field_of_view.spacing_mm), float((high - low).max()) / LARGEST_PLANE)
    size = np.maximum(1, np.rint((high - low) / pixel_mm)).astype(int)
    first = (low + high) / 2 - (size - 1) / 2 * pixel_mm
    planes = []
    for view in VIEWS:
        origin, count = first.copy(), size.copy()
        origin[view.normal], count[view.normal] = through_ras[view.normal], 1
        i, j, k = count.tolist()
        r, a, s = origin.tolist()
        planes.append(Plane(view, Geometry.from_spacing((i, j, k), (pixel_mm,) * 3, (r, a, s))))
    return planes


def find_centre(labels: Labels) -> np.ndarray:
    """The point [3] RAS mm whose three planes show the labels.

    It is the centre of mass, except along an axis where the plane there shows less than half the labelled area of the
    plane that shows most (the gap between a left and a right structure): then it is that plane. The centre of the
    field of view when there are no labels.
    """
    mask = labels.numpy() > 0
    voxels = np.flatnonzero(mask)
    if not len(voxels):
        return labels.geometry.centre_ras
    voxels = voxels[:: max(1, len(voxels) // POINTS_FOR_CENTRE)]
    points = labels.geometry.map_voxels(np.stack(np.unravel_index(voxels, mask.shape)[::-1], axis=-1))
    centre, step = points.mean(axis=0), max(labels.geometry.spacing_mm)
    for axis in range(3):
        slabs = np.rint((points[:, axis] - centre[axis]) / step).astype(int)
        area = np.bincount(slabs - slabs.min())
        if area[-slabs.min()] < ENOUGH_AREA * area.max():
            centre[axis] += (area.argmax() + slabs.min()) * step
    return centre
