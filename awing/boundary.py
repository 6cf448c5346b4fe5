"""The boundary channel: splines through the landmarks, drawn one cell thin and blurred by their distance transform.

Two ways to the same map. `exact_boundary` follows the official drawing to the last bit, one face at a time on the
CPU: only SciPy's own spline code gives its rounding, on which the cell of a sample that falls on an integer depends.
`BoundaryRenderer` draws whole batches on the tensors' device; it differs from the exact map in the few cells whose
samples sit on such integers.

Points are in the official frame: crop pixels with the corner of the first pixel at (0, 0), so cell = floor(x / 4).
Symbols: B batch, L landmarks, C lines, N points of the longest line, T samples a line, S side of the map.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from awing.curves import Polylines

SAMPLES = 100  # per line, t = 0, 0.01, ..., 0.99; the end itself is not sampled
REACH = 3  # distances from here on count as background
FAR = 1.0e4  # cells; keeps points that were thrown far off the map from overflowing


def exact_boundary(
    points: np.ndarray, lines: Polylines, map_size: int = 64, stride: float = 4.0, x_shift: int = 1
) -> np.ndarray:
    """Draw the boundary of one face as the official code does.

    Args:
        points: (L, 2) crop pixels, official frame.
        lines: index tuples, see `awing.curves`.
        map_size: side of the map in cells.
        stride: crop pixels a cell covers.
        x_shift: cells by which the drawing lies to the right; 1 is the official artefact, 0 is centred.

    Returns:
        (map_size, map_size) uint8; divide by 255 for the training target.
    """
    cells = np.floor(np.asarray(points, np.float64) / stride)
    drawn = np.ones((map_size, map_size), np.uint8)
    for line in lines:
        x, y = _sample_line(cells[list(line)])
        column, row = np.floor(x).astype(np.int64) + x_shift, np.floor(y).astype(np.int64)
        inside = (column >= 0) & (column < map_size) & (row >= 0) & (row < map_size)
        drawn[row[inside], column[inside]] = 0
    if drawn.all():
        return np.zeros((map_size, map_size), np.uint8)
    distance = cv2.distanceTransform(drawn, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)
    value = np.where(distance < REACH, np.exp(-(distance**2) / 2), 0.0)
    return np.minimum(np.floor(256 * value), 255).astype(np.uint8)


def _sample_line(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y (T,) of samples along the interpolating spline through cells (n, 2)."""
    keep = np.concatenate([[True], (np.diff(cells, axis=0) != 0).any(1)])
    cells = cells[keep]
    if len(cells) == 1:
        cells = np.concatenate([cells, cells + 0.001])
    from scipy.interpolate import splev, splprep  # here: prediction needs no scipy

    knots, _ = splprep(cells.T, s=0, k=min(4, len(cells)) - 1)
    x, y = splev(np.arange(SAMPLES) / SAMPLES, knots)
    return np.asarray(x), np.asarray(y)


