"""Segmentation and registration for 3D Slicer, and for everything without it."""

__version__ = "0.1.0"
