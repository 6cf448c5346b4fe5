"""The exit is real: what left is not computed, and what stays is not changed by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from common.native import available
from musica.native import loops
from musica.native.loops import NativeCascade
from musica.network import CascadeNet, Stage
from musica.types import CascadeRun

SIZE, FACES = 96, 6


@pytest.fixture(scope="module", params=["bilinear", "official"])
def net(request: pytest.FixtureRequest) -> CascadeNet:
    """Return a small network with large random weights, so that faces differ and really move."""
    torch.manual_seed(3)
    made = CascadeNet(68, (30, 36, 45, 48), 3, units=16, sampling=request.param).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made.start.copy_(torch.rand(68, 2) * SIZE)
    return made


Run = Callable[[CascadeNet, Tensor, tuple[float, ...] | None], CascadeRun]


@pytest.fixture(params=["tensors", "loops"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return each of the two ways through the cascade; six faces are few enough for the loops."""
    if request.param == "loops" and not available:
        pytest.skip("the extra `fast` is not installed (numba)")

    @torch.inference_mode()
    def call(net: CascadeNet, images: Tensor, exit_below: tuple[float, ...] | None) -> CascadeRun:
        cascade = NativeCascade(net) if request.param == "loops" else net
        found: CascadeRun = cascade(images, None, exit_below)
        return found

    return call


