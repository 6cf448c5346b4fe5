"""Both ways of cutting patches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from musica.patches import cut_patches, make_level
from musica.pyramid import halve, halvings, normalise, pyramid

SIDE = 6


def image() -> torch.Tensor:
    return torch.randn(2, 20, 24, 3, dtype=torch.float64)


def test_both_rules_agree_at_whole_numbers_inside() -> None:
    faces = image()
    centres = torch.tensor([[[5.0, 8.0], [10.0, 12.0]], [[14.0, 9.0], [8.0, 18.0]]], dtype=torch.float64)
    cut = [cut_patches(make_level(faces), centres, SIDE, rule) for rule in ("official", "bilinear")]
    torch.testing.assert_close(cut[0], cut[1])
    direct = faces[1, 14 - 3 : 14 + 3, 9 - 3 : 9 + 3].permute(2, 0, 1)
    torch.testing.assert_close(cut[1][2], direct)


def test_bilinear_is_grid_sample_with_zeros_outside() -> None:
    faces = image()
    centres = torch.rand(2, 40, 2, dtype=torch.float64) * 50 - 13  # many of them near or beyond the border
    ours = cut_patches(make_level(faces), centres, SIDE, "bilinear")
    offsets = torch.arange(SIDE, dtype=torch.float64) - SIDE // 2
    rows = (centres[..., 0, None] + offsets)[:, :, :, None].expand(-1, -1, -1, SIDE)
    columns = (centres[..., 1, None] + offsets)[:, :, None, :].expand(-1, -1, SIDE, -1)
    grid = torch.stack([columns / (24 - 1) * 2 - 1, rows / (20 - 1) * 2 - 1], -1).flatten(1, 2)
    sampled = F.grid_sample(faces.permute(0, 3, 1, 2), grid, padding_mode="zeros", align_corners=True)
    theirs = sampled.unflatten(2, (40, SIDE)).permute(0, 2, 1, 3, 4).flatten(0, 1)
    torch.testing.assert_close(ours, theirs)


def test_bilinear_gradient_reaches_the_coordinates() -> None:
    level = make_level(image())
    centres = (torch.rand(2, 3, 2, dtype=torch.float64) * 12 + 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: cut_patches(level, c, SIDE, "bilinear").sin(), (centres,))


def test_official_has_no_gradient_and_truncates_toward_zero() -> None:
    faces = image()
    level = make_level(faces)
    centres = torch.tensor([[[2.5, 10.0]], [[3.9, 10.0]]], dtype=torch.float64, requires_grad=True)
    patches = cut_patches(level, centres, SIDE, "official")
    assert not patches.requires_grad
    # 2.5 - 3 = -0.5 starts at row 0, not -1; row 0 itself is never read.
    assert torch.equal(patches[0, :, 0], torch.zeros(3, SIDE, dtype=torch.float64))
    torch.testing.assert_close(patches[0, :, 1:], faces[0, 1:6, 7:13].permute(2, 0, 1))


@pytest.mark.parametrize("rule", ["official", "bilinear"])
@pytest.mark.parametrize("value", [1e9, -1e9, float("nan"), float("inf")])
def test_lost_centres_read_zeros(rule: str, value: float) -> None:
    level = make_level(image())
    centres = torch.full((2, 1, 2), value, dtype=torch.float64)
    assert torch.equal(cut_patches(level, centres, SIDE, rule), torch.zeros(2, 3, SIDE, SIDE, dtype=torch.float64))


def test_patches_of_chosen_faces_are_those_of_normalised_levels() -> None:
    """Dividing last, and only what is cut for the chosen faces, is the same as normalising first."""
    faces = torch.randint(0, 255, (3, 33, 30, 3), dtype=torch.uint8)
    levels, direct = pyramid(faces, 3), halvings(normalise(faces), 3)
    chosen, centres = torch.tensor([2, 0]), torch.rand(2, 7, 2) * 40 - 4
    assert levels.scale is not None
    for level in range(3):
        torch.testing.assert_close(levels.levels[level].image * levels.scale, direct[level].image, rtol=0, atol=1e-5)
        for rule in ("official", "bilinear"):
            ours = cut_patches(levels.levels[level], centres, SIDE, rule, chosen, levels.scale)
            theirs = cut_patches(make_level(direct[level].image[chosen]), centres, SIDE, rule)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_normalise_and_halve() -> None:
    faces = torch.randint(0, 255, (2, 17, 20, 3), dtype=torch.uint8)
    unit = normalise(faces)
    assert unit.flatten(1).mean(1).abs().max() < 1e-5
    torch.testing.assert_close(unit.flatten(1).std(1, correction=0), torch.ones(2))
    torch.testing.assert_close(normalise(faces.double() / 255), unit.double(), atol=1e-5, rtol=0)
    assert torch.equal(normalise(torch.full((1, 8, 8, 3), 7.0)), torch.zeros(1, 8, 8, 3))
    assert halve(unit).image.shape == (2, 9, 10, 3)
    # A plane stays a plane in the middle: the blur keeps it, the resampling reads i * (n - 1) / (n / 2 - 1).
    ramp = torch.arange(20, dtype=torch.float64)[None, None, :, None].expand(1, 16, 20, 3).contiguous()
    torch.testing.assert_close(halve(ramp).image[0, 4, 3:7, 0], torch.arange(3, 7, dtype=torch.float64) * 19 / 9)
