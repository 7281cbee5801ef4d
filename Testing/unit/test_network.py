"""From a description to a network: every architecture of the registry, and what is refused."""

from __future__ import annotations

import sys

import pytest
import torch
from monai.networks import nets

from MedSegRegLib.errors import MissingPackage, ModelMismatch
from MedSegRegLib.files.architectures import (
    ContextUNetArchitecture,
    MonaiArchitecture,
    OnnxArchitecture,
    UNetArchitecture,
)
from MedSegRegLib.segment.context_unet import ContextUNet
from MedSegRegLib.segment.engines import Head
from MedSegRegLib.segment.network import NEED_EINOPS, build_network
from MedSegRegLib.segment.unet import UNet
from small_training import random_network, small_spec
from streamed import MONAI, model_of, monai, noise


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        (UNetArchitecture(features=(4, 8)), UNet),
        (UNetArchitecture(name="residual_encoder_unet", features=(4, 8)), UNet),
        (ContextUNetArchitecture(name="context_unet", base_features=2), ContextUNet),
    ],
)
def test_a_network_of_our_own_is_built_as_described(architecture, kind):
    network = build_network(architecture, channels=2, classes=4)
    assert type(network) is kind
    assert network.head.out_channels == 4
    assert any("blocks" in name for name in network.state_dict()) is ("residual" in architecture.name)


def test_the_network_has_the_widths_that_are_described():
    network = build_network(UNetArchitecture(features=(4, 8, 12), blocks_per_stage=3), channels=2, classes=4)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["encoder.stages.0.0.convs.0.conv.weight"] == (4, 2, 3, 3, 3)
    assert shapes["encoder.stages.2.0.convs.2.conv.weight"] == (12, 12, 3, 3, 3)
    assert shapes["decoder.stages.0.convs.0.conv.weight"] == (8, 16, 3, 3, 3)
    assert shapes["decoder.seg_layers.1.weight"] == (4, 4, 1, 1, 1)


def test_every_network_of_monai_in_the_registry_is_known_here():
    assert set(MonaiArchitecture.model_fields["network"].annotation.__args__) == set(MONAI)


@pytest.mark.parametrize("name", sorted(MONAI))
def test_a_network_of_monai_is_built_with_its_settings_and_its_features_are_its_scores(name):
    if name in NEED_EINOPS:
        pytest.importorskip("einops", reason="MONAI's transformers need it")
    channels, classes = (1, 3) if name != "VNet" else (1, 2)
    network = build_network(monai(name), channels, classes).eval()
    assert isinstance(network.network, getattr(nets, name))
    assert network.head is None
    with torch.inference_mode():
        assert network(noise(1, channels, 32, 32, 32)).shape == (1, classes, 32, 32, 32)


def test_a_network_of_monai_over_slices():
    flat = MonaiArchitecture(name="monai", network="UNet", dimensions=2, settings=MONAI["UNet"], multiple=4)
    assert build_network(flat, 3, 2).eval()(noise(1, 3, 16, 24)).shape == (1, 2, 16, 24)
    assert flat.multiple_kji == (1, 4, 4)


def test_of_a_deeply_supervised_network_the_first_scores_count():
    network = build_network(monai("DynUNet", deep_supervision=True, deep_supr_num=1), 1, 3)

    class Several(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x, x[..., ::2]]

    network.network = Several()
    batch = noise(1, 3, 8, 8, 8)
    assert network(batch) is batch


def test_a_setting_that_monais_network_does_not_take_is_refused_by_name():
    with pytest.raises(ModelMismatch, match="colour") as caught:
        build_network(monai("SegResNet", colour="blue"), 1, 2)
    assert "init_filters" in caught.value.expected


@pytest.mark.parametrize(
    ("network", "module", "package"),
    [("SegResNet", "monai.networks", "monai"), ("UNETR", "einops", "einops")],
)
def test_what_is_not_installed_is_said_before_anything_runs(network, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackage, match=f"needs the package {package}") as caught:
        build_network(monai(network), 1, 2)
    assert "pip install" in caught.value.fix


def test_a_graph_is_not_built():
    with pytest.raises(TypeError, match="onnx"):
        build_network(OnnxArchitecture(name="onnx"), 1, 2)


@pytest.mark.parametrize(("labels", "split"), [(1, False), (3, False), (4, True), (30, True)])
def test_the_head_is_split_off_where_features_are_fewer_than_classes(labels, split):
    spec = small_spec(labels)  # 4 features
    network, batch = random_network(spec), noise(1, 1, 16, 16, 16)
    engine = model_of(spec, network).engines[0]
    assert (engine.head is not None) is split
    with torch.no_grad():
        scores, result = network(batch)[0], engine.run(batch)[0]
    if split:
        assert result.shape[0] == 4
        result = torch.einsum("cf,fkji->ckji", engine.head.weight, result) + engine.head.bias.view(-1, 1, 1, 1)
    torch.testing.assert_close(result, scores, atol=1e-5, rtol=1e-5)


def test_a_head_without_bias_adds_nothing():
    network = build_network(ContextUNetArchitecture(name="context_unet", base_features=1), 1, 5)
    head = Head.of(network)
    assert torch.equal(head.bias, torch.zeros(5))
    assert torch.equal(head.weight, network.seg_layer.weight.flatten(1))
