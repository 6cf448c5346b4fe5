"""The hidden layer whose weights are stored input by input: outputs, gradients and files are a linear layer's."""

from __future__ import annotations

import copy

import pytest
import torch

from musica.network import FEW_FACES, HiddenLinear


@pytest.fixture(params=[True, False])
def layers(request: pytest.FixtureRequest) -> tuple[HiddenLinear, torch.nn.Linear]:
    torch.manual_seed(0)
    ours, theirs = HiddenLinear(96, 7, bias=request.param), torch.nn.Linear(96, 7, bias=request.param)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("faces", [1, 3, FEW_FACES + 1])
def test_outputs_and_gradients_are_those_of_a_linear_layer(
    layers: tuple[HiddenLinear, torch.nn.Linear], faces: int
) -> None:
    ours, theirs = (layer.double() for layer in layers)
    x = torch.randn(faces, 96, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    assert ours.kernel.grad is not None and theirs.weight.grad is not None
    torch.testing.assert_close(ours.kernel.grad.t(), theirs.weight.grad)
    assert (ours.bias is None) == (theirs.bias is None)
    if ours.bias is not None:
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)


def test_inputs_that_make_no_whole_pieces() -> None:
    layer = HiddenLinear(10, 3)
    torch.nn.init.ones_(layer.weight)
    assert layer(torch.ones(1, 10)).tolist() == [[10, 10, 10]]


def test_files_hold_the_weights_as_every_linear_layer_s(layers: tuple[HiddenLinear, torch.nn.Linear]) -> None:
    ours, theirs = layers
    state = torch.nn.Sequential(ours).state_dict()
    assert set(state) == {f"0.{name}" for name in theirs.state_dict()} and torch.equal(state["0.weight"], theirs.weight)
    assert torch.equal(ours.weight, theirs.weight)
    for copied in (copy.deepcopy(ours), ours):
        copied.load_state_dict(theirs.state_dict(), strict=True)
        assert copied.kernel.is_contiguous() and torch.equal(copied.weight, theirs.weight)
    rest = {name: value for name, value in theirs.state_dict().items() if name != "weight"}
    missing, unexpected = ours.load_state_dict(rest, strict=False)
    assert missing == ["kernel"] and unexpected == []
