"""Selective cascaded regression with patch attention (Shapira, Levy, Goldin, Jevnisek, ACM MM 2021, arXiv 2108.00377).

Per iteration: a patch encoder, patch attention, a recurrent hidden layer and a linear output. Weights are not
shared between iterations. A face whose predicted error is small enough leaves the cascade, and nothing more is computed
for it; the official implementation always runs all iterations.

Shapes are (row, column) inside the network, as official weights need.
Symbols: B faces, A faces still in the cascade, M patches, N landmarks, T iterations, U hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import LabError
from musica.patches import SAMPLINGS, cut_patches, one_set_each
from musica.pyramid import pyramid
from musica.types import CHANNELS, FEATURES, PATCH, CascadeRun, Level, Pyramid, StageOutput, Trace

# Iterations -> level of each; level l has 1 / 2^l of the scale. The paper has 2 to 4, five are ours.
LEVELS = {2: (1, 0), 3: (2, 1, 0), 4: (2, 2, 1, 0), 5: (2, 2, 1, 0, 0)}
DEEPEST_LEVEL = 3  # at 228 px a patch of it is half the crop
INIT_STD = 0.01  # of the official training; "fan_in" keeps it for the output, so that at first nothing moves
INITS = ("released", "fan_in")
FEW_FACES = 8  # for which a product in pieces is faster: libraries share one row's product badly among threads
PIECES = 16


class HiddenLinear(nn.Module):
    """As `torch.nn.Linear`, returns (A, U) for inputs (A, I); its weights are stored input by input.

    What a few patches bring to the layer is then one piece of memory, which `musica.native.cascade` reads once from one
    end to the other. In files the weights have the shape that every linear layer's have.

    Args:
        inputs: I.
        units: U.
        bias: whether there is one.

    Attributes:
        kernel: (I, U), under the name `weight` and as (U, I) in a state dict.
        bias: (U,) or None.
    """

    def __init__(self, inputs: int, units: int, bias: bool = True) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(inputs, units))
        self.bias = nn.Parameter(torch.zeros(units)) if bias else None
        self.register_state_dict_post_hook(_to_file)
        self.register_load_state_dict_pre_hook(_from_file)

    @property
    def weight(self) -> Tensor:
        """The weights (U, I), a view."""
        return self.kernel.t()

    def forward(self, x: Tensor) -> Tensor:
        """Return (A, U)."""
        faces, inputs = x.shape
        if faces > FEW_FACES or inputs % PIECES or torch.onnx.is_in_onnx_export():
            return x @ self.kernel if self.bias is None else torch.addmm(self.bias, x, self.kernel)
        pieces = x.view(faces, PIECES, -1).transpose(0, 1), self.kernel.view(PIECES, inputs // PIECES, -1)
        product = torch.bmm(*pieces).sum(0)
        return product if self.bias is None else product + self.bias


def _to_file(module: nn.Module, state: dict[str, Tensor], prefix: str, local: dict[str, object]) -> None:
    state[f"{prefix}weight"] = state.pop(f"{prefix}kernel").t()


def _from_file(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    if f"{prefix}weight" in state:
        state[f"{prefix}kernel"] = state.pop(f"{prefix}weight").t()


class Stage(nn.Module):
    """One iteration's own weights.

    Args:
        num_points: N.
        num_patches: M.
        units: U (official: 512).
        rank: of the hidden layer's matrix, which is then a product of two [ours]; 0 keeps it whole.
        init: released draws all weights with one deviation, as the official training does; fan_in [ours] with
            1 / sqrt(inputs), so that features reach the hidden layer at full size from the first step on.
        dropout: chance that a patch's feature does not reach the hidden layer in training [ours].
        attention_rank: the same as `rank` for the attention's matrix [ours]; 0 keeps it whole.
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
        self.num_points = num_points
        self.num_patches = num_patches
        self.units = units
        self.dropout = dropout
        self.conv1 = nn.Conv2d(3, CHANNELS, 3)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3)
        self.attention: nn.Linear | nn.Sequential = nn.Linear(FEATURES, FEATURES)
        if attention_rank:
            factors = nn.Linear(FEATURES, attention_rank, bias=False), nn.Linear(attention_rank, FEATURES)
            self.attention = nn.Sequential(*factors)
        inputs = FEATURES * num_patches + units
        self.squeeze = HiddenLinear(inputs, rank, bias=False) if rank else nn.Identity()
        self.hidden: HiddenLinear | nn.Linear = nn.Linear(rank, units) if rank else HiddenLinear(inputs, units)
        self.output = nn.Linear(units, 2 * num_points + 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | HiddenLinear):
                by_inputs = init == "fan_in" and module is not self.output
                std = module.weight[0].numel() ** -0.5 if by_inputs else INIT_STD
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def describe(self, patches: Tensor) -> Tensor:
        """Return features (A * M, FEATURES) of patches (A * M, 3, 14, 14).

        The middle of the second convolution's map comes first, then its maxima; the order is row, column, channel,
        which official weights fix.
        """
        # The largest of rectified values is the rectified largest: rectifying last touches a quarter of the values.
        maps = F.relu(F.max_pool2d(self.conv1(patches), 2), inplace=True)
        maps = self.conv2(maps)
        both = torch.cat([maps[:, :, 1:3, 1:3], F.max_pool2d(maps, 2)], dim=1)
        return F.relu(both.permute(0, 2, 3, 1).flatten(1), inplace=True)

    def forward(self, features: Tensor, state: Tensor) -> StageOutput:
        """Return the output for features (A * M, FEATURES), face by face, and the former hidden state (A, U)."""
        attention = torch.sigmoid(self.attention(features))
        gated = F.dropout(attention * features, self.dropout, self.training)
        joined = torch.cat([gated.view(state.shape[0], -1), state], dim=1)  # (A, M * FEATURES + U)
        state = torch.tanh(self.hidden(self.squeeze(joined)))
        output = self.output(state)  # (A, 2 * N + 1)
        displacement = output[:, :-1].unflatten(1, (self.num_points, 2))
        return StageOutput(displacement, output[:, -1], state, attention)

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


