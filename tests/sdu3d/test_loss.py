"""Losses, gradients, training steps, targets and the optimiser against the recorded figures; views and coherence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.schemes import IBUG68
from sdu3d.convert import released_names
from sdu3d.loss import (
    centred,
    coherent_loss,
    depth_loss,
    gaussian_targets,
    l2_loss,
    read_depth,
    sigmoid_cross_entropy,
    spatial_cross_entropy,
)
from sdu3d.network import SduNet
from sdu3d.optim import SharedNadam
from sdu3d.views import draw_views, make_views
from tests.conftest import needs_shared
from tests.reference.sdu3d import BiasedBatchNorm2d, halves_coherent_loss, mirror_maps
from tests.sdu3d.golden import arrays, assert_close, fill, image, load, parameters, read_json

MIRROR = IBUG68.mirror
COHERENT_WEIGHT = 0.0001


def loss_inputs() -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(20 * fill("loss_x", (4, 68, 8, 8))).requires_grad_()
    return x, torch.from_numpy(10 * np.abs(fill("loss_y", (4, 68, 8, 8))))


def compare_gradient(x: Tensor, recorded: dict[str, Any], name: str) -> None:
    assert x.grad is not None
    gradient = x.grad.numpy()
    assert np.abs(gradient).astype(np.float64).sum() == pytest.approx(recorded["grad_x_abs_sum"], rel=1e-6)
    # Relative in the Euclidean norm: single recorded values of the soft-max gradient are 2e-6 of the maximum off the
    # float64 result themselves.
    expected = arrays("losses.npz")[f"{name}_grad_x"]
    assert np.linalg.norm(gradient[:, ::8] - expected) <= 1e-6 * np.linalg.norm(expected)


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize(("name", "function"), [("l2", l2_loss), ("ce", spatial_cross_entropy)])
def test_label_losses_and_gradients(name: str, function: Any) -> None:
    recorded = read_json("losses.json")[name]
    x, y = loss_inputs()
    loss = function(x, y)
    assert loss.item() == pytest.approx(recorded["value"], rel=1e-6)
    loss.backward()
    assert x.grad.max().item() == pytest.approx(recorded["grad_x_max"], rel=1e-6)  # of the signed values
    compare_gradient(x, recorded, name)


@needs_shared
@pytest.mark.golden
def test_coherent_loss_and_gradient() -> None:
    recorded = read_json("losses.json")["coherent"]
    x, _ = loss_inputs()
    loss = halves_coherent_loss(x, MIRROR) / recorded["nStacks"]
    assert loss.item() == pytest.approx(recorded["value"], rel=1e-6)
    (recorded["grad_scale"] * loss).backward()
    compare_gradient(x, recorded, "coherent")
    first = mirror_maps(x.detach()[:2], MIRROR).numpy()[:, ::8]
    np.testing.assert_array_equal(first, arrays("losses.npz")["coherent_first_half_flipped"])


def label_maps(count: int, size: int) -> Tensor:
    cells = np.random.RandomState(24).randint(0, size, (count, 68, 2))
    return gaussian_targets(torch.from_numpy(cells).float(), size)


def assert_gradients(net: SduNet, names: dict[str, str], recorded: dict[str, Any], rel: float, least: float) -> None:
    """Compare sum |g| and sum g of every parameter; a bias that a normalisation removes has no true gradient."""
    checked = 0
    for name, (size, total) in recorded["grads"].items():
        gradient = net.get_parameter(names[name]).grad
        assert gradient is not None, name
        found = gradient.double()
        if size > least:
            assert found.abs().sum().item() == pytest.approx(size, rel=rel), name
            assert found.sum().item() == pytest.approx(total, abs=rel * size), name
            checked += 1
        else:
            assert found.abs().sum().item() < 2 * least
    assert checked > 0.9 * len(recorded["grads"])


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "gradient_rel"), [("tiny-hg-resnet", 0.03), ("tiny-sat-cab-coherent", 0.003)]
)  # tolerances of the golden README: the first net is ill-conditioned in float32
def test_training_step(name: str, gradient_rel: float) -> None:
    recorded, slug = read_json("losses.json")["train_steps"][name], name.replace("-", "_")
    stored = arrays("losses.npz")
    coherent = recorded["coherent"]
    net = SduNet(68, "sat" if recorded["network"] == "satnet" else "hourglass", recorded["block"],
                 recorded["net_n"], recorded["net_stacks"], int(256 * recorded["multiplier"]))  # fmt: skip
    load(BiasedBatchNorm2d.convert(net), "", parameters(recorded["params"], {}))
    net.train()
    size = recorded["output_label_size"]
    target = label_maps(recorded["per_batch_size"], size)
    np.testing.assert_allclose(target.sum((2, 3)).numpy(), stored[f"{slug}_label_sum"], rtol=1e-6)
    side = recorded["input_img_size"]
    maps = net(255 * torch.from_numpy(image(23, (recorded["per_batch_size"], 3, side, side)))).heatmaps
    losses = [l2_loss(m, target) for m in maps]
    total = torch.stack(losses).sum()
    if coherent:
        losses.append(torch.stack([halves_coherent_loss(m, MIRROR) / len(maps) for m in maps]).sum())
        total = total + COHERENT_WEIGHT * losses[-1]
    np.testing.assert_allclose([v.item() for v in losses], recorded["loss_values"], rtol=1e-5)
    total.backward()
    assert_close(maps[-1].detach().numpy()[:, ::4], stored[f"{slug}_heatmap_train"], 2e-4)
    names = released_names(net)
    assert_gradients(net, names, recorded, gradient_rel, 1e-3)
    first = net.conv0.weight.grad.numpy()
    assert_close(first, stored[f"{slug}_conv0_grad"], 0.03 if name == "tiny-hg-resnet" else 0.003)
    state = net.state_dict()
    for key, (mean, value) in recorded["aux_after"].items():
        running = state[names[key]].double()
        np.testing.assert_allclose([running.sum(), running[0]], [mean, value], rtol=1e-4, atol=1e-4)


@needs_shared
@pytest.mark.golden
def test_every_recorded_loss_array_is_compared() -> None:
    ends = ("heatmap_train", "conv0_grad", "label_sum")
    slugs = ("tiny_hg_resnet", "tiny_sat_cab_coherent")
    named = {f"{name}_grad_x" for name in ("l2", "ce", "coherent")} | {"coherent_first_half_flipped"}
    assert set(arrays("losses.npz")) == named | {f"{slug}_{end}" for slug in slugs for end in ends}


@needs_shared
@pytest.mark.golden
def test_gaussians() -> None:
    recorded = read_json("helpers.json")["gaussian"]
    for name, entry in recorded.items():
        if not isinstance(entry, dict):
            continue
        sigma, x, y = (int(word[1:]) for word in name.split("_"))
        drawn = gaussian_targets(torch.tensor([[[x, y]]], dtype=torch.float64), 64, sigma)[0, 0]
        assert drawn.sum().item() == pytest.approx(entry["sum"], rel=1e-6)
        assert drawn.max().item() == pytest.approx(entry["max"], rel=1e-9)
        assert [drawn.argmax().item() % 64, drawn.argmax().item() // 64] == entry["argmax_xy"]
        assert int((drawn > 0).sum()) == entry["nonzero"] and entry["returned"]
    patch = gaussian_targets(torch.tensor([[[10.0, 20.0]]]), 64)[0, 0, 16:25, 6:15]
    assert_close(patch.numpy(), arrays("helpers.npz")["gaussian_s1_x10_y20_patch"])


@needs_shared
@pytest.mark.golden
def test_nadam_shares_its_product_of_momenta() -> None:
    recorded = read_json("helpers.json")["optimizer"]
    for rule in ("nadam", "onadam"):  # equal without weight decay
        weights = [torch.nn.Parameter(torch.from_numpy(fill(f"opt_w{i}", (3,)))) for i in range(2)]
        optimizer = SharedNadam(weights, lr=recorded[rule]["lr"])
        for step, expected in enumerate(recorded[rule]["weights_after_each_step"], 1):
            for i, weight in enumerate(weights):
                weight.grad = torch.from_numpy(fill(f"opt_g{i}_{step}", (3,)))
            optimizer.step()
            np.testing.assert_allclose([w.detach().numpy() for w in weights], expected, rtol=2e-6, atol=1e-8)
        assert optimizer.momentum_product == pytest.approx(recorded[rule]["m_schedule_after"], rel=1e-6)
        again = SharedNadam(weights)
        again.load_state_dict(optimizer.state_dict())
        assert again.momentum_product == optimizer.momentum_product


def test_nadam_refines_a_quadratic_and_takes_a_closure() -> None:
    x = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = SharedNadam([x], lr=0.05, weight_decay=0.01)

    def closure() -> float:
        optimizer.zero_grad()
        loss = x.square().sum()
        loss.backward()
        return loss.item()

    for _ in range(200):
        last = optimizer.step(closure)
    assert last is not None and last < 1e-2


def test_cross_entropy_per_cell_is_least_at_the_target() -> None:
    target = gaussian_targets(torch.tensor([[[3.5, 4.5]]]), 8, peak=1.0)
    best = torch.logit(target.clamp(1e-4, 1 - 1e-4))
    assert sigmoid_cross_entropy(best, target) < sigmoid_cross_entropy(best + 0.3, target)


def test_points_of_views_follow_their_pictures() -> None:
    """A bright dot drawn at a point is found again where the view says that the point now is."""
    size, generator = 64, torch.Generator().manual_seed(3)
    points = torch.tensor([[[20.0, 30.0], [44.0, 28.0]]]).repeat(6, 1, 1)
    pictures = gaussian_targets(points + 0.5, size, 2.0, quantise=False)
    views = draw_views(6, 30, 0.2, 0.5, generator)
    assert 0 < int(views.mirrored.sum()) < 6
    moved = views.points(points, size, (1, 0))
    seen = views.maps(pictures, (1, 0))
    flat = seen.flatten(2).argmax(-1)
    found = torch.stack([flat % size, flat // size], -1)
    assert (found - moved).abs().max() < 1.0
    deep = torch.cat([points, torch.ones(6, 2, 1)], -1)
    torch.testing.assert_close(views.points(deep, size, (1, 0))[..., 2], views.scale[:, None].expand(6, 2))


def test_a_mirrored_view_is_the_mirrored_picture() -> None:
    x = torch.rand(2, 68, 8, 8)
    views = make_views(torch.zeros(2), torch.ones(2), torch.tensor([True, False]))
    seen = views.maps(x, MIRROR)
    torch.testing.assert_close(seen[0], mirror_maps(x[:1], MIRROR)[0])
    torch.testing.assert_close(seen[1], x[1])
    assert views.inside(8).min() > 0.99
    turned = make_views(torch.tensor([0.7]), torch.tensor([0.5]), torch.tensor([False]))
    assert turned.inside(8).min() == 0


def test_coherent_loss_looks_only_where_both_views_show_something() -> None:
    first, second = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    second[..., 0] = 5.0
    inside = torch.ones(1, 1, 4, 4)
    inside[..., 0] = 0
    assert coherent_loss(first, second, inside) == 0
    assert coherent_loss(first, second) == pytest.approx(25 / 4)


def test_depth_is_read_under_the_peak_and_compared_without_its_mean() -> None:
    heat = gaussian_targets(torch.tensor([[[2.5, 2.5], [5.5, 4.5]]]), 8, peak=1.0)
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 0], maps[0, 1] = 3.0, -1.0
    maps[0, 0, 7, 7] = 100.0  # far from the peak
    z = read_depth(maps, heat)
    torch.testing.assert_close(z, torch.tensor([[3.0, -1.0]]))
    torch.testing.assert_close(centred(z), torch.tensor([[2.0, -2.0]]))
    assert depth_loss(z, z + 7, 1.0) < 1e-6
    assert depth_loss(z, torch.tensor([[3.0, 1.0]]), 2.0) == pytest.approx(0.5)
