"""FireANTs: centre of mass, affine, then greedy compositional registration with Adam, as its scripts set it.

CC of 5 voxels for the linear stages and 7 for the dense one; mutual information for different contrasts. ``quick``
takes 100-50-10 iterations instead of 200-100-50. On a GPU its fused kernels are used where they are installed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from functools import partial

import torch
from exchange import Part, Task, affine_transform, dense_transform, main, write_fields
from fireants.io import BatchedImages, Image
from fireants.registration.affine import AffineRegistration
from fireants.registration.greedy import GreedyRegistration
from fireants.registration.moments import MomentsRegistration
from fireants.registration.rigid import RigidRegistration

LINEAR_SCALES, LINEAR_ITERATIONS = [8, 4, 2, 1], [200, 100, 50, 20]
DENSE_SCALES, DENSE_ITERATIONS = [4, 2, 1], {"": [200, 100, 50], "quick": [100, 50, 10]}
SMALLEST_SIDE = 8


def register(task: Task) -> Callable[[], None]:
    """Everything in FireANTs' own objects; the result leaves as an ANTs warp on the fixed grid."""
    torch.set_num_threads(task.threads)
    fixed, moving = (BatchedImages([Image.load_file(str(p), device=task.device)]) for p in (task.fixed, task.moving))
    loss = {"loss_type": _loss(task), "progress_bar": False}
    with Part("affine"):
        start = MomentsRegistration(scale=1, fixed_images=fixed, moving_images=moving, moments=1, **loss)
        start.optimize()
        scales = [s for s in LINEAR_SCALES if min(fixed.shape[2:]) / s >= SMALLEST_SIDE]
        options = {
            "scales": scales, "iterations": LINEAR_ITERATIONS[-len(scales) :], "fixed_images": fixed,
            "moving_images": moving, "cc_kernel_size": 5, "optimizer": "Adam", "optimizer_lr": 3e-3, **loss,
        }  # fmt: skip
        if task.motion == "rigid":
            linear = RigidRegistration(init_translation=start.get_rigid_transl_init(), **options)
        else:
            linear = AffineRegistration(init_rigid=start.get_affine_init(), **options)
        linear.optimize()
    if task.motion == "rigid":
        transform = affine_transform(linear.get_rigid_matrix().detach()[0].cpu().numpy())
        return partial(write_fields, task, transform, transform.GetInverse())
    with Part("deformable"):
        dense = GreedyRegistration(
            scales=DENSE_SCALES, iterations=DENSE_ITERATIONS[task.variant], fixed_images=fixed, moving_images=moving,
            cc_kernel_size=7, smooth_grad_sigma=1.0, smooth_warp_sigma=0.25, optimizer="Adam", optimizer_lr=0.5,
            init_affine=linear.get_affine_matrix().detach(), **loss,
        )  # fmt: skip
        dense.optimize()
    return partial(_write, task, dense)


def _loss(task: Task) -> str:
    if task.contrast == "different":
        return "mi"
    fused = task.device.startswith("cuda") and importlib.util.find_spec("fireants_fused_ops")
    return "fusedcc" if fused else "cc"


def _write(task: Task, dense: GreedyRegistration) -> None:
    warp = task.run / "warp.nii.gz"
    dense.save_as_ants_transforms(str(warp))
    write_fields(task, dense_transform(warp))


if __name__ == "__main__":
    main(register, importlib.metadata.version("fireants"))
