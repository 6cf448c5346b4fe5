"""Attention between the landmarks of a face (sec. 3.3), over the complete graph or over a sparse one.

The complete graph runs on PyTorch's fused attention; a sparse graph on torch-geometric's message passing over batched
graphs. Both use the same weights and give the same numbers on the complete graph.
Symbols: B batch, C channels, H heads, L landmarks, N edges of the graph.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import LabError
from common.schemes import LandmarkScheme

with warnings.catch_warnings():  # of what the library does with torch, which no user can change
    warnings.filterwarnings("ignore", message=".*`torch.jit.script` is deprecated")
    from torch_geometric.nn import MessagePassing
    from torch_geometric.utils import softmax

GraphKind = Literal["complete", "anatomical", "knn"]


def complete_edges(count: int) -> Tensor:
    """Return all pairs (2, L * L), source above target, self-loops included."""
    index = torch.arange(count)
    return torch.stack([index.repeat(count), index.repeat_interleave(count)])


def anatomical_edges(scheme: LandmarkScheme) -> Tensor:
    """Return neighbours on the scheme's curves, mirror pairs and self-loops (2, N), both directions, sorted."""
    pairs = {pair for a, b in (*scheme.edges, *enumerate(scheme.mirror)) for pair in ((a, b), (b, a))}
    pairs |= {(i, i) for i in range(scheme.num_points)}
    return torch.tensor(sorted(pairs)).T.contiguous()


def nearest_edges(model: Tensor, k: int) -> Tensor:
    """Return (2, N): each point gets messages from itself and its k nearest points of the model (L, 3).

    Raises:
        LabError: k is not in 1 ... L - 1.
    """
    count = len(model)
    if not 1 <= k < count:
        raise LabError(f"knn must be in 1 ... {count - 1} for {count} landmarks, got {k}")
    near = torch.cdist(model.double(), model.double()).topk(k + 1, largest=False, sorted=True).indices
    return torch.stack([near.flatten(), torch.arange(count).repeat_interleave(k + 1)])


def make_edges(graph: GraphKind, scheme: LandmarkScheme, model: Tensor, k: int) -> Tensor | None:
    """Return the edges of a graph by its name; None for the complete graph, which needs no list.

    Raises:
        LabError: k does not fit.
    """
    match graph:
        case "complete":
            return None
        case "anatomical":
            return anatomical_edges(scheme)
        case "knn":
            return nearest_edges(model, k)


class EdgeAttention(MessagePassing):
    """Scaled dot-product attention along the edges of a graph; holds no weights."""

    def __init__(self, heads: int) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.heads = heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor, edges: Tensor) -> Tensor:
        """Return messages (nodes, H, D) for queries, keys and values (nodes, H, D) and edges (2, N)."""
        result: Tensor = self.propagate(edges, query=query, key=key, value=value)
        return result

    def message(  # type: ignore[override]
        self, query_i: Tensor, key_j: Tensor, value_j: Tensor, index: Tensor, ptr: object, size_i: int | None
    ) -> Tensor:
        """Return what each edge brings its target (N, H, D)."""
        score = (query_i * key_j).sum(-1) / query_i.shape[-1] ** 0.5
        return softmax(score, index, ptr, size_i)[..., None] * value_j


class PointMLP(nn.Module):
    """Linear layers over (B, L, C) with BatchNorm and ReLU between them, none after the last."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for b in widths[1:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, first width) to (B, L, last width)."""
        points = int(x.shape[1])
        x = x.flatten(0, 1)
        for layer, norm in zip(self.layers[:-1], self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        result: Tensor = self.layers[-1](x).unflatten(0, (-1, points))
        return result


class GraphAttention(nn.Module):
    """One layer: messages of the neighbours, a perceptron over the point and its message, a residual.

    Args:
        channels: of the input.
        out: of the output; the residual gets a linear map where it differs.
        heads: of the attention, each of channels / heads consecutive channels.
    """

    def __init__(self, channels: int, out: int, heads: int = 4) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not divide into {heads} heads")
        self.heads = heads
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.value, self.merge = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.mlp = PointMLP(2 * channels, 2 * channels, out)
        self.skip: nn.Module = nn.Identity() if channels == out else nn.Linear(channels, out)
        self.sparse = EdgeAttention(heads)

    def attention(self, x: Tensor, edges: Tensor | None = None) -> Tensor:
        """Return the softmax weights (B, H, L, L) of targets (queries) over sources (keys); 0 where no edge is."""
        query, key = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key))
        score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if edges is not None:
            open_ = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
            open_[edges[1], edges[0]] = True
            score = score.masked_fill(~open_, -torch.inf)
        return score.softmax(-1)

    def _messages(self, x: Tensor, edges: Tensor | None) -> Tensor:
        query, key, value = (layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.query, self.key, self.value))
        if edges is None:
            query, key, value = (part.transpose(1, 2) for part in (query, key, value))
            return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        if torch.onnx.is_in_onnx_export():  # message passing has no form there; the masked product gives the same
            return (self.attention(x, edges) @ value.transpose(1, 2)).transpose(1, 2).flatten(2)
        batch, count = x.shape[:2]
        # Faces of a batch are one graph without edges between them.
        starts = torch.arange(batch, device=x.device).repeat_interleave(edges.shape[1]) * count
        joined = edges.repeat(1, batch) + starts
        found: Tensor = self.sparse(*(part.flatten(0, 1) for part in (query, key, value)), joined)
        return found.flatten(1).unflatten(0, (batch, count))

    def forward(self, x: Tensor, edges: Tensor | None = None) -> Tensor:
        """Map (B, L, channels) to (B, L, out); `edges` (2, N) source above target, None for the complete graph."""
        message = self.merge(self._messages(x, edges))
        result: Tensor = self.skip(x) + self.mlp(torch.cat([x, message], dim=-1))
        return result
