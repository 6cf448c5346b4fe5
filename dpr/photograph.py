"""From a photograph to points: every crop is cut out of the original, of which only the shown regions become floats."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from common.export.graph import GraphPart, Net
from dpr.network import DPRNet, Stages
from dpr.stages.reinit import SIZE
from dpr.transform import invert, sample

Sampler = Callable[[Tensor, Tensor, int, bool], Tensor]
RIM = 2  # pixels round a region: bilinear weights look one further
TOGETHER = 2_000_000  # pixels of a region that all crops of a photograph may share


def region_sample(image: Tensor, matrix: Tensor, size: int, rounded: bool = False) -> Tensor:
    """Return the crops of `sample`, of photographs (B, 3, H, W) uint8 as of floats.

    A float copy of a photograph of 100 megapixels would be larger than a gigabyte; each crop gets its own region.
    """
    if image.is_floating_point():
        return sample(image, matrix, size, rounded)
    corners = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=matrix.dtype, device=matrix.device) * (size - 1)
    inverse = invert(matrix)
    seen = (corners @ inverse[..., :2].mT + inverse[..., 2][:, None]).nan_to_num()
    sides = torch.tensor(image.shape[:-3:-1], dtype=matrix.dtype, device=matrix.device)  # width, height
    low = torch.minimum((seen.amin(1).floor() - RIM).clamp(min=0), sides - 2).clamp(min=0).long()
    high = torch.maximum(torch.minimum(seen.amax(1).ceil() + RIM, sides).long(), low + 2)
    rows = torch.cat([low, high], dim=1)
    union = torch.cat([low.amin(0), high.amax(0)])
    if image.stride(0) == 0 and (union[2:] - union[:2]).prod() <= TOGETHER:  # one photograph: one region for all crops
        return _sample_region(image[:1], union, matrix, size, rounded)
    return torch.cat([_sample_region(picture[None], region, each[None], size, rounded)
                      for picture, region, each in zip(image, rows, matrix, strict=True)])  # fmt: skip


def _sample_region(image: Tensor, region: Tensor, matrix: Tensor, size: int, rounded: bool) -> Tensor:
    """Return crops of one photograph (1, 3, H, W) uint8 by matrices (N, 2, 3) that see x0 y0 x1 y1 (4,) at most."""
    x0, y0, x1, y1 = region.tolist()
    pixels = image[..., y0:y1, x0:x1].float().expand(len(matrix), -1, -1, -1)
    start = region[:2].to(matrix.dtype)[:, None]
    moved = torch.cat([matrix[..., :2], matrix[..., 2:] + matrix[..., :2] @ start], dim=-1)
    return sample(pixels, moved, size, rounded)


def photograph_parts(net: DPRNet, local: bool) -> dict[str, GraphPart]:
    """Return the networks that `find` runs, but for the small one that places the parts."""
    sizes = {"global_reinit": SIZE, "global_regress": net.face_size}
    parts = {name: GraphPart(net.get_submodule(name), {"crop": torch.zeros(2, 3, size, size)}, ("found",))
             for name, size in sizes.items()}  # fmt: skip
    if local and net.local_regress is not None:
        crops = torch.zeros(2, len(net.parts), 3, net.part_size, net.part_size)
        names = tuple(f"part{k}" for k in range(len(net.parts)))
        parts["local_regress"] = GraphPart(net.local_regress, {"crops": crops}, names)
    return parts


def find(
    net: DPRNet,
    image: np.ndarray,
    boxes: Tensor,
    local: bool = True,
    nets: Mapping[str, Net] | None = None,
    sampler: Sampler = region_sample,
) -> Stages:
    """Return what the stages find in a photograph, in its pixels.

    Args:
        net: with its weights.
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) x0 y0 x1 y1, image pixels, as the reinitialisation is to see them.
        local: run the local stage too, if there is one.
        nets: what to run in place of `photograph_parts`.
        sampler: what cuts crops.
    """
    used = copy.copy(net)  # shares the weights; the given network keeps its own sampler and parts
    used.sampler = sampler
    for name, run in (nets or {}).items():
        used.__dict__[name] = _listing(run) if name == "local_regress" else _single(run)  # found before submodules
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(boxes.device).permute(2, 0, 1)[None]
    pixels = pixels.expand(len(boxes), -1, -1, -1)
    stages, face = used.global_stage(pixels, boxes)
    if local and net.local_reinit is not None:
        used.locate_parts(stages)
        used.refine(stages, face, pixels)
    return stages


def _single(run: Net) -> Callable[[Tensor], Tensor]:
    return lambda crop: run(crop)[0]


def _listing(run: Net) -> Callable[[Tensor], list[Tensor]]:
    return lambda crops: list(run(crops))
