"""Results of nnU-Net as nnU-Net itself writes them, of tiny networks that were trained for seconds on one volume.

Needs the peer environment: nnunetv2 and dynamic_network_architectures. Random weights would do for scores, but not for
labels: with them every voxel is nearly a tie.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunet_cases import PLANS, Case, dataset_of, plans_of, volume
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

TRAINER = "nnUNetTrainer"
STEPS = 150


def write_result(case: Case, folder: Path, folds: int = 1) -> Path:
    """The folder of a trained configuration, with its first stage beside it where there is one."""
    torch.manual_seed(3)
    plans, dataset = plans_of(case), dataset_of(case)
    manager = PlansManager(json.loads(json.dumps(plans)))
    image, labels = volume(case)
    for configuration in ("3d_lowres", case.configuration) if case.lowres else (case.configuration,):
        result = folder / f"{TRAINER}__{PLANS}__{configuration}"
        for fold in range(folds):
            (result / f"fold_{fold}").mkdir(parents=True)
            network = _trained(case, manager, configuration, dataset, image, labels)
            _save(case, network, plans, dataset, configuration, fold, result / f"fold_{fold}" / "checkpoint_final.pth")
        (result / "plans.json").write_text(json.dumps(plans))
        (result / "dataset.json").write_text(json.dumps(dataset))
    return result


def untrained(case: Case) -> torch.nn.Module:
    """The network of a case as nnU-Net builds it."""
    manager = PlansManager(json.loads(json.dumps(plans_of(case))))
    return _network(case, manager, case.configuration)


def _network(case: Case, manager: PlansManager, configuration: str) -> torch.nn.Module:
    settings = manager.get_configuration(configuration)
    foreground = 3 if case.regions else 2
    inputs = len(case.channels) + (foreground if settings.previous_stage_name else 0)
    return get_network_from_plans(
        settings.network_arch_class_name,
        settings.network_arch_init_kwargs,
        settings.network_arch_init_kwargs_req_import,
        inputs,
        foreground if case.regions else foreground + 1,
        deep_supervision=False,
    )


def _trained(
    case: Case,
    manager: PlansManager,
    configuration: str,
    dataset: dict[str, Any],
    image: np.ndarray,
    labels: np.ndarray,
) -> torch.nn.Module:
    """Some steps on patches of nnU-Net's own preprocessing of the volume."""
    network, settings = _network(case, manager, configuration), manager.get_configuration(configuration)
    spacing = {"spacing": list(case.volume_spacing_kji)}
    preprocessor = DefaultPreprocessor(verbose=False)
    data, target, _ = preprocessor.run_case_npy(image, labels[None], spacing, manager, settings, dataset)
    target = np.maximum(target, 0)
    if settings.previous_stage_name:
        stage = convert_labelmap_to_one_hot(target[0], [1, 2], data.dtype)
        data = np.concatenate((data, stage))
    flat, patch = len(case.patch_kji) == 2, settings.patch_size
    rng = np.random.default_rng(1)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(STEPS):
        wanted = (1, *patch) if flat else tuple(patch)
        start = [rng.integers(0, max(size - side, 0) + 1) for size, side in zip(data.shape[1:], wanted, strict=True)]
        window = tuple(slice(a, a + side) for a, side in zip(start, wanted, strict=True))
        x, y = (torch.from_numpy(np.ascontiguousarray(array[(slice(None), *window)])) for array in (data, target))
        short = [side - size for size, side in zip(x.shape[1:], wanted, strict=True)]
        padding = [pad for side in short[::-1] for pad in (0, side)]
        x, y = torch.nn.functional.pad(x.float(), padding)[None], torch.nn.functional.pad(y.long(), padding)
        x, y = (x[:, :, 0], y[:, 0]) if flat else (x, y)
        optimizer.zero_grad()
        _loss(network(x), y, case).backward()
        optimizer.step()
    return network.eval()


def _loss(scores: torch.Tensor, labels: torch.Tensor, case: Case) -> torch.Tensor:
    if not case.regions:
        return torch.nn.functional.cross_entropy(scores, labels)
    wanted = torch.stack([labels >= level for level in (1, 2, 3)], dim=1).float()
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, wanted)


def _save(
    case: Case, network: torch.nn.Module, plans: dict, dataset: dict, configuration: str, fold: int, path: Path
) -> None:
    """By nnU-Net's own function, from a trainer that has what the function asks for."""
    trainer = nnUNetTrainer.__new__(nnUNetTrainer)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
    sum(parameter.sum() for parameter in network.parameters()).backward()
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer.step()
    network.load_state_dict(weights)
    logger = MetaLogger(str(path.parent), False)
    logger.log("mean_fg_dice", np.float64(0.5), 0)
    logger.log("dice_per_class_or_region", [np.float64(0.5)] * 2, 0)
    values = {
        "local_rank": 0,
        "disable_checkpointing": False,
        "is_ddp": False,
        "network": network,
        "optimizer": optimizer,
        "grad_scaler": None,
        "logger": logger,
        "_best_ema": np.float64(0.5),
        "current_epoch": 9,
        "my_init_kwargs": {
            "plans": plans,
            "configuration": configuration,
            "fold": fold,
            "dataset_json": dataset,
            "device": torch.device("cpu"),
        },
        "inference_allowed_mirroring_axes": case.mirror,
    }
    trainer.__dict__.update(values)
    trainer.save_checkpoint(str(path))
