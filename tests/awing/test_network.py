"""The network against the golden features of the official code, its size, and its switches."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from awing.convert import convert_state_dict
from awing.module import AWingTask, ExtraConfig
from awing.network import AWingNet
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.heatmaps import decode_quarter
from tests.conftest import needs_shared

MODELS = {"m98": "wflw98_4hg", "m68": "lm68_4hg"}
FEATURES = {
    "stem_conv": "stem", "stem_bn": "bn", "conv2": "block1", "conv3": "block2", "conv4": "block3",
    "hg0_coord": "stacks.0.coord", "hg1_coord": "stacks.1.coord",
    "hg0_b2_plus_1": "stacks.0.hourglass.inner.inner.inner.inner",
    "hg0": "stacks.0.hourglass", "hg3": "stacks.3.hourglass", "top_m_0": "stacks.0.top",
    "bl0": "stacks.0.merge_features", "al0": "stacks.0.merge_maps",
}  # fmt: skip
LARGE_VALUES = {"hg3": 1e-4}  # up to 110; all others 2e-5, as the golden README says


class Run(NamedTuple):
    """One network's golden arrays (without their prefix) and what ours gives for the same weights and images."""

    golden: dict[str, np.ndarray]
    outputs: list[Tensor]
    features: dict[str, Tensor]
    coordinates: list[Tensor]
    parameters: int


