"""Segmentation on a real GPU: the labels of the CPU, and the real out-of-memory error. Skipped where there is none."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.geometry import Geometry
from MedSegRegLib.image import Image
from MedSegRegLib.report import Level
from MedSegRegLib.segment import SegmentationOptions, load_model, segment
from small_training import small_spec, write_random_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture
def a_model_folder(tmp_path):
    wide = UNetArchitecture(features=(32, 64, 128), blocks_per_stage=2)
    return write_random_model(tmp_path / "wide", small_spec(40, architecture=wide, tile_ijk=(64, 64, 64)), seed=8)


@pytest.fixture
def an_image() -> Image:
    geometry = Geometry.from_spacing((150, 140, 130), (0.9, 0.8, 1.1))
    return Image.from_array(np.random.default_rng(0).normal(100, 20, geometry.shape_kji), geometry)


@pytest.fixture
def little_memory() -> Iterator[None]:
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (300 << 20)) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("options", [SegmentationOptions(), SegmentationOptions(largest_component=True)])
def test_labels_are_nearly_those_of_the_cpu(a_model_folder, an_image, options):
    on_gpu, on_cpu = (segment(an_image, load_model(a_model_folder, d), options).labels for d in ("cuda", "cpu"))
    assert on_gpu.tensor.device.type == "cpu"
    assert (on_gpu.tensor == on_cpu.tensor).float().mean() > 0.99  # half precision, and near-ties of random weights


def test_confidence_is_nearly_that_of_the_cpu(a_model_folder, an_image):
    options = SegmentationOptions(confidence=True)
    on_gpu, on_cpu = (segment(an_image, load_model(a_model_folder, d), options).confidence for d in ("cuda", "cpu"))
    assert (on_gpu.entropy.int() - on_cpu.entropy.int()).abs().float().mean() < 2


def test_steps_down_when_the_memory_of_the_card_ends(a_model_folder, an_image, little_memory):
    model = load_model(a_model_folder, "cuda")
    result = segment(an_image, model)
    steps = [f for f in result.findings if f.level is Level.WARN and "Out of memory" in f.message]
    assert steps
    expected = segment(an_image, load_model(a_model_folder, "cpu")).labels
    assert (result.labels.tensor == expected.tensor).float().mean() > 0.95


def test_the_memory_of_the_card_is_given_back(a_model_folder, an_image):
    model = load_model(a_model_folder, "cuda")
    segment(an_image, model)
    gc.collect()
    before = torch.cuda.memory_allocated()
    segment(an_image, model)
    gc.collect()
    assert torch.cuda.memory_allocated() <= before
