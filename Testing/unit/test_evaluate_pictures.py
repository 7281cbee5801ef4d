"""Pictures: what is drawn where, on any grid; looked at through the pixels of the PNG."""

from __future__ import annotations

import colorsys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import image as png
from scipy.spatial.transform import Rotation

from MedSegRegLib.errors import GeometryMismatch, NonFiniteVoxels, OutputNotWritable
from MedSegRegLib.evaluate.pictures import before_after, checkerboard, jacobian_map, overlay
from MedSegRegLib.evaluate.planes import cut_planes, find_centre
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels, Structure

TURN = Rotation.from_euler("xyz", (15, -10, 20), degrees=True).as_matrix()
GRIDS = {
    "RAS": np.diag([2.0, 2.0, 2.0]),
    "LPS": np.diag([-2.0, -2.0, 2.0]),
    "PIR, anisotropic": np.array([[0, 0, 4.0], [-2.0, 0, 0], [0, -2.0, 0]]),
    "left-handed": np.diag([-2.0, 2.0, 2.0]),
    "oblique": TURN @ np.diag([2.0, 2.5, 2.0]),
    "sheared": np.array([[2.0, 0.4, 0], [0, 2.0, 0.3], [0, 0, 2.0]]),
}


def grid(axes_mm: np.ndarray, side_mm: float = 80.0) -> Geometry:
    """A cube of this side about the point (10, 20, 30)."""
    size = np.maximum(1, np.rint(side_mm / np.linalg.norm(axes_mm, axis=0))).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = axes_mm
    matrix[:3, 3] = np.array([10, 20, 30]) - axes_mm @ ((size - 1) / 2)
    return Geometry(tuple(size.tolist()), matrix)


def positions(geometry: Geometry) -> np.ndarray:
    k, j, i = np.indices(geometry.shape_kji)
    return geometry.map_voxels(np.stack((i, j, k), axis=-1))


@pytest.fixture(params=GRIDS.values(), ids=GRIDS)
def geometry(request) -> Geometry:
    return grid(request.param)


@pytest.fixture
def image() -> Image:
    """A bright ball on a dark ground."""
    geometry = grid(GRIDS["RAS"])
    distance = np.linalg.norm(positions(geometry) - (10, 20, 30), axis=-1)
    return Image.from_array(np.exp(-((distance / 25) ** 4)), geometry)