class BoundaryRenderer(nn.Module):
    """Boundary channels of a batch of faces.

    Args:
        lines: index tuples, see `awing.curves`.
        map_size: side of the map in cells.
        stride: crop pixels a cell covers.
        x_shift: cells by which the drawing lies to the right; 1 is the official artefact, 0 is centred.
        quantise: pass the values through the official code's 8-bit image.
    """

    def __init__(
        self,
        lines: Polylines,
        map_size: int = 64,
        stride: float = 4.0,
        x_shift: int = 1,
        quantise: bool = True,
    ) -> None:
        super().__init__()
        if not lines or min(len(line) for line in lines) < 2:
            raise ValueError(f"every line needs two points or more, got {lines}")
        self.lines, self.map_size, self.stride, self.x_shift, self.quantise = lines, map_size, stride, x_shift, quantise
        # Lines of like length share one batch of linear systems; a short one is filled up with its last point, which
        # counts as a repeated point and drops out.
        self.groups: list[str] = []
        for low, high in ((2, 3), (4, 8), (9, 10**6)):
            members = [line for line in lines if low <= len(line) <= high]
            if members:
                self.groups.append(f"lines_{low}")
                self.register_buffer(self.groups[-1], _padded(members), persistent=False)
        self.register_buffer("times", torch.arange(SAMPLES, dtype=torch.float64) / SAMPLES, persistent=False)
        # exp(-d^2 / 2) is a product over the axes, so each axis takes its own maximum over the neighbours.
        self.weights = [float(np.exp(-(k**2) / 2)) for k in range(REACH)]

    @torch.no_grad()
    def forward(self, points: Tensor) -> Tensor:
        """Return (B, S, S) float32 maps in [0, 1] of points (B, L, 2) in crop pixels, official frame.

        Lines with a point that is not finite are not drawn.
        """
        cells = (points.double() / self.stride).floor()
        indices: list[Tensor] = []
        for name in self.groups:
            lines: Tensor = self.get_buffer(name)
            samples = interpolate_lines(cells[:, lines].flatten(0, 1), self.get_buffer("times"))  # (B C, T, 2)
            indices.append(self._cell_index(samples).view(len(points), -1))
        size = self.map_size
        drawn = points.new_zeros((len(points), size * size + 1), dtype=torch.float32)
        drawn.scatter_(1, torch.cat(indices, 1), 1.0)  # the last cell collects samples off the map
        value = self._spread(self._spread(drawn[:, :-1].view(-1, size, size), 2), 1)
        return (value * 256).floor().clamp(max=255) / 255 if self.quantise else value

    def _cell_index(self, samples: Tensor) -> Tensor:
        size = self.map_size
        cells = samples.floor().nan_to_num(nan=-FAR).clamp(-FAR, FAR).to(torch.int32)
        column, row = cells.unbind(-1)
        column = column + self.x_shift
        inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        return torch.where(inside, row * size + column, size * size).long()

    def _spread(self, value: Tensor, dim: int) -> Tensor:
        """Return the maximum over the neighbours along `dim` of value times exp(-offset^2 / 2)."""
        result, size = value.clone(), self.map_size
        for offset in range(1, min(REACH, size)):
            part = value * self.weights[offset]
            ahead, behind = result.narrow(dim, offset, size - offset), result.narrow(dim, 0, size - offset)
            torch.maximum(ahead, part.narrow(dim, 0, size - offset), out=ahead)
            torch.maximum(behind, part.narrow(dim, offset, size - offset), out=behind)
        return result


def _padded(lines: Sequence[tuple[int, ...]]) -> Tensor:
    longest = max(len(line) for line in lines)
    return torch.tensor([list(line) + [line[-1]] * (longest - len(line)) for line in lines])


def interpolate_lines(points: Tensor, times: Tensor) -> Tensor:
    """Sample the interpolating splines of many lines at once.

    Each spline runs through its points at chord-length parameters in [0, 1]: a cubic with not-a-knot ends, the
    parabola of three points, the segment of two. Points that repeat the one before them count once.

    Args:
        points: (..., N, 2) float64.
        times: (T,) parameters in [0, 1), ascending.

    Returns:
        (..., T, 2); NaN for lines with a point that is not finite.
    """
    shape, points = points.shape, points.flatten(0, -3)
    broken = ~points.isfinite().flatten(1).all(1)
    points = torch.where(broken[:, None, None], 0.0, points).clamp(-FAR, FAR)
    knots, points, count = _distinct(points)
    slopes = _slopes(knots, points, count)
    step = (knots[:, 1:] - knots[:, :-1])[..., None]  # (M, N - 1, 1)
    chord = (points[:, 1:] - points[:, :-1]) / step
    square = (3 * chord - 2 * slopes[:, :-1] - slopes[:, 1:]) / step
    cube = (slopes[:, :-1] + slopes[:, 1:] - 2 * chord) / step.square()
    # One row per piece: where it starts, and its polynomial in the distance from there.
    pieces = torch.cat([knots[:, :-1, None], points[:, :-1], slopes[:, :-1], square, cube], -1)  # (M, N - 1, 9)
    last = (count - 2).clamp(min=0)[:, None]
    piece = torch.searchsorted(knots, times.expand(len(knots), -1).contiguous(), right=True) - 1
    piece = torch.minimum(piece, last)
    first = torch.arange(len(knots), device=knots.device)[:, None] * pieces.shape[1]
    start, p0, p1, p2, p3 = pieces.flatten(0, 1).index_select(0, (first + piece).flatten()).split([1, 2, 2, 2, 2], 1)
    t = times.repeat(len(knots))[:, None] - start
    samples = torch.addcmul(p0, t, torch.addcmul(p1, t, torch.addcmul(p2, t, p3))).view(len(knots), -1, 2)
    samples = samples.masked_fill(broken[:, None, None], torch.nan)
    return samples.view(*shape[:-2], len(times), 2)


