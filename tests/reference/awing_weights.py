"""AWing's weights under their official names, to make files that the converter is tested with."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from awing.convert import _meta_net, _official_names
from common.errors import LabError
from common.files.checkpoints import listed


def official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of an `AWingNet` of the official kind back to the official names.

    Raises:
        LabError: the weights belong to a variant that was never released (no CoordConv, no boundary).
    """
    stacks = sum(bool(re.fullmatch(r"stacks\.\d+\.head\.weight", key)) for key in state)
    depth = sum(bool(re.fullmatch(r"stacks\.0\.hourglass\.(inner\.)*skip\.bn1\.weight", key)) for key in state)
    if not stacks or not depth:
        raise LabError("weights: no stacks or hourglasses among the keys; give the state of an AWingNet")
    maps, width = state["stacks.0.head.weight"].shape[:2]
    names = _official_names(_meta_net(maps - 1, stacks, width, depth), stacks, depth)
    wrong = set(names.values()) ^ set(state)
    if wrong:
        raise LabError(f"weights: {len(wrong)} keys differ from the official kind of network ({listed(wrong)})")
    return {theirs: state[ours] for theirs, ours in names.items()}
