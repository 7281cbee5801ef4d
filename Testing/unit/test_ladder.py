"""Stepping down when a GPU's memory is not enough: in which order, what is said, what is not caught."""

from __future__ import annotations

import weakref

import pytest
import torch

from MedSegRegLib.errors import NonFiniteOutput, TooLarge
from MedSegRegLib.files.architectures import MonaiArchitecture, UNetArchitecture
from MedSegRegLib.report import Level
from MedSegRegLib.segment.ladder import Rung, rungs_of, step_down
from small_training import small_spec
from streamed import CPU

CUDA = torch.device("cuda")
TILE = (16, 16, 16)
RUNGS = [
    Rung(CUDA, CUDA, 4, TILE),
    Rung(CUDA, CUDA, 1, TILE),
    Rung(CUDA, CPU, 1, TILE),
    Rung(CUDA, CPU, 1, (8, 8, 8)),
    Rung(CPU, CPU, 1, TILE),
]
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB")


def test_a_gpus_ladder_goes_from_what_costs_least_to_the_cpu():
    spec = small_spec(tile_ijk=(128, 96, 160))
    assert rungs_of(spec, CUDA, 4) == [
        Rung(CUDA, CUDA, 4, (128, 96, 160)),
        Rung(CUDA, CUDA, 1, (128, 96, 160)),
        Rung(CUDA, CPU, 1, (128, 96, 160)),
        Rung(CUDA, CPU, 1, (64, 48, 80)),
        Rung(CUDA, CPU, 1, (64, 48, 40)),
        Rung(CPU, CPU, 1, (128, 96, 160)),
    ]


def test_a_way_is_tried_only_once_and_the_cpu_has_only_one():
    spec = small_spec(tile_ijk=(64, 64, 64))
    assert [rung.batch for rung in rungs_of(spec, CUDA, 1)] == [1, 1, 1]
    assert rungs_of(spec, CPU, 1) == [Rung(CPU, CPU, 1, (64, 64, 64))]


@pytest.mark.parametrize(
    ("architecture", "tile"),
    [
        (UNetArchitecture(features=(4,) * 6, blocks_per_stage=1), (96, 96, 96)),
        (UNetArchitecture(features=(4,) * 6, blocks_per_stage=1), (160, 96, 96)),
        (UNetArchitecture(features=(4,) * 5, blocks_per_stage=1), (80, 112, 144)),
        (UNetArchitecture(features=(4,) * 4, dimensions=2, blocks_per_stage=1), (320, 256, 1)),
    ],
)
def test_every_tile_of_the_ladder_can_be_run(architecture, tile):
    for rung in rungs_of(small_spec(architecture=architecture, tile_ijk=tile), CUDA, 1):
        sides = list(zip(rung.tile_ijk[::-1], architecture.multiple_kji, strict=True))
        assert not any(side % multiple for side, multiple in sides)
        assert any(side > multiple for side, multiple in sides)  # a single voxel cannot be normalised


@pytest.mark.parametrize("kind", ["onnx", "UNETR"])
def test_a_network_made_for_one_size_keeps_its_tile(kind):
    if kind == "onnx":
        spec = small_spec(architecture={"name": "onnx"}, weights=["network.onnx"], tile_ijk=(128, 128, 128))
    else:
        one_size = MonaiArchitecture(name="monai", network="UNETR", settings={"img_size": [128, 128, 128]}, multiple=16)
        spec = small_spec(architecture=one_size, tile_ijk=(128, 128, 128))
    assert {rung.tile_ijk for rung in rungs_of(spec, CUDA, 2)} == {(128, 128, 128)}


def test_what_fits_at_once_is_done_once_and_nothing_is_said():
    done = []
    result, findings = step_down(RUNGS, lambda rung: done.append(rung) or "labels")
    assert (result, findings, done) == ("labels", [], RUNGS[:1])


@pytest.mark.parametrize("fits", [1, 2, 3, 4])
def test_each_step_down_is_reported_with_the_reason(fits):
    def work(rung: Rung) -> int:
        if RUNGS.index(rung) < fits:
            raise FULL
        return RUNGS.index(rung)

    result, findings = step_down(RUNGS, work)
    assert result == fits
    assert len(findings) == fits
    for number, finding in enumerate(findings):
        assert finding.level is Level.WARN
        assert finding.fix
        assert f"with {RUNGS[number]} (CUDA out of memory)" in finding.message
        assert f"went on with {RUNGS[number + 1]}" in finding.message
    assert "4 tile(s) of 16 x 16 x 16 at once" in findings[0].message


def test_when_nothing_fits_it_is_an_error_that_says_what_was_tried_last():
    def work(rung: Rung) -> None:
        raise FULL

    with pytest.raises(TooLarge, match="1 tile") as caught:
        step_down(RUNGS, work)
    assert caught.value.fix
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "error", [RuntimeError("illegal memory access"), MemoryError(), NonFiniteOutput("NaN"), KeyError()]
)
def test_no_other_error_is_caught(error):
    tried = []

    def work(rung: Rung) -> None:
        tried.append(rung)
        raise error

    with pytest.raises(type(error)) as caught:
        step_down(RUNGS, work)
    assert caught.value is error
    assert len(tried) == 1


def test_the_tensors_of_a_failed_run_are_gone_when_the_next_one_begins():
    held = []

    def work(rung: Rung) -> bool:
        if held:
            return held[0]() is None
        tensor = torch.ones(1000)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert step_down(RUNGS, work)[0]
