"""From a network to an ONNX graph, and whether a graph is safe to run. Engines walk: network -> [onnx graph] -> engine.

A graph of our own is written once for each tile size and kept in the cache, with its weights in half precision where
that loses nothing, as in a package, whose weights are stored so. A graph that came in a package is used as it is.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ... import __version__
from ...errors import ModelMismatch, UnsafeFile
from .cache import cache_key, read_cached, write_cached
from .engine import Source
from .packages import load, versions

EXTRA = "openvino"
HALF = ".half"
STANDARD_DOMAINS = ("", "ai.onnx")
SMALL = 256  # biases and the like: not worth a conversion
LARGEST_BYTES = (2 << 30) - (1 << 20)  # of one protobuf message


def onnx_graph(source: Source) -> bytes:
    """The graph of a network, [1, C, *tile] -> [1, F, *tile].

    Raises:
        MissingPackage: onnx or onnxscript is not installed and the graph is not in the cache.
        ModelMismatch: the network cannot be written as a graph.
        UnsafeFile: a graph of a package that is not plain.
    """
    if isinstance(source.network, bytes):
        require_plain_graph(source.network)
        return source.network
    name = cache_key(source.fingerprint, source.tile, torch.__version__, __version__, versions("onnxscript")) + ".onnx"
    graph = read_cached(name)
    if graph is None:
        graph = _export(source)
        write_cached(name, graph)
    return graph


def require_plain_graph(content: bytes) -> None:
    """Refuse a graph that reaches outside itself.

    Raises:
        MissingPackage: onnx is not installed.
        ModelMismatch: not an ONNX graph, or not one with a single input.
        UnsafeFile: operators of a custom domain, or weights in other files.
    """
    onnx = load("onnx", EXTRA)
    try:
        model = onnx.load_model_from_string(content)
    except load("google.protobuf.message", EXTRA).DecodeError:
        raise ModelMismatch("network.onnx is not an ONNX graph", "an ONNX file", "import the model again") from None
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [one.name for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1 or not model.graph.output:
        raise ModelMismatch(
            f"network.onnx has the inputs {', '.join(inputs) or 'none'}", "one image", "import another model"
        )
    known = {*STANDARD_DOMAINS, *(function.domain for function in model.functions)}
    for graph in (model.graph, *model.functions):
        for node in _nodes(graph):
            if node.domain not in known:
                raise UnsafeFile(
                    f"network.onnx uses the operator {node.op_type} of '{node.domain[:60]}'",
                    "standard operators of ONNX alone",
                    "export the model again without custom operators",
                )
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise UnsafeFile(
            "network.onnx names another file for its weights",
            "weights inside the file",
            "save the model again in one file",
        )


def with_full_weights(content: bytes) -> bytes:
    """A graph of :func:`onnx_graph` with its weights in float32 again: ONNX Runtime is 1.25 times slower otherwise."""
    onnx = load("onnx", EXTRA)
    model = onnx.load_model_from_string(content)
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] == node.output[0] + HALF]
    if not casts:
        return content
    for node in casts:
        model.graph.node.remove(node)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(HALF):
            full = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(full, tensor.name.removesuffix(HALF)))
    return model.SerializeToString()


def _export(source: Source) -> bytes:
    onnx = load("onnx", EXTRA)
    load("onnxscript", EXTRA)  # used by torch
    if sum(tensor.nbytes for tensor in source.module.state_dict().values()) > LARGEST_BYTES:
        raise ModelMismatch("The network has more than 2 GiB of weights", "less, for ONNX", "choose the engine 'torch'")
    try:
        with _without_notes():
            program = torch.onnx.export(
                source.module,
                (torch.zeros(source.input_shape),),
                input_names=["image"],
                output_names=["result"],
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ModelMismatch(
            f"The network cannot be written as an ONNX graph ({str(error).strip().splitlines()[0][:200]})",
            "operators that ONNX has",
            "choose the engine 'torch'",
        ) from None
    assert program is not None
    return _with_half_weights(program.model_proto, onnx).SerializeToString()


@contextmanager
def _without_notes() -> Iterator[None]:
    """The exporter reports every optional package that is missing, and details of its own code."""
    exporters = {logger: logger.level for logger in map(logging.getLogger, ("torch.onnx", "onnx_ir"))}
    for logger in exporters:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in exporters.items():
            logger.setLevel(level)


def _with_half_weights(model: Any, onnx: Any) -> Any:
    """Weights that half precision holds exactly are stored so, followed by a conversion to float32."""
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        full = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = full.astype(np.float16)
        if full.size < SMALL or not np.array_equal(half.astype(np.float32), full):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, name + HALF))
        model.graph.node.insert(0, onnx.helper.make_node("Cast", [name + HALF], [name], to=onnx.TensorProto.FLOAT))
    return model


def _nodes(graph: Any) -> Iterator[Any]:
    """Of a graph or a function, and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a message."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for one in (value,) if hasattr(value, "ListFields") else value:
            if field.message_type.name == "TensorProto":
                yield one
            else:
                yield from _tensors(one)
