"""Pictures (X-ray, fundus, microscopy) as images of one slice. Beside ``images``, which calls this."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ComponentCount, InputError, TooLarge, UnsupportedFile
from ..image import Image, Labels
from ..report import Finding
from .headers.header import damaged
from .itk import geometry_from_itk, itk_path, read_with_itk

PICTURE_FORMATS = {
    ".png": "PNGImageIO",
    ".jpg": "JPEGImageIO",
    ".jpeg": "JPEGImageIO",
    ".tif": "TIFFImageIO",
    ".tiff": "TIFFImageIO",
}
ENDS = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}
END_WITHIN_BYTES = 4096  # some cameras write a few bytes after the end
LARGEST_PIXELS = 1 << 28
COLOURS = ("red", "green", "blue")
WHITE = 255


def is_picture(path: Path) -> bool:
    """By the name of the file."""
    return path.suffix.lower() in PICTURE_FORMATS


def read_picture(path: Path) -> Image:
    """A PNG, JPEG or TIFF file of one page: [1, 1, J, I], or [3, 1, J, I] in colour; transparency is left out.

    It lies where Slicer puts it: the first row is the most anterior one, 1 mm a pixel unless the file says otherwise.

    Raises:
        FileError: missing, damaged or of another kind.
        ComponentCount: not one to four values a pixel. TooLarge: more than 2^28 pixels.
    """
    if not path.is_file():
        raise UnsupportedFile(f"There is no file '{path.name}'", "a picture", "check the name")
    _require_whole(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_path(path))
    reader.SetImageIO(PICTURE_FORMATS[path.suffix.lower()])
    read_with_itk(path, reader.ReadImageInformation)
    pixels, components = int(np.prod(reader.GetSize())), reader.GetNumberOfComponents()
    if pixels > LARGEST_PIXELS:
        raise TooLarge(f"'{path.name}' has {pixels} pixels", f"at most {LARGEST_PIXELS}", "reduce the picture")
    if components > 4:
        raise ComponentCount(f"'{path.name}' has {components} values a pixel", "1 to 4", "convert it to grey or RGB")
    picture = read_with_itk(path, reader.Execute)
    geometry = geometry_from_itk(picture)
    array = sitk.GetArrayFromImage(picture).reshape(*geometry.shape_kji, components)
    colours = 1 if components < 3 else 3
    note = Finding.info(f"A picture: {geometry.spacing_mm[0]:g} mm a pixel is assumed, which the file does not promise")
    return Image.from_array(
        np.moveaxis(array[..., :colours], -1, 0),
        geometry,
        path.stem,
        COLOURS if colours == 3 else (),
        (note,),
    )


def read_label_picture(path: Path) -> Labels:
    """A grey PNG or TIFF file, or one in colour that is grey, as labels; black and white are 0 and 1.

    Raises:
        InputError: a colour, or a JPEG file, whose compression changes values.
        FileError, TooLarge: of :func:`read_picture`.
    """
    image = read_picture(path)
    values = image.numpy()
    if PICTURE_FORMATS[path.suffix.lower()] == "JPEGImageIO" or (values != values[:1]).any():
        raise InputError(
            f"'{path.name}' is a JPEG or colour picture", "a grey PNG or TIFF file as label map", "save it as grey PNG"
        )
    array = np.where(values[0] == WHITE, 1, 0) if np.isin(values[0], (0, WHITE)).all() else values[0]
    return Labels.from_array(array, image.geometry, name=path.stem)


def _require_whole(path: Path) -> None:
    """Readers fill what is missing at the end of a PNG or JPEG file with black, and say nothing."""
    end = ENDS.get(path.suffix.lower(), b"")
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - END_WITHIN_BYTES))
        if end not in file.read():
            raise damaged(path.name, "is cut off", "a complete file")
