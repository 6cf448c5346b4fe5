"""Heatmaps and boundary on the CPU as compiled loops: what `AWingTargets` draws, without the cells nobody touches.

A training target is nearly empty: of the 400 thousand cells of a face with 98 landmarks five thousand are not zero. On
the CPU the tensors of `awing.targets` spend their time on clearing all of them. `Canvas` keeps one piece of memory,
remembers which windows it drew, and clears only those. Values are those of the tensors' path, whose tables it is given;
in the boundary the few cells differ whose spline's sample falls on a whole number.

Needs the optional package numba, see `common.native`.
Symbols: B batch, L landmarks, C lines, N points of the longest line, T samples a line, S side of the map, R radius.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread

import numpy as np
import torch
from torch import Tensor

from common.native import available, compiled

MARGIN = 2  # cells by which the official border rule shifts a peak in its patch at most


@compiled
def _clear(maps: np.ndarray, windows: np.ndarray) -> None:
    """Zero what was drawn: windows (L, 4) top, bottom, left, right (ends excluded) of maps (L or L + 1, S, S)."""
    for landmark in range(len(windows)):
        top, bottom, left, right = windows[landmark]
        maps[landmark, top:bottom, left:right] = 0


@compiled
def _draw_peaks(
    points: np.ndarray, stride: float, maps: np.ndarray, windows: np.ndarray, table: np.ndarray, legacy_border: bool
) -> None:
    """Draw one face's peaks: points (L, 2), `stride` pixels a cell; table (2 R + 5,) holds offsets -R - 2 ... R + 2."""
    size, middle = maps.shape[1], len(table) // 2
    radius, cell = middle - MARGIN, np.float32(stride)
    for landmark in range(len(points)):
        windows[landmark] = 0
        # Single precision, as the tensors' path divides: a point on a cell's border must fall to the same side.
        x, y = np.float32(points[landmark, 0]) / cell, np.float32(points[landmark, 1]) / cell
        # What is not finite, or farther off than a patch reaches, leaves nothing.
        if not (-size < x < 2 * size and -size < y < 2 * size) or (legacy_border and x <= 0):
            continue
        column, row = int(np.floor(x)), int(np.floor(y))
        middle_x, middle_y = column, row
        if legacy_border:  # see common.heatmaps.gaussian_patches
            first_x, first_y = column + 1 - radius, row + 1 - radius
            middle_x = radius + 1 - max(-first_x, 1) if first_x < 1 else column
            middle_y = radius + 1 - max(-first_y, 1) if first_y < 1 else row
        top, bottom = max(row - radius, 0), min(row + radius + 1, size)
        left, right = max(column - radius, 0), min(column + radius + 1, size)
        if top >= bottom or left >= right:
            continue
        windows[landmark, 0], windows[landmark, 1] = top, bottom
        windows[landmark, 2], windows[landmark, 3] = left, right
        # Slices, so that no index can be negative and the compiler may take several numbers at once.
        heights = table[top - middle_y + middle : bottom - middle_y + middle]
        profile = table[left - middle_x + middle : right - middle_x + middle]
        window = maps[landmark, top:bottom, left:right]
        for i in range(len(heights)):
            for j in range(len(profile)):
                window[i, j] = heights[i] * profile[j]


