"""A graph on the CPU by OpenVINO. Engines walk: tiles -> [OpenVINO] -> features or scores.

Compiling takes a tenth of a second and is not cached; what takes seconds is writing the graph, which is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...errors import InvalidSetting, ModelMismatch
from .engine import Source
from .onnx_graph import onnx_graph
from .packages import load_silently, versions


class OpenVinoEngine:
    """Runs the network's ONNX graph, or its int8 graph, with OpenVINO on the CPU, in float32 arithmetic for the former.

    Args:
        source: a module or a graph.
        int8: run the graph of int8.xml and int8.bin instead (weights and convolutions in int8, the rest in float32).

    Raises:
        MissingPackage: openvino, or what is needed to write the graph, is not installed.
        InvalidSetting: int8 is asked for and the package has no such graph.
        ModelMismatch, UnsafeFile: the network cannot be run like this.
    """

    device = torch.device("cpu")

    def __init__(self, source: Source, int8: bool = False) -> None:
        self.name = "openvino-int8" if int8 else "openvino"
        self.head = source.head
        self._openvino = load_silently("openvino", "openvino")
        self._threads = torch.get_num_threads()
        self._slices = source.dimensions == 2
        try:
            model = self._read(source, int8)
            model.reshape(list(source.input_shape))
            compiled = self._openvino.Core().compile_model(model, "CPU", self._settings())
        except RuntimeError as error:
            raise ModelMismatch(
                f"OpenVINO cannot run this network ({str(error).strip().splitlines()[-1][:200]})",
                f"a graph that takes {list(source.input_shape)}",
                "choose another engine",
            ) from None
        self._request = compiled.create_infer_request()
        self._outputs = int(compiled.output(0).shape[1])

    @property
    def description(self) -> str:
        """Engine, version, precision and threads."""
        precision = "int8" if self.name == "openvino-int8" else "float32"
        return f"OpenVINO {versions('openvino')}, {precision}, {self._threads} threads"

    def run(self, tiles: torch.Tensor) -> torch.Tensor:
        """[N, C, K, J, I] float32 on the CPU -> [N, F, K, J, I] float32; one tile after the other."""
        tiles = (tiles.squeeze(2) if self._slices else tiles).contiguous()
        result = torch.empty((len(tiles), self._outputs, *tiles.shape[2:]))
        for n in range(len(tiles)):
            self._request.set_input_tensor(self._shared(tiles[n : n + 1]))
            self._request.set_output_tensor(self._shared(result[n : n + 1]))
            self._request.infer()
        return result.unsqueeze(2) if self._slices else result

    def _read(self, source: Source, int8: bool) -> Any:
        core = self._openvino.Core()
        if not int8:
            return core.read_model(onnx_graph(source))
        if source.int8 is None:
            raise InvalidSetting(
                "This model has no int8 graph", "a package with int8.xml and int8.bin", "choose another engine"
            )
        structure, weights = source.int8
        return core.read_model(structure, self._openvino.Tensor(np.frombuffer(weights, dtype=np.uint8)))

    def _settings(self) -> dict[str, Any]:
        """float32 also where the processor has bfloat16, so that labels do not depend on it."""
        return {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }

    def _shared(self, tensor: torch.Tensor) -> Any:
        return self._openvino.Tensor(tensor.numpy(), shared_memory=True)
