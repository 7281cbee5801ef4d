"""The network: shapes, names, and what training and evaluation have in common."""

from __future__ import annotations

import pytest
import torch

from MedSegRegLib.files.model_package import UNetArchitecture
from MedSegRegLib.segment.network import PlainConvUNet, build_network


@pytest.fixture
def a_batch() -> torch.Tensor:
    return torch.randn((2, 3, 8, 16, 24), generator=torch.Generator().manual_seed(0))


def test_scores_have_one_channel_a_class_at_the_resolution_of_the_image(a_batch):
    network = PlainConvUNet(3, 5, (4, 8, 16), 2).eval()
    with torch.inference_mode():
        assert network(a_batch).shape == (2, 5, 8, 16, 24)


def test_training_gives_scores_at_every_resolution_finest_first(a_batch):
    scores = PlainConvUNet(3, 5, (4, 8, 16, 16), 1).train()(a_batch)
    assert [tuple(s.shape) for s in scores] == [(2, 5, 8, 16, 24), (2, 5, 4, 8, 12), (2, 5, 2, 4, 6)]


def test_evaluation_gives_the_finest_scores_of_training(a_batch):
    network = PlainConvUNet(3, 2, (4, 8, 8), 1)
    with torch.no_grad():
        assert torch.equal(network.train()(a_batch)[0], network.eval()(a_batch))


def test_every_weight_is_trained(a_batch):
    network = PlainConvUNet(3, 2, (4, 8, 8), 2).train()
    sum(scores.square().sum() for scores in network(a_batch)).backward()
    untrained = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    # a constant before an instance normalisation is taken out again
    assert [name for name in untrained if not name.endswith("conv.bias")] == []


def test_weights_have_the_names_of_nnunet():
    blocks = ("encoder.stages.0.0", "encoder.stages.1.0", "decoder.stages.0")
    layers = [f"{block}.convs.0.{part}" for block in blocks for part in ("conv", "norm")]
    layers += ["decoder.transpconvs.0", "decoder.seg_layers.0"]
    names = PlainConvUNet(1, 2, (4, 8), 1).state_dict().keys()
    assert names == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_the_network_is_built_as_described():
    network = build_network(UNetArchitecture(features=(4, 8, 12), blocks_per_stage=3), channels=2, classes=4)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["encoder.stages.0.0.convs.0.conv.weight"] == (4, 2, 3, 3, 3)
    assert shapes["encoder.stages.2.0.convs.2.conv.weight"] == (12, 12, 3, 3, 3)
    assert shapes["decoder.stages.0.convs.0.conv.weight"] == (8, 16, 3, 3, 3)
    assert shapes["decoder.seg_layers.1.weight"] == (4, 4, 1, 1, 1)