# What `CascadeNet.describe` is: (stage, level, centres, faces, scale) -> features.
Describe = Callable[[Stage, Level, Tensor, Tensor | None, Tensor | None], Tensor]


class CascadeNet(nn.Module):
    """The cascade (official: three iterations at levels 2, 1, 0).

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
        self.num_points = num_points
        self.sampling = sampling
        self.detach = detach
        self.level_of = LEVELS[iterations] if levels is None else tuple(levels)
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

    def forward(
        self, image: Tensor, origin: Tensor | None = None, exit_below: Sequence[float] | None = None
    ) -> CascadeRun:
        """Run the cascade on crops (B, 3, H, W).

        Args:
            image: bytes, or floats at any scale.
            origin: (B, 2) row, column that `start` counts from; None for the crop's first pixel.
            exit_below: as in `run`.
        """
        return self.run(self.pyramid(image), self.first_shape(len(image), origin), exit_below)

    def pyramid(self, image: Tensor) -> Pyramid:
        """Return the pyramid of crops (B, 3, H, W): bytes, or floats at any scale."""
        # The loader's crops have their channels last in memory, so this copies nothing.
        return pyramid(image.permute(0, 2, 3, 1).contiguous(), max(self.level_of) + 1)

    def first_shape(self, faces: int, origin: Tensor | None = None) -> Tensor:
        """Return the shape (B, N, 2) from which a run starts, counted from the origins (B, 2) row, column."""
        start = self.start.expand(faces, -1, -1)
        return start if origin is None else start + origin[:, None]

    def run(
        self,
        pyramid: Pyramid,
        start: Tensor,
        exit_below: Sequence[float] | None = None,
        keep_traces: bool = False,
        describe: Describe | None = None,
    ) -> CascadeRun:
        """Run the iterations; between them the batch shrinks to the faces that go on.

        Args:
            pyramid: of B faces.
            start: (B, N, 2) row, column, pixels of level 0.
            exit_below: for each iteration but the last, the predicted error below which a face leaves; None: no exit.
            keep_traces: keep inputs and output of each iteration.
            describe: what cuts and describes patches; None for `self.describe`.
        """
        describe = describe or self.describe
        run = CascadeRun([], [], torch.full((len(start),), len(self.level_of), device=start.device))
        faces: Tensor | None = None  # None: all of them, so that a whole batch is not indexed
        origin, moved = start, torch.zeros_like(start)
        state = start.new_zeros(start.shape[0], self.stage_list[0].units)
        for t, (level, stage, indices) in enumerate(zip(self.level_of, self.stage_list, self.index_sets, strict=True)):
            centres = (origin / 2**level + moved)[:, indices]  # (A, M, 2)
            features = describe(stage, pyramid.levels[level], centres, faces, pyramid.scale)
            output = stage(features, state)
            moved, state = moved + output.displacement, output.state
            _record(run, faces, origin + 2**level * moved, output.error)
            if keep_traces:
                rows = torch.arange(len(start), device=start.device) if faces is None else faces
                run.traces.append(Trace(rows, centres, features, output, moved))
            if t + 1 == len(self.level_of):
                break
            if exit_below is not None:
                stay = ~(output.error < exit_below[t])  # NaN never exits early
                if not bool(stay.all()):
                    run.iterations[(~stay).nonzero()[:, 0] if faces is None else faces[~stay]] = t + 1
                    faces = stay.nonzero()[:, 0] if faces is None else faces[stay]
                    if len(faces) == 0:
                        break
                    origin, moved, state = origin[stay], moved[stay], state[stay]
            if self.detach:
                moved, state = moved.detach(), state.detach()
            moved = moved * 2 ** (level - self.level_of[t + 1])
        return run

    def describe(
        self, stage: Stage, level: Level, centres: Tensor, faces: Tensor | None, scale: Tensor | None
    ) -> Tensor:
        """Return features (A * M, FEATURES) of the patches of a level; the arguments are those of `cut_patches`."""
        return stage.describe(cut_patches(level, centres, PATCH, self.sampling, faces, scale))

    @torch.inference_mode()
    def traced(self, image: Tensor) -> list[Trace]:
        """Return inputs and output of every iteration for crops (B, 3, H, W), all iterations."""
        return self.run(self.pyramid(image), self.first_shape(len(image)), keep_traces=True).traces

    def macs(self, iterations: int) -> int:
        """Return the multiply-adds of one face in so many iterations: convolutions and matrix products."""
        return sum(stage.macs for stage in self.stage_list[:iterations])


def _record(run: CascadeRun, faces: Tensor | None, points: Tensor, error: Tensor) -> None:
    """Append an iteration's points and errors; faces that left before it keep their last ones."""
    if faces is None:
        run.points.append(points)
        run.errors.append(error)
        return
    run.points.append(run.points[-1].index_copy(0, faces, points))
    run.errors.append(run.errors[-1].index_copy(0, faces, error))
