"""Attention between landmarks: fused and by message passing, the graphs, the folded network and its measurements."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from benchmarks.studies.spiga import speed
from common.data.crops import CropConfig
from common.errors import LabError
from common.schemes import IBUG68, WFLW98, LandmarkScheme
from spiga.fold import fold_network
from spiga.graph import GraphAttention, anatomical_edges, complete_edges, make_edges, nearest_edges
from spiga.mean_face import default_mean_face
from spiga.network import SpigaNet
from spiga.schemes import edge_curves

EXACT = 1e-10  # of float64


@pytest.fixture(scope="module")
def layer() -> GraphAttention:
    torch.manual_seed(0)
    made = GraphAttention(32, 16).double().eval()
    for norm in made.mlp.norms:
        torch.nn.init.uniform_(norm.running_mean)  # type: ignore[arg-type]
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    return made


def features(batch: int = 3, count: int = 68) -> torch.Tensor:
    return torch.randn(batch, count, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_message_passing_equals_fused_attention_on_the_complete_graph(layer: GraphAttention) -> None:
    x = features().requires_grad_()
    edges = complete_edges(68)
    assert edges.shape == (2, 68 * 68) and len(set(zip(*edges.tolist(), strict=True))) == 68 * 68
    fused, passed = layer(x), layer(x, edges)
    torch.testing.assert_close(passed, fused, atol=EXACT, rtol=0)
    seed = torch.randn(fused.shape, dtype=fused.dtype)
    gradients = [torch.autograd.grad(out, [x, *layer.parameters()], seed) for out in (fused, passed)]
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, atol=EXACT, rtol=0)


def test_message_passing_equals_masked_attention_on_a_sparse_graph(layer: GraphAttention) -> None:
    x, edges = features(), anatomical_edges(IBUG68)
    weights = layer.attention(x, edges)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), atol=EXACT, rtol=0)
    value = layer.value(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
    message = layer.merge((weights @ value).transpose(1, 2).flatten(2))
    expected = layer.skip(x) + layer.mlp(torch.cat([x, message], -1))
    torch.testing.assert_close(layer(x, edges), expected, atol=EXACT, rtol=0)
    assert (layer(x, edges) - layer(x)).abs().max() > 0.01  # the graph matters


def test_a_point_hears_its_neighbours_only_and_faces_do_not_mix(layer: GraphAttention) -> None:
    edges = anatomical_edges(IBUG68)
    x = features()
    changed = x.clone()
    changed[1, 30] += 1.0
    moved = (layer(changed, edges) - layer(x, edges)).abs().amax(-1) > 1e-9
    hearers = torch.zeros(68, dtype=torch.bool)
    hearers[edges[1][edges[0] == 30]] = True
    assert torch.equal(moved[1], hearers) and not moved[0].any() and not moved[2].any()


@pytest.mark.parametrize("scheme", [IBUG68, WFLW98])
def test_graphs(scheme: LandmarkScheme) -> None:
    count, model = scheme.num_points, default_mean_face(scheme)
    pairs = {tuple(pair) for pair in anatomical_edges(scheme).T.tolist()}
    assert {(b, a) for a, b in pairs} == pairs and {(i, i) for i in range(count)} <= pairs
    assert {(i, scheme.mirror[i]) for i in range(count)} <= pairs and set(map(tuple, scheme.edges)) <= pairs
    assert len(pairs) < count**2 / 10
    near = nearest_edges(model, 5)
    assert (torch.bincount(near[1], minlength=count) == 6).all()
    for target in (0, 20, count - 1):
        order = (model - model[target]).norm(dim=1).argsort()[:6]
        assert set(near[0][near[1] == target].tolist()) == set(order.tolist())
    assert make_edges("complete", scheme, model, 5) is None


def small_network(graph: torch.Tensor | None) -> SpigaNet:
    torch.manual_seed(0)
    net = SpigaNet(68, edge_curves(IBUG68), IBUG68.singles, default_mean_face(IBUG68), graph, 64, 2, 32, 2, 2)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("graph", ["complete", "anatomical"])
def test_folding_changes_nothing_but_speed(graph: Literal["complete", "anatomical"]) -> None:
    net = small_network(make_edges(graph, IBUG68, default_mean_face(IBUG68), 4))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    folded = fold_network(net)
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        points, pose = net(image)
        found, turned = folded(image)
    torch.testing.assert_close(found, points, atol=2e-5, rtol=0)
    torch.testing.assert_close(turned, pose, atol=2e-5, rtol=0)
    after = net.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    left = [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    pre_activation = [m for m in net.modules() if type(m).__name__ == "Residual"]
    assert len(left) == len(pre_activation)  # only those that follow no convolution
    with pytest.raises(LabError, match="evaluation mode"):
        fold_network(net.train())


def test_the_comparison_of_networks_has_both_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "make_network", lambda scheme: small_network(None))
    monkeypatch.setattr(speed, "CROP", CropConfig(size=64))
    found = speed.compare_networks(IBUG68, rounds=1)
    assert set(found) == {"batch 1", "batch 8"}
    for row in found.values():
        assert row["ratio"] == pytest.approx(row["plain_ms_per_face"] / row["fast_ms_per_face"])
        assert row["largest_difference_of_points"] < 2e-5


def test_plain_and_fast_network_answer_the_same() -> None:
    net = small_network(None)
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(speed.plain_answer(net, image)[0], net(image)[0], atol=2e-5, rtol=0)


def test_the_speed_record_counts_the_released_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parameters and multiply-adds are the real network's; the times of this test are thrown away."""
    monkeypatch.setattr(speed, "BATCHES", (1,))
    times = {"plain_ms_per_face": 7.0, "fast_ms_per_face": 5.0, "ratio": 1.4}
    monkeypatch.setattr(speed, "compare_networks", lambda scheme, rounds: {"batch 1": times})
    out = tmp_path / "speed.json"
    assert speed.main(["--points", "68", "--rounds", "1", "--out", str(out)]) == 0
    printed = re.sub(" +", " ", capsys.readouterr().out)
    assert "| 58,968,364 | 4,210,688 | 63,179,052 | 20.9" in printed
    assert "| batch 1 | 7 | 5 | 1.40 | goal 1.15, reached |" in printed
    assert "| complete, fused attention | 4624 |" in printed
    found = json.loads(out.read_text())
    sizes = found["sizes"]
    assert sizes["parameters"] == 63_179_052 - 4_210_688 and sizes["dead_shortcuts"] == 4_210_688
    # The specification has 41.8 GFLOP, two for each multiply-add, of the released graph with 68 points.
    np.testing.assert_allclose(2 * sizes["macs"]["plain"] / 1e9, 41.8, atol=0.05)
    assert sizes["macs"]["fast"] < sizes["macs"]["plain"]
    graphs = found["graphs"]
    assert graphs["edges"]["complete, message passing"] == 68**2
    assert graphs["batch 1, largest difference"] < 1e-4
    assert set(graphs["batch 1, ms"]) == set(graphs["edges"])
