"""The network against the recorded answers of the official code (golden/awing/README.md), on made-up weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from awing.convert import convert_state_dict
from awing.network import AWingNet
from common.heatmaps import decode_quarter
from tests.conftest import SHARED, needs_shared

GOLDEN = SHARED / "golden" / "awing"
CASES = {"m98": "wflw98_4hg", "m68": "lm68_4hg"}


def load_fill() -> Any:
    spec = importlib.util.spec_from_file_location("golden_fill", SHARED / "golden" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def official_weights(case: dict[str, Any], fill: Any) -> dict[str, Tensor]:
    values = {key: fill.fill(key, tuple(shape)) for key, shape in case["keys"].items()}
    for key, factor in case["scale"].items():
        values[key] = values[key] * np.float32(factor)
    return {key: torch.from_numpy(np.asarray(value)) for key, value in values.items()}


class Run:
    """One forward pass with everything that the golden file looks at."""

    def __init__(self, prefix: str) -> None:
        fill, case = load_fill(), json.loads((GOLDEN / "keys.json").read_text())[CASES[prefix]]
        self.golden = {
            key.removeprefix(prefix + "_"): value
            for key, value in np.load(GOLDEN / "golden.npz", allow_pickle=False).items()
            if key.startswith(prefix)
        }
        self.net = AWingNet(case["num_landmarks"], stacks=case["num_modules"])
        self.net.load_state_dict(convert_state_dict(official_weights(case, fill)))
        self.net.eval()
        self.seen: dict[str, Tensor] = {}
        self.masks: dict[int, Tensor] = {}
        stacks = list(self.net.stacks)
        parts = {
            "stem_conv": self.net.stem, "stem_bn": self.net.bn, "conv2": self.net.block1, "conv3": self.net.block2,
            "conv4": self.net.block3, "hg0_coord": stacks[0].coord, "hg1_coord": stacks[1].coord,
            "hg0_b2_plus_1": stacks[0].hourglass.inner.inner.inner.inner, "hg0": stacks[0].hourglass,
            "hg3": stacks[3].hourglass, "top_m_0": stacks[0].top, "bl0": stacks[0].merge_features,
            "al0": stacks[0].merge_maps,
        }  # fmt: skip
        for name, part in parts.items():
            part.register_forward_hook(lambda _m, _i, out, name=name: self.seen.__setitem__(name, out.clone()))
        for index, stack in enumerate(stacks):
            stack.coord.conv.register_forward_pre_hook(
                lambda _m, args, index=index: self.masks.__setitem__(index, args[0][:, -2:].clone())
            )
        image = torch.from_numpy(fill.image(case["input_seed"], case["input_shape"]))
        with torch.inference_mode():
            self.maps = self.net(image)


@pytest.fixture(scope="module", params=sorted(CASES))
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


def close(found: Tensor, expected: np.ndarray, limit: float) -> None:
    difference = np.abs(found.numpy().astype(np.float64) - expected).max()
    assert difference <= limit, f"off by {difference}"


@needs_shared
@pytest.mark.golden
def test_official_weights_give_the_official_maps(run: Run) -> None:
    for i, maps in enumerate(run.maps):
        close(maps[:, ::7, ::4, ::4], run.golden[f"hm{i}_sub"], 2e-5)
        close(maps[:, -1], run.golden[f"hm{i}_boundary"], 2e-5)
        close(maps.double().sum((-2, -1)), run.golden[f"hm{i}_sum"], 5e-3)
        close(maps.double().abs().sum((-2, -1)), run.golden[f"hm{i}_abssum"], 5e-3)


@needs_shared
@pytest.mark.golden
def test_every_recorded_layer(run: Run) -> None:
    for name, feature in run.seen.items():
        step = max(1, feature.shape[-1] // 8)
        close(feature[:, ::16, ::step, ::step], run.golden[f"feat_{name}"], 1e-4 if name == "hg3" else 2e-5)
        total, absolute = run.golden[f"featsum_{name}"]
        limit = 1e-6 * absolute
        assert abs(feature.double().sum().item() - total) <= limit, name
        assert abs(feature.double().abs().sum().item() - absolute) <= limit, name
    assert len(run.seen) == 13


@needs_shared
@pytest.mark.golden
def test_boundary_coordinates(run: Run) -> None:
    for i, channels in run.masks.items():
        close(channels[:1], run.golden[f"bc{i}"], 1e-6)
        close(channels.double().sum((-2, -1)), run.golden[f"bc{i}_sum"], 1e-3)
        assert torch.equal(channels[:1] == 0, torch.from_numpy(run.golden[f"bc{i}"] == 0)), "the masks differ"


@needs_shared
@pytest.mark.golden
def test_decoded_points(run: Run) -> None:
    for i, maps in enumerate(run.maps):
        sure = run.golden[f"preds{i}_gap"] >= 1e-4
        found = decode_quarter(maps[:, :-1]).numpy()
        np.testing.assert_array_equal(found[sure], run.golden[f"preds{i}"][sure])
        assert sure.mean() > 0.9


@pytest.mark.parametrize(("points", "count"), [(98, 24_153_036), (68, 24_099_156), (29, 24_029_112), (19, 24_011_152)])
def test_parameter_count_is_the_official_one(points: int, count: int) -> None:
    assert sum(p.numel() for p in AWingNet(points).parameters()) == count


@pytest.mark.parametrize(("stacks", "gmac"), [(1, 8.73), (2, 14.72), (4, 26.71)])
def test_multiply_adds_are_the_published_ones(stacks: int, gmac: float) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        net, image = AWingNet(98, stacks=stacks), torch.empty(1, 3, 256, 256)
    with FlopCounterMode(display=False) as counter:
        net(image)
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, abs=0.006)


@pytest.mark.parametrize("options", [{"coord_conv": False}, {"boundary": False}, {"logits": True}, {}])
def test_options_run_and_reach_every_parameter(options: dict[str, bool]) -> None:
    net = AWingNet(19, stacks=2, width=16, depth=2, **options)
    maps = net(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    assert [tuple(m.shape) for m in maps] == [(2, 20, 16, 16)] * 2
    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_bytes_and_floats_are_the_same_picture() -> None:
    net = AWingNet(5, stacks=1, width=16, depth=2).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(net(image)[0], net(image.float() / 255)[0])


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        AWingNet(68, width=40)


def test_golden_keys_are_all_used() -> None:
    if not Path(GOLDEN).is_dir():
        pytest.skip("the reference data (../shared) are not beside this checkout")
    names = {key.split("_", 1)[1] for key in np.load(GOLDEN / "golden.npz").files}
    assert len([n for n in names if n.startswith("feat_")]) == 13
