"""Engines: each gives torch's scores; graphs are kept by their content and refused where they are not plain."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from engine_networks import CPU, NETWORKS, a_source, installed, noise, plain_scores, use_cache

from MedSegRegLib.errors import InvalidSetting, MissingPackage, ModelMismatch, UnsafeFile
from MedSegRegLib.segment.engines import cache, make_engine, onnx_graph, packages
from MedSegRegLib.segment.engines.cache import cache_folder, cache_key, read_cached, write_cached
from MedSegRegLib.segment.engines.onnx_graph import require_plain_graph, with_full_weights

GRAPHS = installed("onnx", "onnxscript")
needs_graphs = pytest.mark.skipif(not GRAPHS, reason="onnx and onnxscript are not installed")
needs_openvino = pytest.mark.skipif(not (GRAPHS and installed("openvino")), reason="openvino is not installed")
needs_onnxruntime = pytest.mark.skipif(not (GRAPHS and installed("onnxruntime")), reason="onnxruntime is not installed")
ENGINES = [
    pytest.param("torch"),
    pytest.param("torch-channels-last"),
    pytest.param("openvino", marks=needs_openvino),
    pytest.param("onnxruntime", marks=needs_onnxruntime),
]


@pytest.fixture(autouse=True)
def a_cache(tmp_path, monkeypatch):
    return use_cache(tmp_path / "cache", monkeypatch)


@pytest.fixture
def an_empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGREG_CACHE", str(tmp_path / "empty"))
    return tmp_path / "empty"


@pytest.fixture
def a_graph():
    """An ONNX model that can be altered, of the small 3D network."""
    onnx = pytest.importorskip("onnx")
    return onnx.load_model_from_string(onnx_graph.onnx_graph(a_source()))


def class_scores(engine, tiles):
    result = engine.run(tiles)
    if engine.head is None:
        return result
    return torch.einsum("cf,nfkji->nckji", engine.head.weight, result) + engine.head.bias.view(1, -1, 1, 1, 1)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_gives_the_scores_and_labels_of_the_network(name, network):
    source = a_source(network)
    engine, tiles = make_engine(name, source, CPU), noise(source, count=2)
    expected, given = plain_scores(source, tiles), class_scores(engine, tiles)
    assert engine.name == name
    assert given.dtype == torch.float32
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert (given.argmax(1) == expected.argmax(1)).float().mean() > 0.999


@pytest.mark.parametrize(("network", "channels"), [("3D", 3), ("3D, more classes than features", 4), ("2D", 2)])
def test_gives_features_only_where_they_are_fewer_than_the_classes(network, channels):
    source = a_source(network)
    assert (source.head is not None) == (network == "3D, more classes than features")
    assert make_engine("torch", source, CPU).run(noise(source)).shape == (1, channels, *source.tile)


@pytest.mark.parametrize("name", ENGINES)
def test_a_later_run_leaves_an_earlier_result_as_it_was(name):
    source = a_source()
    engine = make_engine(name, source, CPU)
    first = engine.run(noise(source))
    kept = first.clone()
    engine.run(noise(source, seed=2))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("name", ENGINES)
def test_takes_tiles_that_are_cut_out_of_a_larger_image(name):
    source = a_source()
    large = torch.randn((1, 1, 20, 20, 20), generator=torch.Generator().manual_seed(4))
    cut = large[:, :, 3:11, 5:17, 7:15]
    engine = make_engine(name, source, CPU)
    assert torch.equal(engine.run(cut), engine.run(cut.contiguous()))


def test_torch_on_the_cpu_computes_in_float32_at_every_layer():
    source = a_source()
    types = set()
    for layer in source.network.modules():
        layer.register_forward_hook(lambda *call: types.add(call[-1].dtype) if torch.is_tensor(call[-1]) else None)
    engine = make_engine("torch", source, CPU)
    engine.run(noise(source))
    assert types == {torch.float32}
    assert "float32" in engine.description


@needs_openvino
def test_openvino_computes_in_float32_also_where_the_processor_has_bfloat16():
    engine = make_engine("openvino", a_source(), CPU)
    assert "float32" in engine.description
    assert engine._request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_an_engine_leaves_the_network_as_it_was():
    source = a_source()
    before = {name: (tensor.stride(), tensor.clone()) for name, tensor in source.network.state_dict().items()}
    make_engine("torch-channels-last", source, CPU).run(noise(source))
    after = source.network.state_dict()
    assert all(after[name].stride() == s and torch.equal(after[name], t) for name, (s, t) in before.items())


@needs_graphs
def test_a_graph_is_written_once_and_a_damaged_one_again(an_empty_cache, monkeypatch):
    first = onnx_graph.onnx_graph(a_source())
    (path,) = an_empty_cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    assert onnx_graph.onnx_graph(a_source()) == first
    assert path.read_bytes() == whole
    monkeypatch.setattr(torch.onnx, "export", None)  # another export would fail
    assert onnx_graph.onnx_graph(a_source()) == first


@pytest.mark.parametrize("damage", [lambda stored: stored[:-100], lambda stored: b"", lambda stored: b"x" + stored[1:]])
def test_a_damaged_file_of_the_cache_is_not_there(a_cache, damage):
    assert write_cached("name", bytes(1000))
    assert read_cached("name") == bytes(1000)
    (a_cache / "name").write_bytes(damage((a_cache / "name").read_bytes()))
    assert read_cached("name") is None


def test_the_cache_forgets_what_was_used_least_recently(an_empty_cache, monkeypatch):
    names = [cache_key(n) for n in range(4)]
    for age, name in enumerate(names):
        write_cached(name, bytes(1000))
        os.utime(an_empty_cache / name, (age + 1, age + 1))
    (an_empty_cache / "of-the-user.txt").write_bytes(bytes(5000))
    monkeypatch.setattr(cache, "MAX_BYTES", 2500)
    write_cached(cache_key("newest"), bytes(1000))
    assert [name for name in names if read_cached(name)] == names[-1:]
    assert (an_empty_cache / "of-the-user.txt").exists()


@needs_openvino
def test_other_weights_of_the_same_architecture_have_another_graph():
    one, other = a_source(seed=0), a_source(seed=1)
    assert one.fingerprint != other.fingerprint
    make_engine("openvino", one, CPU)
    given = make_engine("openvino", other, CPU).run(noise(other))
    torch.testing.assert_close(given, plain_scores(other, noise(other)), rtol=0, atol=1e-4)


def test_one_changed_weight_or_setting_changes_the_fingerprint():
    source, changed = a_source(), a_source()
    assert source.fingerprint == a_source().fingerprint
    with torch.no_grad():
        next(changed.network.parameters()).view(-1)[0] += 2**-10
    assert changed.fingerprint != source.fingerprint
    assert replace(source, architecture="{}").fingerprint != source.fingerprint


@needs_openvino
def test_works_where_the_cache_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MEDSEGREG_CACHE", str(tmp_path / "file"))
    source = a_source()
    make_engine("openvino", source, CPU).run(noise(source))
    assert (tmp_path / "file").read_text() == "not a folder"


@needs_graphs
def test_only_weights_that_half_precision_holds_are_stored_in_it(a_graph):
    source = a_source()
    half = onnx_graph.onnx_graph(source)
    with torch.no_grad():
        for tensor in source.network.parameters():
            tensor.add_(1e-5)
    exact = onnx_graph.onnx_graph(replace(source, architecture="inexact"))
    weights = sum(tensor.nbytes for tensor in source.network.state_dict().values())
    assert len(exact) - len(half) > 0.4 * weights
    assert with_full_weights(exact) == exact
    assert len(with_full_weights(half)) > len(half)


@needs_openvino
def test_a_graph_of_a_package_is_run_as_it_is(a_graph):
    source = a_source()
    given = replace(source, network=with_full_weights(onnx_graph.onnx_graph(source)))
    assert given.head is None
    expected = plain_scores(source, noise(source))
    for name in ("openvino", *(["onnxruntime"] if installed("onnxruntime") else [])):
        result = make_engine(name, given, CPU).run(noise(source))
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
    with pytest.raises(InvalidSetting, match="torch cannot run"):
        make_engine("torch", given, CPU)


@needs_graphs
def test_refuses_a_graph_with_an_operator_of_a_custom_domain_also_inside_a_branch(a_graph):
    onnx = pytest.importorskip("onnx")
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Shell", ["image"], ["y"], domain="com.evil")], "branch", [], [a_graph.graph.output[0]]
    )
    a_graph.graph.node.append(onnx.helper.make_node("If", ["image"], ["z"], then_branch=inner, else_branch=inner))
    with pytest.raises(UnsafeFile, match=r"com\.evil"):
        require_plain_graph(a_graph.SerializeToString())


@needs_graphs
def test_refuses_a_graph_whose_weights_lie_in_another_file(a_graph):
    onnx = pytest.importorskip("onnx")
    tensor = a_graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(UnsafeFile, match="another file"):
        require_plain_graph(a_graph.SerializeToString())


@needs_graphs
def test_refuses_bytes_that_are_no_graph_and_a_graph_with_two_inputs(a_graph):
    with pytest.raises(ModelMismatch, match="not an ONNX graph"):
        require_plain_graph(b"\x08\x07 not a graph")
    a_graph.graph.input.add(name="second")
    with pytest.raises(ModelMismatch, match="image, second"):
        require_plain_graph(a_graph.SerializeToString())


@needs_openvino
def test_refuses_a_graph_that_does_not_take_the_tile():
    source = a_source()
    graph = with_full_weights(onnx_graph.onnx_graph(source))
    with pytest.raises(ModelMismatch, match="OpenVINO cannot run"):
        make_engine("openvino", replace(source, network=graph, channels=5), CPU)


@pytest.mark.parametrize("package", ["openvino", "onnxruntime"])
def test_an_engine_that_is_not_installed_is_refused_with_the_line_that_installs_it(package, monkeypatch):
    monkeypatch.setitem(packages.sys.modules, package, None)
    monkeypatch.setattr(packages, "versions", lambda *names: "")
    with pytest.raises(MissingPackage, match=rf"pip install 'medsegreg\[{package}\]'"):
        make_engine(package, a_source(), CPU)


@pytest.mark.skipif(packages.sys.platform == "win32", reason="there a call turns its reports off")
def test_refuses_an_onnxruntime_that_reports_its_use(monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(packages, "versions", lambda *names: "1.29.0")
    with pytest.raises(MissingPackage, match=r"onnxruntime<1\.29"):
        make_engine("onnxruntime", a_source(), CPU)


def test_refuses_a_name_that_is_no_engine_and_int8_for_a_model_without_it():
    with pytest.raises(InvalidSetting, match="torch, torch-channels-last, openvino"):
        make_engine("tensorrt", a_source(), CPU)
    if installed("openvino"):
        with pytest.raises(InvalidSetting, match="no int8 graph"):
            make_engine("openvino-int8", a_source(), CPU)


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSEGREG_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MEDSEGREG_CACHE")
    assert cache_folder().parts[-2:] == (".medsegreg", "cache")
    assert os.environ.get("MEDSEGREG_CACHE") is None
