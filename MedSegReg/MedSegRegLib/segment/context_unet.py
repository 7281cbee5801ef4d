"""The U-Net with residual context modules. Segmentation walk: preprocessed tile -> [network] -> features -> head.

Isensee et al., "Brain tumor segmentation and radiomics survival prediction", BraTS 2017; HD-BET (Isensee et al., Human
Brain Mapping 2019) is one. Parameter names are those of its published weights.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

LEVELS = 5
SLOPE, OUTER_SLOPE = 0.01, 0.1
"""Of the leaky ReLU in the modules and outside of them: HD-BET was trained with both."""


def _activate(x: torch.Tensor, slope: float = SLOPE) -> torch.Tensor:
    return functional.leaky_relu(x, slope)


class ContextModule(nn.Module):
    """Two convolutions, each after normalisation and activation, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn_1, self.bn_2 = nn.InstanceNorm3d(width, affine=True), nn.InstanceNorm3d(width, affine=True)
        self.conv1, self.conv2 = nn.Conv3d(width, width, 3, padding=1), nn.Conv3d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(_activate(self.bn_2(self.conv1(_activate(self.bn_1(x))))))


class DownModule(nn.Module):
    """Gives the activated input, for the decoder, and a convolution of it at half the resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.InstanceNorm3d(width, affine=True)
        self.downsample = nn.Conv3d(width, 2 * width, 3, 2, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = _activate(self.bn(x))
        return x, self.downsample(x)


class UpModule(nn.Module):
    """Twice the resolution (linear, corners aligned as in the published network) and half the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.upsample_conv = nn.Conv3d(2 * width, width, 3, padding=1)
        self.bn = nn.InstanceNorm3d(width, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
        return _activate(self.bn(self.upsample_conv(x)))


class LocalizationModule(nn.Module):
    """Joins the skipped features: a convolution, and one of a single voxel that halves the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv3d(2 * width, 2 * width, 3, padding=1), nn.Conv3d(2 * width, width, 1)
        self.bn_1, self.bn_2 = nn.InstanceNorm3d(2 * width, affine=True), nn.InstanceNorm3d(width, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _activate(self.bn_2(self.conv2(_activate(self.bn_1(self.conv1(x))))))


class ContextUNet(nn.Module):
    """Input [N, C, K, J, I], each axis a multiple of 16; output [N, classes, K, J, I]."""

    def __init__(self, base_features: int, channels: int, classes: int) -> None:
        super().__init__()
        b = base_features
        self.init_conv = nn.Conv3d(channels, b, 3, padding=1)
        for level in range(LEVELS):
            setattr(self, f"context{level + 1}", ContextModule(b << level))
        for level in range(LEVELS - 1):
            setattr(self, f"down{level + 1}", DownModule(b << level))
            setattr(self, f"up{LEVELS - 1 - level}", UpModule(b << level))
        self.context5: nn.Module
        self.bn_after_context5 = nn.InstanceNorm3d(16 * b, affine=True)
        self.loc1, self.loc2, self.loc3 = (LocalizationModule(n * b) for n in (8, 4, 2))
        self.end_conv_1, self.end_conv_2 = (nn.Conv3d(2 * b, 2 * b, 3, padding=1) for _ in range(2))
        self.end_conv_1_bn, self.end_conv_2_bn = (nn.InstanceNorm3d(2 * b, affine=True) for _ in range(2))
        self.seg_layer = nn.Conv3d(2 * b, classes, 1, bias=False)

    @property
    def head(self) -> nn.Module:
        """The last 1x1x1 convolution."""
        return self.seg_layer

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head is applied to, at full resolution."""
        x, skips = self.init_conv(x), []
        for level in range(1, LEVELS):
            skip, x = getattr(self, f"down{level}")(getattr(self, f"context{level}")(x))
            skips.append(skip)
        x = _activate(self.bn_after_context5(self.context5(x)), OUTER_SLOPE)
        for level in range(1, LEVELS):
            x = torch.cat((skips.pop(), getattr(self, f"up{level}")(x)), dim=1)
            if level < LEVELS - 1:
                x = getattr(self, f"loc{level}")(x)
        x = _activate(self.end_conv_1_bn(self.end_conv_1(x)), OUTER_SLOPE)
        return _activate(self.end_conv_2_bn(self.end_conv_2(x)), OUTER_SLOPE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))
