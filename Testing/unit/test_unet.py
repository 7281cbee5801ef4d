"""The U-Nets: those of other people with the same weights give the same scores; names, shapes and training."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn
from torch.nn import functional

from MedSegRegLib.files.architectures import UNetArchitecture
from MedSegRegLib.segment.context_unet import ContextUNet
from MedSegRegLib.segment.unet import ResidualBlock, UNet
from streamed import noise

THIN = UNetArchitecture(
    features=(4, 6, 8),
    kernels_kji=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    strides_kji=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
)
PLAIN = UNetArchitecture(features=(4, 8, 12, 12))
FLAT = UNetArchitecture(features=(4, 8, 12), dimensions=2)
RESIDUAL = UNetArchitecture(name="residual_encoder_unet", features=(4, 8, 8), blocks_per_stage=(1, 2, 3))
ARCHITECTURES = {"plain": PLAIN, "thin slices": THIN, "over slices": FLAT, "residual": RESIDUAL}


def seeded(module: type[nn.Module], *settings: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = module(*settings).eval()
        for name, tensor in network.named_parameters():  # normalisations begin as the identity
            if "norm" in name or "bn" in name:
                nn.init.normal_(tensor, 1.0 if name.endswith("weight") else 0.0, 0.2)
    return network


def a_batch(architecture: UNetArchitecture, channels: int = 2) -> torch.Tensor:
    sides = (8, 16, 24)[3 - architecture.dimensions :]
    return noise(2, channels, *sides)


def monai_twin(network: UNet, architecture: UNetArchitecture, channels: int, classes: int) -> DynUNet:
    """MONAI's DynUNet, two convolutions a stage, with the same weights."""
    twin = DynUNet(
        architecture.dimensions,
        channels,
        classes,
        kernel_size=architecture.kernels,
        strides=architecture.strides,
        upsample_kernel_size=architecture.strides[1:],
        filters=architecture.features,
        norm_name=("INSTANCE", {"affine": True}),
        act_name=("leakyrelu", {"negative_slope": 0.01, "inplace": True}),
        trans_bias=True,
    ).eval()
    last = len(architecture.features) - 1
    stages = [network.encoder.stages[n][0] for n in range(last + 1)]
    blocks = [twin.input_block, *twin.downsamples, twin.bottleneck]
    with torch.no_grad():
        for n in range(last):
            stages.append(network.decoder.stages[n])
            blocks.append(twin.upsamples[n].conv_block)
            twin.upsamples[n].transp_conv.conv.load_state_dict(network.decoder.transpconvs[n].state_dict())
        for stage, block in zip(stages, blocks, strict=True):
            for number, one in enumerate(stage.convs, start=1):
                getattr(block, f"conv{number}").conv.weight.copy_(one.conv.weight)
                getattr(block, f"norm{number}").load_state_dict(one.norm.state_dict())
        twin.output_block.conv.conv.load_state_dict(network.head.state_dict())
    return twin


