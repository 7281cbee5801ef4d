"""Label maps without images: read onto one grid as indices, with what each index stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from label_map_phantoms import FLUID, LEFT, RIGHT, ROLES, SKIN, STEM, head, write_heads
from pydantic import ValidationError

from MedSegRegLib.errors import DatasetError
from MedSegRegLib.train.dataset import find_label_maps
from MedSegRegLib.train.label_maps import LabelMaps, LabelRoles, read_label_maps


@pytest.fixture(scope="module")
def two_maps(tmp_path_factory) -> LabelMaps:
    folder = write_heads(tmp_path_factory.mktemp("maps"), ["a", "b"])
    return read_label_maps([case.labels for case in find_label_maps(folder)], ROLES, 1.0)


def index_of(maps: LabelMaps, value: int) -> int:
    return [0, LEFT, STEM, FLUID, RIGHT, SKIN].index(value)


def test_maps_come_to_right_anterior_superior_and_are_cut_to_what_they_hold(two_maps):
    values = torch.tensor([0, LEFT, STEM, FLUID, RIGHT, SKIN])[two_maps.volumes[0].long()].numpy()
    whole = head()
    boxes = [np.flatnonzero(whole.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    cut = tuple(slice(max(0, box[0] - 2), box[-1] + 3) for box in boxes)
    assert np.array_equal(values, whole[cut])


def test_the_centre_is_that_of_what_has_a_target(two_maps):
    volume, centre = two_maps.volumes[1].numpy(), two_maps.centres[1]
    wanted = np.isin(volume, [index_of(two_maps, value) for value in (LEFT, RIGHT, STEM)])
    assert centre == pytest.approx([axis.mean() for axis in wanted.nonzero()[::-1]])


def test_sides_look_alike_and_change_places_in_a_mirrored_example(two_maps):
    left, right, stem = (index_of(two_maps, value) for value in (LEFT, RIGHT, STEM))
    assert two_maps.tissues[left] == two_maps.tissues[right] != two_maps.tissues[stem]
    assert two_maps.targets[[0, left, right, stem]].tolist() == [0, 1, 2, 3]
    assert two_maps.mirrored_targets[[0, left, right, stem]].tolist() == [0, 2, 1, 3]


def test_kindred_tissues_share_a_kind(two_maps):
    left, stem, fluid = (two_maps.kinds[two_maps.tissues[index_of(two_maps, v)]] for v in (LEFT, STEM, FLUID))
    assert left == stem != fluid


def test_what_is_removable_is_all_but_the_rest(two_maps):
    skin, fluid, left = (index_of(two_maps, value) for value in (SKIN, FLUID, LEFT))
    assert two_maps.kept[:, [skin, fluid, left]].tolist() == [[False, True, True], [False, False, True]]


def test_a_subset_keeps_its_maps_and_the_tables(two_maps):
    one = two_maps.subset([1])
    assert one.names == ("b.nii.gz",)
    assert torch.equal(one.volumes[0], two_maps.volumes[1])
    assert torch.equal(one.targets, two_maps.targets)


def test_faults_of_all_maps_are_listed_at_once(tmp_path):
    folder = write_heads(tmp_path, ["a", "b"])
    (folder / "a.nii.gz").write_bytes(b"no image")
    roles = LabelRoles(targets=((999,),))
    with pytest.raises(DatasetError, match="2 of 2 label maps") as caught:
        read_label_maps([case.labels for case in find_label_maps(folder)], roles, 1.0)
    assert "a.nii.gz" in caught.value.found
    assert "No voxel becomes a label" in caught.value.found


def test_refuses_a_folder_without_label_maps(tmp_path):
    with pytest.raises(DatasetError, match="no label maps"):
        find_label_maps(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"targets": ()},
        {"targets": ((2,), (2,))},
        {"targets": ((2,),), "pairs": ((2, 41), (41, 3))},
        {"targets": ((2,),), "kindred": ((2, 3), (3,))},
    ],
)
def test_refuses_roles_that_contradict_each_other(wrong):
    with pytest.raises(ValidationError):
        LabelRoles(**wrong)
