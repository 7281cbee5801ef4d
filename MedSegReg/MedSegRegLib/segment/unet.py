"""The U-Nets of the nnU-Net family. Segmentation walk: preprocessed tile -> [network] -> features -> head -> scores.

Ronneberger et al., MICCAI 2015; Isensee et al., nnU-Net, Nature Methods 2021; the residual encoder of Isensee et al.,
MICCAI 2024. Written here with nnU-Net's parameter names, so that checkpoints of that family fit without renaming.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..files.architectures import UNetArchitecture

Module = Callable[..., nn.Module]
CONV: dict[int, Module] = {2: nn.Conv2d, 3: nn.Conv3d}
UP_CONV: dict[int, Module] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM: dict[int, Module] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
POOL: dict[int, Module] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
Size = tuple[int, ...]


class ConvBlock(nn.Module):
    """Convolution, instance normalisation, and leaky ReLU unless ``activate`` is False."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Size, stride: Size, *, bias: bool = True, activate: bool = True
    ) -> None:
        super().__init__()
        padding = tuple(size // 2 for size in kernel)
        self.conv = CONV[len(kernel)](inputs, outputs, kernel, stride, padding, bias=bias)
        self.norm = NORM[len(kernel)](outputs, affine=True)
        self.nonlin = nn.LeakyReLU(inplace=True) if activate else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.nonlin(self.norm(self.conv(x)))


class ConvStage(nn.Module):
    """Several ConvBlocks; the first one changes the channel count and the resolution."""

    def __init__(self, inputs: int, outputs: int, blocks: int, kernel: Size, stride: Size) -> None:
        super().__init__()
        one = (1,) * len(kernel)
        self.convs = nn.Sequential(
            ConvBlock(inputs, outputs, kernel, stride),
            *(ConvBlock(outputs, outputs, kernel, one) for _ in range(blocks - 1)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut that is averaged and projected where the shape changes (ResNet-D)."""

    def __init__(self, inputs: int, outputs: int, kernel: Size, stride: Size) -> None:
        super().__init__()
        one = (1,) * len(kernel)
        self.conv1 = ConvBlock(inputs, outputs, kernel, stride)
        self.conv2 = ConvBlock(outputs, outputs, kernel, one, activate=False)
        self.nonlin2 = nn.LeakyReLU(inplace=True)
        shortcut: list[nn.Module] = [] if stride == one else [POOL[len(kernel)](stride, stride)]
        if inputs != outputs:
            shortcut.append(ConvBlock(inputs, outputs, one, one, bias=False, activate=False))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))


class ResidualStage(nn.Module):
    """Several ResidualBlocks; the first one changes the channel count and the resolution."""

    def __init__(self, inputs: int, outputs: int, blocks: int, kernel: Size, stride: Size) -> None:
        super().__init__()
        one = (1,) * len(kernel)
        self.blocks = nn.Sequential(
            ResidualBlock(inputs, outputs, kernel, stride),
            *(ResidualBlock(outputs, outputs, kernel, one) for _ in range(blocks - 1)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class Encoder(nn.Module):
    """Lowers the resolution stage by stage; returns the output of each stage."""

    def __init__(self, architecture: UNetArchitecture, channels: int) -> None:
        super().__init__()
        a, residual = architecture, architecture.name == "residual_encoder_unet"
        if residual:
            self.stem: nn.Module = ConvStage(channels, a.features[0], 1, a.kernels[0], (1,) * a.dimensions)
        widths = (a.features[0] if residual else channels, *a.features)
        per_stage = list(zip(widths[:-1], widths[1:], a.encoder_blocks, a.kernels, a.strides, strict=True))
        if residual:
            self.stages = nn.Sequential(*(ResidualStage(*one) for one in per_stage))
        else:
            self.stem = nn.Identity()
            self.stages = nn.Sequential(*(nn.Sequential(ConvStage(*one)) for one in per_stage))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x, skips = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    """Raises the resolution stage by stage, joining the encoder's output of that resolution."""

    def __init__(self, architecture: UNetArchitecture, classes: int) -> None:
        super().__init__()
        a = architecture
        conv, up = CONV[a.dimensions], UP_CONV[a.dimensions]
        one = (1,) * a.dimensions
        blocks = a.decoder_blocks or a.encoder_blocks[-2::-1]
        pairs = list(zip(a.features[:0:-1], a.features[-2::-1], a.strides[:0:-1], strict=True))
        self.transpconvs = nn.ModuleList(up(below, width, stride, stride) for below, width, stride in pairs)
        self.stages = nn.ModuleList(
            ConvStage(2 * width, width, count, kernel, one)
            for (_, width, _), count, kernel in zip(pairs, blocks, a.kernels[-2::-1], strict=True)
        )
        self.seg_layers = nn.ModuleList(conv(width, classes, 1) for _, width, _ in pairs)

    def forward(self, skips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Features of each stage, finest last."""
        x, features = skips[-1], []
        for up, stage, skip in zip(self.transpconvs, self.stages, skips[-2::-1], strict=True):
            x = stage(torch.cat((up(x), skip), dim=1))
            features.append(x)
        return features


class UNet(nn.Module):
    """Scores of each class at each voxel.

    Input [N, C, K, J, I] ([N, C, J, I] in two dimensions), each axis a multiple of the architecture's total stride.
    Output [N, classes, ...] in evaluation; in training a list of scores, finest first, one for each decoder stage (deep
    supervision).
    """

    def __init__(self, architecture: UNetArchitecture, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(architecture, channels)
        self.decoder = Decoder(architecture, classes)

    @property
    def head(self) -> nn.Module:
        """The last 1x1x1 convolution."""
        return self.decoder.seg_layers[-1]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head is applied to, at full resolution."""
        return self.decoder(self.encoder(x))[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        if not self.training:
            return self.head(self.features(x))
        features = self.decoder(self.encoder(x))
        return [head(stage) for head, stage in zip(self.decoder.seg_layers, features, strict=True)][::-1]
