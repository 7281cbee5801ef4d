"""An int8 graph of a network, for the quick mode. Engines walk: network, tiles -> [quantise] -> int8.xml, int8.bin.

Post-training quantisation of weights and convolutions by NNCF (Kozlov et al., arXiv 2002.08679): the ranges of the
activations are read off example tiles. It needs no labels and no training.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from ...errors import TooFewVoxels
from .engine import Source
from .onnx_graph import onnx_graph
from .packages import load_silently


def quantise(source: Source, tiles: Sequence[torch.Tensor]) -> tuple[bytes, bytes]:
    """The content of ``int8.xml`` and ``int8.bin`` for a model package; ``Source.int8`` runs them.

    Args:
        source: the network.
        tiles: [C, K, J, I] float32 examples on the model's grid, preprocessed, of the source's tile size; some tens of
            them, from images that the model is made for.

    Raises:
        MissingPackage: nncf, openvino or onnx is not installed.
        TooFewVoxels: no tiles.
        ModelMismatch, UnsafeFile: the network cannot be written as a graph.
    """
    if not tiles:
        raise TooFewVoxels("There are no example tiles", "some tens of tiles", "give images that the model is made for")
    openvino = load_silently("openvino", "openvino")
    nncf = load_silently("nncf", "quantise")
    examples = [tile.reshape(source.input_shape).contiguous().numpy() for tile in tiles]
    model = openvino.Core().read_model(onnx_graph(source))
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # it draws bars
        model = nncf.quantize(model, nncf.Dataset(examples), subset_size=len(examples))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.xml"
        openvino.save_model(model, path, compress_to_fp16=True)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
