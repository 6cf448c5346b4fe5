"""Which landmarks' patches the network sees (all landmarks are regressed; only the inputs are thinned).

The order of the indices is part of the weights, since patches are laid side by side in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.errors import LabError

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


def patch_indices(patches: str | Sequence[int], num_points: int) -> tuple[int, ...]:
    """Return the landmarks that get a patch.

    Args:
        patches: a name of RULES or NAMED, or the indices themselves.
        num_points: landmarks of the scheme.

    Raises:
        LabError: the name is unknown or made for another number of landmarks, or an index is repeated or too large.
    """
    if isinstance(patches, str):
        if patches in RULES:
            taken, of = RULES[patches]
            return tuple(index for index in range(num_points) if index % of in taken)
        if patches not in NAMED:
            raise LabError(f"patches must be {', '.join((*RULES, *NAMED))} or a list of landmarks, got {patches}")
        made_for, indices = NAMED[patches]
        if made_for != num_points:
            raise LabError(f"patches {patches} is a set for {made_for} landmarks, but the scheme has {num_points}")
        return indices
    chosen = tuple(int(index) for index in patches)
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0 or max(chosen) >= num_points:
        raise LabError(f"patches must be different landmarks from 0 to {num_points - 1}, got {list(chosen)}")
    return chosen


def patch_sets(patches: str | Sequence[Any], num_points: int) -> Sequence[Any]:
    """Return the landmarks that get a patch: one set (M,) for all iterations, or several, one for each.

    Args:
        patches: what `patch_indices` takes, or several of that.
        num_points: landmarks of the scheme.

    Raises:
        LabError: as `patch_indices`.
    """
    if isinstance(patches, str) or all(isinstance(item, int) for item in patches):
        return patch_indices(patches, num_points)
    return tuple(patch_indices(item, num_points) for item in patches)


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