def test_planes_show_the_patient_as_radiologists_do_on_any_grid(geometry):
    ramps = [Image.from_array(positions(geometry)[..., axis], geometry) for axis in range(3)]
    planes = cut_planes(geometry, np.array([12.0, 18.0, 33.0]))
    for plane, (normal, across, up) in zip(planes, ((2, 0, 1), (1, 0, 2), (0, 1, 2)), strict=True):
        pictures = [plane.sample(ramp) for ramp in ramps]
        rows, columns = pictures[0].shape
        at = np.s_[rows // 4 : -(rows // 4), columns // 4 : -(columns // 4)]  # away from the border of oblique grids
        np.testing.assert_allclose(pictures[normal][at], (12.0, 18.0, 33.0)[normal], atol=1e-3)
        x0, x1, y0, _ = plane.extent_mm
        pixel = (x1 - x0) / columns
        np.testing.assert_allclose(pictures[across][at][0], (x0 + pixel * (np.arange(columns) + 0.5))[at[1]], atol=1e-3)
        np.testing.assert_allclose(pictures[up][at][:, 0], (y0 + pixel * (np.arange(rows) + 0.5))[at[0]], atol=1e-3)


def test_planes_go_through_the_larger_of_two_structures_rather_than_between_them(geometry):
    points = positions(geometry)
    left, right = (
        np.linalg.norm(points - centre, axis=-1) < radius for centre, radius in (((-10, 25, 25), 9), ((30, 25, 25), 12))
    )
    centre = find_centre(Labels.from_array(left * 1 + right * 2, geometry))
    np.testing.assert_allclose(centre, (30, 25, 25), atol=5)


def test_planes_go_through_the_middle_of_an_empty_label_map(geometry):
    empty = Labels.from_array(np.zeros(geometry.shape_kji, int), geometry)
    np.testing.assert_allclose(find_centre(empty), (10, 20, 30), atol=1e-6)


def test_overlay_draws_right_on_the_left_and_anterior_up(geometry, tmp_path):
    """A red structure at the right, a blue one in front: in the axial plane red lies left of and below blue."""
    points = positions(geometry)
    red, blue = (np.linalg.norm(points - centre, axis=-1) < 12 for centre in ((28, 20, 30), (10, 38, 30)))
    labels = Labels.from_array(
        red * 1 + blue * 2, geometry, (Structure(1, "red", (1.0, 0.0, 0.0)), Structure(2, "blue", (0.0, 0.0, 1.0)))
    )
    overlay(Image.from_array(points[..., 0] * 0, geometry), labels, tmp_path / "p.png", "title")
    picture = png.imread(tmp_path / "p.png")[..., :3]
    axial = picture[picture.shape[0] // 2 :, : picture.shape[1] // 2]
    (red_y, red_x), (blue_y, blue_x) = (
        np.argwhere(axial[..., a] - axial[..., b] > 0.25).mean(axis=0) for a, b in ((0, 2), (2, 0))
    )
    assert red_x < blue_x
    assert red_y > blue_y


def test_overlay_copes_with_many_long_and_odd_names_and_labels_without_a_name(image, tmp_path):
    values = np.arange(image.tensor[0].numel()).reshape(image.geometry.shape_kji) // 500
    structures = tuple(
        Structure(n, f"$x^{{{n}$ [b] 肝 {'long ' * 9}", colorsys.hsv_to_rgb(n / 60, 0.8, 1)) for n in range(1, 60)
    )
    overlay(image, Labels.from_array(values, image.geometry, structures), tmp_path / "p.png", "a $ b_{")
    assert png.imread(tmp_path / "p.png").shape[2] == 4


@pytest.mark.parametrize("size", [(1, 1, 1), (40, 30, 1), (1, 1, 300)])
def test_overlay_draws_any_size(size, tmp_path):
    geometry = Geometry.from_spacing(size)
    full = np.ones(geometry.shape_kji, int)
    overlay(Image.from_array(full, geometry), Labels.from_array(full, geometry), tmp_path / "p.png")
    assert max(png.imread(tmp_path / "p.png").shape) < 3000


def test_overlay_without_labels_and_with_labels_elsewhere_draws_the_image(image, tmp_path):
    overlay(image, None, tmp_path / "alone.png")
    far = Geometry(image.geometry.size_ijk, image.geometry.ijk_to_ras + np.eye(4, 4, 3) * 5000)
    overlay(image, Labels.from_array(np.ones(far.shape_kji, int), far), tmp_path / "far.png")
    assert png.imread(tmp_path / "alone.png")[..., :3].max() > 0.95
    assert (tmp_path / "far.png").exists()


def test_checkerboard_alternates_between_the_images(image, tmp_path):
    """The fixed image is white except at the bottom, the moved one the opposite: the axial plane is a checkerboard."""
    white = torch.ones_like(image.tensor)
    white[:, :5] = 0
    checkerboard(image.with_tensor(white), image.with_tensor(1 - white), tmp_path / "p.png")
    axial = png.imread(tmp_path / "p.png")[14:480, 14:480, 0]
    squares = axial[23::47, 23::47] > 0.5
    assert squares.shape == (10, 10)
    rows, columns = np.indices(squares.shape)
    disagreeing = (squares == ((rows + columns) % 2 == squares[5, 5])).sum()
    assert disagreeing in range(4) or disagreeing in range(97, 101)  # up to three squares lie under letters


def test_before_and_after_carry_the_edges_of_the_fixed_image(image, tmp_path):
    flat = image.with_tensor(torch.zeros_like(image.tensor))
    before_after(image, flat, flat, tmp_path / "p.png", "title")
    picture = png.imread(tmp_path / "p.png")[..., :3]
    orange = (picture[..., 0] > 0.9) & (picture[..., 2] < 0.3)
    thirds = [part.sum() for part in np.array_split(orange, 3)]
    assert min(thirds) > 0.8 * max(thirds) > 100


@pytest.mark.parametrize("draw", [checkerboard, lambda a, b, path: before_after(a, a, b, path)])
def test_refuses_images_on_different_grids(image, draw, tmp_path):
    other = Image(image.tensor, image.geometry.window((3, 0, 0), image.geometry.size_ijk))
    with pytest.raises(GeometryMismatch, match="resample the moving image onto the fixed grid"):
        draw(image, other, tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


def test_jacobian_map_is_red_where_it_grows_blue_where_it_shrinks_and_yellow_where_it_folds(image, tmp_path):
    jacobian = torch.ones(image.geometry.shape_kji)
    jacobian[:, :, :12], jacobian[:, :, 28:] = 0.6, 1.6  # left of the patient, right of the patient
    black = image.with_tensor(torch.zeros_like(image.tensor))

    def colors():
        jacobian_map(jacobian, image.geometry, black, tmp_path / "p.png")
        picture = png.imread(tmp_path / "p.png")[:480, :480, :3]  # the axial plane
        red, green, blue = np.moveaxis(picture, -1, 0)
        return red - blue > 0.2, blue - red > 0.2, (red > 0.8) & (green > 0.8) & (blue < 0.4)

    red, blue, yellow = colors()
    assert np.argwhere(red)[:, 1].mean() < np.argwhere(blue)[:, 1].mean()
    assert not yellow.any()
    jacobian[3:6, 10:15, 19:22] = -0.1  # far from the centre: the planes must go there
    assert colors()[2].any()


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_jacobian_map_of_one_value_is_drawn(image, value, tmp_path):
    jacobian_map(torch.full(image.geometry.shape_kji, value), image.geometry, image, tmp_path / "p.png")
    assert (tmp_path / "p.png").exists()


def test_jacobian_map_refuses_what_is_not_finite(image, tmp_path):
    with pytest.raises(NonFiniteVoxels):
        jacobian_map(torch.full(image.geometry.shape_kji, float("nan")), image.geometry, image, tmp_path / "p.png")


def test_a_picture_that_cannot_be_written_leaves_nothing(image, tmp_path):
    with pytest.raises(OutputNotWritable):
        overlay(image, None, tmp_path / "missing" / "p.png")
    assert not list(tmp_path.iterdir())


def test_drawing_changes_no_global_state(image, tmp_path):
    before = dict(mpl.rcParams)
    overlay(image, None, tmp_path / "p.png")
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in mpl.sys.modules or not mpl.pyplot.get_fignums()
