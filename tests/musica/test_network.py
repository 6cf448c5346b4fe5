"""The official network, losses and gradients, array by array."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.measure.timing import count_macs, count_parameters
from common.errors import LabError
from common.native import available
from common.schemes import IBUG68, WFLW98
from musica.loss import CascadeLoss, landmark_error
from musica.native import loops
from musica.network import INITS, CascadeNet, Stage
from musica.patches import NAMED, cut_patches, make_level, patch_indices, patch_sets
from musica.types import PATCH, CascadeRun, Pyramid
from tests.conftest import needs_shared
from tests.musica.golden import (
    CONFIGS,
    golden_arrays,
    golden_images,
    golden_pyramid,
    keys,
    make_net,
)

pytestmark = pytest.mark.golden


class Run(NamedTuple):
    """One configuration's golden arrays and what ours gives, with gradients."""

    name: str
    golden: dict[str, np.ndarray]
    pyramid: Pyramid
    run: CascadeRun
    truth: Tensor
    net: CascadeNet
    parts: dict[str, Tensor]


@pytest.fixture(scope="module", params=list(CONFIGS))
def run(request: pytest.FixtureRequest, shared_dir: Path) -> Run:
    name = request.param
    golden, net = golden_arrays(shared_dir, name), make_net(shared_dir, name)
    start = torch.from_numpy(golden["init_shape_0"])
    pyramid = golden_pyramid(shared_dir, name)
    done = net.run(pyramid, start, keep_traces=True)
    truth = torch.from_numpy(golden["gt"])
    corners = (WFLW98 if CONFIGS[name].points == 98 else IBUG68).corners
    parts = CascadeLoss(corners)(done.points, done.errors, truth)
    parts["loss"].backward()
    return Run(name, golden, pyramid, done, truth, net, parts)


def close(ours: Tensor | np.ndarray, golden: np.ndarray, absolute: float = 0.0, relative: float = 0.0) -> None:
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else ours
    assert ours.shape == golden.shape
    np.testing.assert_allclose(ours, golden, rtol=relative, atol=absolute)


