"""The cascade in operations that ONNX has: the pyramid as matrix products, patches as sampled grids.

Besides the whole cascade, each iteration is a graph of its own, so that whoever runs them can let faces leave early, as
`CascadeNet.run` does: `iteration1` takes crops, later ones also the points and the state that the one before returned.
Symbols as in `musica.network`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.export.graph import GraphPart
from musica.network import CascadeNet, Stage
from musica.pyramid import FLAT, halving_taps
from musica.types import PATCH, CascadeRun, Level, Pyramid


@lru_cache(maxsize=16)
def halving_matrix(count: int) -> Tensor:
    """Return the matrix (ceil(count / 2), count) that blurs and halves an axis, see `halving_taps`."""
    index, weight = halving_taps(count)
    matrix = np.zeros((index.shape[1], count))
    np.add.at(matrix, (np.arange(index.shape[1])[None].repeat(len(index), 0), index), weight)
    return torch.from_numpy(matrix.astype(np.float32))


def levels(image: Tensor, depth: int) -> list[Tensor]:
    """Return the pyramid (B, 3, H_l, W_l) of crops (B, 3, H, W), finest first, with mean 0 and deviation 1."""
    x = image.float()
    x = x - x.mean((1, 2, 3), keepdim=True)
    found = [x / x.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(FLAT)]
    while len(found) < depth:
        height, width = (int(side) for side in found[-1].shape[-2:])
        found.append(halving_matrix(height) @ found[-1] @ halving_matrix(width).t())
    return found


def sample_patches(level: Tensor, centres: Tensor, sampling: str) -> Tensor:
    """Return patches (B * M, 3, p, p) of a level (B, 3, H, W) round centres (B, M, 2), as `cut_patches` does."""
    height, width = (int(side) for side in level.shape[-2:])
    corner = centres - PATCH // 2
    corner = corner.sign() * corner.abs().floor() if sampling == "official" else corner  # ONNX has no truncation
    reach = torch.arange(PATCH, dtype=torch.float32)
    rows, columns = (corner[..., axis, None] + reach for axis in (0, 1))  # (B, M, p)
    down, right = rows[..., :, None] + 0 * columns[..., None, :], columns[..., None, :] + 0 * rows[..., :, None]
    grid = torch.stack([(2 * right + 1) / width - 1, (2 * down + 1) / height - 1], -1).flatten(1, 2)
    mode = "nearest" if sampling == "official" else "bilinear"
    taken = F.grid_sample(level, grid, mode, "zeros", align_corners=False)  # (B, 3, M * p, p)
    patches = taken.unflatten(2, (-1, PATCH)).transpose(1, 2)
    if sampling == "official":  # which never reads row 0 and column 0
        patches = patches * ((down >= 1) & (right >= 1))[:, :, None].float()
    return patches.flatten(0, 1)


def run_by_grids(net: CascadeNet, image: Tensor, origin: Tensor | None) -> CascadeRun:
    """Run the cascade, all iterations; the arguments are those of `CascadeNet.forward`."""

    def describe(stage: Stage, level: Level, centres: Tensor, *_: Tensor | None) -> Tensor:
        return stage.describe(sample_patches(level.image, centres, net.sampling))

    found = [Level(level, level) for level in levels(image, max(net.level_of) + 1)]
    start = net.start + (image.new_zeros(image.shape[0], 1, 2).float() if origin is None else origin[:, None])
    return net.run(Pyramid(found), start, describe=describe)


class Iteration(nn.Module):
    """One iteration: crops, the points before it and the hidden state in; points, predicted error and state out.

    Args:
        net: the cascade.
        place: 0, 1, ...
        from_box: the first shape counts from the corner of the face's box.
    """

    def __init__(self, net: CascadeNet, place: int, from_box: bool) -> None:
        super().__init__()
        self.net, self.place, self.from_box = net, place, from_box

    def forward(self, image: Tensor, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return points (B, N, 2) x, y in crop pixels, predicted errors (B,) and the state (B, U).

        Args:
            image: (B, 3, H, W) uint8.
            given: boxes (B, 4) or nothing for the first iteration; else points (B, N, 2) and the state (B, U).
        """
        net, stage, level = self.net, self.net.stage_list[self.place], self.net.level_of[self.place]
        if self.place:
            points, state = given[0].flip(-1), given[1]
        else:
            zero = image.new_zeros(image.shape[0], 1, 2).float()
            points = net.start + (given[0][:, None, [1, 0]] if self.from_box else zero)
            state = zero[:, 0, :1].expand(-1, stage.units)
        centres = points[:, net.index_sets[self.place]] / 2**level
        patches = sample_patches(levels(image, level + 1)[level], centres, net.sampling)
        output = stage(stage.describe(patches), state)
        return (points + 2**level * output.displacement).flip(-1), output.error, output.state


def iterations(net: CascadeNet, size: int, from_box: bool) -> dict[str, GraphPart]:
    """Return each iteration as a graph of its own, by its name."""
    faces = 2
    image = torch.randint(0, 256, (faces, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[0.1, 0.1, 0.9, 0.9]]).repeat(faces, 1) * size
    first = {"image": image} | ({"box": box} if from_box else {})
    later = {"image": image, "last_points": net.start.flip(-1).repeat(faces, 1, 1),
             "last_state": torch.zeros(faces, net.stage_list[0].units)}  # fmt: skip
    outputs = ("points", "error", "state")
    return {
        f"iteration{place + 1}": GraphPart(Iteration(net, place, from_box).eval(), later if place else first, outputs)
        for place in range(len(net.stage_list))
    }
