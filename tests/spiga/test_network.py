"""The network against the golden arrays of the official code, intermediate by intermediate, and its size."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from common.schemes import IBUG68, WFLW98
from spiga.convert import constants, convert_state_dict
from spiga.fold import fold_network
from spiga.network import Output, SpigaNet
from spiga.original import SIZE, Face, crop_face
from spiga.schemes import edge_curves
from tests.conftest import needs_shared
from tests.spiga import golden

POINTS, RAW, FEATURE, WINDOW = 2e-5, 5e-4, 2e-4, 1e-3  # limits of the golden README
pytestmark = pytest.mark.golden


class Run(NamedTuple):
    """One golden network's arrays (without prefix) and our output for the two images and the three photographs."""

    golden: dict[str, np.ndarray]
    shared: dict[str, np.ndarray]
    net: SpigaNet
    official: dict[str, Tensor]
    about: dict[str, object]
    output: Output
    stem: Tensor
    image: Tensor
    dropped: list[str]


# The second network differs in its table of edges alone, which test_crops.py compares too.
@pytest.fixture(scope="module", params=["w98", pytest.param("w68", marks=pytest.mark.slow)])
def run(request: pytest.FixtureRequest, shared_dir: Path) -> Run:
    name = request.param
    everything = golden.arrays(shared_dir)
    own = {key[4:]: value for key, value in everything.items() if key.startswith(name)}
    official = golden.weights(shared_dir, name)
    net = golden.network(shared_dir, name, official)
    image = torch.from_numpy(golden.fill_module(shared_dir).image(11, (2, 3, 256, 256)))
    photographs = torch.from_numpy(everything["crop_bgr_uint8"]).float() / 255
    stems: list[Tensor] = []
    net.backbone.stem.register_forward_hook(lambda module, inputs, output: stems.append(output))
    with torch.inference_mode():
        # One pass for all five; the features keep only the two images of the network arrays.
        found = net.predict(torch.cat([image, photographs]), everything=True)
    return Run(own, everything, net, official, golden.describe(shared_dir, name), found, stems[0], image,
               convert_state_dict(official)[1])  # fmt: skip


def close(ours: Tensor | np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    ours = np.asarray(ours)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)


@needs_shared
def test_weights_are_the_golden_ones(run: Run) -> None:
    digest = hashlib.sha256()
    for key in list(run.official)[:20]:
        digest.update(run.official[key].numpy().tobytes())
    assert digest.hexdigest() == run.about["sha256_of_filled_float32_bytes_first20keys"]


@needs_shared
def test_landmarks_pose_and_first_points(run: Run) -> None:
    steps = torch.stack(run.output.steps)[:, :2]
    close(run.output.poses[-1][:2], run.golden["pose"], POINTS)
    close(run.output.poses[-1][:2], run.golden["pose_f64"], POINTS)
    close(steps[0], run.golden["x0"], POINTS)
    close(steps[1:], run.golden["landmarks"], POINTS)
    close(steps[1:], run.golden["landmarks_f64"], POINTS)
    close(torch.stack(run.output.raw)[:, :2], run.golden["raw_offset"], RAW)
    assert (np.abs(run.golden["raw_offset"]) > 1).any()  # the bound is exercised


@needs_shared
def test_backbone_maps(run: Run) -> None:
    features, maps = run.output.features, run.output.features.maps
    close(run.net.backbone.with_coordinates(run.image)[0, :, ::51, ::51], run.golden["coord_probe"], 1e-6)
    close(run.stem[:2, ::16, ::8, ::8], run.golden["pre_sub"], FEATURE)
    close(torch.stack(maps)[:, :2, ::32, ::8, ::8], run.golden["visual_field_sub"], FEATURE)
    close(maps[-1][:2].mean((2, 3)), run.golden["visual_field_last_chan_mean"], FEATURE)
    close(maps[-1][:2].std((2, 3), correction=0), run.golden["visual_field_last_chan_std"], FEATURE)
    close(torch.stack(features.cores)[:, :2, ::8], run.golden["core_sub"], FEATURE)


@needs_shared
def test_attention_of_points_and_edges(run: Run) -> None:
    names = {"points": "points_sub", "edges": "edges_sub", "raw": "maps_sub", "attended": "attended_sub",
             "near": "e2p_sub"}  # fmt: skip
    assert len(run.output.features.heads) == 3
    for field, name in names.items():
        stacked = torch.stack([getattr(maps, field) for maps in run.output.features.heads])
        close(stacked[:, :2, ::7, ::8, ::8], run.golden[name], FEATURE)
    flat = run.output.features.heads[0].points[:2].flatten(2)
    at_golden = flat.gather(-1, torch.from_numpy(run.golden["points0_argmax"])[..., None])[..., 0]
    assert (flat.amax(-1) - at_golden).max() <= FEATURE  # ties allowed


