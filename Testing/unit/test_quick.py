"""The quick mode: an int8 graph in the package, run by OpenVINO."""

from __future__ import annotations

import numpy as np
import pytest

from MedSegRegLib.errors import ModelMismatch
from MedSegRegLib.files.model_package import read_package, write_model
from MedSegRegLib.files.model_store import SHIPPED
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.segment import load_model, segment
from MedSegRegLib.segment.quick import add_int8
from small_training import random_network, small_spec

pytest.importorskip("openvino_telemetry", reason="OpenVINO is not installed")


@pytest.fixture
def an_image() -> Image:
    geometry = Geometry.from_spacing((40, 36, 30))
    return Image.from_array(np.random.default_rng(0).normal(100, 20, geometry.shape_kji), geometry)


def test_the_shipped_model_gives_nearly_the_same_labels_in_int8():
    geometry = Geometry.from_spacing((38, 54, 38))
    k, j, i = np.indices(geometry.shape_kji)
    ball = 100 * np.exp(-(((i - 19) / 8) ** 2 + ((j - 27) / 14) ** 2 + ((k - 19) / 7) ** 2))
    image = Image.from_array(ball + np.random.default_rng(0).normal(0, 3, ball.shape), geometry)
    exact, quick = (segment(image, load_model("hippocampus-mr", engine=e)) for e in ("torch", "openvino-int8"))
    assert (exact.labels.numpy() == quick.labels.numpy()).mean() > 0.995
    assert "int8" in quick.provenance["engine"]


def test_a_package_gets_an_int8_graph_and_keeps_its_weights_and_card(a_model_folder, an_image, tmp_path):
    pytest.importorskip("nncf", reason="NNCF is not installed")
    spec = add_int8(a_model_folder, [an_image], tmp_path / "quick")
    assert {"int8.xml", "int8.bin", "weights.safetensors", "README.md"} == spec.sha256.keys()
    before, after = read_package(a_model_folder)[1], read_package(tmp_path / "quick")[1]
    assert all(after[name] == content for name, content in before.items())
    exact, quick = (segment(an_image, load_model(tmp_path / "quick", engine=e)) for e in ("torch", "openvino-int8"))
    assert (exact.labels.numpy() == quick.labels.numpy()).mean() > 0.9


def test_refuses_an_ensemble(tmp_path, an_image):
    names = ("weights-0.safetensors", "weights-1.safetensors")
    spec = small_spec(weights=names)
    write_model(tmp_path / "two", spec, [random_network(spec, seed).state_dict() for seed in (0, 1)], "# Card\n")
    with pytest.raises(ModelMismatch):
        add_int8(tmp_path / "two", [an_image], tmp_path / "quick")
    assert not (tmp_path / "quick").exists()


def test_the_int8_files_of_the_shipped_model_are_listed():
    spec, files = read_package(SHIPPED / "hippocampus-mr")
    assert {"int8.xml", "int8.bin"} <= files.keys() == spec.sha256.keys()
