"""Leaving out channels: what is kept is the network's own, and channels that say nothing are the ones that go."""

from __future__ import annotations

import pytest
import torch

from MedSegRegLib.errors import ModelMismatch
from MedSegRegLib.files.architectures import ContextUNetArchitecture, UNetArchitecture
from MedSegRegLib.segment.network import build_network
from MedSegRegLib.train.prune import IMAGE, SCORES, prune, thinner, wires_of
from small_training import random_network, small_spec

NETWORKS = {
    "plain": UNetArchitecture(features=(4, 6, 10), blocks_per_stage=2),
    "unlike blocks": UNetArchitecture(features=(4, 6, 10), blocks_per_stage=(1, 3, 2), decoder_blocks=(1, 2)),
    "slices": UNetArchitecture(dimensions=2, features=(4, 8), blocks_per_stage=1),
    "residual": UNetArchitecture(name="residual_encoder_unet", features=(4, 6, 10), blocks_per_stage=(1, 2, 2)),
    "residual of equal widths": UNetArchitecture(
        name="residual_encoder_unet", features=(4, 8, 8), blocks_per_stage=(1, 2, 1)
    ),
}


def image_for(architecture: UNetArchitecture) -> torch.Tensor:
    shape = (1, 2, *(16,) * architecture.dimensions)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def network_of(architecture: UNetArchitecture) -> torch.nn.Module:
    tile = (16, 16, 16) if architecture.dimensions == 3 else (16, 16, 1)
    channels = ({"name": "T1"}, {"name": "T2"})
    network = random_network(small_spec(2, architecture=architecture, channels=channels, tile_ijk=tile))
    with torch.no_grad():  # normalisations as after a training, not all alike
        for name, tensor in network.named_parameters():
            if "norm" in name:
                tensor.add_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(len(name))) + 0.1)
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_of_a_network_is_of_one_layer(name):
    network = network_of(NETWORKS[name])
    named = set()
    for layer in wires_of(network, NETWORKS[name]):
        parts = (f"{layer.name}.weight", f"{layer.name}.bias", f"{layer.norm}.weight", f"{layer.norm}.bias")
        named |= {part for part in parts if part in network.state_dict()}
    assert named == network.state_dict().keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_with_all_channels_kept_the_network_is_the_same(name):
    network = network_of(NETWORKS[name])
    same = prune(network, NETWORKS[name], NETWORKS[name])
    assert same.keys() == network.state_dict().keys()
    assert all(torch.equal(same[key], tensor) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_that_say_nothing_are_left_out_and_the_scores_stay(name):
    architecture = NETWORKS[name]
    thin, network = thinner(architecture), network_of(architecture)
    layers = wires_of(network, architecture)
    width = dict(zip(architecture.features, thin.features, strict=True))
    weights = network.state_dict()
    chance = torch.Generator().manual_seed(3)
    silent: dict[str, torch.Tensor] = {}
    for layer in layers:
        if layer.gives == SCORES:
            continue
        count = (
            len(weights[f"{layer.name}.bias"])
            if f"{layer.name}.bias" in weights
            else len(weights[f"{layer.norm}.bias"])
        )
        dead = silent.setdefault(layer.gives, torch.randperm(count, generator=chance)[width[count] :])
        for part in (f"{layer.norm}.weight", f"{layer.norm}.bias") if layer.norm else (f"{layer.name}.bias",):
            weights[part][dead] = 0
        if not layer.norm:
            weights[f"{layer.name}.weight"][:, dead] = 0
    smaller = build_network(thin, 2, 3).eval()
    smaller.load_state_dict(prune(network, architecture, thin))
    image = image_for(architecture)
    with torch.no_grad():
        torch.testing.assert_close(smaller(image), network(image), rtol=1e-4, atol=1e-4)


def test_skip_connections_take_the_channels_that_the_encoder_kept():
    architecture = NETWORKS["plain"]
    joined = [layer for layer in wires_of(network_of(architecture), architecture) if len(layer.takes) > 1]
    assert [layer.takes for layer in joined] == [("up 0", "encoder 1.1"), ("up 1", "encoder 0.1")]
    assert IMAGE not in {wire for layer in joined for wire in layer.takes}


def test_half_of_the_channels_is_a_quarter_of_the_weights():
    wide = UNetArchitecture()
    sizes = [sum(p.numel() for p in build_network(one, 1, 3).parameters()) for one in (wide, thinner(wide))]
    assert thinner(wide).features == (8, 16, 32, 64)
    assert 3.8 < sizes[0] / sizes[1] < 4.2


def test_refuses_a_network_of_another_family():
    with pytest.raises(ModelMismatch, match="context_unet"):
        thinner(ContextUNetArchitecture(name="context_unet"))
