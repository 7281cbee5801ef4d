"""nnU-Net's own predictor and export: no mirroring, one fold, spline preprocessing, logits resampled to the volume."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch
from exchange import Clocked, Segmenter, Task, main
from nnunet_result import result_folder
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def prepare(task: Task) -> Segmenter:
    """From the array to labels, as a script would call it."""
    predictor = nnUNetPredictor(
        tile_step_size=1 - task.overlap, use_mirroring=False, device=torch.device(task.device), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(result_folder(task.models)), use_folds=(0,))
    predictor.network.forward = Clocked(predictor.network.forward)

    def segmenter(volume: np.ndarray) -> np.ndarray:
        return predictor.predict_single_npy_array(volume[None].astype(np.float32), {"spacing": list(task.spacing_kji)})

    return segmenter


if __name__ == "__main__":
    main(prepare, version("nnunetv2"))
