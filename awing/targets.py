"""Training targets of Adaptive Wing: landmark heatmaps, the boundary channel and the weighted loss map M.

Everything is drawn for the whole batch on the points' device, after the geometry of the augmentation, never warped.
Symbols: B batch, L landmarks, S side of the map in cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from awing.boundary import BoundaryRenderer
from awing.curves import boundary_lines
from common.heatmaps import gaussian_patches, write_patches
from common.schemes import LandmarkScheme, get_scheme

if TYPE_CHECKING:
    from awing import native

SIGMA = 1.75  # cells; the official code says 1, but its kernel is 0.25 * 7 wide
RADIUS = 3  # a 7 x 7 patch
MAP_THRESHOLD = 0.2


def weight_map(maps: Tensor, threshold: float = MAP_THRESHOLD) -> Tensor:
    """Return the bool map of cells whose 3 x 3 neighbourhood in (B, C, S, S) maps exceeds the threshold (sec. 4.3)."""
    return max_pool2d(maps, 3, stride=1, padding=1) > threshold


class AWingTargets(nn.Module):
    """Heatmaps and weight maps of a batch.

    Args:
        scheme: landmark scheme or its name.
        map_size: side of the maps in cells.
        stride: crop pixels a cell covers.
        sigma: standard deviation of the peaks in cells.
        radius: half side of the patch a peak is cut to, cells.
        legacy_border: reproduce the official Gaussian's shift at the left and top border.
        boundary: draw the boundary as one more channel.
        x_shift: cells by which the boundary lies to the right (official drawing: 1; centred: 0).
        quantise: pass the boundary through the official code's 8-bit image.
        subcell: centre each peak on its point instead of on the middle of the point's cell, as is official. With large
            cells it agrees with a coordinate term, which the official peaks pull to the middles of the cells.
    """

    def __init__(
        self,
        scheme: LandmarkScheme | str,
        map_size: int = 64,
        stride: float = 4.0,
        sigma: float = SIGMA,
        radius: int = RADIUS,
        legacy_border: bool = False,
        boundary: bool = True,
        x_shift: int = 1,
        quantise: bool = True,
        subcell: bool = False,
    ) -> None:
        super().__init__()
        if map_size < 2 * radius + 3 or not stride > 0:
            raise ValueError(
                f"map_size must hold a peak, {2 * radius + 3} cells, and stride be positive, got {map_size}, {stride}"
            )
        self.scheme = get_scheme(scheme) if isinstance(scheme, str) else scheme
        self.map_size, self.stride, self.sigma, self.radius = map_size, stride, sigma, radius
        if subcell and legacy_border:
            raise ValueError("legacy_border shifts peaks in whole cells: choose one of subcell and legacy_border")
        self.legacy_border, self.subcell = legacy_border, subcell
        self.boundary: BoundaryRenderer | None = None
        if boundary:
            self.boundary = BoundaryRenderer(boundary_lines(self.scheme), map_size, stride, x_shift, quantise)
        # The official pipeline thresholds the boundary while it is still 0..255: every byte that is not 0 counts.
        self.boundary_threshold = MAP_THRESHOLD / 255
        self._canvas: native.Canvas | None = None

    def make(self, points: Tensor, reuse: bool = False) -> tuple[Tensor, Tensor]:
        """Return targets of points (B, L, 2) in crop pixels, corner of the first pixel at (0, 0).

        Args:
            points: see above.
            reuse: see `heatmaps`.

        Returns:
            Heatmaps (B, L + 1, S, S) float32 with the boundary last (B, L, S, S without it), and the weight map of
            the same shape, bool.
        """
        heatmaps = self.heatmaps(points, reuse)
        landmarks, size = points.shape[1], self.map_size
        marked = torch.zeros(heatmaps.shape, dtype=torch.bool, device=points.device)
        # The 3 x 3 dilation of a product of non-negative profiles is the product of their dilations.
        cells, profiles = self._patches(points, self.radius + 1)
        profiles = _dilate(profiles) * ((cells >= 0) & (cells < size))
        columns, rows = profiles.unbind(-2)
        high = rows[..., :, None] * columns[..., None, :] > MAP_THRESHOLD
        write_patches(marked[:, :landmarks], cells, high)
        if self.boundary is not None:
            marked[:, landmarks:] = weight_map(heatmaps[:, landmarks:], self.boundary_threshold)
        return heatmaps, marked

    forward = make

    @torch.no_grad()
    def heatmaps(self, points: Tensor, reuse: bool = False) -> Tensor:
        """Return the heatmaps of `make` alone.

        Args:
            points: (B, L, 2) crop pixels, corner of the first pixel at (0, 0).
            reuse: on the CPU, draw into memory that the next such call draws over, by compiled loops where numba is
                installed. Most of the time goes into clearing fresh memory otherwise. For targets that one training
                step uses up.
        """
        if points.ndim != 3 or points.shape[1:] != (self.scheme.num_points, 2):
            raise ValueError(f"points must be (B, {self.scheme.num_points}, 2), got {tuple(points.shape)}")
        if reuse and points.device.type == "cpu" and (canvas := self._kept_canvas()) is not None:
            maps = canvas.draw(points, self.stride)
            if self.subcell:  # into the same windows, which the canvas clears
                self._draw_peaks(maps[:, : points.shape[1]], points)
            return maps
        landmarks, size = points.shape[1], self.map_size
        maps = torch.zeros(len(points), landmarks + (self.boundary is not None), size, size, device=points.device)
        self._draw_peaks(maps[:, :landmarks], points)
        if self.boundary is not None:
            maps[:, landmarks] = self.boundary(points)
        return maps

    def _draw_peaks(self, maps: Tensor, points: Tensor) -> None:
        """Write the peaks of points (B, L, 2) into maps (B, L, S, S), which are zero outside the peaks' windows."""
        cells, profiles = self._patches(points, self.radius)
        columns, rows = profiles.unbind(-2)
        write_patches(maps, cells, rows[..., :, None] * columns[..., None, :])

    def _kept_canvas(self) -> native.Canvas | None:
        """Return the memory that is drawn into again and again; None without compiled loops."""
        if self._canvas is None:
            from awing import native  # here: prediction draws no targets, and the compiler takes long to import

            self._canvas = self._new_canvas(native.Canvas) if native.available else None
        return self._canvas

    def _new_canvas(self, kind: type[native.Canvas]) -> native.Canvas:
        style = (self.map_size, self.sigma, self.radius, self.legacy_border)
        if self.boundary is None:
            return kind(*style)
        drawn = self.boundary
        times = drawn.get_buffer("times").tolist()
        return kind(*style, drawn.lines, times, drawn.x_shift, drawn.weights, drawn.quantise)

    def _patches(self, points: Tensor, reach: int) -> tuple[Tensor, Tensor]:
        """Return cells and profiles (B, L, 2, 2 * reach + 1) of the peaks, zero beyond the radius."""
        cells, profiles = gaussian_patches(
            points.float() / self.stride, self.map_size, self.sigma, self.radius, self.legacy_border,
            quantise=not self.subcell,
        )  # fmt: skip
        more = reach - self.radius
        if more:
            ends = torch.arange(1, more + 1, device=cells.device)
            cells = torch.cat([cells[..., :1] - ends.flip(0), cells, cells[..., -1:] + ends], -1)
            profiles = pad(profiles, (more, more))
        return cells, profiles


def _dilate(profiles: Tensor) -> Tensor:
    """Return the maximum of each (..., S) entry and its two neighbours."""
    before, after = pad(profiles, (1, 0))[..., :-1], pad(profiles, (0, 1))[..., 1:]
    return torch.maximum(profiles, torch.maximum(before, after))
