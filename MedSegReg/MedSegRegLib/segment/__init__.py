"""Image -> Labels: prepare, tiles, network by an engine, stream, restore."""

from .model import Model, join_models, load_model
from .options import SegmentationOptions
from .plan import Plan, make_plan
from .predict import Confidence, Segmentation, segment

__all__ = [
    "Confidence",
    "Model",
    "Plan",
    "Segmentation",
    "SegmentationOptions",
    "join_models",
    "load_model",
    "make_plan",
    "segment",
]
