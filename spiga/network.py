"""Network of "Shape Preserving Facial Landmarks with Graph Attention Networks" (Prados-Torreblanca, Buenaposada,
Baumela, BMVC 2022, arXiv 2210.07233): backbone, head pose, projected mean face, cascade of graph attention.

Points are shares of the crop's side: p * S are crop pixels whose *areas* start at 0 (so this project's pixel u, whose
centre is u, is p = (u + 0.5) / S), and p * M is the cell of a map whose centres are whole numbers.
Symbols: B batch, C width, K steps, L landmarks, M side of the maps, S side of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.pose import Camera, project
from common.schemes import Indices
from spiga.backbone import CORE, STEMS, Backbone, Features
from spiga.graph import GraphAttention, PointMLP

STRIDE = 4  # crop pixels a cell
SAMPLES = 7  # a window has so many samples a side
WINDOW = 0.25  # side of the first window as a share of the map's; halved with every step
LAYERS, HEADS = 4, 4  # of the graph attention
UNIT_CAMERA = Camera.of_size(1.0)
FRONTAL = (0.0, 0.0, 0.0, 0.0, 0.0, 3.0)  # a face that fills the crop, looking into the camera
MIN_DEPTH = 0.5  # no face of the mean face's size is nearer to the camera than this


@dataclass
class Output:
    """What the network returns.

    Attributes:
        features: of the backbone.
        poses: of the stacks whose pose was computed, (B, 6) each, the last stack last; degrees and model units.
        steps: (B, L, 2) points: the projected mean face, then each step's.
        raw: (B, L, 2) displacements of each step before they are bounded, in half windows.
    """

    features: Features
    poses: list[Tensor] = field(default_factory=list)
    steps: list[Tensor] = field(default_factory=list)
    raw: list[Tensor] = field(default_factory=list)


class CascadeStep(nn.Module):
    """One step: window features and relative positions of each point, graph attention, bounded displacement.

    Args:
        num_points: landmarks L.
        width: channels of the maps; embeddings have twice as many.
        map_size: M.
        step: 0, 1, ...; the window halves with each.
    """

    others: Tensor

    def __init__(self, num_points: int, width: int, map_size: int, step: int) -> None:
        super().__init__()
        self.map_size = map_size
        self.side = WINDOW * map_size / 2**step  # cells
        self.reach = WINDOW / 2 ** (step + 1)  # largest displacement, share of the side
        self.window = nn.Linear(width * SAMPLES**2, 2 * width)
        self.shape = PointMLP(2 * (num_points - 1), width, width, 2 * width)
        self.layers = nn.ModuleList(GraphAttention(2 * width if i == 0 else width, width, HEADS) for i in range(LAYERS))
        self.decoder = PointMLP(width, width, width // 2, width // 4, width // 8, 2)
        others = torch.arange(num_points - 1).expand(num_points, -1)  # row i without i, ascending
        others = others + (others >= torch.arange(num_points)[:, None])
        self.register_buffer("others", others, persistent=False)

    def sample(self, maps: Tensor, points: Tensor) -> Tensor:
        """Return windows (B, L, C, 7, 7) of maps (B, C, M, M) round points (B, L, 2).

        The samples span side - 1 cells, the distance of the outer cells' centres; the border is repeated.
        """
        line = torch.arange(SAMPLES, device=points.device, dtype=points.dtype) - (SAMPLES - 1) / 2
        offsets = line * ((self.side - 1) / (SAMPLES - 1) * 2 / self.map_size)
        centre = 2 * (points + 0.5 / self.map_size) - 1
        grid = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1)  # (7, 7, 2): x, y
        where = (centre[:, :, None, None] + grid).flatten(1, 2)  # (B, L * 7, 7, 2)
        found = F.grid_sample(maps.to(where.dtype), where, "bilinear", "border", align_corners=False)
        return found.unflatten(2, (-1, SAMPLES)).transpose(1, 2)

    def embed_windows(self, maps: Tensor, points: Tensor) -> Tensor:
        """Return the visual embedding (B, L, 2 C)."""
        embedded: Tensor = self.window(self.sample(maps, points).flatten(2))
        return embedded

    def relative(self, points: Tensor) -> Tensor:
        """Return what lies between each point and the others in ascending order, (B, L, 2 (L - 1))."""
        return (points[:, :, None] - points[:, self.others]).flatten(2)

    def embed(self, maps: Tensor, points: Tensor) -> Tensor:
        """Return the embeddings (B, L, 2 C) that the graph attention works on."""
        result: Tensor = self.embed_windows(maps, points) + self.shape(self.relative(points))
        return result

    def forward(self, maps: Tensor, points: Tensor, edges: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return new points (B, L, 2) and the displacement (B, L, 2) before it was bounded."""
        x = self.embed(maps, points)
        for layer in self.layers:
            x = layer(x, edges)
        raw: Tensor = self.decoder(x)
        return points + self.reach * F.hardtanh(raw), raw


