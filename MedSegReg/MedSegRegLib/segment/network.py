"""The networks. Segmentation walk: preprocessed image -> [network] -> scores.

A plain convolutional U-Net (Isensee et al., nnU-Net, Nature Methods 2021; Ronneberger et al., MICCAI 2015), written
here with nnU-Net's parameter names, so that checkpoints of that family fit without renaming.
"""

from __future__ import annotations

import torch
from torch import nn

from ..files.model_package import UNetArchitecture


class ConvBlock(nn.Module):
    """Convolution, instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, stride, padding=1)
        self.norm = nn.InstanceNorm3d(outputs, affine=True)
        self.nonlin = nn.LeakyReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.nonlin(self.norm(self.conv(x)))


class ConvStage(nn.Module):
    """Several ConvBlocks; the first one changes the channel count and the resolution."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int = 1) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvBlock(inputs, outputs, stride), *(ConvBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x)


class Encoder(nn.Module):
    """Halves the resolution at every stage but the first; returns the output of each stage."""

    def __init__(self, channels: int, features: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        widths = (channels, *features)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(ConvStage(widths[n], widths[n + 1], blocks, 1 if n == 0 else 2))
                for n in range(len(features))
            )
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    """Doubles the resolution at every stage and joins the encoder's output of that resolution."""

    def __init__(self, features: tuple[int, ...], blocks: int, classes: int) -> None:
        super().__init__()
        pairs = list(zip(features[:0:-1], features[-2::-1], strict=True))
        self.transpconvs = nn.ModuleList(nn.ConvTranspose3d(below, width, 2, 2) for below, width in pairs)
        self.stages = nn.ModuleList(ConvStage(2 * width, width, blocks) for _, width in pairs)
        self.seg_layers = nn.ModuleList(nn.Conv3d(width, classes, 1) for _, width in pairs)

    def forward(self, skips: list[torch.Tensor]) -> list[torch.Tensor]:
        x, scores = skips[-1], []
        for up, stage, head, skip in zip(self.transpconvs, self.stages, self.seg_layers, skips[-2::-1], strict=True):
            x = stage(torch.cat((up(x), skip), dim=1))
            if self.training or head is self.seg_layers[-1]:
                scores.append(head(x))
        return scores[::-1]


class PlainConvUNet(nn.Module):
    """Scores of each class at each voxel.

    Input [N, C, K, J, I], each axis a multiple of 2^(stages - 1). Output [N, classes, K, J, I] in evaluation; in
    training a list of scores, finest first, each half the resolution of the one before (deep supervision).
    """

    def __init__(self, channels: int, classes: int, features: tuple[int, ...], blocks_per_stage: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, features, blocks_per_stage)
        self.decoder = Decoder(features, blocks_per_stage, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        scores = self.decoder(self.encoder(x))
        return scores if self.training else scores[0]


def build_network(architecture: UNetArchitecture, channels: int, classes: int) -> PlainConvUNet:
    """The network that a model package describes, with random weights."""
    return PlainConvUNet(channels, classes, tuple(architecture.features), architecture.blocks_per_stage)
