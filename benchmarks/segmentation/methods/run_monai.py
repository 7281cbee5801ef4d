"""MONAI as its tutorials combine it: spacing, sliding windows, the inverse on the logits, argmax."""

from __future__ import annotations

import monai
import numpy as np
import torch
from exchange import Clocked, Segmenter, Task, main
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import AsDiscreted, Compose, Invertd, ScaleIntensityRanged, Spacingd
from nnunet_result import read_result
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans


def prepare(task: Task) -> Segmenter:
    """The network of nnU-Net's package with MONAI's transforms and inferer."""
    plans, dataset, weights = read_result(task.models)
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        len(dataset["labels"]),
        deep_supervision=False,
    )
    network.load_state_dict(weights)
    network.eval().to(task.device)
    clocked = Clocked(network)
    trained = plans["foreground_intensity_properties_per_channel"]["0"]
    edges = trained["percentile_00_5"], trained["percentile_99_5"]
    low, high = ((edge - trained["mean"]) / trained["std"] for edge in edges)
    before = Compose(
        [
            Spacingd("image", pixdim=(task.spacing_mm,) * 3, mode="bilinear"),
            ScaleIntensityRanged("image", a_min=edges[0], a_max=edges[1], b_min=low, b_max=high, clip=True),
        ]
    )
    after = Compose(
        [
            Invertd("logits", transform=before, orig_keys="image", nearest_interp=False),
            AsDiscreted("logits", argmax=True),
        ]
    )

    @torch.no_grad()
    def segmenter(volume: np.ndarray) -> np.ndarray:
        affine = torch.diag(torch.tensor([*task.spacing_kji, 1.0], dtype=torch.float64))
        image = MetaTensor(torch.from_numpy(volume[None].astype(np.float32)), affine=affine).to(task.device)
        data = before({"image": image})
        with torch.autocast(task.device, enabled=task.device == "cuda"):
            logits = sliding_window_inference(
                data["image"][None], (task.tile,) * 3, 1, clocked, overlap=task.overlap, mode="gaussian"
            )
        data["logits"] = logits[0]
        del logits
        return after(data)["logits"][0].to(torch.uint8).cpu().numpy()

    return segmenter


if __name__ == "__main__":
    main(prepare, monai.__version__)