class SpigaNet(nn.Module):
    """The whole method.

    Args:
        num_points: landmarks L.
        edges: points of each edge map.
        always: points without an edge.
        mean_face: (L, 3) rigid face, frame of `common.pose`; kept with the weights.
        graph: (2, N) edges of the graph, None for the complete graph.
        size: side S of the crops; S / 4 must be 4 * 2 ** depth.
        stacks, width, depth: of the backbone (official: 4, 256, 4). `width` is a multiple of 32.
        steps: of the cascade (official: 3).
        last_head: see `Backbone`; official weights have none.
        stem, growth: see `Backbone` (official: residual, 0).

    Raises:
        ValueError: sizes do not fit each other.
    """

    mean_face: Tensor
    graph: Tensor | None

    def __init__(
        self,
        num_points: int,
        edges: tuple[Indices, ...],
        always: Indices,
        mean_face: Tensor,
        graph: Tensor | None = None,
        size: int = 256,
        stacks: int = 4,
        width: int = 256,
        depth: int = 4,
        steps: int = 3,
        last_head: bool = False,
        stem: str = "residual",
        growth: int = 0,
    ) -> None:
        super().__init__()
        if stem not in STEMS or growth < 0 or growth % 32:
            raise ValueError(f"stem must be one of {', '.join(STEMS)} and growth a multiple of 32: {stem}, {growth}")
        if size != STRIDE * CORE * 2**depth:
            raise ValueError(f"a network of depth {depth} sees crops of {STRIDE * CORE * 2**depth} pixels, not {size}")
        if width % 32 or stacks < 1 or not 1 <= steps or WINDOW * size / STRIDE / 2 ** (steps - 1) <= 1:
            raise ValueError(f"width must be a multiple of 32, stacks and steps at least 1 and the last window wider "
                             f"than a cell: {width}, {stacks}, {steps}")  # fmt: skip
        self.map_size = size // STRIDE
        self.backbone = Backbone(num_points, edges, always, stacks, width, depth, last_head, stem, growth)
        self.pose = nn.Linear(width, len(FRONTAL))
        with torch.no_grad():  # the default initialisation would put the face into the camera
            self.pose.bias.copy_(torch.tensor(FRONTAL))
        self.cascade = nn.ModuleList(CascadeStep(num_points, width, self.map_size, i) for i in range(steps))
        self.register_buffer("mean_face", mean_face.float().clone())
        self.register_buffer("graph", graph, persistent=False)

    @staticmethod
    def prepare(image: Tensor) -> Tensor:
        """Return RGB crops (B, 3, S, S), uint8 or float in [0, 1], as the BGR in [0, 1] that the weights expect."""
        return (image.float() / 255 if image.dtype == torch.uint8 else image).flip(1)

    def place(self, pose: Tensor) -> Tensor:
        """Return the projected mean face (B, L, 2) for poses (B, 6)."""
        return project(self.mean_face, pose, UNIT_CAMERA, MIN_DEPTH)

    def refine(self, maps: Tensor, pose: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the points of every step, the projected face first, and the displacements before they are bounded.

        Args:
            maps: (B, C, M, M) features of the last stack.
            pose: (B, 6).
        """
        steps, offsets = [self.place(pose)], []
        for step in self.cascade:
            points, raw = step(maps, steps[-1], self.graph)
            steps.append(points)
            offsets.append(raw)
        return steps, offsets

    def predict(self, bgr: Tensor, everything: bool = False) -> Output:
        """Return the whole output for prepared crops; `everything` adds what only training and pictures need."""
        features = self.backbone(bgr, cores="all" if everything else "last", last_head=everything)
        poses = [self.pose(core).to(self.mean_face.dtype) for core in features.cores]
        return Output(features, poses, *self.refine(features.maps[-1], poses[-1]))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return points (B, L, 2), shares of the side, and poses (B, 6) of RGB crops (B, 3, S, S)."""
        found = self.predict(self.prepare(image))
        return found.steps[-1], found.poses[-1]