@compiled
def _gather_line(cells: np.ndarray, line: np.ndarray, knots: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> int:
    """Collect a line's distinct points and their chord lengths in [0, 1].

    Returns their number, 0 where a point is not finite.

    Args:
        cells: (L, 2) of the face.
        line: (N,) indices, -1 after the last.
        knots, xs, ys: (N,), filled.
    """
    count = 0
    for index in line:
        if index < 0:
            break
        x, y = cells[index, 0], cells[index, 1]
        if not (np.isfinite(x) and np.isfinite(y)):
            return 0
        if count and xs[count - 1] == x and ys[count - 1] == y:
            continue
        xs[count], ys[count] = x, y
        if count:
            knots[count] = knots[count - 1] + np.sqrt((x - xs[count - 1]) ** 2 + (y - ys[count - 1]) ** 2)
        else:
            knots[0] = 0.0
        count += 1
    length = knots[count - 1] if count > 1 else 1.0
    for k in range(count):
        knots[k] /= length
    return count


@compiled
def _solve_slopes(knots: np.ndarray, values: np.ndarray, slopes: np.ndarray, upper: np.ndarray, count: int) -> None:
    """Fill the derivatives of the spline through `count` values at knots: not-a-knot cubic, parabola or segment.

    The cubic's equations have three diagonals; elimination runs down them once and back once. All are (N,); upper is
    memory for the elimination.
    """
    before = knots[1] - knots[0]
    chord = (values[1] - values[0]) / before
    if count == 2:
        slopes[0] = slopes[1] = chord
        return
    after = knots[2] - knots[1]
    following = (values[2] - values[1]) / after
    both = before + after
    if count == 3:
        bend = (following - chord) / both
        slopes[0], slopes[1], slopes[2] = chord - bend * before, chord + bend * before, following + bend * after
        return
    upper[0] = both / after
    slopes[0] = ((before + 2 * both) * after * chord + before * before * following) / (both * after)
    for i in range(1, count - 1):
        after = knots[i + 1] - knots[i]
        following = (values[i + 1] - values[i]) / after
        pivot = 2 * (before + after) - after * upper[i - 1]
        upper[i] = before / pivot
        slopes[i] = (3 * (after * chord + before * following) - after * slopes[i - 1]) / pivot
        if i < count - 2:
            before, chord = after, following
    both = before + after
    right = ((after + 2 * both) * before * following + after * after * chord) / both
    slopes[count - 1] = (right - both * slopes[count - 2]) / (before - both * upper[count - 2])
    for i in range(count - 2, -1, -1):
        slopes[i] -= upper[i] * slopes[i + 1]


@compiled
def _mark_lines(
    cells: np.ndarray, lines: np.ndarray, times: np.ndarray, x_shift: int, size: int, width: int, marked: np.ndarray
) -> None:
    """Set the cells of one face's lines to 1 in marked, `width` a row; cells (L, 2), lines (C, N), times (T,)."""
    longest = lines.shape[1]
    knots, upper, xs, ys = np.empty(longest), np.empty(longest), np.empty(longest), np.empty(longest)
    slopes_x, slopes_y = np.empty(longest), np.empty(longest)
    for line in lines:
        count = _gather_line(cells, line, knots, xs, ys)
        if count == 0:
            continue
        if count == 1:  # all points in one cell: a line that stays there
            knots[1], xs[1], ys[1], count = 1.0, xs[0], ys[0], 2
        _solve_slopes(knots, xs, slopes_x, upper, count)
        _solve_slopes(knots, ys, slopes_y, upper, count)
        k = 0
        for piece in range(count - 1):
            end = knots[piece + 1] if piece < count - 2 else np.inf
            step = knots[piece + 1] - knots[piece]
            chord_x, chord_y = (xs[piece + 1] - xs[piece]) / step, (ys[piece + 1] - ys[piece]) / step
            x0, x1, y0, y1 = xs[piece] + x_shift, slopes_x[piece], ys[piece], slopes_y[piece]
            x2, y2 = (
                (3 * chord_x - 2 * x1 - slopes_x[piece + 1]) / step,
                (3 * chord_y - 2 * y1 - slopes_y[piece + 1]) / step,
            )
            x3 = (x1 + slopes_x[piece + 1] - 2 * chord_x) / (step * step)
            y3 = (y1 + slopes_y[piece + 1] - 2 * chord_y) / (step * step)
            while k < len(times) and times[k] < end:
                d = times[k] - knots[piece]
                x, y = x0 + d * (x1 + d * (x2 + d * x3)), y0 + d * (y1 + d * (y2 + d * y3))
                if 0 <= x < size and 0 <= y < size:
                    marked[int(y) * width + int(x)] = 1.0
                k += 1


@compiled
def _widen(values: np.ndarray, weights: np.ndarray, step: int, out: np.ndarray) -> None:
    """Fill out with the largest of values k steps before and behind, times weights[k]; all (P,).

    One long loop for each neighbour, which the compiler turns into wide instructions; zeros between the rows keep them
    apart.
    """
    count = len(values)
    for p in range(count):
        out[p] = values[p]
    for k in range(1, len(weights)):
        weight, shift = weights[k], k * step
        ahead, behind = out[shift:], values[shift:]
        for p in range(len(ahead)):
            value = values[p] * weight
            ahead[p] = value if value > ahead[p] else ahead[p]
        for p in range(len(behind)):
            value = behind[p] * weight
            out[p] = value if value > out[p] else out[p]


@compiled
def _draw(
    points: np.ndarray,
    stride: float,
    maps: np.ndarray,
    windows: np.ndarray,
    table: np.ndarray,
    legacy_border: bool,
    lines: np.ndarray,
    times: np.ndarray,
    x_shift: int,
    weights: np.ndarray,
    quantise: bool,
) -> None:
    """Clear windows (B, L, 4) of maps (B, L or L + 1, S, S), then draw points (B, L, 2), `stride` pixels a cell."""
    landmarks, size = points.shape[1], maps.shape[2]
    width = size + len(weights) - 1  # zeros after each row
    marked, across = np.empty(size * width, np.float32), np.empty(size * width, np.float32)
    both, cells = np.empty(size * width, np.float32), np.empty((landmarks, 2))
    scale, most = np.float32(256), np.float32(255)
    for face in range(len(points)):
        _clear(maps[face], windows[face])
        _draw_peaks(points[face], stride, maps[face], windows[face], table, legacy_border)
        if maps.shape[1] == landmarks:
            continue
        marked[:] = 0
        for landmark in range(landmarks):
            cells[landmark, 0] = np.floor(points[face, landmark, 0] / stride)
            cells[landmark, 1] = np.floor(points[face, landmark, 1] / stride)
        _mark_lines(cells, lines, times, x_shift, size, width, marked)
        _widen(marked, weights, 1, across)
        _widen(across, weights, width, both)
        if quantise:  # pass the values through bytes
            for p in range(len(both)):
                value = np.floor(both[p] * scale)
                both[p] = (value if value < most else most) / most
        for i in range(size):
            maps[face, landmarks, i] = both[i * width : i * width + size]


class Canvas:
    """One batch of targets on the CPU, drawn again and again into the same memory.

    Args:
        map_size: side of the maps in cells.
        sigma: standard deviation of the peaks in cells.
        radius: half side of the patch a peak is cut to, cells.
        legacy_border: as `common.heatmaps.gaussian_patches`.
        lines: index tuples of the boundary; empty for none.
        times: (T,) where each spline is sampled.
        x_shift: cells by which the boundary lies to the right.
        weights: what a sample of the boundary leaves 0, 1, 2, ... cells beside it.
        quantise: pass the boundary through the official code's 8-bit image.

    Raises:
        RuntimeError: numba is not installed.
    """

    def __init__(
        self,
        map_size: int,
        sigma: float,
        radius: int,
        legacy_border: bool,
        lines: Sequence[tuple[int, ...]] = (),
        times: Sequence[float] = (),
        x_shift: int = 0,
        weights: Sequence[float] = (1.0,),
        quantise: bool = True,
    ) -> None:
        if not available:
            raise RuntimeError("compiled targets need numba: install the extra `fast`")
        longest = max((len(line) for line in lines), default=0)
        padded = np.array([[*line, *[-1] * (longest - len(line))] for line in lines], np.int64)
        offsets = torch.arange(-radius - MARGIN, radius + MARGIN + 1, dtype=torch.float32)
        table = torch.exp(offsets.square() * (-0.5 / sigma**2)).numpy()
        self.map_size, self.channels = map_size, int(bool(lines))
        self.style = (table, legacy_border, padded.reshape(len(lines), longest), np.array(times, np.float64), x_shift,
                      np.array(weights, np.float32), quantise)  # fmt: skip
        self.maps, self.windows = torch.empty(0, 0, 0, 0), np.empty((0, 0, 4), np.int64)

    def draw(self, points: Tensor, stride: float) -> Tensor:
        """Return (B, L, S, S) heatmaps, or (B, L + 1, S, S) with the boundary last.

        The tensor is this canvas's memory: the next call draws over it.

        Args:
            points: (B, L, 2) crop pixels, corner of the first pixel at (0, 0), on the CPU.
            stride: crop pixels a cell covers.
        """
        batch, landmarks = points.shape[:2]
        if self.windows.shape[1] != landmarks or len(self.windows) < batch:
            with torch.inference_mode(False):  # memory made in inference could not be drawn into in training
                self.maps = torch.zeros(batch, landmarks + self.channels, self.map_size, self.map_size)
            self.windows = np.zeros((batch, landmarks, 4), np.int64)
        maps, points = self.maps[:batch], points.detach()
        # Autograd does not see the writing below; this reports it, so that a stale use in a backward pass is an error.
        maps[:0].zero_()
        given, drawn, split = points.contiguous().numpy(), maps.numpy(), batch // 2
        halves = [slice(0, split), slice(split, batch)] if split and torch.get_num_threads() > 1 else [slice(0, batch)]
        # A thread of this call only: a pool would not outlive the fork of a loader's workers.
        others = [Thread(target=self._draw_rows, args=(given, stride, drawn, rows)) for rows in halves[1:]]
        for thread in others:
            thread.start()
        self._draw_rows(given, stride, drawn, halves[0])
        for thread in others:
            thread.join()
        return maps

    def _draw_rows(self, points: np.ndarray, stride: float, maps: np.ndarray, rows: slice) -> None:
        _draw(points[rows], stride, maps[rows], self.windows[rows], *self.style)
