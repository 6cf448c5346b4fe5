"""Timm encoders with the U-Net decoder: shapes, gradients, and mistakes reported in one line."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from awing.backbones import TimmEncoder, UNetDecoder
from awing.network import FOCAL_PRIOR
from awing.timm_unet import TimmUNet
from common.errors import LabError


@pytest.mark.parametrize("name", ["dla34", "resnet50", "mobilenetv3_large_100"])
def test_maps_have_stride_4(name: str) -> None:
    net = TimmUNet(name, 68).eval()
    with torch.inference_mode():
        outputs = net(torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8))
    assert [tuple(maps.shape) for maps in outputs] == [(1, 69, 16, 24)]
    assert outputs[0].isfinite().all()


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_networks_of_windows_are_built_for_the_crop_s_size(name: str) -> None:
    """They stopped with a traceback: other sizes than 224, and channels behind rows and columns."""
    net = TimmUNet(name, 68, widths=(32, 16, 8), size=64).eval()
    with torch.inference_mode():
        (maps,) = net(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert maps.shape == (1, 69, 16, 16)


def test_gradient_reaches_every_parameter() -> None:
    net = TimmUNet("mobilenetv3_large_100", 5, widths=(32, 16, 8))
    net(torch.rand(2, 3, 64, 64))[0].square().mean().backward()
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert not without
    assert net.encoder.body.conv_stem.weight.grad.abs().sum() > 0


def test_bytes_and_unit_floats_agree() -> None:
    net = TimmUNet("mobilenetv3_large_100", 5, widths=(32, 16, 8)).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(net(image)[0], net(image.float() / 255)[0], rtol=0, atol=0)


def test_encoder_gets_its_own_normalisation() -> None:
    encoder = TimmEncoder("mobilenetv3_large_100").eval()
    seen: list[torch.Tensor] = []
    encoder.body.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        features = encoder(image)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0], (image - mean[:, None, None]) / std[:, None, None])
    assert [feature.shape[-1] for feature in features] == [8, 4, 2, 1]
    assert [feature.shape[1] for feature in features] == list(encoder.channels)
    assert "mean" not in encoder.state_dict()


def test_focal_head_starts_at_a_small_chance() -> None:
    bias = TimmUNet("mobilenetv3_large_100", 5, logits=True).head.bias
    assert bias is not None
    torch.testing.assert_close(bias, torch.full((6,), FOCAL_PRIOR))


@pytest.mark.parametrize(
    ("name", "told"), [("no_such_network", "no such network"), ("vit_tiny_patch16_224", "strides 4, 8, 16, 32")]
)
def test_unfit_networks(name: str, told: str) -> None:
    with pytest.raises(LabError, match=told):
        TimmUNet(name, 5)


def test_pretrained_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, pretrained: bool, **options: Any) -> nn.Module:
        assert pretrained
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(LabError, match="dla34: its pretrained weights cannot be had .OSError: no route to host"):
        TimmUNet("dla34", 5, pretrained=True)


def test_decoder_checks_its_widths() -> None:
    with pytest.raises(ValueError, match="4 features need 3 widths"):
        UNetDecoder((8, 8, 8, 8), (8, 8))
