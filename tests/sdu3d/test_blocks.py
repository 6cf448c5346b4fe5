"""Blocks and sub-networks against the recorded ones; border rules; normalisation."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

from sdu3d.blocks import CAB, ConvUnit, HPMBlock, lateral, make_block, mean_with_copies
from sdu3d.deform import deformable, deformable_by_kernel, deformable_by_sampling, warp_similarity
from sdu3d.topologies import Hourglass, ScaleAggregation
from tests.conftest import needs_shared
from tests.reference.sdu3d import BiasedBatchNorm2d, Inception17
from tests.sdu3d.golden import arrays, assert_close, image, load, parameters, read_json

MAKERS: dict[str, Callable[[], nn.Module]] = {
    "resnet_match": functools.partial(make_block, "resnet", 32, 32),
    "resnet_expand": functools.partial(make_block, "resnet", 32, 64, match=False),
    "hpm_match": functools.partial(make_block, "hpm", 32, 32),
    "hpm_expand": functools.partial(make_block, "hpm", 32, 64, match=False),
    "hpm_dilate2": functools.partial(HPMBlock, 32, 32, True, dilation=2),
    "hpm_dcn": functools.partial(HPMBlock, 32, 32, True, deform="mxnet"),
    "inception_match": functools.partial(make_block, "inception", 32, 32),
    "block17": functools.partial(Inception17, 32),
    "cab": functools.partial(make_block, "cab", 32, 32),
    "cab_dilate2": functools.partial(CAB, 32, dilation=2),
    "cab_expand": functools.partial(make_block, "cab", 32, 64, match=False),
    "lin3_dw": functools.partial(lateral, 32, 32, depthwise=True),
    "hourglass_n2_cab": functools.partial(Hourglass, "cab", 32, 2),
    "hourglass_n3_resnet": functools.partial(Hourglass, "resnet", 32, 3),
    "sat_n3": functools.partial(ScaleAggregation, 32, 3),
    "sat_n2": functools.partial(ScaleAggregation, 32, 2),
    "sat_n4": functools.partial(ScaleAggregation, 32, 4),
    "convfactory_dcn": functools.partial(ConvUnit, 8, 16, deform="mxnet"),
}


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_block_gives_the_recorded_output(name: str) -> None:
    entry, recorded = read_json("blocks.json")[name], arrays("blocks.npz")
    prefix = entry["params"][0][0].split("_")[0] + "_"
    block = load(MAKERS[name](), prefix, parameters(entry["params"], entry["scale"]))
    given = entry["input"]
    x = torch.from_numpy(image(given["seed"], tuple(given["shape"])) - np.float32(given["minus"]))
    with torch.inference_mode():
        y = block(x).numpy()
    assert list(y.shape) == entry["output_shape"]
    assert_close(y, recorded[name])
    assert_close(y.astype(np.float64).sum((2, 3)), recorded[f"{name}_sum"])


@needs_shared
@pytest.mark.golden
def test_every_recorded_block_is_compared() -> None:
    assert set(read_json("blocks.json")) == set(MAKERS)
    named = {key for name in MAKERS for key in (name, f"{name}_sum")}
    rest = set(arrays("blocks.npz")) - named
    assert rest == {f"dcn_raw_{k}" for k in ("x", "offset", "weight", "bias", "y")} | {
        f"bn_{k}" for k in ("x", "y", "mean_after", "var_after")
    }


@needs_shared
@pytest.mark.golden
def test_deformable_convolution_has_the_released_border_rule() -> None:
    given = {k.removeprefix("dcn_raw_"): torch.from_numpy(v) for k, v in arrays("blocks.npz").items() if "dcn_raw" in k}
    inputs = given["x"], given["offset"], given["weight"], given["bias"], 1
    assert_close(deformable(*inputs, border="mxnet").numpy(), given["y"].numpy(), 1e-6)
    other = deformable(*inputs, border="torchvision")
    assert (other - given["y"]).abs().max() > 0.1 * given["y"].abs().max()
    torch.testing.assert_close(other, deform_conv2d(*inputs[:4], padding=(1, 1)))


@pytest.mark.parametrize("border", ["mxnet", "torchvision"])
def test_without_offsets_deformable_is_plain(border: str) -> None:
    x, weight = torch.randn(2, 3, 6, 5), torch.randn(4, 3, 3, 3)
    y = deformable(x, torch.zeros(2, 18, 6, 5), weight, None, 1, border)
    torch.testing.assert_close(y, F.conv2d(x, weight, padding=1), atol=1e-5, rtol=1e-5)


def test_gradients_of_the_released_border_rule_are_those_of_differences() -> None:
    torch.manual_seed(3)
    x = torch.randn(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    offset = (torch.randn(1, 18, 3, 4, dtype=torch.float64) * 1.5).requires_grad_()
    weight = torch.randn(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    for way in (deformable_by_sampling, deformable_by_kernel):
        assert torch.autograd.gradcheck(
            lambda a, b, c, way=way: way(a, b, c, None, 1, "mxnet"), (x, offset, weight), atol=1e-5
        )


@pytest.mark.parametrize("border", ["mxnet", "torchvision"])
def test_both_ways_to_a_deformable_convolution_agree(border: str) -> None:
    x, weight, bias = torch.randn(2, 3, 7, 5), torch.randn(4, 3, 3, 3), torch.randn(4)
    inputs = [t.requires_grad_() for t in (x, torch.randn(2, 18, 7, 5) * 3, weight, bias)]
    found = []
    for way in (deformable_by_sampling, deformable_by_kernel):
        y = way(inputs[0], inputs[1], inputs[2], inputs[3], 1, border)
        found.append((y, *torch.autograd.grad((y * y.detach().cos()).sum(), inputs)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@needs_shared
@pytest.mark.golden
def test_batch_norm_moves_its_figures_by_the_biased_variance() -> None:
    recorded = {k[3:]: torch.from_numpy(v) for k, v in arrays("blocks.npz").items() if k.startswith("bn_")}
    norm = nn.Sequential(nn.BatchNorm2d(3, eps=2e-5))
    norm[0].load_state_dict(
        {"weight": torch.tensor([1, 1.2, 0.8]), "bias": torch.tensor([0, 0.1, -0.1]),
         "running_mean": torch.tensor([0.1, 0.2, 0.3]), "running_var": torch.tensor([1, 0.9, 1.1]),
         "num_batches_tracked": torch.tensor(0)}
    )  # fmt: skip
    BiasedBatchNorm2d.convert(norm)
    biased = norm[0]
    torch.testing.assert_close(biased(recorded["x"]), recorded["y"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(biased.running_mean, recorded["mean_after"], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(biased.running_var, recorded["var_after"], atol=1e-6, rtol=1e-5)
    plain = nn.BatchNorm2d(3, eps=2e-5)
    torch.testing.assert_close(biased.eval()(recorded["x"]).shape, plain(recorded["x"]).shape)


def test_mean_with_copies_is_the_mean_of_a_concatenation() -> None:
    wide, narrow = torch.randn(2, 8, 3, 4), torch.randn(2, 4, 3, 4)
    expected = (wide + torch.cat([narrow, narrow], 1)) / 2
    torch.testing.assert_close(mean_with_copies(wide, narrow), expected)
    last = [t.contiguous(memory_format=torch.channels_last) for t in (wide, narrow)]
    torch.testing.assert_close(mean_with_copies(*last), expected)
    inputs = [t.double().requires_grad_() for t in last]
    torch.testing.assert_close(mean_with_copies(*inputs).float(), expected)
    assert torch.autograd.gradcheck(mean_with_copies, inputs)


def test_gate_multiplies_one_cell() -> None:
    torch.manual_seed(0)
    plain, gated = ScaleAggregation(16, 3).eval(), ScaleAggregation(16, 3, gate=True).eval()
    gated.load_state_dict(plain.state_dict())
    x = torch.rand(1, 16, 16, 16)
    assert not torch.allclose(plain(x), gated(x))
    assert torch.equal(ScaleAggregation(16, 1)(x), ScaleAggregation(16, 1, gate=True).eval()(x)) is False


def test_a_similarity_and_its_way_back() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    blob = torch.exp(-((x - 0.1) ** 2 + (y + 0.2) ** 2) / 0.05)[None, None]
    values = torch.tensor([[0.1, 0.4, 0.1, -0.05]])
    there = warp_similarity(blob, values)
    assert (there - blob).abs().max() > 0.3
    assert (warp_similarity(there, values, inverse=True) - blob).abs().max() < 0.03