@pytest.fixture(scope="module")
def images() -> Tensor:
    torch.manual_seed(4)
    coarse = torch.rand(FACES, 3, 12, 12)
    return (torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear") * 255).to(torch.uint8)


def macs(net: CascadeNet, images: Tensor, exit_below: tuple[float, ...] | None) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(images, None, exit_below)
    return counter.get_total_flops() // 2


def split_threshold(full: CascadeRun, iteration: int) -> float:
    """Return a threshold between the faces' predicted errors, so that half of them leave."""
    values = full.errors[iteration].sort().values
    return float(values[FACES // 2 - 1 : FACES // 2 + 1].mean())


def test_no_exit_and_minus_infinity_are_the_full_cascade(net: CascadeNet, images: Tensor, run: Run) -> None:
    full, never = run(net, images, None), run(net, images, (-torch.inf, -torch.inf))
    for ours, theirs in zip(full.points, never.points, strict=True):
        assert torch.equal(ours, theirs)
    assert never.iterations.tolist() == [3] * FACES


def test_plus_infinity_stops_after_the_first_iteration(net: CascadeNet, images: Tensor, run: Run) -> None:
    full, first = run(net, images, None), run(net, images, (torch.inf, torch.inf))
    assert len(first.points) == 1 and torch.equal(first.points[0], full.points[0])
    assert first.iterations.tolist() == [1] * FACES


def test_a_face_that_left_costs_nothing_more(net: CascadeNet, images: Tensor, run: Run) -> None:
    """Multiply-adds are counted by the framework, not by us: exactly the iterations that faces took."""
    full = run(net, images, None)
    rule = (split_threshold(full, 0), split_threshold(full, 1))
    taken = run(net, images, rule).iterations
    assert 1 in taken.tolist() and len(set(taken.tolist())) > 1
    assert macs(net, images, rule) == int(taken.sum()) * net.macs(1)
    assert macs(net, images, None) == 3 * FACES * net.macs(1)
    for row in range(FACES):
        one = images[row : row + 1]
        assert macs(net, one, rule) == int(taken[row]) * net.macs(1)


@pytest.mark.skipif(not available, reason="the extra `fast` is not installed (numba)")
@torch.inference_mode()
def test_loops_end_once_all_have_left(net: CascadeNet, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = loops.together

    def together(calls: list[Any]) -> int:
        seen.append(original(calls))
        return seen[-1]

    monkeypatch.setattr(loops, "together", together)
    for exit_below in ((torch.inf, torch.inf), (-torch.inf, torch.inf)):
        NativeCascade(net)(images, None, exit_below)
    assert seen == [1, 2]


@torch.inference_mode()
def test_no_later_stage_is_called_once_all_have_left(
    net: CascadeNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a stage ran for nobody")

    for stage in net.stage_list[1:]:
        monkeypatch.setattr(stage, "forward", refuse)
    net(images, None, (torch.inf, torch.inf))
    with pytest.raises(AssertionError, match="for nobody"):
        net(images, None, (-torch.inf, torch.inf))


@torch.inference_mode()
def test_the_batch_shrinks_to_the_faces_that_stay(
    net: CascadeNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = Stage.forward

    def count(self: Stage, features: Tensor, state: Tensor) -> object:
        sizes.append(len(state))
        assert len(features) == len(state) * len(net.index_sets[0])
        return original(self, features, state)

    monkeypatch.setattr(Stage, "forward", count)
    rule = (split_threshold(net(images), 0), -torch.inf)
    sizes.clear()
    net(images, None, rule)
    assert sizes == [FACES, FACES // 2, FACES // 2]


def test_compaction_changes_no_result(net: CascadeNet, images: Tensor, run: Run) -> None:
    """Each face's points are those of the full cascade at the iteration where it left, in the right row."""
    full = run(net, images, None)
    rule = (split_threshold(full, 0), split_threshold(full, 1))
    left = run(net, images, rule)
    for row in range(FACES):
        last = int(left.iterations[row]) - 1
        torch.testing.assert_close(left.points[-1][row], full.points[last][row], rtol=0, atol=1e-3)
        torch.testing.assert_close(left.errors[-1][row], full.errors[last][row], rtol=0, atol=1e-4)
        alone = run(net, images[row : row + 1], rule)
        assert int(alone.iterations[0]) == last + 1
        torch.testing.assert_close(alone.points[-1][0], left.points[-1][row], rtol=0, atol=1e-3)
        assert full.errors[last][row] < rule[last] if last < 2 else True


def test_nan_never_exits_early(net: CascadeNet, images: Tensor, run: Run) -> None:
    with torch.no_grad():
        kept = net.stage_list[0].output.bias[-1].clone()
        net.stage_list[0].output.bias[-1] = float("nan")
        taken = run(net, images, (torch.inf, -torch.inf)).iterations
        net.stage_list[0].output.bias[-1] = kept
    assert taken.tolist() == [3] * FACES


def test_levels_and_factors_of_two_to_five_iterations() -> None:
    """Displacements count in pixels of the iteration's level and are carried from level to level."""
    cases = [(2, None, (2, 1)), (3, None, (4, 2, 1)), (4, None, (4, 4, 2, 1)), (4, [2, 1, 0, 0], (4, 2, 1, 1)),
             (3, [0, 2, 1], (1, 4, 2)), (5, None, (4, 4, 2, 1, 1))]  # fmt: skip
    for iterations, levels, factor in cases:
        net = CascadeNet(68, (0, 1), iterations, units=4, levels=levels).eval()
        for stage in net.stage_list:
            torch.nn.init.zeros_(stage.output.weight)
            torch.nn.init.ones_(stage.output.bias)
        with torch.inference_mode():
            found = net(torch.zeros(1, 3, 64, 64))
        moved = [float(points[0, 0, 0]) for points in found.points]
        assert moved == [sum(factor[: t + 1]) for t in range(iterations)]


@pytest.mark.parametrize("detach", [False, True])
def test_detached_iterations_get_no_gradient_from_later_ones(
    net: CascadeNet, images: Tensor, run: Run, detach: bool
) -> None:
    made = CascadeNet(68, (30, 36, 45, 48), 3, units=16, sampling=net.sampling, detach=detach)
    made.load_state_dict(net.state_dict())
    found = made(images)
    (found.points[-1].sum() + found.errors[-1].sum()).backward()
    first, last = (made.stage_list[t].output.weight.grad for t in (0, -1))
    assert last is not None and last.any()
    assert (first is None) == detach
    # What the network returns is the same either way; the limit is the golden one of shapes, pixels.
    torch.testing.assert_close(found.points[-1].detach(), run(net, images, None).points[-1], rtol=0, atol=1e-4)
