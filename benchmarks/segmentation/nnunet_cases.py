"""Configurations of nnU-Net, with plans and dataset as nnU-Net writes them, and a synthetic volume for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

PLANS = "nnUNetPlans"


@dataclass(frozen=True)
class Case:
    """A configuration and the volume that it is trained and tested on.

    Attributes:
        spacing_kji: of the network, in the order of its axes; two numbers for a network over slices.
        volume_spacing_kji: of the volume.
        old_plans: written as before nnU-Net 2.4.
        mirror: axes over which nnU-Net averages.
        lowres: also a first stage at twice the spacing, and the configuration becomes a cascade.
    """

    name: str
    channels: tuple[str, ...] = ("MR",)
    scheme: str = "ZScoreNormalization"
    masked: bool = False
    labels: dict[str, Any] = field(default_factory=lambda: {"background": 0, "ball": 1, "core": 2})
    regions: tuple[int, ...] | None = None
    residual: bool = False
    features: tuple[int, int, int] = (8, 16, 32)
    old_plans: bool = False
    spacing_kji: tuple[float, ...] = (1.5, 1.5, 1.5)
    patch_kji: tuple[int, ...] = (32, 32, 32)
    kernels: tuple[tuple[int, ...], ...] = ((3, 3, 3),) * 3
    strides: tuple[tuple[int, ...], ...] = ((1, 1, 1), (2, 2, 2), (2, 2, 2))
    transpose: tuple[int, int, int] = (0, 1, 2)
    volume_kji: tuple[int, int, int] = (44, 56, 52)
    volume_spacing_kji: tuple[float, float, float] = (1.4, 1.1, 1.2)
    mirror: tuple[int, ...] | None = None
    lowres: bool = False

    @property
    def configuration(self) -> str:
        """nnU-Net's name for it."""
        return "2d" if len(self.patch_kji) == 2 else "3d_cascade_fullres" if self.lowres else "3d_fullres"


FLAT = {"kernels": ((3, 3),) * 3, "strides": ((1, 1), (2, 2), (2, 2)), "patch_kji": (32, 40)}
NESTED = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
CASES = (
    Case("CT, plans before 2.4", channels=("CT",), scheme="CTNormalization", old_plans=True),
    Case("MR inside a mask, mirrored", masked=True, mirror=(0, 1, 2)),
    Case(
        "thick slices, residual encoder",
        residual=True,
        spacing_kji=(4.0, 1.0, 1.0),
        patch_kji=(12, 40, 40),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        volume_kji=(16, 72, 64),
        volume_spacing_kji=(5.0, 0.8, 0.9),
    ),
    Case(
        "regions, four channels",
        channels=("T1", "T1c", "T2", "FLAIR"),
        masked=True,
        labels=NESTED,
        regions=(1, 2, 3),
    ),
    Case("slices (2D)", spacing_kji=(1.2, 1.2), volume_kji=(14, 64, 72), volume_spacing_kji=(3.0, 1.0, 0.9), **FLAT),
    Case(
        "slices (2D), residual, axes exchanged",
        residual=True,
        spacing_kji=(1.2, 1.3),
        transpose=(1, 0, 2),
        volume_kji=(64, 14, 72),
        volume_spacing_kji=(1.0, 3.0, 0.9),
        **FLAT,
    ),
    Case(
        "axes exchanged, rescaled to 0..1",
        scheme="RescaleTo01Normalization",
        transpose=(2, 0, 1),
        patch_kji=(40, 32, 24),
    ),
    Case("cascade", lowres=True),
)


