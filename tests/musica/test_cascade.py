"""The exit is real: what left is not computed, and what stays is not changed by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from musica.cascade import CascadeRun, run_cascade
from musica.native import loops
from musica.network import CascadeNet, Stage

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


@pytest.fixture(autouse=True, params=["tensors", "loops"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Take each of the two ways through the cascade; six faces are few enough for the loops."""
    if request.param == "tensors":
        monkeypatch.setattr(loops, "available", False)
    elif not loops.available:
        pytest.skip("the extra `fast` is not installed (numba)")
    return str(request.param)


@pytest.fixture(scope="module")
def images() -> Tensor:
    torch.manual_seed(4)
    coarse = torch.rand(FACES, 3, 12, 12)
    return (torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear") * 255).to(torch.uint8)


def run(net: CascadeNet, images: Tensor, exit_below: tuple[float, ...] | None) -> CascadeRun:
    net.exit_below = exit_below
    try:
        with torch.inference_mode():
            return net(images)  # type: ignore[no-any-return]
    finally:
        net.exit_below = None


def macs(net: CascadeNet, images: Tensor, exit_below: tuple[float, ...] | None) -> int:
    with FlopCounterMode(display=False) as counter:
        run(net, images, exit_below)
    return counter.get_total_flops() // 2


def split_threshold(full: CascadeRun, iteration: int) -> float:
    """Return a threshold between the faces' predicted errors, so that half of them leave."""
    values = full.errors[iteration].sort().values
    return float(values[FACES // 2 - 1 : FACES // 2 + 1].mean())


def test_no_exit_and_minus_infinity_are_the_full_cascade(net: CascadeNet, images: Tensor) -> None:
    full, never = run(net, images, None), run(net, images, (-torch.inf, -torch.inf))
    for ours, theirs in zip(full.points, never.points, strict=True):
        assert torch.equal(ours, theirs)
    assert never.iterations.tolist() == [3] * FACES


def test_plus_infinity_stops_after_the_first_iteration(net: CascadeNet, images: Tensor) -> None:
    full, first = run(net, images, None), run(net, images, (torch.inf, torch.inf))
    assert len(first.points) == 1 and torch.equal(first.points[0], full.points[0])
    assert first.iterations.tolist() == [1] * FACES


def test_a_face_that_left_costs_nothing_more(net: CascadeNet, images: Tensor) -> None:
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


def test_no_later_stage_is_called_once_all_have_left(
    net: CascadeNet, images: Tensor, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "loops":  # which return how many iterations they ran; see the tests of infinite thresholds
        seen: list[int] = []
        original = loops.together

        def together(calls: list[Any]) -> int:
            seen.append(original(calls))
            return seen[-1]

        monkeypatch.setattr(loops, "together", together)
        run(net, images, (torch.inf, torch.inf))
        run(net, images, (-torch.inf, torch.inf))
        assert seen == [1, 2]
        return

    def refuse(*_: object) -> None:
        raise AssertionError("a stage ran for nobody")

    for stage in net.stage_list[1:]:
        monkeypatch.setattr(stage, "forward", refuse)
    run(net, images, (torch.inf, torch.inf))
    with pytest.raises(AssertionError, match="for nobody"):
        run(net, images, (-torch.inf, torch.inf))


def test_the_batch_shrinks_to_the_faces_that_stay(
    net: CascadeNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "available", False)
    sizes: list[int] = []
    original = Stage.forward

    def count(self: Stage, patches: Tensor, state: Tensor) -> object:
        sizes.append(len(state))
        assert len(patches) == len(state) * len(net.index_sets[0])
        return original(self, patches, state)

    monkeypatch.setattr(Stage, "forward", count)
    rule = (split_threshold(run(net, images, None), 0), -torch.inf)
    sizes.clear()
    run(net, images, rule)
    assert sizes == [FACES, FACES // 2, FACES // 2]


def test_compaction_changes_no_answer(net: CascadeNet, images: Tensor) -> None:
    """Each face's answer is that of the full cascade at the iteration where it left, in the right row."""
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


def test_an_error_that_is_no_number_does_not_leave(net: CascadeNet, images: Tensor) -> None:
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
            run = run_cascade(net, net.pyramid(torch.zeros(1, 3, 64, 64)), torch.zeros(1, 68, 2))
        moved = [float(points[0, 0, 0]) for points in run.points]
        assert moved == [sum(factor[: t + 1]) for t in range(iterations)]


@pytest.mark.parametrize("detach", [False, True])
def test_detached_iterations_get_no_gradient_from_later_ones(net: CascadeNet, images: Tensor, detach: bool) -> None:
    made = CascadeNet(68, (30, 36, 45, 48), 3, units=16, sampling=net.sampling, detach=detach)
    made.load_state_dict(net.state_dict())
    answer = made(images)
    (answer.points[-1].sum() + answer.errors[-1].sum()).backward()
    first, last = (made.stage_list[t].output.weight.grad for t in (0, -1))
    assert last is not None and last.any()
    assert (first is None) == detach
    # What the network answers is the same either way; the limit is the golden one of shapes, pixels.
    torch.testing.assert_close(answer.points[-1].detach(), run(net, images, None).points[-1], rtol=0, atol=1e-4)
