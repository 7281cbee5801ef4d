"""ONNX and TorchScript files become model packages when they compute and do nothing else."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from MedSegRegLib.errors import DamagedModel, InvalidSetting, MedSegRegError, ModelMismatch, UnsafeFile, UnsupportedFile
from MedSegRegLib.files.model_package import read_package
from MedSegRegLib.model_import.graph import checked_graph, graph_of_torchscript
from MedSegRegLib.model_import.run import import_model

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch says so of its TorchScript

TILE = (8, 8, 16)  # i, j, k
DESCRIPTION = {
    "channels": [{"name": "T1", "modality": "MR"}],
    "labels": [{"value": 1, "name": "ball"}],
    "spacing_mm": [1, 1, 2],
    "tile_ijk": list(TILE),
    "intensity": [{"step": "z_score"}],
}


class Scores(nn.Module):
    """Two classes."""

    def __init__(self, final: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.final = nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2), final

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.final(self.norm(self.conv(x)))


@pytest.fixture
def description(tmp_path: Path) -> Path:
    (tmp_path / "description.json").write_text(json.dumps(DESCRIPTION))
    return tmp_path / "description.json"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Scores(nn.Softmax(dim=1)).eval(), torch.zeros(1, 1, *TILE[::-1]))
    torch.jit.save(traced, path)
    return path


@pytest.fixture
def graph(script: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return graph_of_torchscript(script, (1, 1, *TILE[::-1]))


def changed(graph: bytes, change: Any) -> bytes:
    model = onnx.load_model_from_string(graph)
    change(model)
    return model.SerializeToString()


def test_torchscript_becomes_a_graph_with_the_same_scores(tmp_path: Path, script: Path, description: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    spec, findings = import_model(script, tmp_path / "imported", description=description, licence="MIT")
    _, files = read_package(tmp_path / "imported")
    image = np.random.default_rng(0).normal(size=(1, 1, *TILE[::-1])).astype(np.float32)
    session = runtime.InferenceSession(files["network.onnx"], providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: image})
    with torch.inference_mode():
        expected = Scores(nn.Identity()).eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert "Softmax was left out" in findings[0].message
    assert (spec.name, spec.licence, spec.weights) == ("net", "MIT", ("network.onnx",))


def test_imports_an_onnx_file(tmp_path: Path, graph: bytes, description: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(graph)
    spec, _ = import_model(tmp_path / "net.onnx", tmp_path / "imported", description=description)
    assert spec.architecture.name == "onnx"
    assert spec.tile_ijk == TILE


def test_says_which_description_is_needed(tmp_path: Path, graph: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(graph)
    with pytest.raises(InvalidSetting, match=r"lacks channels, labels, spacing_mm, tile_ijk.*z_score"):
        import_model(tmp_path / "net.onnx", tmp_path / "imported")
    (tmp_path / "d.json").write_text(json.dumps({**DESCRIPTION, "architecture": {"name": "onnx"}}))
    with pytest.raises(InvalidSetting, match="has architecture"):
        import_model(tmp_path / "net.onnx", tmp_path / "imported", description=tmp_path / "d.json")
    (tmp_path / "d.json").write_text(json.dumps({**DESCRIPTION, "_target_": "os.system"}))
    with pytest.raises(UnsupportedFile, match="_target_"):
        import_model(tmp_path / "net.onnx", tmp_path / "imported", description=tmp_path / "d.json")


def test_refuses_a_graph_that_does_not_fit_its_description(tmp_path: Path, graph: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(graph)
    two = [{"value": 1, "name": "a"}, {"value": 2, "name": "b"}]
    (tmp_path / "d.json").write_text(json.dumps({**DESCRIPTION, "labels": two}))
    with pytest.raises(ModelMismatch, match=r"output.*\[1, 2, 16, 8, 8\]"):
        import_model(tmp_path / "net.onnx", tmp_path / "imported", description=tmp_path / "d.json")


def test_leaves_a_graph_without_final_step_as_it_is(graph: bytes) -> None:
    once, facts = checked_graph(graph, "net")
    assert facts["final"] == "Softmax"
    assert facts["output"] == [1, 2, *TILE[::-1]]
    again, facts = checked_graph(once, "net")
    assert facts["final"] == ""
    assert again == once


def test_refuses_operators_that_are_not_of_the_standard(graph: bytes) -> None:
    def custom(model: Any) -> None:
        model.graph.node[0].domain = "com.evil"
        model.opset_import.append(onnx.helper.make_opsetid("com.evil", 1))

    with pytest.raises(UnsafeFile, match=r"com\.evil"):
        checked_graph(changed(graph, custom), "net")


def test_refuses_weights_in_other_files(graph: bytes) -> None:
    def external(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="../../etc/passwd"))

    with pytest.raises(UnsafeFile, match="other files"):
        checked_graph(changed(graph, external), "net")


def test_refuses_weights_that_are_not_finite(graph: bytes) -> None:
    def spoil(model: Any) -> None:
        tensor = model.graph.initializer[0]
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = np.nan
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    with pytest.raises(DamagedModel, match="not finite"):
        checked_graph(changed(graph, spoil), "net")


def test_refuses_several_outputs(graph: bytes) -> None:
    with pytest.raises(UnsupportedFile, match="2 outputs"):
        checked_graph(changed(graph, lambda model: model.graph.output.append(model.graph.output[0])), "net")


@pytest.mark.parametrize("keep", [0, 10, 0.5, -5])
def test_refuses_a_truncated_onnx_file(graph: bytes, keep: float) -> None:
    with pytest.raises(MedSegRegError):
        checked_graph(graph[: int(len(graph) * keep) if keep == 0.5 else int(keep)], "net")


def test_refuses_torchscript_that_opens_files_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Identity(), torch.zeros(1)), path)
    code = tmp_path / "evil.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(code, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith(".py"):
                data = data.replace(b"return input", b'_0 = torch.save(input, "marker")\n    return input')
            target.writestr(entry.filename, data)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafeFile, match=r"torch\.save"):
        graph_of_torchscript(code, (1,))
    assert not (tmp_path / "marker").exists()


def test_refuses_torchscript_that_does_not_run_on_the_described_tile(script: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UnsupportedFile, match="no ONNX form"):
            graph_of_torchscript(script, (1, 3, *TILE[::-1]))


@pytest.mark.parametrize("keep", [0.5, -5])
def test_refuses_truncated_torchscript(tmp_path: Path, script: Path, keep: float, description: Path) -> None:
    content = script.read_bytes()
    script.write_bytes(content[: int(len(content) * keep) if keep == 0.5 else int(keep)])
    with pytest.raises(MedSegRegError):
        import_model(script, tmp_path / "imported", description=description)
