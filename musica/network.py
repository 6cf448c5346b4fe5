"""The network: per iteration a patch encoder, patch attention, a recurrent hidden layer and a linear answer.

Weights are not shared between iterations. Shapes are (row, column) inside the network, as released weights need.
Letters: B faces, A faces still in the cascade, M patches, N landmarks, T iterations, U hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import LabError
from musica.cascade import CascadeRun, run_cascade
from musica.layers import HiddenLinear
from musica.patch_sets import one_set_each
from musica.patches import SAMPLINGS
from musica.pyramid import Pyramid, pyramid

PATCH = 14  # side of a patch in pixels of its level
CHANNELS = 32  # of both convolutions
FEATURES = 256  # numbers that describe a patch: 2 x 2 places, 2 * CHANNELS each
# Iterations -> level of each; level l has 1 / 2^l of the scale. The paper has 2 to 4, five are ours.
LEVELS = {2: (1, 0), 3: (2, 1, 0), 4: (2, 2, 1, 0), 5: (2, 2, 1, 0, 0)}
DEEPEST_LEVEL = 3  # at 228 px a patch of it is half the crop
INIT_STD = 0.01  # of the released program; "fan_in" keeps it for the answer, so that at first nothing moves
INITS = ("released", "fan_in")


class StageOutput(NamedTuple):
    """What one iteration answers.

    Attributes:
        displacement: (A, N, 2) row, column, pixels of the iteration's level.
        error: (A,) predicted error of the result, in the unit of the landmark loss.
        state: (A, U).
        features: (A * M, FEATURES) before attention.
        attention: (A * M, FEATURES) in 0..1.
    """

    displacement: Tensor
    error: Tensor
    state: Tensor
    features: Tensor
    attention: Tensor


@torch.no_grad()
def truncated_normal_(weight: Tensor, std: float) -> None:
    """Fill with normal numbers; those beyond two deviations are drawn again (six times as fast as PyTorch's own)."""
    flat = torch.empty(weight.numel(), device=weight.device, dtype=weight.dtype).normal_()
    while len(far := (flat.abs() > 2).nonzero()[:, 0]):
        flat[far] = torch.randn(len(far), device=flat.device, dtype=flat.dtype)
    weight.copy_(flat.mul_(std).view_as(weight))


class Stage(nn.Module):
    """One iteration's own weights.

    Args:
        num_points: N.
        num_patches: M.
        units: U (released: 512).
        rank: factor the hidden layer's matrix through so many numbers; 0 keeps it whole (released).
        init: released draws all weights with one deviation; fan_in [ours] with 1 / sqrt(inputs), so that features
            reach the hidden layer at full size from the first step on.
        dropout: chance that a patch's feature does not reach the hidden layer in training [ours].
        attention_rank: factor the attention's matrix through so many numbers [ours]; 0 keeps it whole.
    """

    def __init__(
        self,
        num_points: int,
        num_patches: int,
        units: int = 512,
        rank: int = 0,
        init: str = "released",
        dropout: float = 0.0,
        attention_rank: int = 0,
    ) -> None:
        super().__init__()
        self.num_points, self.num_patches, self.units, self.dropout = num_points, num_patches, units, dropout
        self.conv1 = nn.Conv2d(3, CHANNELS, 3)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3)
        self.attention: nn.Linear | nn.Sequential = nn.Linear(FEATURES, FEATURES)
        if attention_rank:
            thin = nn.Linear(FEATURES, attention_rank, bias=False), nn.Linear(attention_rank, FEATURES)
            self.attention = nn.Sequential(*thin)
        inputs = FEATURES * num_patches + units
        self.squeeze = HiddenLinear(inputs, rank, bias=False) if rank else nn.Identity()
        self.hidden: HiddenLinear | nn.Linear = nn.Linear(rank, units) if rank else HiddenLinear(inputs, units)
        self.output = nn.Linear(units, 2 * num_points + 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | HiddenLinear):
                by_inputs = init == "fan_in" and module is not self.output
                truncated_normal_(module.weight, module.weight[0].numel() ** -0.5 if by_inputs else INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def describe(self, patches: Tensor) -> Tensor:
        """Return features (A * M, FEATURES) of patches (A * M, 3, 14, 14).

        The middle of the second convolution's map comes first, then its maxima; the order is row, column, channel,
        which released weights fix.
        """
        # The largest of rectified values is the rectified largest: to rectify last touches a quarter of the numbers.
        maps = F.relu(F.max_pool2d(self.conv1(patches), 2), inplace=True)
        maps = self.conv2(maps)
        both = torch.cat([maps[:, :, 1:3, 1:3], F.max_pool2d(maps, 2)], dim=1)
        return F.relu(both.permute(0, 2, 3, 1).flatten(1), inplace=True)

    def forward(self, patches: Tensor, state: Tensor) -> StageOutput:
        """Answer for patches (A * M, 3, 14, 14), face by face, and the former hidden state (A, U)."""
        return self.answer(self.describe(patches), state)

    def answer(self, features: Tensor, state: Tensor) -> StageOutput:
        """Answer for described patches (A * M, FEATURES) and the former hidden state (A, U)."""
        attention = torch.sigmoid(self.attention(features))
        seen = F.dropout(attention * features, self.dropout, self.training)
        joined = torch.cat([seen.view(state.shape[0], -1), state], dim=1)
        state = torch.tanh(self.hidden(self.squeeze(joined)))
        answer = self.output(state)
        displacement = answer[:, :-1].unflatten(1, (self.num_points, 2))
        return StageOutput(displacement, answer[:, -1], state, features, attention)

    @property
    def widest(self) -> HiddenLinear:
        """The layer that all patches' features meet: the hidden one, or with a rank its first factor."""
        layer = self.squeeze if isinstance(self.squeeze, HiddenLinear) else self.hidden
        assert isinstance(layer, HiddenLinear)
        return layer

    @property
    def macs(self) -> int:
        """Multiply-adds of one face: convolutions and matrix products."""
        side = PATCH - 2
        inner = side // 2 - 2
        gates = sum(layer.weight.numel() for layer in self.attention.modules() if isinstance(layer, nn.Linear))
        patch = side**2 * CHANNELS * 27 + inner**2 * CHANNELS**2 * 9 + gates
        layers = (self.squeeze, self.hidden, self.output)
        dense = sum(layer.weight.numel() for layer in layers if not isinstance(layer, nn.Identity))
        return self.num_patches * patch + dense


class CascadeNet(nn.Module):
    """The cascade (spec: levels 2, 1, 0 for three iterations, one stage of weights each).

    Args:
        num_points: N.
        patch_indices: landmarks that get a patch, in the order of the weights; or T such sets, one an iteration [ours].
        iterations: T, 2 to 5.
        units: U.
        rank: as in `Stage`.
        sampling: bilinear or official, see `musica.patches`.
        levels: T levels of the pyramid, one an iteration, instead of `LEVELS` [ours]; level l has 1 / 2^l of the scale.
        init: as in `Stage`.
        detach: let no gradient run from an iteration into the ones before it [ours]; every iteration is then as good
            as it can be by itself, which is what an early exit needs.
        dropout: as in `Stage`.
        attention_rank: as in `Stage`.

    Attributes:
        start: (N, 2) first shape, row and column, pixels of level 0 from the origin that a run is given.
        exit_below: thresholds of the predicted error, one for each iteration but the last; None runs all of them.

    Raises:
        LabError: a count is out of range.
    """

    start: Tensor
    indices: Tensor

    def __init__(
        self,
        num_points: int,
        patch_indices: Sequence[int] | Sequence[Sequence[int]],
        iterations: int = 3,
        units: int = 512,
        rank: int = 0,
        sampling: str = "bilinear",
        levels: Sequence[int] | None = None,
        init: str = "released",
        detach: bool = False,
        dropout: float = 0.0,
        attention_rank: int = 0,
    ) -> None:
        super().__init__()
        if iterations not in LEVELS:
            raise LabError(f"iterations must be one of {', '.join(map(str, LEVELS))}, got {iterations}")
        if sampling not in SAMPLINGS:
            raise LabError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {sampling}")
        if init not in INITS:
            raise LabError(f"init must be one of {', '.join(INITS)}, got {init}")
        if units < 1 or min(rank, attention_rank) < 0:
            raise LabError(
                f"units must be positive, rank and attention_rank not negative, got {units}, {rank}, {attention_rank}"
            )
        if levels is not None and (len(levels) != iterations or not 0 <= min(levels) <= max(levels) <= DEEPEST_LEVEL):
            raise LabError(f"levels must be {iterations} numbers from 0 to {DEEPEST_LEVEL}, got {list(levels)}")
        if not 0 <= dropout < 1:
            raise LabError(f"dropout must be in [0, 1), got {dropout}")
        self.num_points, self.sampling, self.detach = num_points, sampling, detach
        self.level_of, self.patch = LEVELS[iterations] if levels is None else tuple(levels), PATCH
        self.exit_below: tuple[float, ...] | None = None
        sets = one_set_each(patch_indices, iterations)
        self.stages = nn.ModuleList(
            Stage(num_points, len(indices), units, rank, init, dropout, attention_rank) for indices in sets
        )
        self.register_buffer("start", torch.zeros(num_points, 2))
        self.register_buffer("indices", torch.tensor([index for one in sets for index in one]), persistent=False)

    @property
    def index_sets(self) -> tuple[Tensor, ...]:
        """The landmarks (M,) that get a patch, iteration by iteration."""
        return self.indices.split([stage.num_patches for stage in self.stage_list])

    @property
    def stage_list(self) -> list[Stage]:
        """The iterations' weights, first to last."""
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def pyramid(self, image: Tensor) -> Pyramid:
        """Return the pyramid of crops (B, 3, H, W): bytes, or floats at any scale."""
        # The loader's crops have their channels last in memory, so this copies nothing.
        return pyramid(image.permute(0, 2, 3, 1).contiguous(), max(self.level_of) + 1)

    def forward(self, image: Tensor, origin: Tensor | None = None) -> CascadeRun:
        """Run the cascade on crops (B, 3, H, W); `origin` (B, 2) row, column is where `start` counts from.

        Without an origin the start counts from the crop's first pixel. With `exit_below` set, faces leave early.
        """
        start = self.start.expand(image.shape[0], -1, -1)
        if origin is not None:
            start = start + origin[:, None]
        return run_cascade(self, self.pyramid(image), start, self.exit_below)

    def macs(self, iterations: int) -> int:
        """Return the multiply-adds of one face in so many iterations: convolutions and matrix products."""
        return sum(stage.macs for stage in self.stage_list[:iterations])