def fill_module(shared: Path) -> ModuleType:
    """Return the script that makes the golden weights and images."""
    spec = importlib.util.spec_from_file_location("golden_fill", shared / "golden" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden_weights(shared: Path, model: str) -> dict[str, Tensor]:
    """Return the golden weights under their official names."""
    description = json.loads((shared / "golden" / "awing" / "keys.json").read_text())[model]
    fill, scale = fill_module(shared).fill, description["scale"]
    return {
        key: torch.from_numpy(np.asarray(fill(key, tuple(shape)) * np.float32(scale[key]) if key in scale
                                         else fill(key, tuple(shape))))
        for key, shape in description["keys"].items()
    }  # fmt: skip


@pytest.fixture(scope="module", params=list(MODELS))
def run(request: pytest.FixtureRequest, shared_dir: Path) -> Run:
    """Run one network once on its two golden images, keeping the features and the coordinate channels."""
    prefix, model = request.param, MODELS[request.param]
    description = json.loads((shared_dir / "golden" / "awing" / "keys.json").read_text())[model]
    images = fill_module(shared_dir).image(description["input_seed"], description["input_shape"])
    with np.load(shared_dir / "golden" / "awing" / "golden.npz", allow_pickle=False) as arrays:
        golden = {key[4:]: arrays[key] for key in arrays.files if key.startswith(prefix + "_")}
    net = AWingNet(description["num_landmarks"], stacks=description["num_modules"]).eval()
    net.load_state_dict(convert_state_dict(golden_weights(shared_dir, model)), strict=True)
    features: dict[str, Tensor] = {}
    coordinates: list[Tensor] = []

    def keep(name: str) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            features[name] = output

        net.get_submodule(FEATURES[name]).register_forward_hook(hook)

    def keep_coordinates(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        coordinates.append(inputs[0][:, -2:])

    for name in FEATURES:
        keep(name)
    for i in range(len(net.stacks)):
        net.get_submodule(f"stacks.{i}.coord.conv").register_forward_pre_hook(keep_coordinates)
    with torch.inference_mode():
        outputs = net(torch.from_numpy(images))
    return Run(golden, outputs, features, coordinates, sum(p.numel() for p in net.parameters()))


def close(ours: Tensor | np.ndarray, golden: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(ours), golden, rtol=0, atol=tolerance)


@needs_shared
def test_heatmaps_of_every_stack(run: Run) -> None:
    for i, maps in enumerate(run.outputs):
        close(maps[:, ::7, ::4, ::4], run.golden[f"hm{i}_sub"], 2e-5)
        close(maps[:, -1], run.golden[f"hm{i}_boundary"].reshape(maps[:, -1].shape), 2e-5)
        close(maps.double().sum((2, 3)), run.golden[f"hm{i}_sum"], 5e-3)
        close(maps.double().abs().sum((2, 3)), run.golden[f"hm{i}_abssum"], 5e-3)


@needs_shared
def test_features(run: Run) -> None:
    stored = {key.removeprefix("feat_") for key in run.golden if key.startswith("feat_")}
    assert stored == set(FEATURES)
    for name, feature in run.features.items():
        height, width = feature.shape[-2:]
        part = feature[:, ::16, :: max(1, height // 8), :: max(1, width // 8)]
        close(part, run.golden[f"feat_{name}"], LARGE_VALUES.get(name, 2e-5))
        sums = np.array([feature.double().sum().item(), feature.double().abs().sum().item()])
        close(sums, run.golden[f"featsum_{name}"], 1e-6 * float(run.golden[f"featsum_{name}"][1]))


@needs_shared
def test_coordinates_and_boundary_masks(run: Run) -> None:
    covered: list[float] = []
    for i, channels in enumerate(run.coordinates):
        close(channels[:1], run.golden[f"bc{i}"], 1e-6)
        close(channels.double().sum((2, 3)), run.golden[f"bc{i}_sum"].reshape(channels.shape[:2]), 1e-3)
        if i:
            # No coordinate of an even-sized map is 0, so what is not 0 is the mask itself.
            np.testing.assert_array_equal(channels[:1].numpy() != 0, run.golden[f"bc{i}"] != 0)
            official = run.golden[f"hm{i - 1}_boundary"].reshape(channels.shape[0], *channels.shape[2:])
            np.testing.assert_array_equal(channels[:, 0].numpy() != 0, np.clip(official, 0, 1) > 0.05)
            covered.append(float(np.mean(channels[:, 0].numpy() != 0)))
    assert any(0.1 < share < 0.9 for share in covered)  # some masks are full by chance, but not all


@needs_shared
def test_decoded_points(run: Run) -> None:
    for i, maps in enumerate(run.outputs):
        clear = (run.golden[f"preds{i}_gap"] >= 1e-4).reshape(maps.shape[0], -1)
        assert clear.mean() > 0.9
        points = decode_quarter(maps[:, :-1]).numpy()
        np.testing.assert_array_equal(points[clear], run.golden[f"preds{i}"][clear])


@pytest.mark.parametrize(
    ("points", "stacks", "count"),
    [(98, 1, 6_333_603), (98, 2, 12_273_414), (98, 3, 18_213_225), (98, 4, 24_153_036), (68, 4, 24_099_156),
     (29, 4, 24_029_112), (19, 4, 24_011_152)],
)  # fmt: skip
def test_parameter_count(points: int, stacks: int, count: int) -> None:
    with torch.device("meta"):
        net = AWingNet(points, stacks=stacks)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize(("stacks", "gmac"), [(1, 8.73), (2, 14.72), (3, 20.72), (4, 26.71)])
def test_convolution_macs(stacks: int, gmac: float) -> None:
    with torch.device("meta"):  # counts from the shapes alone
        net, image = AWingNet(98, stacks=stacks), torch.empty(1, 3, 256, 256)
    with FlopCounterMode(display=False) as counter:
        net(image)
    flops = counter.get_flop_counts()["Global"]
    assert {str(operator) for operator in flops} == {"aten.convolution"}
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, abs=0.005)


@pytest.mark.parametrize(("size", "width"), [(128, 32), (64, 64), (256, 16)])
def test_sizes_and_widths(size: int, width: int) -> None:
    net = AWingNet(68, stacks=2, width=width).eval()
    with torch.inference_mode():
        outputs = net(torch.rand(1, 3, size, size))
    assert [tuple(maps.shape) for maps in outputs] == [(1, 69, size // 4, size // 4)] * 2
    assert net.stem.conv.out_channels == width // 4 and net.block1.conv1.out_channels == width // 4


def test_bytes_and_unit_floats_agree() -> None:
    net = AWingNet(5, stacks=1, width=16, depth=2).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(net(image)[0], net(image.float() / 255)[0], rtol=0, atol=0)


def test_switches_change_the_layers() -> None:
    plain = AWingNet(5, stacks=2, width=16, depth=2, coord_conv=False)
    assert isinstance(plain.stem, nn.Conv2d) and plain.stem.in_channels == 3
    assert all(stack.coord is None for stack in plain.stacks)
    unmasked = AWingNet(5, stacks=2, width=16, depth=2, boundary=False)
    assert [stack.coord.conv.in_channels for stack in unmasked.stacks] == [19, 19]
    masked = AWingNet(5, stacks=2, width=16, depth=2)
    assert [stack.coord.conv.in_channels for stack in masked.stacks] == [19, 21]
    for net in (plain, unmasked, masked):
        assert [tuple(maps.shape) for maps in net(torch.rand(2, 3, 64, 64))] == [(2, 6, 16, 16)] * 2


@pytest.mark.parametrize(
    ("stem", "growth", "gmac", "million"),
    [("residual", 0, 0.253, 0.63), ("strided", 0, 0.223, 0.63), ("strided", 32, 0.298, 1.94)],
)
def test_strided_stem_costs_less_and_growth_adds_where_it_is_cheap(
    stem: str, growth: int, gmac: float, million: float
) -> None:
    with torch.device("meta"):
        net = AWingNet(68, stacks=2, width=64, depth=3, stem=stem, growth=growth)
        image = torch.empty(1, 3, 128, 128)
    with FlopCounterMode(display=False) as counter:
        outputs = net(image)
    assert [tuple(maps.shape) for maps in outputs] == [(1, 69, 32, 32)] * 2
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, abs=0.001)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(million, abs=0.006)


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(ValueError, match="stem must be one of residual, strided"):
        AWingNet(68, width=64, stem="wide")


def test_no_gradient_through_the_boundary_mask() -> None:
    net = AWingNet(5, stacks=2, width=16, depth=2)
    first = net.stacks[0]
    first.merge_maps.weight.data.zero_()  # the only other way from the first head to the second stack
    net(torch.rand(2, 3, 64, 64))[1].square().sum().backward()
    assert first.head.weight.grad is None or not first.head.weight.grad.any()
    assert net.stem.conv.weight.grad.abs().sum() > 0


def test_logits_mask_by_probability() -> None:
    net = AWingNet(5, stacks=2, width=16, depth=2, logits=True).eval()
    seen: list[Tensor] = []
    net.stacks[1].coord.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    with torch.inference_mode():
        maps = net(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(seen[0], maps[0][:, -1].sigmoid())


@pytest.mark.parametrize("options", [{"width": 24}, {"stacks": 0}, {"depth": 0}])
def test_impossible_sizes(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        AWingNet(5, **options)  # type: ignore[arg-type]


def test_export_keeps_the_result() -> None:
    net = AWingNet(5, stacks=2, width=16, depth=2).eval()
    image = torch.rand(1, 3, 64, 64)
    program = torch.export.export(net, (image,))
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(image)[-1], net(image)[-1], rtol=0, atol=1e-6)


def test_the_flip_test_is_the_mean_of_both_sides() -> None:
    settings = {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, "depth": 2, "decode": "soft"}
    task = AWingTask(**settings, extra=ExtraConfig(flip_test=True)).eval()  # type: ignore[arg-type]
    faces = SyntheticFaces(2, seed=3)
    batch = Collate()([CroppedFaces(faces, CropConfig(size=64))[index] for index in range(2)])
    mirrored = replace(batch, image=batch.image.flip(-1))
    with torch.inference_mode():
        one, two = task.predict_batch(batch).points, task.predict_batch(mirrored).points
    back = torch.stack([63 - two[:, task.scheme.mirror, 0], two[:, task.scheme.mirror, 1]], -1)
    torch.testing.assert_close(one, back, atol=1e-4, rtol=0)
