"""elastix 5 (Debian's command line): affine, then B-splines of 8 mm, 4 resolutions of 500 stochastic steps each.

The default B-spline parameters of its manual, with Mattes' mutual information (``elastix``, any contrast), or with
normalised correlation in the dense stage (``elastix-ncc``).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk
from exchange import Task, main, write_fields

Value = str | float

COMMON: dict[str, Value] = {
    "FixedInternalImagePixelType": "float",
    "MovingInternalImagePixelType": "float",
    "UseDirectionCosines": "true",
    "Registration": "MultiResolutionRegistration",
    "FixedImagePyramid": "FixedSmoothingImagePyramid",
    "MovingImagePyramid": "MovingSmoothingImagePyramid",
    "Interpolator": "LinearInterpolator",
    "ResampleInterpolator": "FinalBSplineInterpolator",
    "Resampler": "DefaultResampler",
    "Metric": "AdvancedMattesMutualInformation",
    "NumberOfHistogramBins": 32,
    "Optimizer": "AdaptiveStochasticGradientDescent",
    "ASGDParameterEstimationMethod": "DisplacementDistribution",
    "AutomaticParameterEstimation": "true",
    "ImageSampler": "RandomCoordinate",
    "NewSamplesEveryIteration": "true",
    "NumberOfSpatialSamples": 2048,
    "NumberOfResolutions": 4,
    "MaximumNumberOfIterations": 500,
    "HowToCombineTransforms": "Compose",
    "WriteResultImage": "false",
    "RandomSeed": 1,
}
LINEAR: dict[str, Value] = {"AutomaticScalesEstimation": "true", "AutomaticTransformInitialization": "true"}
SPLINES: dict[str, Value] = {"Transform": "BSplineTransform", "FinalGridSpacingInPhysicalUnits": 8.0}
CORRELATION: dict[str, Value] = {"Metric": "AdvancedNormalizedCorrelation"}


def register(task: Task) -> Callable[[], None]:
    """One call of ``elastix``; ``transformix`` turns the result into a field afterwards."""
    linear = "EulerTransform" if task.motion == "rigid" else "AffineTransform"
    stages = [COMMON | LINEAR | {"Transform": linear}]
    if task.motion == "deformable":
        stages.append(COMMON | SPLINES | (CORRELATION if task.variant == "ncc" else {}))
    command = ["elastix", "-f", str(task.fixed), "-m", str(task.moving), *_common_arguments(task)]
    for number, parameters in enumerate(stages):
        path = task.run / f"parameters{number}.txt"
        path.write_text("".join(f"({name} {_quote(value)})\n" for name, value in parameters.items()))
        command += ["-p", str(path)]
    for flag, mask in (("-fMask", task.fixed_mask), ("-mMask", task.moving_mask)):
        command += [flag, str(mask)] if mask is not None else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return lambda: _write(task, task.run / f"TransformParameters.{len(stages) - 1}.txt")


def _write(task: Task, parameters: Path) -> None:
    command = ["transformix", "-def", "all", "-tp", str(parameters), *_common_arguments(task)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    field = sitk.ReadImage(str(next(task.run.glob("deformationField.*hd"))), sitk.sitkVectorFloat64)
    write_fields(task, sitk.DisplacementFieldTransform(field))


def _common_arguments(task: Task) -> list[str]:
    return ["-out", str(task.run), "-threads", str(task.threads)]


def _quote(value: Value) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    main(register, subprocess.run(["elastix", "--version"], capture_output=True, text=True, check=True).stdout.strip())
