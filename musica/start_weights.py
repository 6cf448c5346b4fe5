"""First weights of a cascade from another one's: chosen iterations, and fewer patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from common.errors import LabError
from musica.network import FEATURES


def weights_of(
    state: Mapping[str, Tensor],
    iterations: Sequence[int],
    had: Sequence[Sequence[int]] | None,
    wanted: Sequence[Sequence[int]],
) -> dict[str, Tensor]:
    """Return a task's weights for a cascade that starts from another one's iterations.

    The averaged weights are taken where there are any. Of patches that are no longer cut, the hidden layer's inputs go.

    Args:
        state: state dict of the task to start from.
        iterations: for each iteration, the one (from 1) of that task's that it starts from.
        had: landmarks with a patch in each of that task's iterations; None for the same as here.
        wanted: landmarks with a patch in each iteration here.

    Raises:
        LabError: the task has no such iteration, or an iteration here needs a patch that the one it starts from lacks.
    """
    source = "ema.net." if any(key.startswith("ema.net.") for key in state) else "net."
    found = {"net.start": state[f"{source}start"]}
    for place, number in enumerate(iterations):
        head = f"{source}stages.{number - 1}."
        part = {key.removeprefix(head): value for key, value in state.items() if key.startswith(head)}
        if not part or (had is not None and number > len(had)):
            raise LabError(f"start_from: the cascade to start from has no iteration {number}")
        if had is not None and list(had[number - 1]) != list(wanted[place]):
            layer = "squeeze.weight" if "squeeze.weight" in part else "hidden.weight"
            part[layer] = part[layer][:, _inputs(had[number - 1], wanted[place], part[layer].shape[1], number)]
        found |= {f"net.stages.{place}.{key}": value for key, value in part.items()}
    return found


def _inputs(had: Sequence[int], wanted: Sequence[int], count: int, number: int) -> Tensor:
    """Return which of the `count` inputs of a hidden layer stay: features of the wanted patches, then the state."""
    lacking = sorted(set(wanted) - set(had))
    if lacking:
        raise LabError(f"start_patches: iteration {number} has no patch at landmarks {', '.join(map(str, lacking))}")
    if count < FEATURES * len(had):
        raise LabError(f"start_patches: iteration {number} has {count} inputs, too few for {len(had)} patches")
    blocks = torch.arange(FEATURES * len(had)).view(len(had), FEATURES)
    rows = [list(had).index(index) for index in wanted]
    return torch.cat([blocks[rows].flatten(), torch.arange(FEATURES * len(had), count)])
