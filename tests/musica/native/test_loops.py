"""Patches that are cut and described by compiled loops: the same numbers as the tensors' path gives."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.native import available, usable
from musica.module import MusicaTask, NetworkConfig
from musica.native import loops
from musica.native.loops import NativeCascade
from musica.network import CascadeNet

pytestmark = pytest.mark.skipif(not available, reason="the extra `fast` is not installed (numba)")


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
    pyramid, cascade = net.pyramid(_faces(3)), NativeCascade(net)
    start = net.start[None].repeat(3, 1, 1)
    start[1] += 0.37
    start[0, :6] = torch.tensor([[-3.2, 5], [227.5, 4], [0.4, 219.9], [-40, 30], [30, 900], [1e9, -1e9]])
    start[2, 3], start[2, 6] = torch.nan, torch.inf
    for chosen in (None, torch.tensor([2, 0])):
        for level, stage in zip(net.level_of, net.stage_list, strict=True):
            centres = ((start if chosen is None else start[chosen]) / 2**level)[:, net.index_sets[0]]
            for scale in (pyramid.scale, None):
                where = (stage, pyramid.levels[level], centres, chosen, scale)
                expected, found = net.describe(*where), cascade.describe(*where)
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@torch.inference_mode()
def test_the_cascade_ends_at_the_same_place(net: CascadeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    image = _faces(2)
    expected, cascade = net(image), NativeCascade(net)
    for most in (loops.MOST_FACES, 0):  # all in loops; the patches alone
        monkeypatch.setattr(loops, "MOST_FACES", most)
        found = cascade(image)
        for ours, theirs in zip(found.points, expected.points, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)  # the golden limit of shapes, pixels
        # The better face of the two leaves first.
        early = cascade(image, None, (torch.stack(found.errors)[0].mean().item(), -1e9))
        assert sorted(early.iterations.tolist()) == [1, 3]
    origin = torch.tensor([[3.0, 5], [-4, 2]])
    torch.testing.assert_close(cascade(image, origin).points[-1], net(image, origin).points[-1], rtol=0, atol=1e-4)


@torch.inference_mode()
def test_levels_are_those_of_the_tensors(net: CascadeNet) -> None:
    """Limits: brightness is in 0..255, single precision."""
    image = _faces(3)
    image[2] = 77  # of one colour
    found, expected = NativeCascade(net).pyramid(image), net.pyramid(image)
    assert found.scale is not None and expected.scale is not None
    for ours, theirs in zip(found.levels, expected.levels, strict=True):
        torch.testing.assert_close(ours.image, theirs.image, rtol=0, atol=1e-3)
        assert not ours.memory[:48].any() and not ours.memory[-48:].any()
    torch.testing.assert_close(found.scale[:2], expected.scale[:2], rtol=1e-5, atol=0)


@torch.no_grad()
def test_a_task_s_loops_follow_the_weights() -> None:
    """A task keeps views of its network's weights, whichever way these are changed."""
    task = MusicaTask("ibug68", 96, NetworkConfig([30, 36, 45, 48, 54], units=16)).eval()
    net, image = task.net, torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    for parameter in net.parameters():
        parameter.data.uniform_(-0.1, 0.1)
    kept = task.cascade(image)
    assert isinstance(kept, NativeCascade)

    def check(same: bool) -> None:
        found, expected = task.run_crops(image), net(image)
        assert (task.cascade(image) is kept) == same
        torch.testing.assert_close(found.points[-1], expected.points[-1], rtol=0, atol=1e-4)
        torch.testing.assert_close(found.errors[-1], expected.errors[-1], rtol=0, atol=2e-5)

    for name in ("conv1", "conv2", "attention", "output", "squeeze"):
        for parameter in getattr(net.stage_list[0], name).parameters():
            parameter.data.mul_(0.7)  # unseen by autograd
        check(same=True)
    net.stage_list[1].hidden.weight.mul_(0.5)
    check(same=True)
    net.load_state_dict({name: value * 0.9 for name, value in net.state_dict().items()})
    check(same=True)
    net.stage_list[2].conv1.weight = torch.nn.Parameter(net.stage_list[2].conv1.weight * 0.5)
    check(same=False)
    net.stage_list[2].conv2.weight.data = net.stage_list[2].conv2.weight * 0.5
    check(same=False)


@torch.inference_mode()
def test_nan_stays_nan(net: CascadeNet) -> None:
    kept = net.stage_list[1].conv1.weight[0, 0, 0, 0].clone()
    bias = net.stage_list[1].hidden.bias
    assert bias is not None
    bias[0] = torch.nan
    run = NativeCascade(net)(_faces(1))
    bias[0] = kept
    assert run.errors[0].isfinite().all() and run.errors[1].isnan().all() and run.errors[2].isnan().all()
    assert run.points[1].isnan().all() and run.iterations.tolist() == [3]


def test_a_late_helper_finds_the_work_done(net: CascadeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads one after another give what threads at the same time give: nobody waits for anybody to begin."""
    image = _faces(3)
    with torch.inference_mode():
        cascade = NativeCascade(net)
        expected = cascade(image)
        monkeypatch.setattr(loops, "together", lambda calls: [call() for call in calls][0])
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        found = cascade(image)
    torch.testing.assert_close(found.points[-1], expected.points[-1], rtol=0, atol=1e-4)


def test_the_task_takes_the_loops_where_they_can_work() -> None:
    task = MusicaTask("ibug68", 96, NetworkConfig([30, 36, 45], units=16)).eval()
    image = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    assert task.cascade(image) is task.net  # with gradients
    with torch.no_grad():
        assert isinstance(task.cascade(image), NativeCascade) and isinstance(task.cascade(image / 255), NativeCascade)
        assert task.cascade(image.double()) is task.net
        with FlopCounterMode(display=False):  # which would not see what compiled loops do
            assert not usable(image) and task.cascade(image) is task.net
        task.net.double()
        assert task.cascade(image) is task.net
        assert not usable(image.to("meta"))


def test_loops_are_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    with torch.no_grad():
        assert usable(image)
        for owner, name in ((torch.jit, "is_tracing"), (torch.onnx, "is_in_onnx_export")):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, lambda: True)
                assert not usable(image)
