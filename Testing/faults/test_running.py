"""Faults while a segmentation runs; the processor under two names stands for a GPU and the CPU (rows 73 and 74)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from MedSegRegLib.errors import NonFiniteOutput, TooLarge
from MedSegRegLib.image import Image
from MedSegRegLib.report import Finding, Level
from MedSegRegLib.segment import Model, Segmentation, segment
from MedSegRegLib.segment.ladder import Rung
from small_training import small_spec
from streamed import CPU, Function, model_of, random_image

GPU = torch.device("cpu", 0)
TILE = (16, 16, 16)
RUNGS = [
    Rung(GPU, GPU, 4, TILE),
    Rung(GPU, GPU, 1, TILE),
    Rung(GPU, CPU, 1, TILE),
    Rung(GPU, CPU, 1, (8, 8, 8)),
    Rung(CPU, CPU, 1, TILE),
]
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB")


@pytest.fixture
def a_model() -> Model:
    return model_of(small_spec(12))


@pytest.fixture
def an_image() -> Image:
    return random_image((30, 24, 20))


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def on_gpu(model: Model, full: Callable[[torch.Tensor, int], bool]) -> Model:
    """The model on a GPU whose memory is full when ``full(tiles, number of the call)`` says so."""
    engine, calls = model.engines[0], []

    def run(tiles: torch.Tensor) -> torch.Tensor:
        calls.append(tiles.shape)
        if full(tiles, len(calls)):
            raise FULL
        return engine.run(tiles)

    return replace(model, engines=(Function(run, GPU, engine.head),))


def segmented(monkeypatch, image, model: Model, rungs: list[Rung] = RUNGS) -> Segmentation:
    monkeypatch.setattr("MedSegRegLib.segment.predict.rungs_of", lambda spec, device, batch: rungs)
    return segment(image, model)


def steps(found: Segmentation) -> list[Finding]:
    return [finding for finding in found.findings if "Out of memory" in finding.message]


@pytest.mark.parametrize(
    ("full", "expected"),
    [
        (lambda tiles, call: call == 1, 1),
        (lambda tiles, call: len(tiles) > 1, 1),
        (lambda tiles, call: call in (3, 8), 2),
        (lambda tiles, call: tiles.shape[-1] > 8, 3),
        (lambda tiles, call: True, 4),
    ],
    ids=["at the first tile", "with a batch", "half-way, twice", "with whole tiles", "always"],
)
def test_row_73_a_gpu_whose_memory_is_full_gives_the_labels_of_the_cpu(full, expected, a_model, an_image, monkeypatch):
    found, alone = segmented(monkeypatch, an_image, on_gpu(a_model, full)), segment(an_image, a_model)
    assert len(steps(found)) == expected
    assert all(
        step.level is Level.WARN and step.fix and "(CUDA out of memory)" in step.message for step in steps(found)
    )
    if expected == 3:  # smaller tiles see less around them
        assert (found.labels.tensor == alone.labels.tensor).float().mean() > 0.5
    else:
        assert torch.equal(found.labels.tensor, alone.labels.tensor)
    assert np.array_equal(found.labels.geometry.ijk_to_ras, an_image.geometry.ijk_to_ras)


class Unmovable(torch.Tensor):
    """Features for which the device of the ring has no memory, or that fail there in another way."""

    error: BaseException

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to:
            raise cls.error
        return super().__torch_function__(func, types, args, kwargs or {})


def failing_to_blend(model: Model, error: BaseException, number: int) -> Model:
    """The model, of whose results one cannot be added to the ring."""
    engine, calls = model.engines[0], []
    kind = type("Unmovable", (Unmovable,), {"error": error})

    def run(tiles: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        result = engine.run(tiles).clone()
        return result.as_subclass(kind) if len(calls) == number else result

    return replace(model, engines=(Function(run, GPU, engine.head),))


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("blend_on", [GPU, CPU], ids=["in turn", "in a thread"])
def test_row_73_memory_that_is_full_when_blending_is_a_step_down_too(number, blend_on, a_model, an_image, monkeypatch):
    rungs = [Rung(GPU, blend_on, 1, TILE), Rung(CPU, CPU, 1, TILE)]
    found = segmented(monkeypatch, an_image, failing_to_blend(a_model, FULL, number), rungs)
    assert len(steps(found)) == 1
    assert torch.equal(found.labels.tensor, segment(an_image, a_model).labels.tensor)


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("error", [FULL, RuntimeError("device lost")])
def test_row_74_an_error_of_the_thread_that_blends_is_raised_soon(error, number, a_model, an_image, monkeypatch):
    broken = failing_to_blend(a_model, error, number)
    started = time.perf_counter()
    with pytest.raises(TooLarge if error is FULL else RuntimeError, match=r"memory|lost"):
        segmented(monkeypatch, an_image, broken, [Rung(GPU, CPU, 1, TILE)])
    assert time.perf_counter() - started < 5


def test_row_74_an_error_of_the_network_ends_the_thread_that_blends(a_model, an_image, monkeypatch):
    engine, calls = a_model.engines[0], []

    class Slow(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func is torch.Tensor.to:
                time.sleep(0.1)
            return super().__torch_function__(func, types, args, kwargs or {})

    def run(tiles: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("device lost")
        return engine.run(tiles).clone().as_subclass(Slow)

    broken = replace(a_model, engines=(Function(run, GPU, engine.head),))
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="lost"):
        segmented(monkeypatch, an_image, broken, [Rung(GPU, CPU, 1, TILE)])
    assert set(threading.enumerate()) <= before


def test_row_74_one_thread_blends_beside_the_network_and_gives_the_same_labels(a_model, an_image, monkeypatch):
    names = []
    engine = a_model.engines[0]

    class Noted(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func is torch.Tensor.to:
                names.append(threading.current_thread().name)
            return super().__torch_function__(func, types, args, kwargs or {})

    noted = Function(lambda tiles: engine.run(tiles).clone().as_subclass(Noted), GPU, engine.head)
    rung = Rung(GPU, CPU, 1, TILE)
    found = segmented(monkeypatch, an_image, replace(a_model, engines=(noted,)), [rung])
    assert len(set(names)) == 1
    assert threading.current_thread().name not in names
    assert torch.equal(found.labels.tensor, segment(an_image, a_model).labels.tensor)


def test_row_73_when_not_even_the_cpu_has_room_it_is_said_with_a_way_out(a_model, an_image, monkeypatch):
    with pytest.raises(TooLarge, match="1 tile") as caught:
        segmented(monkeypatch, an_image, on_gpu(a_model, lambda tiles, call: True), RUNGS[:2])
    assert caught.value.fix


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: an illegal memory access"), MemoryError("host")])
def test_row_73_no_other_error_is_taken_for_full_memory(error, a_model, an_image, monkeypatch):
    calls = []

    def run(tiles: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        segmented(monkeypatch, an_image, replace(a_model, engines=(Function(run, GPU, a_model.engines[0].head),)))
    assert caught.value is error
    assert len(calls) == 1


def test_scores_that_are_not_finite_never_become_labels(a_model, an_image, monkeypatch):
    """One NaN voxel behind an instance normalisation makes all scores NaN, and the highest of these is the first."""
    engine = a_model.engines[0]

    def run(tiles: torch.Tensor) -> torch.Tensor:
        return engine.run(tiles.index_fill(4, torch.tensor([3]), float("nan")))

    for blend_on in (GPU, CPU):
        broken = replace(a_model, engines=(Function(run, GPU, engine.head),))
        with pytest.raises(NonFiniteOutput):
            segmented(monkeypatch, an_image, broken, [Rung(GPU, blend_on, 1, TILE)])
