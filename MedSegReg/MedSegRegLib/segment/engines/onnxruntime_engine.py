"""A graph by ONNX Runtime. Engines walk: tiles -> [ONNX Runtime] -> features or scores."""

from __future__ import annotations

import torch

from ...errors import MissingPackage, ModelMismatch
from .engine import Source
from .onnx_graph import onnx_graph, with_full_weights
from .packages import ONNXRUNTIME_PACKAGES, load_onnxruntime, versions

PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "mps": ("CoreMLExecutionProvider", "onnxruntime"),
}


class OnnxRuntimeEngine:
    """Runs the network's ONNX graph with ONNX Runtime; tiles are given and come back on the CPU.

    Args:
        source: a module or a graph.
        device: where the graph runs: CPU, CUDA (its CUDA provider) or MPS (its CoreML provider).

    Raises:
        MissingPackage: onnxruntime, or its provider for this device, is not installed.
        ModelMismatch, UnsafeFile: the network cannot be run like this.
    """

    name = "onnxruntime"
    device = torch.device("cpu")

    def __init__(self, source: Source, device: torch.device) -> None:
        self.head = source.head
        self._provider, package = PROVIDERS[device.type]
        self._threads = torch.get_num_threads()
        self._slices = source.dimensions == 2
        onnxruntime = load_onnxruntime()
        if self._provider not in onnxruntime.get_available_providers():
            raise MissingPackage(
                f"onnxruntime has no {self._provider}", f"the package {package}", f"pip install '{package}<1.29'"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        state = onnxruntime.capi.onnxruntime_pybind11_state
        try:
            graph = with_full_weights(onnx_graph(source))
            self._session = onnxruntime.InferenceSession(graph, options, providers=[self._provider])
        except (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented) as error:
            raise ModelMismatch(
                f"ONNX Runtime cannot run this network ({str(error)[:200]})",
                "operators that it has",
                "choose another engine",
            ) from None
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    @property
    def description(self) -> str:
        """Engine, version, precision and threads."""
        where = self._provider.removesuffix("ExecutionProvider")
        return f"ONNX Runtime {versions(*ONNXRUNTIME_PACKAGES)} on {where}, float32, {self._threads} threads"

    def run(self, tiles: torch.Tensor) -> torch.Tensor:
        """[N, C, K, J, I] float32 on the CPU -> [N, F, K, J, I] float32; one tile after the other."""
        tiles = tiles.squeeze(2) if self._slices else tiles
        results = [
            torch.from_numpy(self._session.run([self._output], {self._input: tile[None].contiguous().numpy()})[0])
            for tile in tiles
        ]
        result = torch.cat(results) if len(results) > 1 else results[0]
        return result.unsqueeze(2) if self._slices else result
