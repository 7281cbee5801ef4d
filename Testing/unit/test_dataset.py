"""Training data: pairs are found, patients are kept together, and faults are listed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from MedSegRegLib.errors import DatasetError
from MedSegRegLib.files import read_labels, write_image, write_labels
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image, Labels
from MedSegRegLib.train.dataset import Case, find_cases, load_example, load_examples, pair_files
from MedSegRegLib.train.split import split_by_patient
from small_training import ball, small_spec, write_balls, write_case


def cases(names: list[str]) -> list[Case]:
    return [Case(name, name.split("_")[0], f"{name}.nii", f"{name}.nii") for name in names]


@pytest.fixture
def a_folder_of_balls(tmp_path):
    return write_balls(tmp_path, ["p1", "p2", "p3"])


def test_pairs_are_found_by_name(a_folder_of_balls):
    (a_folder_of_balls / "images" / "notes.txt").write_text("not an image")
    (a_folder_of_balls / "labels" / ".hidden.nii").write_text("not a case")
    found = find_cases(a_folder_of_balls)
    assert [case.name for case in found] == ["p1", "p2", "p3"]
    assert found[0].image == a_folder_of_balls / "images" / "p1.nii"
    assert found[0].labels == a_folder_of_balls / "labels" / "p1.nii"


def test_the_two_files_of_a_pair_may_be_of_different_kinds(tmp_path):
    write_case(tmp_path, "p1", *ball(0))
    labels = read_labels(tmp_path / "labels" / "p1.nii")
    (tmp_path / "labels" / "p1.nii").unlink()
    write_labels(labels, tmp_path / "labels" / "p1.seg.nrrd")
    (case,) = find_cases(tmp_path)
    assert torch.equal(load_example(case, small_spec()).labels, labels.tensor.long())


def test_all_files_without_partner_are_listed(a_folder_of_balls):
    (a_folder_of_balls / "images" / "p1.nii").unlink()
    (a_folder_of_balls / "labels" / "p3.nii").unlink()
    with pytest.raises(DatasetError, match="without partner: p1, p3"):
        find_cases(a_folder_of_balls)


def test_two_files_of_one_name_are_refused(a_folder_of_balls):
    again = Image.from_array(ball(9)[0], Geometry.from_spacing((24, 24, 24)))
    write_image(again, a_folder_of_balls / "images" / "p2.nrrd")
    with pytest.raises(DatasetError, match=r"p2\.nii and p2\.nrrd"):
        find_cases(a_folder_of_balls)


def test_a_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="There is no folder"):
        find_cases(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(DatasetError, match="0 files"):
        find_cases(tmp_path)


def test_two_files_are_one_pair(a_folder_of_balls):
    first, second = a_folder_of_balls / "labels" / "p1.nii", a_folder_of_balls / "labels" / "p2.nii"
    assert pair_files(first, second) == [("p1.nii", first, second)]


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("p1", "p1"),
        ("p1_ses-2", "p1"),
        ("p1_visit3_t1", "p1"),
        ("sub_01_Scan2", "sub_01"),
        ("sub-01_ses-a_T1", "sub-01"),
        ("hippocampus_001", "hippocampus_001"),
        ("session_1", "session_1"),
    ],
)
def test_visits_belong_to_the_patient_named_before_them(name, patient, tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{name}.nii.gz").touch()
    assert find_cases(tmp_path)[0].patient == patient


@given(
    visits=st.lists(st.integers(1, 4), min_size=3, max_size=30),
    validation=st.floats(0.01, 0.4),
    test=st.floats(0, 0.4),
    seed=st.integers(0, 99),
)
def test_no_patient_is_on_two_sides_of_a_split(visits, validation, test, seed):
    names = [f"p{patient}_visit{n}" for patient, count in enumerate(visits) for n in range(count)]
    split = split_by_patient(cases(names), validation, test, seed)
    groups = [{case.patient for case in group} for group in (split.train, split.validation, split.test)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(visits)
    assert sorted(case.name for group in (split.train, split.validation, split.test) for case in group) == sorted(names)
    assert split.train
    assert split.validation
    assert len(groups[2]) == round(test * len(visits))


def test_the_seed_decides_the_split():
    many = cases([f"p{n}" for n in range(30)])
    assert split_by_patient(many, 0.2, 0.2, 1) == split_by_patient(many[::-1][::-1], 0.2, 0.2, 1)
    assert split_by_patient(many, 0.2, 0.2, 1) != split_by_patient(many, 0.2, 0.2, 2)


@pytest.mark.parametrize("names", [["p1"], ["p1_visit1", "p1_visit2"]])
def test_refuses_too_few_patients(names):
    with pytest.raises(DatasetError, match="none for training"):
        split_by_patient(cases(names), 0.2, 0.0, 0)


def test_an_example_lies_on_the_models_grid(tmp_path):
    image, labels = ball(0)
    left_handed = Geometry.from_spacing((24, 24, 24), (2.0, 2.0, 2.0), directions=np.diag([-1, 1, 1]))
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    write_image(Image.from_array(image[..., ::-1], left_handed), tmp_path / "images" / "p.nii")
    write_labels(Labels.from_array(labels[..., ::-1], left_handed), tmp_path / "labels" / "p.nii")
    example = load_example(find_cases(tmp_path)[0], small_spec(spacing_mm=(2, 2, 2)))
    assert torch.equal(example.labels, torch.from_numpy(labels).long())
    np.testing.assert_allclose(example.image[0], (image - image.mean()) / image.std(ddof=1), atol=1e-3)


def test_faults_of_all_cases_are_listed_at_once(tmp_path):
    image, labels = ball(0)
    write_case(tmp_path, "good", image, labels)
    write_case(tmp_path, "other size", image, labels[1:])
    write_case(tmp_path, "other place", image, labels, Geometry.from_spacing((24, 24, 24), origin_ras=(5, 0, 0)))
    write_case(tmp_path, "unknown label", image, labels * 7)
    write_case(tmp_path, "constant", np.full_like(image, 3), labels)
    write_case(tmp_path, "with NaN", np.where(labels, np.nan, image), labels)
    (tmp_path / "images" / "damaged.nii").write_bytes((tmp_path / "images" / "good.nii").read_bytes()[:5000])
    (tmp_path / "labels" / "damaged.nii").write_bytes((tmp_path / "labels" / "good.nii").read_bytes())
    with pytest.raises(DatasetError, match="6 of 7 cases") as caught:
        load_examples(find_cases(tmp_path), small_spec())
    for name, reason in {
        "other size": "label grid (24, 24, 23)",
        "other place": "same places",
        "unknown label": "[7]",
        "constant": "intensities",
        "with NaN": "NaN",
        "damaged": "damaged.nii",
    }.items():
        (line,) = (line for line in caught.value.found.splitlines() if line.strip().startswith(f"{name}:"))
        assert reason in line
    assert "good:" not in caught.value.found


def test_folds_test_every_patient_once_and_keep_visits_together(tmp_path):
    names = [f"{patient}_visit{visit}" for patient in "abcdefg" for visit in (1, 2)]
    cases = [Case(name, name[0], tmp_path, tmp_path) for name in names]
    splits = [split_by_patient(cases, 0.2, 0.5, 3, 3, fold) for fold in range(3)]
    tested = [case.name for split in splits for case in split.test]
    assert sorted(tested) == names
    for split in splits:
        sides = [{case.patient for case in side} for side in (split.train, split.validation, split.test)]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 7
        assert all(sides)
