"""Patches: which landmarks get one, and how it is cut, by the official nearest-pixel rule or a bilinear one.

All landmarks are regressed; only the inputs are thinned. The order of the indices is part of the weights, since patches
are laid side by side in that order. The bilinear rule is differentiable.

Centres are (row, column) in pixels of the level that is cut from, the first pixel's centre at 0. For a whole-numbered
centre c both rules read the pixels c - p/2 .. c + p/2 - 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import LabError
from musica.types import SLACK, Level

SAMPLINGS = ("bilinear", "official")
# Name -> (number of landmarks of the scheme, indices in the official order).
NAMED: dict[str, tuple[int, tuple[int, ...]]] = {
    "w300_19": (68, (0, 4, 8, 12, 16, 17, 21, 22, 26, 36, 39, 42, 45, 31, 34, 48, 51, 54, 57)),
    # Ours, a part of w300_19: jaw, outer brows, eyes, nose and mouth, twice or once each.
    "w300_14": (68, (4, 8, 12, 17, 26, 36, 39, 42, 45, 31, 34, 48, 54, 57)),
    "inhouse165_45": (
        165,
        (0, 117, 3, 114, 6, 111, 9, 108, 12, 105, 15, 102, 18, 55, 58, 61, 64, 100, 67, 70, 73, 76, 99, 42, 45, 48, 51,
         54, 41, 19, 21, 24, 26, 38, 30, 33, 35, 79, 81, 82, 83, 85, 155, 88, 152),
    ),
    "inhouse165_23": (
        165, (0, 3, 6, 9, 12, 15, 18, 58, 64, 67, 73, 99, 45, 51, 41, 21, 26, 30, 35, 81, 83, 155, 152),
    ),
}  # fmt: skip
# Name -> a rule for schemes of any size: these of each so many neighbouring landmarks.
RULES = {"all": ((0,), 1), "every_second": ((0,), 2), "two_of_three": ((0, 1), 3)}


def patch_indices(patches: str | Sequence[int], num_points: int, own: bool = False) -> tuple[int, ...]:
    """Return the landmarks that get a patch.

    Args:
        patches: a name of RULES or NAMED, or the indices themselves.
        num_points: landmarks of the scheme.
        own: a scheme of the user's own, whose landmarks all get a patch where a set of NAMED is asked for: recipes ask
            for one, and no set can know the scheme.

    Raises:
        LabError: the name is unknown or made for another number of landmarks, or an index is repeated or too large.
    """
    if isinstance(patches, str):
        if patches in RULES:
            taken, of = RULES[patches]
            return tuple(index for index in range(num_points) if index % of in taken)
        if patches not in NAMED:
            raise LabError(f"patches must be {', '.join((*RULES, *NAMED))} or a list of landmarks, got {patches}")
        if own:
            return tuple(range(num_points))
        made_for, indices = NAMED[patches]
        if made_for != num_points:
            raise LabError(f"patches {patches} is a set for {made_for} landmarks, but the scheme has {num_points}")
        return indices
    chosen = tuple(int(index) for index in patches)
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0 or max(chosen) >= num_points:
        raise LabError(f"patches must be different landmarks from 0 to {num_points - 1}, got {list(chosen)}")
    return chosen


def patch_sets(
    patches: str | Sequence[int] | Sequence[str | Sequence[int]], num_points: int, own: bool = False
) -> Sequence[int] | Sequence[Sequence[int]]:
    """Return the landmarks that get a patch: one set (M,) for all iterations, or several, one for each.

    Args:
        patches: what `patch_indices` takes, or several of that.
        num_points: landmarks of the scheme.
        own: see `patch_indices`.

    Raises:
        LabError: as `patch_indices`.
    """
    if isinstance(patches, str):
        return patch_indices(patches, num_points, own)
    numbers = [item for item in patches if isinstance(item, int)]
    several = [item for item in patches if not isinstance(item, int)]
    if numbers and several:
        raise LabError("patches must be one set of landmarks or several, got both")
    return tuple(patch_indices(item, num_points, own) for item in several) or patch_indices(numbers, num_points, own)


def one_set_each(indices: Sequence[int] | Sequence[Sequence[int]], iterations: int) -> list[list[int]]:
    """Return one set of landmarks for each iteration, given that or one for all.

    Raises:
        LabError: the number of sets is another.
    """
    several = [list(item) for item in indices if not isinstance(item, int)]
    if not several:
        return [[item for item in indices if isinstance(item, int)]] * iterations
    if len(several) != iterations:
        raise LabError(f"patches: {len(several)} sets for {iterations} iterations; give one for all or one for each")
    return several


def empty_level(shape: tuple[int, ...], like: Tensor, dtype: torch.dtype) -> Level:
    """Return a level of shape (B, H, W, C) on the device of `like`, with uninitialised pixels."""
    count, slack = shape[0] * shape[1] * shape[2] * shape[3], SLACK * shape[3]
    memory = torch.empty(count + 2 * slack, dtype=dtype, device=like.device)
    memory[:slack] = 0
    memory[slack + count :] = 0
    return Level(memory[slack : slack + count].view(shape), memory)


def make_level(image: Tensor) -> Level:
    """Return a level with the pixels of (B, H, W, C), copied; bytes become float32."""
    dtype = image.dtype if image.is_floating_point() else torch.float32
    level = empty_level(tuple(image.shape), image, dtype)
    level.image.copy_(image)
    return level


def _windows(level: Level, faces: Tensor, corner: Tensor, size: int, first: int) -> Tensor:
    """Return (A * M, size, size, C) windows, zero outside the image.

    Args:
        level: image that the windows are cut from.
        faces: (A,) rows of the level.
        corner: (A, M, 2) integers, the windows' first pixels, row first.
        size: side of a window.
        first: number of the first row and column that count as the image's.
    """
    _, height, width, channels = level.image.shape
    limit = corner.new_tensor([height, width])
    # A window that is outside altogether is all zeros wherever it is; so are NaN coordinates.
    corner = torch.nan_to_num(corner, nan=-size).clamp(min=-size).minimum(limit).long()
    reach = torch.arange(size, device=corner.device)
    rows, columns = (corner[..., axis, None] + reach for axis in (0, 1))  # (A, M, size)
    inside = ((rows >= first) & (rows < height))[..., None] & ((columns >= first) & (columns < width))[..., None, :]
    starts = (faces[:, None, None] * height + rows.clamp(0, height - 1)) * width + corner[..., 1, None] + SLACK
    # Rows of windows as a view of overlapping memory: nothing is copied but what is looked up, and a row of a window,
    # colours included, is contiguous. An embedding's look-up copies such rows fastest.
    pieces = level.memory.as_strided((len(level.memory) // channels - size + 1, size * channels), (channels, 1))
    taken = F.embedding(starts.view(-1), pieces).view(-1, size, size, channels)
    return taken.masked_fill_(~inside.view(-1, size, size, 1), 0)


def cut_patches(
    level: Level, centres: Tensor, patch: int, sampling: str, faces: Tensor | None = None, scale: Tensor | None = None
) -> Tensor:
    """Return patches (A * M, C, p, p), channels last in memory, face by face, landmark by landmark.

    Outside the image is zero, the mean of a normalised face.

    Args:
        level: of the pyramid, of B faces.
        centres: (A, M, 2) row, column.
        patch: side p in pixels, even, less than SLACK.
        sampling: official truncates centre - p/2 toward zero (as C does) and copies pixels, without a gradient; it
            never reads row 0 and column 0. bilinear interpolates, and the gradient reaches the centres.
        faces: (A,) rows of the level that the centres belong to; None for all.
        scale: (B, 1, 1, 1) factor of each face's pixels; None for 1.
    """
    if faces is None:
        faces = torch.arange(centres.shape[0], device=centres.device)
    corner = centres - patch // 2
    if sampling == "official":
        window = _windows(level, faces, corner.detach().trunc(), patch, first=1)
    else:
        whole = corner.detach().floor()
        share = torch.nan_to_num(corner - whole).reshape(-1, 2)  # in [0, 1), and its derivative is the centre's
        window = _windows(level, faces, whole, patch + 1, first=0)
        down, right = share[:, 0, None, None, None], share[:, 1, None, None, None]
        window = torch.lerp(window[:, :-1], window[:, 1:], down)
        window = torch.lerp(window[:, :, :-1], window[:, :, 1:], right)
    if scale is not None:
        window = window * scale[faces].repeat_interleave(centres.shape[1], 0)
    return window.permute(0, 3, 1, 2)