@pytest.mark.parametrize(
    "architecture",
    [PLAIN, FLAT, UNetArchitecture(features=(4, 6, 8), kernels_kji=((1, 3, 3),) * 3, strides_kji=THIN.strides)],
    ids=["plain", "over slices", "thin slices"],  # MONAI's decoder takes the kernel of the stage below: all are equal
)
def test_scores_are_those_of_monais_dynunet_with_the_same_weights(architecture):
    network, batch = seeded(UNet, architecture, 2, 3), a_batch(architecture)
    with torch.no_grad():
        torch.testing.assert_close(network(batch), monai_twin(network, architecture, 2, 3)(batch), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_scores_have_one_channel_a_class_at_the_resolution_of_the_image(kind):
    architecture = ARCHITECTURES[kind]
    batch = a_batch(architecture)
    with torch.inference_mode():
        assert seeded(UNet, architecture, 2, 5)(batch).shape == (2, 5, *batch.shape[2:])


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_head_makes_scores_of_the_features(kind):
    architecture = ARCHITECTURES[kind]
    network, batch = seeded(UNet, architecture, 2, 5), a_batch(architecture)
    with torch.inference_mode():
        features = network.features(batch)
        assert features.shape == (2, architecture.features[0], *batch.shape[2:])
        assert torch.equal(network.head(features), network(batch))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_training_gives_scores_at_every_resolution_finest_first(kind):
    architecture = ARCHITECTURES[kind]
    network, batch = seeded(UNet, architecture, 2, 5), a_batch(architecture)
    with torch.no_grad():
        evaluated, scores = network(batch), network.train()(batch)
    assert torch.equal(scores[0], evaluated)
    assert len(scores) == len(architecture.features) - 1
    sides = batch.shape[2:]
    for score, strides in zip(scores, architecture.strides, strict=False):
        sides = tuple(side // stride for side, stride in zip(sides, strides, strict=True))
        assert score.shape == (2, 5, *sides)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_weight_is_trained(kind):
    architecture = ARCHITECTURES[kind]
    network = seeded(UNet, architecture, 2, 2).train()
    sum(scores.square().sum() for scores in network(a_batch(architecture))).backward()
    untrained = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    # a constant before an instance normalisation is taken out again
    assert [name for name in untrained if not name.endswith("conv.bias")] == []


def test_weights_have_the_names_of_nnunet():
    blocks = ("encoder.stages.0.0", "encoder.stages.1.0", "decoder.stages.0")
    layers = [f"{block}.convs.0.{part}" for block in blocks for part in ("conv", "norm")]
    layers += ["decoder.transpconvs.0", "decoder.seg_layers.0"]
    names = UNet(UNetArchitecture(features=(4, 8), blocks_per_stage=1), 1, 2).state_dict().keys()
    assert names == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_weights_of_a_residual_encoder_have_the_names_of_nnunet():
    names = UNet(UNetArchitecture(name="residual_encoder_unet", features=(4, 8), blocks_per_stage=1), 1, 2).state_dict()
    encoder = {name.removeprefix("encoder.") for name in names if name.startswith("encoder.")}
    both = ("weight", "bias")
    layers = ["stem.convs.0", *[f"stages.{n}.blocks.0.conv{c}" for n in (0, 1) for c in (1, 2)]]
    expected = {f"{layer}.{part}.{kind}" for layer in layers for part in ("conv", "norm") for kind in both}
    expected |= {"stages.1.blocks.0.skip.1.conv.weight", *(f"stages.1.blocks.0.skip.1.norm.{kind}" for kind in both)}
    assert encoder == expected


@pytest.mark.parametrize(
    ("settings", "encoder", "decoder"),
    [({"blocks_per_stage": (1, 2, 3)}, [1, 2, 3], [2, 1]), ({"decoder_blocks": (3, 1)}, [2, 2, 2], [3, 1])],
)
def test_each_stage_has_as_many_convolutions_as_described(settings, encoder, decoder):
    network = UNet(UNetArchitecture(features=(4, 6, 8), **settings), 1, 2)
    assert [len(stage[0].convs) for stage in network.encoder.stages] == encoder
    assert [len(stage.convs) for stage in network.decoder.stages] == decoder


def test_each_stage_has_its_own_kernel_and_stride():
    network = UNet(THIN, 1, 2)
    convolutions = [stage[0].convs[0].conv for stage in network.encoder.stages]
    assert [one.kernel_size for one in convolutions] == list(THIN.kernels)
    assert [one.stride for one in convolutions] == list(THIN.strides)
    assert [up.stride for up in network.decoder.transpconvs] == [(2, 2, 2), (1, 2, 2)]
    assert [stage.convs[0].conv.kernel_size for stage in network.decoder.stages] == [(3, 3, 3), (1, 3, 3)]
    assert THIN.multiple_kji == (2, 4, 4)


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
@pytest.mark.parametrize("width", [4, 6])
def test_a_residual_blocks_shortcut_is_averaged_and_projected_where_the_shape_changes(stride, width):
    block, x = seeded(ResidualBlock, 4, width, (3, 3, 3), stride), noise(1, 4, 8, 8, 8)
    nn.init.zeros_(block.conv2.norm.weight)
    nn.init.zeros_(block.conv2.norm.bias)  # what is left is the shortcut
    expected = functional.avg_pool3d(x, stride, stride) if stride != (1, 1, 1) else x
    if width != 4:
        projection = block.skip[-1]
        expected = functional.conv3d(expected, projection.conv.weight)
        expected = functional.instance_norm(expected, weight=projection.norm.weight, bias=projection.norm.bias)
    with torch.no_grad():
        torch.testing.assert_close(block(x), functional.leaky_relu(expected, 0.01))


def context_scores(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The network of Isensee et al. (BraTS 2017, figure 1), with HD-BET's slopes, written down as a function."""

    def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{name}.weight"]
        return functional.conv3d(x, kernel, weights.get(f"{name}.bias"), stride, kernel.shape[-1] // 2)

    def normed(name: str, x: torch.Tensor, slope: float = 0.01) -> torch.Tensor:
        x = (x - x.mean((2, 3, 4), True)) / (x.var((2, 3, 4), unbiased=False, keepdim=True) + 1e-5).sqrt()
        scaled = x * weights[f"{name}.weight"].view(1, -1, 1, 1, 1) + weights[f"{name}.bias"].view(1, -1, 1, 1, 1)
        return torch.where(scaled > 0, scaled, slope * scaled)

    def context(level: int, x: torch.Tensor) -> torch.Tensor:
        name = f"context{level}"
        return x + conv(f"{name}.conv2", normed(f"{name}.bn_2", conv(f"{name}.conv1", normed(f"{name}.bn_1", x))))

    skips, x = [], conv("init_conv", x)
    for level in (1, 2, 3, 4):
        skips.append(normed(f"down{level}.bn", context(level, x)))
        x = conv(f"down{level}.downsample", skips[-1], 2)
    x = normed("bn_after_context5", context(5, x), 0.1)
    for level, skip in zip((1, 2, 3, 4), skips[::-1], strict=True):
        x = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)(x)
        x = torch.cat((skip, normed(f"up{level}.bn", conv(f"up{level}.upsample_conv", x))), 1)
        if level < 4:
            x = normed(f"loc{level}.bn_1", conv(f"loc{level}.conv1", x))
            x = normed(f"loc{level}.bn_2", conv(f"loc{level}.conv2", x))
    x = normed("end_conv_1_bn", conv("end_conv_1", x), 0.1)
    return conv("seg_layer", normed("end_conv_2_bn", conv("end_conv_2", x), 0.1))


def test_the_context_network_is_that_of_its_paper():
    network, batch = seeded(ContextUNet, 2, 2, 3), noise(1, 2, 32, 16, 32)
    with torch.no_grad():
        found, expected = network(batch), context_scores(network.state_dict(), batch)
        assert found.shape == (1, 3, 32, 16, 32)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        features = network.features(batch)
        assert features.shape == (1, 4, 32, 16, 32)
        assert torch.equal(network.head(features), found)


def test_the_context_network_has_the_size_of_hd_bets():
    """Its five files have 16,356,123 numbers: with the statistics that it does not use and two further heads."""
    with torch.device("meta"):
        network = ContextUNet(21, 1, 2)
    statistics = 2 * sum(one.num_features for one in network.modules() if isinstance(one, nn.InstanceNorm3d))
    further_heads = 2 * (4 * 21 + 2 * 21)
    assert sum(tensor.numel() for tensor in network.state_dict().values()) == 16_356_123 - statistics - further_heads
