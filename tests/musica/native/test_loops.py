"""Patches that are cut and described by compiled loops: the same numbers as the tensors' path gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from musica.cascade import CascadeRun, run_cascade
from musica.native import loops
from musica.network import CascadeNet
from musica.patches import cut_patches

pytestmark = pytest.mark.skipif(not loops.available, reason="the extra `fast` is not installed (numba)")


@pytest.fixture(params=[("bilinear", 0, 0), ("official", 0, 0), ("bilinear", 12, 0), ("bilinear", 0, 7),
                        ("bilinear", 5, 6)])  # fmt: skip
def net(request: pytest.FixtureRequest) -> CascadeNet:
    torch.manual_seed(0)
    sampling, rank, attention_rank = request.param
    made = CascadeNet(68, range(0, 68, 3), 3, 32, rank, sampling, attention_rank=attention_rank).eval()
    # Twice these weights, and single precision itself, by either way, is no longer surely within the limits.
    for parameter in made.parameters():
        parameter.data.uniform_(-0.1, 0.1)
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
                found = loops.describe(*where, stage.conv1, stage.conv2)
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@torch.inference_mode()
def test_the_cascade_takes_the_compiled_way_and_ends_at_the_same_place(
    net: CascadeNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _faces(2)
    calls: list[int] = []
    original = loops.run

    def run(*given: Any) -> CascadeRun:
        calls.append(1)
        return original(*given)

    monkeypatch.setattr(loops, "run", run)
    found = net(image)
    assert len(calls) == 1
    net.exit_below = (torch.stack(found.errors)[0].mean().item(), -1e9)  # the better face of the two leaves first
    early = net(image)
    assert len(calls) == 2 and sorted(early.iterations.tolist()) == [1, 3]
    net.exit_below = None
    monkeypatch.setattr(loops, "available", False)
    expected = net(image)
    assert len(calls) == 2
    for ours, theirs in zip(found.points, expected.points, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)  # the golden limit of shapes, pixels


@torch.inference_mode()
def test_levels_are_those_of_the_tensors(net: CascadeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits: brightness is in 0..255, single precision."""
    image = _faces(3)
    image[2] = 77  # of one colour
    found = net.pyramid(image)
    monkeypatch.setattr(loops, "available", False)
    expected = net.pyramid(image)
    assert found.scale is not None and expected.scale is not None
    for ours, theirs in zip(found.levels, expected.levels, strict=True):
        torch.testing.assert_close(ours.image, theirs.image, rtol=0, atol=1e-3)
        assert not ours.memory[:48].any() and not ours.memory[-48:].any()
    torch.testing.assert_close(found.scale[:2], expected.scale[:2], rtol=1e-5, atol=0)


@torch.inference_mode()
def test_features_and_answers_follow_the_weights(net: CascadeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a network are views of its weights, whichever way these are changed."""
    image = _faces(1)
    net(image)

    def check() -> None:
        found = net(image)
        with monkeypatch.context() as patch:
            patch.setattr(loops, "available", False)
            expected = net(image)
        torch.testing.assert_close(found.points[-1], expected.points[-1], rtol=0, atol=1e-4)
        torch.testing.assert_close(found.errors[-1], expected.errors[-1], rtol=0, atol=2e-5)

    for name in ("conv1", "conv2", "attention", "output", "squeeze"):
        for parameter in getattr(net.stage_list[0], name).parameters():
            parameter.data.mul_(0.7)  # behind autograd's back
        check()
    net.stage_list[1].hidden.weight.mul_(0.5)
    check()
    with torch.inference_mode(False):
        net.load_state_dict({name: value * 0.9 for name, value in net.state_dict().items()})
        net.stage_list[2].conv1.weight = torch.nn.Parameter(net.stage_list[2].conv1.weight.detach() * 0.5)
    check()
    net.stage_list[2].conv2.weight.data = net.stage_list[2].conv2.weight * 0.5
    check()


@torch.inference_mode()
def test_what_is_no_number_stays_so(net: CascadeNet) -> None:
    kept = net.stage_list[1].conv1.weight[0, 0, 0, 0].clone()
    bias = net.stage_list[1].hidden.bias
    assert bias is not None
    bias[0] = torch.nan
    run = net(_faces(1))
    bias[0] = kept
    assert run.errors[0].isfinite().all() and run.errors[1].isnan().all() and run.errors[2].isnan().all()
    assert run.points[1].isnan().all() and run.iterations.tolist() == [3]


def test_a_late_helper_finds_the_work_done(net: CascadeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads one after another give what threads at the same time give: nobody waits for anybody to begin."""
    image = _faces(3)
    with torch.inference_mode():
        expected = net(image)
        monkeypatch.setattr(loops, "together", lambda calls: [call() for call in calls][0])
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        found = net(image)
    torch.testing.assert_close(found.points[-1], expected.points[-1], rtol=0, atol=1e-4)


def test_gradients_many_faces_and_double_precision_take_the_tensors(net: CascadeNet) -> None:
    level = net.pyramid(_faces(1)).levels[0].image
    assert not loops.usable(level)  # with gradients
    with torch.no_grad():
        assert loops.usable(level)
        wide = net.pyramid(_faces(1).double()).levels[0].image
        assert not loops.usable(wide)
        with FlopCounterMode(display=False):  # which would not see what compiled loops do
            assert not loops.usable(level)


def test_traces_keep_the_patches(net: CascadeNet) -> None:
    with torch.inference_mode():
        tower = net.pyramid(_faces(1))
        run = run_cascade(net, tower, net.start[None], keep_traces=True)
    assert [trace.patches.shape for trace in run.traces] == [(23, 3, 14, 14)] * 3
