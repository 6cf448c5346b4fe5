"""The two reinitialisation networks: which affine map brings a face, or a part of it, into its normalised state.

Both return maps from source to destination as 2x3 matrices [[a, b, tx], [c, d, ty]] whose translation is in
units of the destination's side. Shapes: B batch, G parts, L landmarks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpr.stages.backbone import GroupedLinear, initialise

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SIZE = 128  # input side that the flattened length of 256 belongs to
FEATURES, HIDDEN = 256, 32
LOCAL_HIDDEN = (128, 64)


class GlobalReinit(nn.Module):
    """Looks at the box's crop and predicts the map from it to the normalised face; a free affine map.

    Convolutions are valid (no padding) and have no BatchNorm; max-pooling comes before the PReLU, whose one slope may
    become negative, so that the order matters. The last layer starts at zero weights and the identity.

    Shapes:
        image: (B, 3, 128, 128), normalised to [-1, 1].
        output: (B, 2, 3), translation in units of 128 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2), nn.MaxPool2d(2), nn.PReLU(),  # 8 x 31 x 31
            nn.Conv2d(8, 16, 3), nn.PReLU(),
            nn.Conv2d(16, 16, 3), nn.MaxPool2d(2), nn.PReLU(),  # 16 x 13 x 13
            nn.Conv2d(16, 32, 3), nn.PReLU(),
            nn.Conv2d(32, 32, 3), nn.MaxPool2d(2), nn.PReLU(),  # 32 x 4 x 4
            nn.Conv2d(32, 64, 3), nn.PReLU(),  # 64 x 2 x 2
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.PReLU(), nn.Linear(HIDDEN, 6))
        initialise(self)
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(torch.tensor(IDENTITY))

    def features(self, image: Tensor) -> Tensor:
        """Return the flattened convolutional output (B, 256): channel, row, column."""
        y: Tensor = self.localization(image)
        return y.flatten(1)

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(image))
        return y.unflatten(1, (2, 3))


class LocalReinit(nn.Module):
    """Reads a map for each part off the global landmarks alone, no pixels; each part sees all landmarks.

    Args:
        num_points: L.
        parts: G.
        scale, shift: fixed change of the input, x * scale + shift. The official networks take pixels of the 256 crop
            as they are (1, 0); numbers of that size make a linear layer hard to train, so ours takes them in [-1, 1].

    Shapes:
        points: (B, L, 2) global landmarks, face crop pixels.
        output: (B, G, 2, 3), from face crop to part crop, translation in units of the part crop's side.
    """

    def __init__(self, num_points: int, parts: int, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.parts, self.scale, self.shift = parts, scale, shift
        first, second = LOCAL_HIDDEN
        self.layers = nn.Sequential(
            GroupedLinear(parts, 2 * num_points, first), nn.PReLU(parts),
            GroupedLinear(parts, first, second), nn.PReLU(parts),
            GroupedLinear(parts, second, 6),
        )  # fmt: skip
        last = self.layers[-1]
        assert isinstance(last, GroupedLinear)
        nn.init.zeros_(last.weight)
        last.bias.data.copy_(torch.tensor(IDENTITY).expand(parts, 6))

    def start_at(self, maps: Tensor) -> None:
        """Let the last layer return these maps (G, 2, 3) as long as its weights are 0."""
        last = self.layers[-1]
        assert isinstance(last, GroupedLinear)
        last.bias.data.copy_(maps.flatten(1))

    def forward(self, points: Tensor) -> Tensor:
        x = points.flatten(1) * self.scale + self.shift
        y: Tensor = self.layers(x[:, None].expand(-1, self.parts, -1))
        return y.unflatten(2, (2, 3))
