"""Choosing an engine: measured once, checked against torch, remembered; a device is used only if it computes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from engine_networks import CPU, a_source, installed, noise, source_of, use_cache

from MedSegRegLib.errors import Cancelled, DeviceUnavailable, InvalidSetting, MissingPackage
from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.progress import Progress
from MedSegRegLib.report import Level
from MedSegRegLib.segment.engines import choice, choose_engine, packages, trial, usable_device
from MedSegRegLib.segment.engines.onnx_graph import onnx_graph, with_full_weights
from MedSegRegLib.segment.engines.openvino_engine import OpenVinoEngine
from MedSegRegLib.segment.engines.torch_engine import TorchEngine

needs_openvino = pytest.mark.skipif(
    not installed("openvino", "onnx", "onnxscript"), reason="openvino, onnx and onnxscript are not installed"
)
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")


@pytest.fixture(autouse=True)
def a_cache(tmp_path, monkeypatch):
    return use_cache(tmp_path / "cache", monkeypatch)


@pytest.fixture
def only_torch(monkeypatch):
    """No other engine is installed."""
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(packages.sys.modules, package, None)


@pytest.fixture
def runs(monkeypatch):
    """Counts the tiles that torch really runs."""
    counted = []
    run = TorchEngine.run
    monkeypatch.setattr(TorchEngine, "run", lambda self, tiles: counted.append(tiles.shape) or run(self, tiles))
    return counted


def test_measures_once_and_remembers(only_torch, runs):
    first = choose_engine(a_source(), CPU)
    measured = len(runs)
    again = choose_engine(a_source(), CPU)
    assert measured == 1 + trial.TIMED_RUNS
    assert len(runs) == measured
    assert (again.engine.name, again.seconds_per_tile) == (first.engine.name, first.seconds_per_tile)
    assert "measured before" in str(again.findings[0])


def test_measures_again_for_other_weights_another_tile_and_another_number_of_threads(only_torch, runs, monkeypatch):
    choose_engine(a_source(), CPU)
    for source in (a_source(seed=1), replace(a_source(), tile=(8, 8, 8))):
        before = len(runs)
        choose_engine(source, CPU)
        assert len(runs) > before
    before = len(runs)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 63)
    choose_engine(a_source(), CPU)
    assert len(runs) > before


def test_measures_again_when_what_was_remembered_is_damaged(only_torch, runs, a_cache):
    choose_engine(a_source(), CPU)
    (path,) = a_cache.glob("*.json")
    path.write_bytes(path.read_bytes().replace(b"torch", b"tarch"))
    before = len(runs)
    assert choose_engine(a_source(), CPU).engine.name == "torch"
    assert len(runs) > before


def test_says_which_engines_are_not_installed(only_torch):
    found = choose_engine(a_source(), CPU)
    assert found.engine.name == "torch"
    said = [str(finding) for finding in found.findings]
    assert any("openvino was left out: The package openvino is not installed" in text for text in said)


def test_an_engine_by_name_that_is_not_installed_is_refused(only_torch):
    with pytest.raises(MissingPackage, match="pip install"):
        choose_engine(a_source(), CPU, "openvino")


@needs_openvino
@pytest.mark.parametrize("fastest", ["torch", "openvino"])
def test_takes_the_fastest(monkeypatch, fastest):
    def try_engine(name, *rest):
        return replace(trial.try_engine(name, *rest), seconds=1.0 if name == fastest else 2.0)

    monkeypatch.setattr(choice, "try_engine", try_engine)
    found = choose_engine(a_source(), CPU)
    assert found.engine.name == fastest
    assert found.seconds_per_tile == 1.0
    assert found.findings[0].level == Level.INFO


@needs_openvino
@pytest.mark.parametrize("change", [lambda scores: scores * 1.02, lambda scores: scores * torch.nan])
def test_leaves_out_an_engine_whose_scores_are_not_those_of_torch(monkeypatch, change):
    run = OpenVinoEngine.run
    monkeypatch.setattr(OpenVinoEngine, "run", lambda self, tiles: change(run(self, tiles)))
    found = choose_engine(a_source(), CPU)
    assert found.engine.name != "openvino"
    warning = next(finding for finding in found.findings if finding.level == Level.WARN)
    assert "its scores differ" in warning.message


@needs_openvino
def test_the_chosen_engine_gives_the_scores_of_torch():
    source = a_source("3D, more classes than features")
    found = choose_engine(source, CPU)
    expected = TorchEngine(source, CPU).run(noise(source))
    torch.testing.assert_close(found.engine.run(noise(source)), expected, rtol=0, atol=1e-3)
    assert found.seconds_per_tile > 0


@needs_openvino
def test_a_model_that_is_a_graph_is_measured_without_torch():
    source = a_source()
    graph = replace(source, network=with_full_weights(onnx_graph(source)))
    assert choose_engine(graph, CPU).engine.name in ("openvino", "onnxruntime")


def test_can_be_cancelled_while_measuring(only_torch):
    with pytest.raises(Cancelled):
        choose_engine(a_source(), CPU, progress=Progress(should_cancel=lambda: True))


def test_says_when_the_choice_cannot_be_remembered(only_torch, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDSEGREG_CACHE", str(tmp_path / "file"))
    assert "cannot be written" in str(choose_engine(a_source(), CPU).findings[-1])


def test_a_large_network_is_measured_on_a_smaller_tile_that_it_takes():
    wide = UNetArchitecture(features=(32, 64, 128, 256))
    source = source_of(wide, 1, 2, (96, 160, 96))
    small = trial.smaller_tile(source)
    assert all(side % 8 == 0 and side > 8 for side in small)
    assert trial._gigaflops(replace(source, tile=small)) <= trial.MEASURED_GFLOP < trial._gigaflops(source)
    assert trial.smaller_tile(a_source()) == a_source().tile


def test_the_seconds_of_a_smaller_tile_are_scaled_to_the_whole_one(monkeypatch):
    source = replace(a_source(), tile=(16, 16, 16))
    monkeypatch.setattr(trial, "_seconds", lambda engine, tile: 1.0)
    monkeypatch.setattr(trial, "MEASURED_GFLOP", trial._gigaflops(source) / 2)
    assert trial.try_engine("torch", source, CPU).seconds == 2.0


def test_counts_the_operations_of_a_convolution():
    network = torch.nn.Conv3d(2, 5, 3, padding=1)
    network.head = None
    source = replace(a_source(), network=network, channels=2, tile=(4, 6, 8))
    assert trial._gigaflops(source) * 1e9 == 2 * 5 * 2 * 27 * 4 * 6 * 8


def test_what_is_remembered_is_small_and_plain(only_torch, a_cache):
    choose_engine(a_source(), CPU)
    (path,) = a_cache.glob("*.json")
    assert set(json.loads(path.read_bytes()[32:])) == {"name", "seconds", "why"}


def test_a_device_that_computes_is_used_without_a_word():
    assert usable_device("cpu") == (CPU, ())


@no_gpu
def test_row_78_auto_falls_to_the_cpu_with_a_warning_where_the_gpu_does_not_compute(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device, (finding,) = usable_device("auto")
    assert device == CPU
    assert finding.level == Level.WARN
    assert "does not compute" in finding.message


@no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_row_78_a_gpu_asked_for_by_name_that_does_not_compute_is_refused(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DeviceUnavailable, match="choose the CPU"):
        usable_device(name)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_row_78_a_device_that_is_absent_is_refused_by_name_and_auto_takes_the_cpu(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailable):
        usable_device(name)
    assert usable_device("auto") == (CPU, ())


def test_row_78_an_unknown_device_is_refused():
    with pytest.raises(InvalidSetting, match="auto, cpu, cuda, mps"):
        usable_device("gpu")
