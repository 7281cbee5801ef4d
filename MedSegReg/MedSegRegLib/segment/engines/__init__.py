"""What runs the network on a tile: torch, OpenVINO or ONNX Runtime. Segmentation walk: tiles -> [engines] -> features.

In reading order: ``engine`` (what every engine takes and gives), ``torch_engine``, ``openvino_engine`` and
``onnxruntime_engine``, where the last two take a graph of ``onnx_graph``; ``build`` makes one by its name, ``choice``
measures which is fastest here (``trial``), ``usable_device`` doubts the GPU, ``quantise`` makes int8 graphs.
``packages`` loads what is optional, ``cache`` keeps what took long.
"""

from .build import ENGINE_NAMES, make_engine
from .choice import Choice, choose_engine
from .engine import Engine, Head, Source
from .usable_device import usable_device

__all__ = ["ENGINE_NAMES", "Choice", "Engine", "Head", "Source", "choose_engine", "make_engine", "usable_device"]