def volume(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Intensities [C, K, J, I] float32, zero outside a box, and labels [K, J, I]: a ball, its core, a core of that."""
    rng = np.random.default_rng(7)
    shape = case.volume_kji
    sides = np.asarray(shape) * case.volume_spacing_kji
    places = np.moveaxis(np.indices(shape), 0, -1) * case.volume_spacing_kji - sides * (0.5, 0.45, 0.55)
    distance = np.linalg.norm(places, axis=-1) + rng.normal(0, 0.2, shape)
    labels = (distance < 0.32 * sides.min()).astype(np.int8) + (distance < 0.22 * sides.min())
    if case.regions:
        labels += distance < 0.12 * sides.min()
    channels = [100 + (n + 2) * 30.0 * labels + rng.normal(0, 8, shape) for n in range(len(case.channels))]
    image = np.stack(channels).astype(np.float32)
    outside = (np.abs(places) > 0.44 * sides).any(axis=-1)
    image[:, outside] = 0
    labels[outside] = 0
    return image, labels


def dataset_of(case: Case) -> dict[str, Any]:
    """``dataset.json``."""
    content = {
        "channel_names": {str(n): name for n, name in enumerate(case.channels)},
        "labels": case.labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "licence": "CC0-1.0",
    }
    return {**content, "regions_class_order": list(case.regions)} if case.regions else content


def plans_of(case: Case) -> dict[str, Any]:
    """``plans.json``."""
    low = {
        "spacing": [2 * size for size in case.spacing_kji],
        "previous_stage": None,
        "next_stage": "3d_cascade_fullres",
    }
    configurations = {case.configuration: _configuration(case)}
    if case.lowres:
        full = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
        configurations = {
            "3d_fullres": _configuration(case),
            "3d_lowres": {**_configuration(case), **low},
            "3d_cascade_fullres": full,
        }
    image, labels = volume(case)
    inside = image[:, labels > 0]
    return {
        "dataset_name": "Dataset901_Balls",
        "plans_name": PLANS,
        "original_median_spacing_after_transp": list(case.volume_spacing_kji),
        "original_median_shape_after_transp": list(case.volume_kji),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(case.transpose),
        "transpose_backward": np.argsort(case.transpose).tolist(),
        "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(n): {
                "mean": float(values.mean()),
                "std": float(values.std()),
                "min": float(values.min()),
                "max": float(values.max()),
                "median": float(np.median(values)),
                "percentile_00_5": float(np.percentile(values, 0.5)),
                "percentile_99_5": float(np.percentile(values, 99.5)),
            }
            for n, values in enumerate(inside)
        },
    }


def _configuration(case: Case) -> dict[str, Any]:
    separate = {"order": 3, "order_z": 0, "force_separate_z": None}
    common = {
        "data_identifier": f"{PLANS}_{case.configuration}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(case.patch_kji),
        "median_image_size_in_voxels": list(case.volume_kji),
        "spacing": list(case.spacing_kji),
        "normalization_schemes": [case.scheme] * len(case.channels),
        "use_mask_for_norm": [case.masked] * len(case.channels),
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, **separate},
        "resampling_fn_seg_kwargs": {"is_seg": True, **separate, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, **separate, "order": 1},
        "batch_dice": True,
    }
    if case.old_plans:
        return {**common, **_old_architecture(case)}
    kind, blocks = (
        ("ResidualEncoderUNet", "n_blocks_per_stage") if case.residual else ("PlainConvUNet", "n_conv_per_stage")
    )
    dimensions = len(case.patch_kji)
    settings = {
        "n_stages": 3,
        "features_per_stage": list(case.features),
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [list(size) for size in case.kernels],
        "strides": [list(stride) for stride in case.strides],
        blocks: [1, 2, 2] if case.residual else [2, 2, 2],
        "n_conv_per_stage_decoder": [1, 1] if case.residual else [2, 2],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    network = {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": settings,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    return {**common, "architecture": network}


def _old_architecture(case: Case) -> dict[str, Any]:
    return {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": case.features[0],
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "num_pool_per_axis": [2, 2, 2],
        "pool_op_kernel_sizes": [list(stride) for stride in case.strides],
        "conv_kernel_sizes": [list(size) for size in case.kernels],
    }
