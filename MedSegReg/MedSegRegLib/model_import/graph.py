"""ONNX graphs, checked as data; TorchScript becomes one. Import walk: foreign file -> [graph, in the child] -> graph.

A graph of standard operators computes and does nothing else: it is accepted when all of its operators are standard, all
of its weights lie inside it and are finite, and it has one input and one output.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import DamagedModel, MissingPackage, UnsafeFile, UnsupportedFile
from .checkpoint import AGAIN, require_safe_torch

if TYPE_CHECKING:
    import onnx

FINAL_STEPS = ("Softmax", "Sigmoid")
MAX_CODE_BYTES = 16 << 20
ACTING_CALL = re.compile(  # TorchScript that reads or writes files, or calls what is registered outside torch
    r"torch\.(?:save|load|from_file|_load\w*|_save\w*)\b|\bops\.(?!aten\.|prim\.)\w+|__torch__\.torch\.classes"
)


def checked_graph(content: bytes, name: str) -> tuple[bytes, dict[str, Any]]:
    """The graph, without a final softmax or sigmoid, and the shapes of its input and output (0: any size).

    Raises:
        MissingPackage: the package onnx.
        DamagedModel: not an ONNX file, not valid, or weights that are not finite.
        UnsafeFile: weights in other files, or operators that are not of the standard.
        UnsupportedFile: several inputs or outputs, or an input that is not float32.
    """
    onnx = _require_onnx()
    from google.protobuf.message import DecodeError  # noqa: PLC0415  (comes with onnx)

    try:
        model = onnx.load_model_from_string(content)
        _require_contained(model, name)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise DamagedModel(f"'{name}' is not a valid ONNX file ({reason})", "a whole ONNX file", AGAIN) from None
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DamagedModel(f"The weights '{tensor.name}' of '{name}' are not finite", "finite weights", AGAIN)
    facts: dict[str, Any] = {"final": _drop_final_step(model.graph)}
    facts["input"], facts["output"] = _shapes(model.graph, name)
    return model.SerializeToString(), facts


def graph_of_torchscript(path: Path, shape: tuple[int, ...]) -> bytes:
    """A TorchScript file as an ONNX graph for inputs of this shape, [1, channels, *tile].

    Its code is read before it is loaded: TorchScript has no Python, but it has operators that open files.

    Raises:
        UnsafeFile: such operators occur.
        DamagedModel, UnsupportedFile: not TorchScript, or it does not run on this shape, or has no ONNX form.
    """
    require_safe_torch()
    _require_onnx()
    _require_harmless_code(path)
    try:
        module = torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        raise DamagedModel(
            f"'{path.name}' cannot be loaded ({str(error)[:120]})", "a TorchScript file", AGAIN
        ) from None
    graph = io.BytesIO()
    names = {"input_names": ["image"], "output_names": ["scores"]}
    try:
        torch.onnx.export(module, (torch.zeros(*shape),), graph, dynamo=False, **names)  # type: ignore[arg-type]
    except (RuntimeError, ValueError, TypeError) as error:  # torch has no narrower base for them
        raise UnsupportedFile(
            f"'{path.name}' has no ONNX form for an input of shape {tuple(shape)} ({str(error)[:120]})",
            "a network of one input and one output for this shape",
            "correct channels and tile_ijk of the description",
        ) from None
    return graph.getvalue()


def _require_harmless_code(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if re.search(r"/code/.*\.py$", entry.filename)]
            if sum(entry.file_size for entry in entries) > MAX_CODE_BYTES:
                raise UnsafeFile(f"The code in '{path.name}' is too long", f"at most {MAX_CODE_BYTES} bytes")
            code = "\n".join(archive.read(entry).decode("utf-8", "replace") for entry in entries)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise DamagedModel(f"'{path.name}' is not a whole file ({error})", "a TorchScript file", AGAIN) from None
    call = ACTING_CALL.search(code)
    if call:
        raise UnsafeFile(
            f"'{path.name}' calls '{call.group()}'", "a network of plain torch operators", "do not use this file"
        )


def _require_contained(model: onnx.ModelProto, name: str) -> None:
    domains = {node.domain for node in _nodes(model.graph)} - {"", "ai.onnx"}
    if domains or len(model.functions):
        named = min(domains) if domains else "functions of its own"
        raise UnsafeFile(f"'{name}' uses operators of '{named}'", "standard ONNX operators", "export it without them")
    tensors = [*model.graph.initializer, *(t for node in _nodes(model.graph) for t in _tensors(node))]
    if any(t.data_location == t.EXTERNAL or t.external_data for t in tensors) or len(model.graph.sparse_initializer):
        raise UnsafeFile(f"'{name}' keeps weights in other files", "one file with all weights", "export it as one file")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Also those inside the branches of other nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield attribute.t
        yield from attribute.tensors
        for inner in (attribute.g, *attribute.graphs):
            yield from inner.initializer


def _drop_final_step(graph: onnx.GraphProto) -> str:
    """Scores are wanted before softmax and sigmoid; the name of the step that was taken away, or nothing."""
    output = graph.output[0].name if len(graph.output) == 1 else ""
    last = [node for node in graph.node if output in node.output]
    if not last or last[0].op_type not in FINAL_STEPS:
        return ""
    before = last[0].input[0]
    graph.node.remove(last[0])
    for node in graph.node:
        node.output[:] = [output if name == before else name for name in node.output]
        node.input[:] = [output if name == before else name for name in node.input]
    return last[0].op_type


def _shapes(graph: onnx.GraphProto, name: str) -> tuple[list[int], list[int]]:
    initialised = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initialised]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedFile(
            f"'{name}' has {len(inputs)} inputs and {len(graph.output)} outputs",
            "one image in, one tensor of scores out",
            "export the network with its main output only",
        )
    kind = inputs[0].type.tensor_type
    if kind.elem_type != 1:
        raise UnsupportedFile(f"The input of '{name}' is not float32", "float32", "export the network in float32")
    shapes = ([size.dim_value for size in t.shape.dim] for t in (kind, graph.output[0].type.tensor_type))
    return next(shapes), next(shapes)


def _require_onnx() -> Any:
    try:
        import onnx  # noqa: PLC0415  (optional)
    except ImportError:
        raise MissingPackage(
            "ONNX and TorchScript are read with the package onnx, which is not installed",
            "the package onnx",
            "install it with: pip install onnx",
        ) from None
    return onnx
