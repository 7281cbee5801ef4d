"""An engine by its name. Engines walk: name, network -> [build] -> engine."""

from __future__ import annotations

import torch

from ...errors import InvalidSetting
from .engine import Engine, Source
from .onnxruntime_engine import OnnxRuntimeEngine
from .openvino_engine import OpenVinoEngine
from .torch_engine import TorchEngine

ENGINE_NAMES = ("auto", "torch", "torch-channels-last", "openvino", "openvino-int8", "onnxruntime")


def make_engine(name: str, source: Source, device: torch.device) -> Engine:
    """The engine of that name (not ``auto``), ready to run.

    Args:
        name: one of ``ENGINE_NAMES``.
        source: the network.
        device: where it runs; OpenVINO always runs on the CPU.

    Raises:
        InvalidSetting: no such name, torch for a graph, or int8 for a model without it.
        MissingPackage: it is not installed.
        ModelMismatch, UnsafeFile: it cannot run this network.
    """
    if name in ("torch", "torch-channels-last"):
        return TorchEngine(source, device, channels_last=name != "torch")
    if name in ("openvino", "openvino-int8"):
        return OpenVinoEngine(source, int8=name != "openvino")
    if name == "onnxruntime":
        return OnnxRuntimeEngine(source, device)
    raise InvalidSetting(f"The engine is '{name}'", f"one of {', '.join(ENGINE_NAMES)}", "choose one of these")