def _distinct(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move each line's points that differ from their predecessor to its front.

    Args:
        points: (M, N, 2).

    Returns:
        Parameters (M, N), 0 at the first and 1 at the last distinct point and 2, 3, ... after it; points (M, N, 2),
        repeating the last one after; numbers (M,) of distinct points.
    """
    length = points.shape[1]
    keep = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    keep[:, 1:] = (points[:, 1:] != points[:, :-1]).any(-1)
    count = keep.sum(1)
    order = (~keep).to(torch.uint8).argsort(dim=1, stable=True)
    place = torch.arange(length, device=points.device)
    order = order.gather(1, torch.minimum(place, count[:, None] - 1))
    points = points.gather(1, order[..., None].expand(-1, -1, 2))
    chord = torch.nn.functional.pad((points[:, 1:] - points[:, :-1]).norm(dim=-1).cumsum(1), (1, 0))
    knots = chord / chord[:, -1:].clamp(min=1e-12)
    behind = place - count[:, None] + 1
    # Exactly 1 at the last point, whatever the rounding of the sum.
    return torch.where(behind >= 0, behind.clamp(min=0) + (count > 1)[:, None], knots), points, count


def _slopes(knots: Tensor, points: Tensor, count: Tensor) -> Tensor:
    """Return the splines' derivatives (M, N, 2) at the knots (M, N); 0 after the last distinct point."""
    length = knots.shape[1]
    step = knots[:, 1:] - knots[:, :-1]  # (M, N - 1)
    chord = (points[:, 1:] - points[:, :-1]) / step[..., None]
    system = torch.zeros(len(knots), length, length, dtype=knots.dtype, device=knots.device)
    right = torch.zeros_like(points)
    diagonal, below, above = (system.diagonal(k, 1, 2) for k in (0, -1, 1))
    inner = torch.arange(1, length - 1, device=knots.device) < (count - 1)[:, None]  # (M, N - 2)
    before, after = step[:, :-1], step[:, 1:]
    diagonal.fill_(1.0)
    diagonal[:, 1:-1] = torch.where(inner, 2 * (before + after), 1.0)
    below[:, :-1] = torch.where(inner, after, 0.0)
    above[:, 1:] = torch.where(inner, before, 0.0)
    mean = 3 * (after[..., None] * chord[:, :-1] + before[..., None] * chord[:, 1:])
    right[:, 1:-1] = torch.where(inner[..., None], mean, 0.0)
    rows = torch.arange(len(knots), device=knots.device)
    last = (count - 1).clamp(min=1)
    for end, towards in ((torch.zeros_like(last), 1), (last, -1)):
        # Step and chord next to the end, and the ones after them (the same again where a line has one step only).
        first = end if towards == 1 else end - 1
        second = torch.where(count > 2, first + towards, first)
        near, far = step[rows, first], step[rows, second]
        slope, next_slope = chord[rows, first], chord[rows, second]
        both = near + far
        curved = ((near + 2 * both) * far)[:, None] * slope + near.square()[:, None] * next_slope
        cubic, parabola = count > 3, count == 3
        system[rows, end, end] = torch.where(cubic, far, 1.0)
        system[rows, end, end + towards] = torch.where(cubic, both, parabola.to(knots.dtype))
        value = torch.where(cubic[:, None], curved / both[:, None], slope * (1 + parabola[:, None]))
        right[rows, end] = torch.where((count > 1)[:, None], value, 0.0)
    return torch.linalg.solve(system, right)
