"""Files to Labels and back: training data in, the result of the segmentation walk out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import DamagedFile, DimensionError, InputError
from ..image import Labels
from ..terminology import generic_structure
from .atomic import LABEL_EXTENSIONS, extension_of, require_writable
from .images import write_itk_image
from .itk import geometry_from_itk, itk_from_labels
from .pictures import is_picture, read_label_picture
from .slicer_segments import Segment, segments_from_metadata, segments_to_metadata
from .volume_file import VolumeFile, read_volume_file, stem


def read_labels(path: str | Path) -> Labels:
    """A label map from a Slicer segmentation (``.seg.nrrd``), a plain NIfTI, NRRD or MetaImage file, or a picture.

    Returns:
        Labels with names, colours and codes of the segments; structures named ``label 1``... for plain files.
        Layers that do not overlap are merged; label values stay where they are unique, else they become 1, 2, ...

    Raises:
        InputError: overlapping segments; values that are not whole numbers, or negative.
        FileError and the kinds of InputError as for images.
    """
    path = Path(path)
    if is_picture(path):
        return _with_generic_names(read_label_picture(path))
    volume = read_volume_file(path)
    geometry = geometry_from_itk(volume.itk)
    segments = segments_from_metadata(
        {key: volume.itk.GetMetaData(key) for key in volume.itk.GetMetaDataKeys()}, path.name
    )
    if volume.header.frames > 1:
        array, segments = _merge_layers(volume, segments)
    else:
        array = volume.array()
    values = [s.structure.value for s in segments]
    if len(set(values)) < len(values) or min(values, default=1) < 1:
        raise InputError(
            f"'{path.name}' has segments of values {values} in one layer",
            "a different value from 1 on for each",
            "save the segmentation again in Slicer",
        )
    with np.errstate(invalid="ignore"):  # values that are not whole numbers are refused, not warned about
        labels = Labels.from_array(
            np.reshape(array, geometry.shape_kji), geometry, tuple(s.structure for s in segments), stem(path)
        )
    return _with_generic_names(labels)


def write_labels(labels: Labels, path: str | Path) -> None:
    """A label map as ``.seg.nrrd`` (a Slicer segmentation with names, colours, terminology) or a plain volume file.

    Values are stored as uint8 where they fit, else uint16, else int32. Complete or not at all.

    Raises:
        OutputNotWritable: the folder cannot be written, the disk is full, or the extension is unknown.
        InvalidSetting: a code that Slicer's terminology text cannot hold.
        InputError: two structures of one value.
        InvalidGeometry: a sheared grid for NIfTI.
    """
    path = Path(path)
    require_writable(path, overwrite=True, extensions=LABEL_EXTENSIONS)
    labels = _with_generic_names(labels)
    values = [s.value for s in labels.structures]
    if len(set(values)) < len(values) or min(values, default=1) < 1:
        raise InputError(
            f"The structures have values {values}", "a different value from 1 on for each", "renumber the structures"
        )
    image = itk_from_labels(labels)
    if extension_of(path) == ".seg.nrrd":
        for key, value in segments_to_metadata(labels.structures, labels.numpy()).items():
            image.SetMetaData(key, value)
    write_itk_image(image, path)


def _with_generic_names(labels: Labels) -> Labels:
    """Add ``label n`` for values that occur but have no structure."""
    named = {s.value for s in labels.structures}
    unnamed = [value for value in np.unique(labels.numpy()).tolist() if value and value not in named]
    return replace(labels, structures=(*labels.structures, *map(generic_structure, unnamed)))


def _merge_layers(volume: VolumeFile, segments: list[Segment]) -> tuple[np.ndarray, list[Segment]]:
    """One layer [K, J, I] from several, and the segments with their (new) values."""
    name, count = volume.header.path.name, volume.header.frames
    if not segments or volume.itk.GetNumberOfComponentsPerPixel() != count:
        raise DimensionError(
            f"'{name}' has {count} frames", "one label map, or a segmentation of Slicer", "choose a frame"
        )
    layers = sitk.GetArrayViewFromImage(volume.itk)
    values = [s.structure.value for s in segments]
    if len(set(values)) < len(values):
        values = list(range(1, len(segments) + 1))
    merged = np.zeros(layers.shape[:-1], np.int32)
    renumbered: list[Segment] = []
    for segment, value in zip(segments, values, strict=True):
        if not 0 <= segment.layer < count:
            raise DamagedFile(
                f"Segment '{segment.structure.name}' of '{name}' is in layer {segment.layer}",
                f"0 to {count - 1}",
                "save the segmentation again in Slicer",
            )
        mask = layers[..., segment.layer] == segment.structure.value
        hidden = np.unique(merged[mask & (merged > 0)])
        if len(hidden):
            others = [s.structure.name for s in renumbered if s.structure.value in hidden]
            raise InputError(
                f"'{segment.structure.name}' overlaps {others} in '{name}'",
                "segments that do not share voxels",
                "in Slicer's Segment Editor apply Logical operators > Subtract, then save again",
            )
        merged[mask] = value
        renumbered.append(Segment(replace(segment.structure, value=value), 0))
    return merged, renumbered
