"""One network in the form that each method opens: ``models.py DESIGN.json FOLDER``, in the environment of the peers.

``nnunet/`` is a result folder as nnU-Net writes it. ``as-nnunet/`` is our package of it, by ``model_import``;
``as-monai/`` is the same with the preprocessing and the tiles that MONAI's transforms and inferer have.

The weights are random, but two channels carry the intensity through, and the last layer gives each voxel one
of four classes by its intensity: labels are then organs with borders, as those of a trained network, and not noise.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from designs import Design
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from volumes import LEVELS_HU, Phantom, make_voxels

from MedSegRegLib.files.model_package import write_package
from MedSegRegLib.files.model_spec import GridSpec, TilingSpec
from MedSegRegLib.model_import.run import import_model

CONFIGURATION, DATASET, TRAINER = "3d_fullres", "Dataset001_Phantom", "nnUNetTrainer"
MEAN_HU, STD_HU = -200.0, 700.0
LOST = -50.0


def write_models(design: Design, folder: Path) -> None:
    """All forms of one network, below ``folder``."""
    plans, dataset = _plans(design), _dataset(design)
    result = folder / "nnunet" / DATASET / f"{TRAINER}__nnUNetPlans__{CONFIGURATION}"
    (result / "fold_0").mkdir(parents=True)
    (result / "plans.json").write_text(json.dumps(plans))
    (result / "dataset.json").write_text(json.dumps(dataset))
    network = _network(design, plans)
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": TRAINER,
        "init_args": {"plans": plans, "configuration": CONFIGURATION, "fold": 0, "dataset_json": dataset},
        "inference_allowed_mirroring_axes": None,
        "current_epoch": 1,
    }
    torch.save(checkpoint, result / "fold_0" / "checkpoint_final.pth")
    spec, _ = import_model(result, folder / "as-nnunet", name="phantom")
    changes = {
        "grid": GridSpec(axes=spec.grid.axes, normalise_first=True),
        "tiling": TilingSpec(padding="zero"),
        "tile_overlap": design.overlap,
    }
    weights = {name: (folder / "as-nnunet" / name).read_bytes() for name in spec.weights}
    write_package(folder / "as-monai", spec.model_copy(update=changes), weights, "# Phantom\n")
    changed = spec.model_copy(update={"tile_overlap": design.overlap})
    write_package(folder / "as-nnunet", changed, weights, "# Phantom\n")


def _network(design: Design, plans: dict[str, Any]) -> torch.nn.Module:
    architecture = plans["configurations"][CONFIGURATION]["architecture"]
    torch.manual_seed(0)
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        design.classes,
        deep_supervision=False,
    ).eval()
    _pass_intensity(network)
    _fit_head(network, design)
    return network


@torch.no_grad()
def _pass_intensity(network: torch.nn.Module) -> None:
    """Channels 0 and 1 at full resolution hold the intensity and its negative; the others stay random."""
    entry = network.encoder.stages[0][0].convs
    exit_ = network.decoder.stages[-1].convs
    skipped = exit_[0].conv.in_channels // 2
    first = [(entry[0].conv, 0, None), (exit_[0].conv, skipped, skipped + 1)]
    later = [(block.conv, 0, 1) for block in (*entry[1:], *exit_[1:])]
    for layer, plus, minus in (*first, *later):
        layer.weight[:2] = 0
        layer.bias[:2] = 0
        for channel, sign in enumerate((1.0, -1.0)):
            layer.weight[channel, plus, 1, 1, 1] = sign
            if minus is not None:
                layer.weight[channel, minus, 1, 1, 1] = -sign


@torch.no_grad()
def _fit_head(network: torch.nn.Module, design: Design) -> None:
    """A class for each level: score ``level * x - level^2 / 2`` with the intensity x by the features; the nearest wins.

    The other classes cost as much as these and lose.
    """
    volume = make_voxels(Phantom((design.tile,) * 3, (design.spacing_mm,) * 3, design.classes))
    wanted = (torch.from_numpy(volume).float() - MEAN_HU) / STD_HU
    head = network.decoder.seg_layers[-1]
    inputs: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    network(wanted[None, None])
    hook.remove()
    passed = (inputs[0][0, 0] - inputs[0][0, 1]).flatten().double()
    slope, offset = np.polyfit(passed.numpy(), wanted.flatten().double().numpy(), 1)
    levels = torch.from_numpy((np.array(LEVELS_HU) - MEAN_HU) / STD_HU)
    winning = torch.linspace(0, design.classes - 1, len(levels)).round().long()
    head.weight[:] = 0
    for channel, sign in enumerate((1.0, -1.0)):
        head.weight[winning, channel, 0, 0, 0] = (sign * slope * levels).float()
    head.bias[:] = LOST
    head.bias[winning] = (levels * offset - levels.square() / 2).float()


def _dataset(design: Design) -> dict[str, Any]:
    organs = {f"organ {number}": number for number in range(1, design.classes)}
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **organs},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "licence": "CC0-1.0",
    }


def _plans(design: Design) -> dict[str, Any]:
    """``plans.json`` as of nnU-Net 2.8."""
    stages = len(design.features)
    network = {
        "n_stages": stages,
        "features_per_stage": list(design.features),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    spline = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [design.tile] * 3,
        "median_image_size_in_voxels": [design.tile] * 3,
        "spacing": [design.spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": spline,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**spline, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**spline, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    intensities = {
        "mean": MEAN_HU,
        "std": STD_HU,
        "median": MEAN_HU,
        "min": LEVELS_HU[0],
        "max": LEVELS_HU[-1],
        "percentile_00_5": LEVELS_HU[0],
        "percentile_99_5": LEVELS_HU[-1],
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [design.spacing_mm] * 3,
        "original_median_shape_after_transp": [design.tile] * 3,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }


if __name__ == "__main__":
    write_models(Design.read(Path(sys.argv[1])), Path(sys.argv[2]))
