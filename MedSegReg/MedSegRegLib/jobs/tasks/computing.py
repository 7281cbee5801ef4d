"""Task ``compute``: what this computer has for the work. Jobs walk: worker -> [computing]."""

from __future__ import annotations

import platform
from typing import Any

import torch

from ...device import describe_device, free_host_bytes
from ...errors import DeviceUnavailable
from ...segment.engines import usable_device
from ...segment.engines.packages import ONNXRUNTIME_PACKAGES, versions
from ..values import JobResult
from ..work import Work


def compute(work: Work) -> JobResult:
    """See :mod:`MedSegRegLib.jobs`."""
    names = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    names += ["mps"] if torch.backends.mps.is_available() else []
    data = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "processor_threads": torch.get_num_threads(),
        "free_host_bytes": free_host_bytes(),
        "devices": [_device(name) for name in names],
        "engines": {
            "torch": torch.__version__,
            "openvino": versions("openvino"),
            "onnxruntime": versions(*ONNXRUNTIME_PACKAGES),
        },
    }
    return JobResult(data, {})


def _device(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": name, "description": name, "usable": True, "problem": "", "memory_bytes": None}
    try:
        device = usable_device(name)[0]
    except DeviceUnavailable as error:
        return {**facts, "usable": False, "problem": str(error)}
    if device.type == "cuda":
        facts["memory_bytes"] = torch.cuda.get_device_properties(device).total_memory
    return {**facts, "description": describe_device(device).message}
