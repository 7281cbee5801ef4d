"""The picture of one image in colour over another."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from MedSegRegLib.errors import GeometryMismatch, InvalidSetting
from MedSegRegLib.evaluate.fusion import color_layer, draw_fusion
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image

GRID = Geometry.from_spacing((20, 24, 16), (2.0, 2.0, 3.0))


@pytest.fixture
def pair():
    """Grey everywhere, and one bright box."""
    values = np.random.default_rng(0).uniform(40, 60, GRID.shape_kji)
    box = np.zeros(GRID.shape_kji)
    box[5:11, 8:16, 7:13] = 100
    return Image.from_array(values, GRID), Image.from_array(box, GRID)


def colored(path) -> np.ndarray:
    """Which pixels are not grey."""
    return np.ptp(imread(path)[..., :3], axis=-1) > 0.2


def test_pet_shows_only_what_is_bright_and_blend_shows_all(pair, tmp_path):
    for style in ("pet", "blend"):
        draw_fusion(*pair, tmp_path / f"{style}.png", style, "CT and PET")
    assert 0.01 < colored(tmp_path / "pet.png").mean() < 0.5
    hot, mixed = (color_layer(np.array([[0.0, 1.0, np.nan]]), style) for style in ("pet", "blend"))
    np.testing.assert_array_equal(hot[0, :, 3] > 0, [False, True, False])
    np.testing.assert_allclose(mixed[0, :, 3], [0.5, 0.5, 0.0])


def test_refuses_two_grids_and_an_unknown_style(pair, tmp_path):
    moved = Image(pair[1].tensor, GRID.moved(np.diag([1.0, 1.0, -1.0, 1.0])))
    with pytest.raises(GeometryMismatch, match="different grids"):
        draw_fusion(pair[0], moved, tmp_path / "no.png")
    with pytest.raises(InvalidSetting, match="rainbow"):
        draw_fusion(*pair, tmp_path / "no.png", "rainbow")
    assert not (tmp_path / "no.png").exists()