@needs_shared
def test_cascade_from_inside(run: Run) -> None:
    maps, attention = run.output.features.maps[-1][:2], []
    for t, step in enumerate(run.net.cascade):
        points = run.output.steps[t][:2]
        with torch.inference_mode():
            windows, embedded = step.sample(maps, points), step.embed_windows(maps, points)
            relative = step.relative(points)
            shape, x = step.shape(relative), step.embed(maps, points)
            for layer in step.layers:
                attention.append(layer.attention(x)[..., ::17, ::17])
                x = layer(x)
        close(windows.flatten(0, 1)[::17, ::64], run.golden["crops_sub"][t], WINDOW)
        close(embedded.flatten(0, 1)[::17, ::32], run.golden["visual_embed_sub"][t], WINDOW)
        close(relative[:, ::17], run.golden["rel_pos_sub"][t], FEATURE)
        close(shape[:, ::17, ::32], run.golden["shape_embed_sub"][t], FEATURE)
        assert step.reach == run.golden["offset_ratio"][t]
    close(torch.stack(attention), run.golden["attention_sub"], FEATURE)


@needs_shared
def test_photographs_from_uint8_to_image_pixels(run: Run, shared_dir: Path) -> None:
    image = np.round(255 * golden.fill_module(shared_dir).image(21, (3, 300, 400))).astype(np.uint8).transpose(1, 2, 0)
    points = run.output.steps[-1][2:].double().numpy()
    for k, box in enumerate(run.shared["crop_bbox_in"]):
        crop = crop_face(Face(image, np.zeros((1, 2)), box))
        np.testing.assert_array_equal(crop.image.transpose(2, 0, 1), run.shared["crop_bgr_uint8"][k])
        close(crop.box, run.shared["crop_bbox_out"][k], 1e-9)
        in_image = (SIZE * points[k] - crop.box[:2]) / crop.box[2:] * box[2:] + box[:2]
        close(in_image, run.golden["e2e_landmarks"][k], 5e-3)
    close(run.output.poses[-1][2:], run.golden["e2e_headpose"], POINTS)


@needs_shared
def test_constants_counts_and_dead_shortcuts(run: Run) -> None:
    fixed = constants(golden.SCHEMES["w98" if "98" in str(run.about["num_landmarks"]) else "w68"])
    assert set(fixed) == set(run.about["constant"])  # type: ignore[call-overload]
    for i in range(3):
        close(fixed[f"theta_S.{i}"], run.golden[f"theta_S{i}"], 1e-7)
    close(np.array([[96, 0, 32], [0, 96, 32], [0, 0, 1]], np.float32), run.shared["cam_matrix_64"], 0)
    dead = sum(run.official[key].numel() for key in run.dropped)
    assert len(run.dropped) == 65 and dead == 4_210_688
    ours = sum(p.numel() for p in run.net.parameters())
    assert ours + dead == run.about["numel_trainable"]
    assert len(run.official) == run.about["count"]
    assert sum(value.numel() for value in run.official.values()) == run.about["numel_total"]


@pytest.mark.parametrize("size, depth, more", [(256, 4, {}), (128, 3, {"stem": "strided"}), (64, 2, {"growth": 32})])
def test_other_sizes_give_finite_points(size: int, depth: int, more: dict[str, Any]) -> None:
    steps = 3 if size > 64 else 2
    face = torch.rand(68, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    net = SpigaNet(68, (tuple(range(17)), (17, 18)), tuple(range(19, 68)), face, size=size, stacks=1, width=32,
                   depth=depth, steps=steps, **more).eval()  # fmt: skip
    with torch.inference_mode():
        points, pose = net(torch.zeros(2, 3, size, size, dtype=torch.uint8))
    assert points.shape == (2, 68, 2) and pose.shape == (2, 6) and torch.isfinite(points).all()


def test_sizes_that_do_not_fit_are_refused() -> None:
    face = torch.zeros(68, 3)
    with pytest.raises(ValueError, match="256 pixels"):
        SpigaNet(68, (), (), face, size=128, depth=4)
    with pytest.raises(ValueError, match="width"):
        SpigaNet(68, (), (), face, width=40)
    with pytest.raises(ValueError, match="stem must be one of residual, strided and growth a multiple of 32: none, 8"):
        SpigaNet(68, (), (), face, stem="none", growth=8)


def test_a_growing_hourglass_widens_by_growth_a_level() -> None:
    net = SpigaNet(
        68, (), (), torch.zeros(68, 3), size=128, depth=3, stacks=1, width=32, growth=32, stem="strided"
    ).eval()
    features = net.backbone(torch.zeros(1, 3, 128, 128))
    _, inner = net.backbone.hourglasses[0].eval()(torch.zeros(1, 32, 32, 32))
    assert inner.shape == (1, 32 + 3 * 32, 4, 4)
    assert features.maps[0].shape == (1, 32, 32, 32) and features.cores[0].shape == (1, 32)


def test_schemes_of_the_project_have_the_released_edges() -> None:
    assert len(edge_curves(WFLW98)) == 15 and len(edge_curves(IBUG68)) == 13
    assert edge_curves(WFLW98)[4] == (46, 47, 48, 49, 50)


@needs_shared
def test_the_folded_network_gives_the_golden_landmarks(run: Run) -> None:
    folded = fold_network(run.net)
    with torch.inference_mode():
        found = folded.predict(run.image)
    close(torch.stack(found.steps[1:]), run.golden["landmarks"], POINTS)
    close(found.poses[-1], run.golden["pose"], POINTS)
    assert not found.features.heads[3:] and len(found.poses) == 1  # only what the points need
