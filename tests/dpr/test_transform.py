"""Image and point transformers: inverse of each other, exact sampling, gradients against finite differences."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from common.geometry import compose_affine
from dpr.transform import box_map, invert, map_theta, move_points, normalise, sample, scaled, theta_map

MAP = torch.tensor([[[1.3, -0.3, 4.0], [0.2, 0.9, -6.0]]]).double()


def smooth(size: int = 40) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (100 + 60 * torch.sin(x / 5) + 60 * torch.cos(y / 7))[None, None].double()


def test_inverse_and_composition() -> None:
    points = torch.rand(1, 9, 2).double() * 50
    assert torch.allclose(move_points(invert(MAP), move_points(MAP, points)), points)
    second = torch.tensor([[[0.5, 0.1, 1.0], [0.0, 2.0, 3.0]]]).double()
    assert torch.allclose(
        move_points(compose_affine(second, MAP), points), move_points(second, move_points(MAP, points))
    )
    assert torch.allclose(map_theta(theta_map(MAP, 128), 128), MAP)
    assert torch.allclose(move_points(scaled(MAP, 2.0), points), 2 * move_points(MAP, points))


def test_a_box_is_stretched_to_the_whole_crop_without_margin() -> None:
    """The corners come to 0 and 127, not to 128: the release's habit (paper file, section 13.3)."""
    box = torch.tensor([[10.0, 20.0, 110.0, 260.0]])
    corners = move_points(box_map(box, 128), torch.tensor([[[10.0, 20.0], [110.0, 260.0]]]))
    assert torch.allclose(corners[0], torch.tensor([[0.0, 0.0], [127.0, 127.0]]).double())


def test_sampling_agrees_with_opencv_and_is_black_outside() -> None:
    image = smooth()
    ours = sample(image.float(), MAP, 48)[0, 0].numpy()
    theirs = cv2.warpAffine(image[0, 0].numpy(), MAP[0].numpy(), (48, 48), flags=cv2.INTER_LINEAR)
    assert np.abs(ours - theirs).max() < 6  # OpenCV 4 samples at 1/32 pixel
    assert np.abs(ours - theirs).mean() < 0.6
    far = torch.tensor([[[1.0, 0.0, 500.0], [0.0, 1.0, 0.0]]]).double()
    assert torch.equal(normalise(sample(image.float(), far, 16)), torch.full((1, 1, 16, 16), -1.0))


def test_the_identity_gives_the_image_back() -> None:
    image = smooth(24).float()
    assert torch.allclose(sample(image, torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]]).double(), 24), image, atol=1e-3)


def test_rounding_gives_whole_grey_levels() -> None:
    crop = sample(smooth().float(), MAP, 32, rounded=True)
    assert torch.equal(crop, crop.round()) and not torch.equal(crop, sample(smooth().float(), MAP, 32))


def test_gradients_reach_map_image_and_points() -> None:
    """Central differences of a smooth picture's samples against the sampler's own gradient to the map."""
    image = smooth().float().requires_grad_()
    matrix = torch.tensor([[[1.1, 0.05, 2.0], [-0.04, 1.05, 3.0]]]).double().requires_grad_()

    def value(m: Tensor) -> Tensor:
        return sample(image, m, 24)[0, 0, 8:16, 8:16].mean()

    value(matrix).backward()
    assert matrix.grad is not None and image.grad is not None and bool((image.grad != 0).any())
    for index in ((0, 0, 2), (0, 1, 2), (0, 0, 0), (0, 1, 1)):
        step = torch.zeros_like(matrix)
        step[index] = 0.05 if index[2] == 2 else 0.002
        with torch.no_grad():
            slope = float((value(matrix + step) - value(matrix - step)) / (2 * step[index]))
        assert float(matrix.grad[index]) == pytest.approx(slope, rel=0.08, abs=0.05)
    points = torch.rand(1, 5, 2).double().requires_grad_()
    move_points(MAP, points).sum().backward()
    assert points.grad is not None
    assert torch.allclose(points.grad, MAP[..., :2].sum(1).expand(1, 5, 2))


def test_a_collapsed_map_is_inverted_to_something_finite() -> None:
    flat = torch.zeros(2, 2, 3).double().requires_grad_()
    inverse = invert(flat)
    inverse.sum().backward()
    assert torch.isfinite(inverse).all() and flat.grad is not None and torch.isfinite(flat.grad).all()
    empty = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert torch.isfinite(sample(smooth().float(), box_map(empty, 16), 16)).all()
