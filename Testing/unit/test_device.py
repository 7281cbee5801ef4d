"""Devices: chosen by name, refused with a reason; free memory is a plausible number."""

from __future__ import annotations

import sys

import pytest
import torch

from MedSegRegLib.device import describe_device, free_host_bytes, pick_device
from MedSegRegLib.errors import DeviceUnavailable, InvalidSetting


def test_auto_picks_a_device_that_computes():
    assert torch.ones(2, device=pick_device()).sum().item() == 2.0
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "CUDA", "tpu:0"])
def test_refuses_a_name_that_is_no_device(name):
    with pytest.raises(InvalidSetting, match="auto, cpu, cuda, mps"):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_refuses_a_device_that_is_not_there(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailable, match="choose 'auto' or 'cpu'"):
        pick_device(name)


def test_describes_the_device_with_the_torch_version():
    assert torch.__version__ in describe_device(torch.device("cpu")).message


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is certain to tell its free memory")
def test_free_memory_is_more_than_a_megabyte_and_less_than_a_petabyte():
    assert 2**20 < free_host_bytes() < 2**50
