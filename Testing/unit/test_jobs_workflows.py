"""The tasks of the workflows through a real child, against the same work in this process."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from register_phantoms import bent, make_bend, make_head

from MedSegRegLib.errors import InvalidSetting
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Labels, Structure
from MedSegRegLib.jobs import Supervisor
from MedSegRegLib.jobs.tasks.atlases import named_alike
from MedSegRegLib.register.settings import RegistrationSettings
from MedSegRegLib.workflows.atlas import Atlas, segment_by_atlases
from MedSegRegLib.workflows.carry import carry

pytestmark = pytest.mark.usefixtures("one_thread")
GRID = Geometry.from_spacing((24, 24, 24), (2.5, 2.5, 2.5), (-28.75, -28.75, -28.75))
FAST = {"linear": "none", "deformable": {"coarsening": [2], "iterations": [8], "stiffness": 1.0}}
HEAD = make_head(GRID)
TARGET = bent(HEAD, make_bend(GRID, largest_mm=4.0, sigma_mm=9.0))
POINTS = [[1.0, 2.0, 3.0], [200.0, 0.0, 0.0]]


def box(*structures: Structure, size: int = 6) -> Labels:
    """A box for each structure, in a row, with the structure's value."""
    array = np.zeros(GRID.shape_kji, np.uint8)
    for number, structure in enumerate(structures):
        array[9:15, 9:15, 3 + 8 * number : 3 + 8 * number + size] = structure.value
    return Labels.from_array(array, GRID, structures)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        with Supervisor(folder=tmp_path_factory.mktemp("jobs")) as supervisor:
            yield supervisor


def test_carry_gives_what_the_function_gives(jobs):
    drawn = box(Structure(4, "left"), Structure(9, "right"))
    values = {"source": HEAD, "target": TARGET, "labels": drawn}
    result = jobs.wait(jobs.submit("carry", {"settings": FAST, "points": POINTS, "device": "cpu"}, values))
    settings = RegistrationSettings.model_validate(FAST)
    here = carry(HEAD, TARGET, labels=drawn, points=np.array(POINTS), settings=settings)
    assert torch.equal(result.labels("labels").tensor, here.labels.tensor)
    assert result.labels("labels").structures == here.labels.structures
    np.testing.assert_allclose(result.transform("inverse").map_points(np.array(POINTS)), here.points.ras, atol=1e-9)
    assert result.data["points_inside"] == [True, False]
    assert result.data["review"]["structure"] == [one.name for one in here.review]
    assert result.data["review"]["confidence"] == sorted(result.data["review"]["confidence"])
    assert result.data["sentence"] == here.sentence.replace("here", "the source")
    assert [finding["level"] for finding in result.data["findings"]] == ["warn"]


def test_a_structure_that_is_lost_has_cells_without_a_number(jobs):
    away = np.eye(4)
    away[0, 3] = 500.0
    far = Labels.from_array(np.ones((3, 3, 3), np.uint8), Geometry((3, 3, 3), away), (Structure(1, "far"),))
    values = {"source": HEAD, "target": TARGET, "labels": far}
    result = jobs.wait(jobs.submit("carry", {"settings": FAST, "device": "cpu"}, values))
    assert math.isnan(result.data["review"]["border error (mm)"][0])


def test_carry_without_labels_gives_the_way_alone(jobs):
    values = {"source": HEAD, "target": TARGET}
    result = jobs.wait(jobs.submit("carry", {"preset": "rigid", "device": "cpu"}, values))
    assert set(result.values) == {"transform", "inverse"}
    assert result.data["points_ras"] == []
    assert all(cells == [] for cells in result.data["review"].values())


def test_unknown_presets_and_fusions_are_refused(jobs):
    values = {"source": HEAD, "target": TARGET}
    with pytest.raises(InvalidSetting, match="'best guess'"):
        jobs.wait(jobs.submit("carry", {"preset": "best guess"}, values))
    with pytest.raises(InvalidSetting, match="'loudest'"):
        jobs.wait(jobs.submit("atlas", {"fusion": "loudest"}, {"image": HEAD, "atlas0": TARGET, "labels0": box()}))


@pytest.mark.parametrize("fusion", ["local", "majority"])
def test_atlas_gives_what_the_function_gives(jobs, fusion):
    other = bent(HEAD, make_bend(GRID, largest_mm=3.0, sigma_mm=9.0, seed=5))
    labels = box(Structure(4, "left")), box(Structure(7, "Left"), size=7)
    values = {"image": HEAD, "atlas0": TARGET, "labels0": labels[0], "atlas1": other, "labels1": labels[1]}
    arguments = {"settings": FAST, "fusion": fusion, "device": "cpu"}
    result = jobs.wait(jobs.submit("atlas", arguments, values))
    same = box(Structure(4, "left"), size=7)
    settings = RegistrationSettings.model_validate(FAST)
    here = segment_by_atlases(HEAD, [Atlas(TARGET, labels[0]), Atlas(other, same)], settings=settings, fusion=fusion)
    assert torch.equal(result.labels("labels").tensor, here.labels.tensor)
    assert [structure.name for structure in result.labels("labels").structures] == ["left"]
    np.testing.assert_allclose(result.voxels("agreement").array, here.agreement.numpy(), atol=1e-6)
    assert len(result.data["registrations"]) == 2


def test_names_that_only_some_atlases_have_keep_apart():
    first, second, third = (
        box(*structures)
        for structures in (
            (Structure(1, "a"), Structure(2, "b")),
            (Structure(1, "b"), Structure(2, "c")),
            (Structure(5, "C"), Structure(1, "d")),
        )
    )
    alike = named_alike([first, second, third])
    named = [{structure.name: structure.value for structure in labels.structures} for labels in alike]
    assert named[0] == {"a": 1, "b": 2}
    assert named[1] == {"b": 2, "c": 3}
    assert named[2] == {"c": 3, "d": 4}
    assert sorted(np.unique(alike[2].numpy())) == [0, 3, 4]
