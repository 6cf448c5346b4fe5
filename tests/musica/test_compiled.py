"""Patches that are cut and described by compiled loops: the same numbers as the tensors' path gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from musica import compiled
from musica.cascade import CascadeRun, run_cascade
from musica.network import CascadeNet
from musica.patches import cut_patches

pytestmark = pytest.mark.skipif(not compiled.available, reason="the extra `fast` is not installed (numba)")


@pytest.fixture(params=["bilinear", "official"])
def net(request: pytest.FixtureRequest) -> CascadeNet:
    torch.manual_seed(0)
    made = CascadeNet(68, range(0, 68, 3), 3, units=32, sampling=request.param).eval()
    for parameter in made.parameters():
        parameter.data.uniform_(-0.2, 0.2)
    made.start.uniform_(20, 200)
    return made


def _faces(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 228, 220), dtype=torch.uint8, generator=generator)


@torch.inference_mode()
def test_features_are_those_of_the_tensors(net: CascadeNet) -> None:
    tower = net.pyramid(_faces(3))
    start = net.start[None].repeat(3, 1, 1)
    start[1] += 0.37
    start[0, :6] = torch.tensor([[-3.2, 5], [227.5, 4], [0.4, 219.9], [-40, 30], [30, 900], [1e9, -1e9]])
    start[2, 3], start[2, 6] = torch.nan, torch.inf
    for chosen in (None, torch.tensor([2, 0])):
        for level, stage in zip(net.level_of, net.stage_list, strict=True):
            centres = ((start if chosen is None else start[chosen]) / 2**level)[:, net.index_sets[0]]
            for scale in (tower.scale, None):
                where = (tower.levels[level], centres, net.patch, net.sampling, chosen, scale)
                expected = stage.describe(cut_patches(*where))
                found = compiled.describe(*where, stage.conv1, stage.conv2)
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@torch.inference_mode()
def test_the_cascade_takes_the_compiled_way_and_ends_at_the_same_place(
    net: CascadeNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _faces(2)
    calls: list[int] = []
    original = compiled.run

    def run(*given: Any) -> CascadeRun:
        calls.append(1)
        return original(*given)

    monkeypatch.setattr(compiled, "run", run)
    found = net(image)
    assert len(calls) == 1
    net.exit_below = (torch.stack(found.errors)[0].mean().item(), -1e9)  # the better face of the two leaves first
    early = net(image)
    assert len(calls) == 2 and sorted(early.iterations.tolist()) == [1, 3]
    net.exit_below = None
    monkeypatch.setattr(compiled, "available", False)
    expected = net(image)
    assert len(calls) == 2
    for ours, theirs in zip(found.points, expected.points, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)  # the golden limit of shapes, pixels


def test_gradients_many_faces_and_double_precision_take_the_tensors(net: CascadeNet) -> None:
    level = net.pyramid(_faces(1)).levels[0].image
    assert not compiled.usable(level)  # with gradients
    with torch.no_grad():
        assert compiled.usable(level)
        wide = net.pyramid(_faces(1).double()).levels[0].image
        assert not compiled.usable(wide)
        with FlopCounterMode(display=False):  # which would not see what compiled loops do
            assert not compiled.usable(level)


def test_traces_keep_the_patches(net: CascadeNet) -> None:
    with torch.inference_mode():
        tower = net.pyramid(_faces(1))
        run = run_cascade(net, tower, net.start[None], keep_traces=True)
    assert [trace.patches.shape for trace in run.traces] == [(23, 3, 14, 14)] * 3
