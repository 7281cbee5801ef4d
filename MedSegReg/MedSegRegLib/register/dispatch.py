"""Kernels of our own or plain torch: the one place that decides. Asked wherever a step exists in both forms."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch


def use_kernels(tensor: torch.Tensor) -> bool:
    """True for float32 on a CUDA device where triton is installed, which comes with torch's CUDA wheels for Linux.

    Everywhere else (CPU, macOS, Windows, double precision) torch does the same, and triton is never imported.
    """
    return tensor.is_cuda and tensor.dtype == torch.float32 and _has_triton()


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
