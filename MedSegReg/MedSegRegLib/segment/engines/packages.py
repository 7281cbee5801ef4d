"""Loading the optional packages when they are used, with their telemetry off. Engines walk: [packages] -> engine.

The facts behind this file were found by tracing. ``import openvino`` (also through ``nncf``) reports the import to its
maker and writes an identifier into the home folder, by the package ``openvino_telemetry`` if that is there. ONNX
Runtime from 1.29 on does so from inside its library, except on Windows, and heeds nothing but an environment variable
that is set before it is loaded; before 1.29, and on Windows, a call turns its events off.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from typing import Any

from ...errors import MissingPackage

ONNXRUNTIME_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")
TELEMETRY = "openvino_telemetry"
FIRST_THAT_REPORTS = (1, 29)


def load(module: str, extra: str) -> Any:
    """A module of an optional package.

    Args:
        module: its name.
        extra: of medsegreg, which installs the package.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"The package {module.split('.', maxsplit=1)[0]} is not installed ({error})",
            "it, for this engine",
            f"install it with: pip install 'medsegreg[{extra}]'",
        ) from None


def load_silently(module: str, extra: str) -> Any:
    """A module that uses ``openvino_telemetry``, loaded while that cannot be: it then has a stand-in that does nothing.

    Raises:
        MissingPackage: it is not installed.
    """
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # the import system's own way to say: not there
    try:
        return load(module, extra)
    finally:
        if before is None:
            del sys.modules[TELEMETRY]
        else:
            sys.modules[TELEMETRY] = before


def load_onnxruntime() -> Any:
    """The module ``onnxruntime``, which reports nothing.

    Raises:
        MissingPackage: it is not installed, or only in a version that would report.
    """
    version = versions(*ONNXRUNTIME_PACKAGES)
    release = tuple(int(part) for part in version.split(".")[:2]) if version else (0, 0)
    if release >= FIRST_THAT_REPORTS and sys.platform != "win32" and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        raise MissingPackage(
            f"onnxruntime {version} reports its use to its maker as soon as it is loaded",
            "a version below 1.29, or ORT_DISABLE_TELEMETRY=1 in the environment before the start",
            "pip install 'onnxruntime<1.29', or choose another engine",
        )
    onnxruntime = load("onnxruntime", "onnxruntime")
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def versions(*packages: str) -> str:
    """The installed versions of these packages, joined by spaces; those that are missing are left out."""
    found = []
    for package in packages:
        try:
            found.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            continue
    return " ".join(found)
