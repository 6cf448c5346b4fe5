"""The two regression networks: landmarks as offsets from the mean face, or from the mean of a part.

Shapes: B batch, L landmarks, G parts, n landmarks of a part, S crop side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dpr.stages.backbone import STRIDES, GroupedLinear, SmallMobileNetV2, initialise

HEAD = 256
LOCAL_HEAD = 64


class GlobalRegress(nn.Module):
    """Backbone and a head of three layers (256, 256, 2 L).

    Args:
        num_points: L.
        size: side of the face crop in pixels.
        strides: see `SmallMobileNetV2`.

    Shapes:
        image: (B, 3, S, S), normalised to [-1, 1].
        output: (B, L, 2), offsets in half sides: landmark = (0.5 offset + mean) * S.
    """

    def __init__(self, num_points: int, size: int = 256, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        self.backbone = SmallMobileNetV2(strides=strides)
        self.head = nn.Sequential(
            nn.Linear(self.backbone.features(size), HEAD), nn.PReLU(), nn.Linear(HEAD, HEAD), nn.PReLU(),
            nn.Linear(HEAD, 2 * num_points),
        )  # fmt: skip
        initialise(self.head)

    def features(self, image: Tensor) -> Tensor:
        """Return the flattened backbone output (B, F): channel, row, column."""
        y: Tensor = self.backbone(image)
        return y.flatten(1)

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(image))
        return y.unflatten(1, (-1, 2))


class LocalRegress(nn.Module):
    """One backbone and one head (64, 64, 2 n) for each part, no weight in common, run as one grouped network.

    Args:
        counts: n of each part.
        size: side of the part crops in pixels.
        strides: see `SmallMobileNetV2`.

    Shapes:
        image: (B, G, 3, S, S), normalised to [-1, 1].
        output: for each part (B, n, 2), offsets in half sides.
    """

    def __init__(self, counts: Sequence[int], size: int = 128, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        groups = len(counts)
        self.counts = tuple(counts)
        self.backbone = SmallMobileNetV2(groups, strides)
        features = self.backbone.features(size)
        self.head = nn.Sequential(
            GroupedLinear(groups, features, LOCAL_HEAD), nn.PReLU(groups),
            GroupedLinear(groups, LOCAL_HEAD, LOCAL_HEAD), nn.PReLU(groups),
        )  # fmt: skip
        self.last = nn.ModuleList([nn.Linear(LOCAL_HEAD, 2 * count) for count in counts])
        initialise(self.last)

    def copy_backbone(self, source: SmallMobileNetV2) -> None:
        """Start every part from the global backbone (official); heads do not fit and stay as they are."""
        given = source.state_dict()
        for key, value in self.backbone.state_dict().items():
            repeats = [len(self.counts)] + [1] * (value.ndim - 1)
            value.copy_(given[key].repeat(repeats) if value.ndim else given[key])

    def forward(self, image: Tensor) -> list[Tensor]:
        y: Tensor = self.backbone(image.flatten(1, 2))
        y = self.head(y.unflatten(1, (len(self.counts), -1)).flatten(2))
        return [layer(y[:, part]).unflatten(1, (-1, 2)) for part, layer in enumerate(self.last)]