@needs_shared
@pytest.mark.skipif(not available, reason="the extra `fast` is not installed (numba)")
@pytest.mark.parametrize("whole", [True, False], ids=["all loops", "patches only"])
def test_compiled_loops_reach_the_golden_shapes(run: Run, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are those of `test_forward`."""
    monkeypatch.setattr(loops, "MOST_FACES", 99 if whole else 0)
    cascade = loops.NativeCascade(run.net)
    assert cascade.usable
    with torch.no_grad():
        done = cascade.run(run.pyramid, torch.from_numpy(run.golden["init_shape_0"]))
    for t in range(len(run.net.level_of)):
        close(done.points[t], run.golden[f"shape_{t}"], 1e-4)
        close(done.errors[t], run.golden[f"error_{t}"], 2e-5)


@needs_shared
def test_forward(run: Run) -> None:
    """Centres, shapes, states and errors of every iteration of all four configurations."""
    golden, start = run.golden, torch.from_numpy(run.golden["init_shape_0"])
    for t, trace in enumerate(run.run.traces):
        level, output = run.net.level_of[t], trace.output
        close(trace.centres, golden[f"centres_{t}"], 1e-4)
        close(run.run.points[t], golden[f"shape_{t}"], 1e-4)
        close(run.run.errors[t], golden[f"error_{t}"], 2e-5)
        arrays: dict[str, tuple[Tensor, float]] = {
            "features": (trace.features, 5e-5),
            "attention": (output.attention, 1e-5),
            "hidden": (output.state, 1e-5),
            "dx0": (run.run.points[t] - start, 1e-4),
            "level_final": (start / 2**level + trace.moved, 1e-4),
            "level_init": (start / 2**level + trace.moved - output.displacement, 1e-4),
        }
        for name, (ours, tolerance) in arrays.items():
            if f"{name}_{t}" in golden:
                close(ours, golden[f"{name}_{t}"], tolerance)
        if f"patches_{t}" in golden:
            patches = cut_patches(run.pyramid.levels[level], trace.centres.detach(), PATCH, run.net.sampling)
            np.testing.assert_array_equal(patches.permute(0, 2, 3, 1).numpy(), golden[f"patches_{t}"])


@needs_shared
def test_the_official_first_return_value_doubles_once_too_often(run: Run) -> None:
    """Ours returns the last shape; the official function's first value differs by a known slip of its own."""
    start = torch.from_numpy(run.golden["init_shape_0"])
    factor = 1 if CONFIGS[run.name].iterations == 2 else 2
    close(start + factor * run.run.traces[-1].moved, run.golden["final_return"], 2e-4)


@needs_shared
def test_losses(run: Run) -> None:
    corners = (WFLW98 if CONFIGS[run.name].points == 98 else IBUG68).corners
    for t, points in enumerate(run.run.points):
        close(landmark_error(points, run.truth, corners), run.golden[f"l1_{t}"], relative=1e-5)
        close(landmark_error(points, run.truth, corners, "rmse"), run.golden[f"rmse_{t}"], relative=1e-6)
    close(run.parts["loss"], run.golden["total_loss"], relative=1e-5)
    torch.testing.assert_close(run.parts["loss"], run.parts["landmark"] + run.parts["error"])


@needs_shared
def test_gradients(run: Run, shared_dir: Path) -> None:
    """Norm and sum of each official variable's gradient, in the order of the key list."""
    from musica.convert import name_table

    table = name_table(CONFIGS[run.name].iterations)
    # The hidden layer's weights are kept the other way round; norm and sum do not see it.
    parameters = {name.replace(".kernel", ".weight"): p for name, p in run.net.named_parameters()}
    gradients = [parameters[table[key]].grad for key in keys(shared_dir, run.name)]
    assert all(g is not None for g in gradients)
    norms = np.array([g.double().norm().item() for g in gradients])
    sums = np.array([g.double().sum().item() for g in gradients])
    close(norms, run.golden["grad_norm"], relative=1e-4)
    close(sums, run.golden["grad_sum"], absolute=1e-2)


@needs_shared
def test_every_golden_array_is_compared(run: Run) -> None:
    """A new array in the golden file must not pass unseen."""
    known = ("centres", "patches", "features", "attention", "hidden", "error", "dx0", "shape", "level_init",
             "level_final", "l1", "rmse")  # fmt: skip
    iterations = range(CONFIGS[run.name].iterations)
    expected = {f"{name}_{t}" for name in known for t in iterations} | {
        "init_shape_0", "gt", "final_return", "total_loss", "grad_norm", "grad_sum", "image_level_0_stats",
        "image_level_1", "image_level_2",
    }  # fmt: skip
    assert set(run.golden) <= expected


@needs_shared
@pytest.mark.parametrize("name", list(CONFIGS))
def test_pyramid(name: str, shared_dir: Path) -> None:
    golden = golden_arrays(shared_dir, name)
    images = [level.numpy() for level in golden_images(shared_dir, name)]
    first = images[0]
    stats = [first.mean(dtype=np.float64), first.std(dtype=np.float64), first.min(), first.max(), first[0, 5, 7, 1],
             first[-1, -1, -1, -1]]  # fmt: skip
    close(np.array(stats), golden["image_level_0_stats"], 1e-6)
    for level in (1, 2):
        if f"image_level_{level}" in golden:
            close(images[level], golden[f"image_level_{level}"], 1e-6)


@needs_shared
def test_official_sampling_at_the_border(shared_dir: Path) -> None:
    golden = golden_arrays(shared_dir, "op_edge")
    level = make_level(torch.from_numpy(golden["image"]))
    patches = cut_patches(level, torch.from_numpy(golden["centres"]), 14, "official")
    np.testing.assert_array_equal(patches.permute(0, 2, 3, 1).numpy(), golden["patches"][0])


def test_size_of_the_official_network() -> None:
    """20,586,543 parameters and 69.96 M multiply-adds (49 patches, 98 points, 3 iterations), by the speed table."""
    net = CascadeNet(98, patch_indices("every_second", 98))
    assert count_parameters(net) == 20_586_543
    macs = count_macs(net, torch.zeros(1, 3, 228, 228, dtype=torch.uint8))
    assert macs == 3 * (337_408 * 49 + (256 * 49 + 512) * 512 + 512 * 197) == 69_955_584
    assert net.macs(3) == macs and net.macs(1) * 3 == macs


def test_patch_sets() -> None:
    assert patch_indices("every_second", 98) == tuple(range(0, 98, 2))
    assert len(patch_indices("all", 68)) == 68
    assert len(patch_indices("w300_19", 68)) == 19
    assert patch_indices([5, 3], 68) == (5, 3)
    for name, (points, indices) in NAMED.items():
        assert patch_indices(name, points) == indices and len(indices) == int(name.rsplit("_", 1)[1])
        assert len(set(indices)) == len(indices) and max(indices) < points
    assert patch_indices("two_of_three", 8) == (0, 1, 3, 4, 6, 7)
    for wrong in ("nothing", "inhouse165_23", [0, 0], [68], []):
        with pytest.raises(LabError, match="patches"):
            patch_indices(wrong, 68)  # type: ignore[arg-type]
    assert patch_sets("w300_19", 68) == patch_indices("w300_19", 68)
    mixed: list[str | list[int]] = ["w300_19", [3, 1]]
    assert patch_sets(mixed, 68) == (patch_indices("w300_19", 68), (3, 1))
    with pytest.raises(LabError, match="patches"):
        patch_sets(["all", "nothing"], 68)


def test_every_iteration_may_have_its_own_patches() -> None:
    sets = [(30, 36, 45), (8, 30), range(0, 68, 3)]
    net = CascadeNet(68, sets, 3, units=16).eval()
    assert [indices.tolist() for indices in net.index_sets] == [list(indices) for indices in sets]
    assert [stage.num_patches for stage in net.stage_list] == [3, 2, 23]
    image = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    assert net.macs(3) == sum(stage.macs for stage in net.stage_list) == count_macs(net, image[:1])
    with torch.inference_mode():
        traces = net.run(net.pyramid(image), torch.rand(2, 68, 2) * 96, keep_traces=True).traces
    assert [trace.centres.shape[1] for trace in traces] == [3, 2, 23]
    with pytest.raises(LabError, match="2 sets for 3 iterations"):
        CascadeNet(68, sets[:2], 3)


def test_dropout_is_of_training_only() -> None:
    torch.manual_seed(0)
    stage, state = Stage(68, 19, init="fan_in", dropout=0.5), torch.zeros(1, 512)
    features = stage.describe(torch.randn(19, 3, 14, 14))
    one, two = (stage(features, state).state for _ in range(2))
    assert not torch.equal(one, two)
    stage.eval()
    assert torch.equal(stage(features, state).state, stage(features, state).state)
    with pytest.raises(LabError, match="dropout"):
        CascadeNet(68, (0, 1), dropout=1.0)


def test_low_rank_hidden_layer_is_smaller() -> None:
    whole, thin = Stage(68, 34), Stage(68, 34, rank=64)
    assert count_parameters(thin) < count_parameters(whole) / 5
    output = thin(thin.describe(torch.randn(2 * 34, 3, 14, 14)), torch.zeros(2, 512))
    assert output.displacement.shape == (2, 68, 2) and output.error.shape == (2,)


def test_first_weights() -> None:
    """The output starts near zero with both; fan_in keeps features of the size of the pixels all the way through."""
    torch.manual_seed(0)
    patches, sizes = torch.randn(20 * 19, 3, 14, 14), {}
    for init in INITS:
        stage = Stage(68, 19, init=init)
        assert abs(stage.output.weight.std() - 0.01 * 0.88) < 5e-4  # 0.88: what cutting at two deviations leaves
        sizes[init] = float(stage.describe(patches).detach().std())
    assert sizes["released"] < 0.02 and 0.1 < sizes["fan_in"] < 2


WRONG: list[dict[str, object]] = [
    {"iterations": 6}, {"sampling": "nearest"}, {"units": 0}, {"rank": -1}, {"init": "zeros"}, {"levels": [1, 0]},
    {"iterations": 3, "levels": [4, 1, 0]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_options_are_reported(wrong: dict[str, object]) -> None:
    with pytest.raises(LabError, match=list(wrong)[-1]):
        CascadeNet(68, (0, 1), **wrong)  # type: ignore[arg-type]
