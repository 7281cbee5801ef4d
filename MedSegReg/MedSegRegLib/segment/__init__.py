"""Image -> Labels: network, tiles, restore."""

from .model import Model, load_model
from .predict import Segmentation, segment

__all__ = ["Model", "Segmentation", "load_model", "segment"]
