"""Models that work in the space of a template: the network with an atlas, its grid, and images that lie elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from label_map_phantoms import ROLES, head, write_heads
from pydantic import ValidationError
from test_train_generated import generated_settings

from MedSegRegLib.files.architectures import AtlasUNetArchitecture
from MedSegRegLib.files.model_spec import StandardSpec
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.preprocess import PercentileRange
from MedSegRegLib.resample import resample_image
from MedSegRegLib.segment.ladder import rungs_of
from MedSegRegLib.segment.model import load_model
from MedSegRegLib.segment.predict import segment
from MedSegRegLib.segment.prepare import grid_of
from MedSegRegLib.train.batches import SyntheticBatches
from MedSegRegLib.train.dataset import find_label_maps
from MedSegRegLib.train.label_maps import read_label_maps
from MedSegRegLib.train.loop import begin
from MedSegRegLib.train.run import train_model
from MedSegRegLib.transform import Affine, Transform
from small_training import random_network, small_spec, write_random_model

CENTRE = (2.0, -3.0, 5.0)
ARCHITECTURE = AtlasUNetArchitecture(
    name="atlas_unet", features=(4, 8), blocks_per_stage=1, atlas_kji=(6, 6, 6), tissues=(0, 1, 1, 2)
)


def standard_spec(**changes):
    return small_spec(
        3,
        **{
            "architecture": ARCHITECTURE,
            "tile_ijk": (24, 24, 24),
            "spacing_mm": (2.0, 2.0, 2.0),
            "intensity": (PercentileRange(),),
            "standard": StandardSpec(template="icbm152-t1", centre_ras_mm=CENTRE),
            **changes,
        },
    )


@pytest.fixture(scope="module")
def a_model(tmp_path_factory):
    return load_model(write_random_model(tmp_path_factory.mktemp("model"), standard_spec()), "cpu", engine="torch")


@pytest.fixture(scope="module")
def a_head():
    noise = np.random.default_rng(0).normal(0, 0.2, (60, 60, 60))
    matrix = np.eye(4)
    matrix[:3, 3] = np.array(CENTRE) - 29.5
    return Image.from_array((head(60) % 13 + noise).astype(np.float32), Geometry((60, 60, 60), matrix), "head")


def test_its_scores_begin_as_atlas_and_likelihoods_and_the_head_of_its_features_gives_the_same_scores():
    network = random_network(standard_spec())
    with torch.no_grad():
        network.atlas.normal_()
        network.scores.weight[:, :4] = 0
    x = torch.rand(2, 1, 24, 24, 24)
    with torch.no_grad():
        scores, again = network(x), network.head(network.features(x))
        likelihoods = network.features(x)[:, 4:7]
    assert torch.allclose(scores, again, atol=1e-5)
    atlas = torch.nn.functional.interpolate(network.atlas[None], (24, 24, 24), mode="trilinear", align_corners=False)
    assert torch.allclose(scores, (atlas + 0.5 * likelihoods[:, [0, 1, 1, 2]]), atol=1e-5)
    assert not likelihoods[:, 0].any()


def test_the_same_voxels_elsewhere_in_the_field_of_view_get_other_features():
    network = random_network(standard_spec())
    x = torch.zeros(1, 1, 24, 24, 24)
    with torch.no_grad():
        features = network.features(x)[0, :4, 6:18, 6:18, 6:18]
    assert float(features.std(dim=(1, 2, 3)).max()) > 1e-3


def test_its_grid_lies_in_the_template_whatever_the_image(a_model, a_head):
    for geometry in (a_head.geometry, Geometry.from_spacing((9, 10, 11), (1.0, 2.0, 3.0))):
        grid = grid_of(geometry, a_model.spec)
        assert grid.size_ijk == (24, 24, 24)
        assert np.allclose(grid.centre_ras, CENTRE)
        assert np.allclose(grid.directions, np.eye(3))


def test_an_image_that_lies_elsewhere_gets_the_labels_that_it_gets_in_the_template(a_model, a_head):
    expected = segment(a_head, a_model).labels
    matrix = np.array([[0.9, -0.3, 0.1, 40.0], [0.2, 1.1, 0.0, -30.0], [0.0, 0.1, -1.05, 12.0], [0, 0, 0, 1]])
    elsewhere = Image(a_head.tensor, a_head.geometry.moved(np.linalg.inv(matrix)), "head")
    found = segment(elsewhere, a_model, to_standard=matrix).labels
    assert len(expected.tensor.unique()) > 2
    assert float((found.tensor == expected.tensor).float().mean()) > 0.9999
    assert found.geometry.same_grid(elsewhere.geometry)
    resampled = resample_image(elsewhere, a_head.geometry, Transform((Affine(np.linalg.inv(matrix)),)))
    assert torch.allclose(resampled.tensor, a_head.tensor, atol=1e-3)


def test_outside_a_region_nothing_is_labelled_and_inside_nothing_changes(a_model, a_head):
    whole = segment(a_head, a_model).labels.tensor
    corners = a_head.geometry.map_voxels(np.array([[10.0, 20, 30], [29, 39, 49]]))
    part = segment(a_head, a_model, region=corners).labels.tensor
    assert torch.equal(part[30:50, 20:40, 10:30], whole[30:50, 20:40, 10:30])
    outside = torch.ones_like(part, dtype=torch.bool)
    outside[30:50, 20:40, 10:30] = False
    assert not part[outside].any()
    assert whole[outside].any()


def test_its_tile_stays_whole_when_memory_is_short():
    assert {rung.tile_ijk for rung in rungs_of(standard_spec(), torch.device("cuda"), 4)} == {(24, 24, 24)}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"standard": None}, "standard"),
        ({"spacing_mm": (None, 2.0, 2.0)}, "spacing"),
        ({"grid": {"axes": "sar"}}, "grid"),
    ],
)
def test_a_description_without_a_place_is_refused(changes, word):
    with pytest.raises(ValidationError, match=word):
        standard_spec(**changes)


def test_training_begins_with_the_frequencies_of_the_labels_and_gives_a_package(tmp_path):
    folder = write_heads(tmp_path / "heads", ["a", "b", "c"])
    centre = (20.5, 20.5, 20.5)  # of these heads
    standard = StandardSpec(template="icbm152-t1", centre_ras_mm=centre)
    settings = generated_settings(model=standard_spec(standard=standard))
    maps = read_label_maps([case.labels for case in find_label_maps(folder)], ROLES, 1.0, centre_ras_mm=centre)
    frequencies = SyntheticBatches(maps, settings).frequencies()
    assert torch.allclose(frequencies.sum(0), torch.ones(24, 24, 24))
    assert torch.allclose(frequencies[1], frequencies[2].flip(-1))  # left and right change places in the mirror
    assert frequencies[3].max() > 0.4
    network = begin(settings, torch.device("cpu"), frequencies).network
    atlas = network.atlas.detach()
    assert atlas[1, 3, 3, 1] > atlas[2, 3, 3, 1]  # left of the middle
    spec = train_model(folder, settings, tmp_path / "run", device="cpu")
    assert spec.standard.centre_ras_mm == centre
    assert set(spec.scores) == {"ball 1", "ball 2", "ball 3"}


def test_parts_of_one_label_are_merged_in_the_result_but_not_in_a_training(tmp_path, a_model, a_head):
    whole = segment(a_head, a_model).labels.tensor
    labels = a_model.spec.labels[:1]
    merged = a_model.spec.model_copy(update={"name": "merged", "labels": labels, "merged": (0, 1, 1, 1)})
    folder = write_random_model(tmp_path / "merged", type(merged).model_validate(merged.model_dump(exclude={"sha256"})))
    found = segment(a_head, load_model(folder, "cpu", engine="torch")).labels
    assert [s.name for s in found.structures] == ["ball 1"]
    assert set(found.tensor.unique().tolist()) <= {0, 1}
    assert bool((found.tensor[whole > 0] == 1).all())  # a part that wins alone wins with the others
    with pytest.raises(ValidationError, match="merged"):
        generated_settings(model=merged)
    with pytest.raises(ValidationError, match="merged"):
        standard_spec(merged=(0, 1, 1, 1))


def test_it_runs_by_openvino_with_the_same_features_and_without_a_word(
    tmp_path, monkeypatch, a_model, a_head, caplog, capfd
):
    pytest.importorskip("openvino")
    monkeypatch.setenv("MEDSEGREG_CACHE", str(tmp_path / "cache"))
    folder = write_random_model(tmp_path / "model", a_model.spec.model_copy(update={"sha256": {}}))
    found = segment(a_head, load_model(folder, "cpu", engine="openvino")).labels.tensor
    assert float((found == segment(a_head, a_model).labels.tensor).float().mean()) > 0.999
    assert capfd.readouterr().err == ""
    assert [record for record in caplog.records if record.name.startswith("onnx")] == []
