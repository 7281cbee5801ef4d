"""What has changed between two visits: how tissue moved, how intensities differ, and how well each is known.

Follow-up's walk: midway -> [change] -> volumes and lesions -> report.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu

from ..evaluate.deformation import SMALLEST_JACOBIAN, jacobian_determinant
from ..geometry import Geometry
from ..image import Image, Labels
from ..progress import Progress
from ..register.run import Registration, register
from ..register.settings import RegistrationSettings
from ..resample import resample_image
from ..transform import Affine, Transform

NEIGHBOURHOOD_SIGMA_MM = 30.0
DETAIL_SIGMA_MM = 1.5  # half width 3.5 mm: the smallest lesion that counts as one is 3 mm wide (Filippi 2019)
ERROR_SIGMA_MM = 5.0
CALIBRATED_SHARE = 0.01
LEAST_WEIGHT = 1e-3
LEAST_NOISE = 1e-3
MAD_TO_SD = 1.4826


@dataclass(frozen=True, eq=False)
class Motion:
    """How tissue moved from the earlier to the later visit, in the mid-way space.

    Attributes:
        transform: earlier to later, RAS mm of the mid-way space: without stages for rigid settings.
        inverse: later to earlier.
        jacobian: [1, K, J, I] volume at the later visit / at the earlier one.
        error_mm: [1, K, J, I] how well the motion is known, standard deviation along each axis.
        settings: of the registration.
    """

    transform: Transform
    inverse: Transform
    jacobian: Image
    error_mm: Image
    settings: RegistrationSettings

    def misplaced_mm(self) -> np.ndarray:
        """[K, J, I]: how far along each axis things are apart after the rigid step: motion and error together."""
        vectors = self.transform.to_displacement(self.error_mm.geometry).numpy()
        return np.sqrt(np.square(vectors).mean(axis=0) + np.square(self.error_mm.numpy()[0]))


def find_motion(
    earlier: Image,
    later: Image,
    settings: RegistrationSettings,
    rigid_error_mm: float,
    device: torch.device | str,
    progress: Progress,
) -> Motion:
    """Register two visits on the mid-way grid, the same both ways round; and twice more, to know the error.

    The symmetric registration is the result. Its error is estimated from what a registration of the earlier to the
    later and one of the later to the earlier, each asymmetric, disagree on: ``d / sqrt(2)`` along each axis, which is
    about as large as the true error on simulated pairs (see ``benchmarks/workflows/README.md``).

    Args:
        earlier, later: on one grid.
        rigid_error_mm: what is left of the rigid step; the error when there is no dense step.
    """
    grid = earlier.geometry
    if settings.deformable is None:
        identity = Image(torch.ones((1, *grid.shape_kji)), grid, "local volume change")
        known = identity.with_tensor(torch.full_like(identity.tensor, rigid_error_mm / np.sqrt(3)))
        return Motion(Transform(), Transform(), identity, known, settings)
    dense = settings.model_copy(update={"linear": "none"})
    one_way = dense.model_copy(update={"deformable": settings.deformable.model_copy(update={"symmetric": False})})
    result, there, back = (
        _register(*pair, chosen, device, progress.part(start, stop))
        for pair, chosen, start, stop in (
            ((earlier, later), dense, 0.0, 0.5),
            ((earlier, later), one_way, 0.5, 0.75),
            ((later, earlier), one_way, 0.75, 1.0),
        )
    )
    return Motion(result.transform, result.inverse, _jacobian(result, grid), _error(there, back, grid), settings)


def subtract(images: tuple[Image, Image], to_visits: tuple[np.ndarray, np.ndarray], motion: Motion) -> Image:
    """Later minus earlier in units of what noise and registration would give by themselves: [1, K, J, I].

    Each visit is read once, at its own voxels, after the rigid step only: a deformation would hide part of what a
    lesion changed. MR intensities, whose scale and shading differ from visit to visit, are told in standard deviations
    from their mean in the body around (Gaussian of 30 mm), each visit by itself; images with negative intensities are
    taken as calibrated (Hounsfield units). The difference, smoothed by 1.5 mm, is divided by
    ``sqrt(s^2 + (e |grad I|)^2)``: s is its own robust standard deviation over the body, and an edge that is out of
    place by e differs by e |grad I|; e is the median of what things are apart after the rigid step. 0 where a visit
    shows nothing.

    Args:
        images: earlier and later visit, first channel.
        to_visits: 4x4, from the mid-way space to each.
        motion: between them, on the mid-way grid.
    """
    grid = motion.jacobian.geometry
    earlier, later = (
        resample_image(_first_channel(image), grid, Transform((Affine(matrix),)), fill=float("nan")).numpy()[0]
        for image, matrix in zip(images, to_visits, strict=True)
    )
    seen = np.isfinite(earlier) & np.isfinite(later)
    earlier, later = np.where(seen, earlier, 0.0), np.where(seen, later, 0.0)
    body = _body((earlier + later) / 2, seen)
    side = grid.spacing_mm[0]
    if max(np.mean(image[body] < 0) for image in (earlier, later)) < CALIBRATED_SHARE:
        earlier, later = (_standardised(image, body, NEIGHBOURHOOD_SIGMA_MM / side) for image in (earlier, later))
    difference = ndimage.gaussian_filter(later - earlier, DETAIL_SIGMA_MM / side)
    spread = MAD_TO_SD * float(np.median(np.abs(difference[body] - np.median(difference[body]))))
    slope = np.sqrt(sum(np.square(part) for part in np.gradient((earlier + later) / 2, side)))
    least = max(LEAST_NOISE * float(np.std((earlier + later)[body])), float(np.finfo(np.float32).tiny))
    expected = np.maximum(np.hypot(spread, float(np.median(motion.misplaced_mm()[body])) * slope), least)
    return Image.from_array(np.where(seen, difference / expected, 0.0), grid, "change")


def _register(
    fixed: Image, moving: Image, settings: RegistrationSettings, device: torch.device | str, progress: Progress
) -> Registration:
    """Where both images show something."""
    seen = torch.isfinite(fixed.tensor[0]) & torch.isfinite(moving.tensor[0])
    mask = None if bool(seen.all()) else Labels(seen.to(torch.uint8), fixed.geometry)
    fixed, moving = (image.with_tensor(image.tensor.nan_to_num()) for image in (fixed, moving))
    return register(fixed, moving, settings, fixed_mask=mask, moving_mask=mask, device=device, progress=progress)


def _jacobian(result: Registration, grid: Geometry) -> Image:
    """From both directions, so that exchanging the visits gives exactly the inverse."""
    logs = [
        jacobian_determinant(way.to_displacement(grid)).clamp_min(SMALLEST_JACOBIAN).log()
        for way in (result.transform, result.inverse)
    ]
    return Image(((logs[0] - logs[1]) / 2).exp()[None], grid, "local volume change")


def _error(there: Registration, back: Registration, grid: Geometry) -> Image:
    ways = [way.to_displacement(grid).vectors_ras_mm for way in (there.transform, back.inverse)]
    squared = (ways[0] - ways[1]).square().mean(dim=0).numpy() / 2
    local = ndimage.gaussian_filter(squared, [ERROR_SIGMA_MM / side for side in grid.spacing_mm[::-1]])
    return Image.from_array(np.sqrt(np.maximum(local, 0)), grid, "registration error")


def _body(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What is brighter than air, without holes."""
    values = image[seen]
    if not values.size or np.ptp(values) == 0:
        return seen
    return ndimage.binary_fill_holes(seen & (image > threshold_otsu(values))) & seen


def _standardised(image: np.ndarray, body: np.ndarray, sigma_voxels: float) -> np.ndarray:
    """Less the mean over the body around each voxel, in standard deviations there; 0 far from the body."""
    weight = ndimage.gaussian_filter(body.astype(np.float64), sigma_voxels)
    near = weight > LEAST_WEIGHT

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values * body, sigma_voxels) / np.maximum(weight, LEAST_WEIGHT)

    rest = image - mean(image)
    return np.where(near, rest / np.sqrt(mean(np.square(rest)) + np.finfo(np.float32).eps), 0.0)


def _first_channel(image: Image) -> Image:
    return image.with_tensor(image.tensor[:1])
