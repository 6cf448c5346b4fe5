"""Fixed maps of the texture: where skin reddens, darkens, folds and grows hair, and grains. Made once a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from common.data.synthetic._math import blob, pair, step
from common.data.synthetic.head import EYE_X
from common.data.synthetic.surface import chart_to_plane

TEXELS = 224  # a side; one texel is about 1/97 unit in the middle of the face
GRAIN_SIDE = 512  # side of the grains, of which a texture takes a window
MAP_SEED = 20210


@dataclass(frozen=True)
class Detail:
    """Maps (TEXELS, TEXELS) float32 of the texture; x, y are the average head's plane, angle that from the view.

    Attributes:
        dark: share of light that stays in hollows.
        flush: where blood shows.
        relief: change of light for a light from the right and from below (2, ...), by small forms.
        fold, age: shadows of the fold between nose and mouth, and of wrinkles.
        nostril: share of nostril.
        beard, moustache, stubble: shares of hair.
        strands: streaks along hair, about 0 with unit spread.
        gloss: shine of hair on the crown; band: shade of a hat with a band.
        strokes: brow hairs, 0 to 1.
        low, middle, fine: grains (GRAIN_SIDE a side) with blobs of about 80, 14 and 2 texels, unit spread.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    dark: np.ndarray
    flush: np.ndarray
    relief: np.ndarray
    fold: np.ndarray
    age: np.ndarray
    nostril: np.ndarray
    beard: np.ndarray
    moustache: np.ndarray
    stubble: np.ndarray
    strands: np.ndarray
    gloss: np.ndarray
    band: np.ndarray
    strokes: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    fine: np.ndarray


def _settle(values: np.ndarray) -> np.ndarray:
    """Return float32 rounded to 1/4096, so that math libraries' last bits do not matter."""
    return (np.round(values * 4096) / 4096).astype(np.float32)


def _grain(rng: np.random.Generator, cells: int, side: int = GRAIN_SIDE) -> np.ndarray:
    """Return seamless noise (side, side) of unit spread with `cells` blobs a side."""
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    padded = np.pad(coarse, 2, mode="wrap")
    unit = side // cells
    fine = cv2.resize(padded, None, fx=unit, fy=unit, interpolation=cv2.INTER_CUBIC)
    fine = fine[2 * unit : 2 * unit + cells * unit, 2 * unit : 2 * unit + cells * unit]
    return np.asarray(fine / fine.std())


def _along(x: np.ndarray, y: np.ndarray, line: list[tuple[float, float]], width: float) -> np.ndarray:
    """Return a soft line of height 1 along points, on both sides of the face."""
    best = np.full(x.shape, 9.0)
    for (ax, ay), (bx, by) in zip(line, line[1:], strict=False):
        dx, dy = bx - ax, by - ay
        share = np.clip(((np.abs(x) - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        best = np.minimum(best, (np.abs(x) - ax - share * dx) ** 2 + (y - ay - share * dy) ** 2)
    return np.exp(-best / width**2)


def _hollows(x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> np.ndarray:
    ear = pair(x, y, 0.77, 0.15, 0.3, 0.11) * np.exp(-(((angle - 1.72) / 0.07) ** 2))
    shade = (
        0.30 * pair(x, y, 0.17, -0.03, 0.07, 0.09) + 0.20 * pair(x, y, EYE_X, -0.085, 0.17, 0.035)
        + 0.10 * pair(x, y, EYE_X, 0.0, 0.2, 0.09) + 0.12 * pair(x, y, 0.31, 0.09, 0.14, 0.03)
        + 0.30 * _along(x, y, [(0.14, 0.38), (0.185, 0.43), (0.18, 0.49), (0.13, 0.515)], 0.022)
        + 0.20 * blob(x, y, 0, 0.56, 0.15, 0.035) + 0.26 * blob(x, y, 0, 0.885, 0.15, 0.03)
        + 0.10 * pair(x, y, 0.09, 0.15, 0.04, 0.2) + 0.14 * pair(x, y, 0.33, 0.74, 0.035, 0.03)
        + 0.06 * pair(x, y, 0.026, 0.6, 0.015, 0.04) + 0.35 * step(angle, 1.5, 2.0) * step(y, 0.5, 0.9) + 0.5 * ear
    )  # fmt: skip
    return np.clip(1 - shade, 0.2, 1)


def _relief(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the slopes (2, ...) of small forms: the change of light from the right, and from below."""
    height = (
        0.030 * blob(x, y, 0, 0.40, 0.075, 0.065) + 0.020 * pair(x, y, 0.13, 0.455, 0.04, 0.045)
        + 0.008 * pair(x, y, 0.045, 0.6, 0.02, 0.05) + 0.016 * pair(x, y, 0.06, 0.685, 0.06, 0.025)
        + 0.022 * pair(x, y, 0.07, 0.79, 0.09, 0.032) + 0.018 * pair(x, y, EYE_X, -0.055, 0.15, 0.02)
        + 0.014 * pair(x, y, 0.32, 0.075, 0.12, 0.02) + 0.02 * blob(x, y, 0, 1.08, 0.1, 0.08)
        + 0.012 * pair(x, y, 0.4, -0.2, 0.25, 0.035)
    )  # fmt: skip
    unit = 2.0 / TEXELS
    dy, dx = np.gradient(height, unit, unit)
    return np.stack([dx, dy])


def _strands(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return streaks that run from the crown downwards."""
    turn = np.arctan2(x, y + 1.25)
    noise = _grain(rng, 128) * 0.6 + _grain(rng, 64)
    column = ((turn / np.pi + 1) * 0.5 * (GRAIN_SIDE - 1)).astype(np.float32)
    row = ((np.hypot(x, y + 1.25) * 20) % (GRAIN_SIDE - 1)).astype(np.float32)
    return cv2.remap(noise, column, row, cv2.INTER_LINEAR)


def _strokes(rng: np.random.Generator) -> np.ndarray:
    """Return brow hairs: short lines outwards and up, on both sides of the texture."""
    canvas = np.zeros((TEXELS, TEXELS), np.uint8)
    for _ in range(900):
        c, r, length = TEXELS * rng.uniform(0.02, 0.5), TEXELS * rng.uniform(0.16, 0.5), rng.uniform(4, 9)
        lean = np.clip((c / TEXELS - 0.08) * 6.4, 0.1, 1.0) * 1.3 + rng.normal() * 0.2
        a = (int(c * 16), int(r * 16))
        b = (int((c - length * np.cos(0.9 - lean * 0.6)) * 16), int((r - length * np.sin(0.9 - lean * 0.6)) * 16))
        cv2.line(canvas, a, b, int(rng.integers(120, 255)), 1, cv2.LINE_AA, 4)
    canvas[:, TEXELS // 2 :] = canvas[:, TEXELS // 2 - 1 :: -1]
    return canvas / 255.0


@cache
def detail() -> Detail:
    """Return the maps."""
    rng = np.random.Generator(np.random.PCG64(MAP_SEED))
    axis = (np.arange(TEXELS) + 0.5) * (2 / TEXELS) - 1
    t, s = np.meshgrid(axis, axis, indexing="ij")
    x, y, angle = chart_to_plane(s, t)
    front = angle < np.pi / 2 + 0.15
    flush = (pair(x, y, 0.44, 0.38, 0.19, 0.16) + 0.6 * blob(x, y, 0, 0.43, 0.14, 0.1)
             + 0.4 * blob(x, y, 0, 1.07, 0.2, 0.12) + 0.5 * step(angle, 1.5, 1.75) * step(y, 0.6, 0.4))  # fmt: skip
    fold = _along(x, y, [(0.19, 0.44), (0.26, 0.53), (0.335, 0.66), (0.37, 0.76)], 0.03)
    fold = fold - 0.5 * _along(x, y, [(0.25, 0.44), (0.33, 0.54), (0.40, 0.66)], 0.05)
    age = (
        sum(_along(x, y, [(0, h), (0.2, h - 0.02), (0.42, h + 0.02)], 0.012) for h in (-0.38, -0.48, -0.58))
        + sum(_along(x, y, [(0.55, h), (0.66, 3 * h)], 0.01) for h in (-0.02, 0.02, 0.05))
        + 1.2 * _along(x, y, [(0.22, 0.08), (0.32, 0.115), (0.45, 0.09)], 0.018) + pair(x, y, 0.05, -0.19, 0.012, 0.07)
        + 0.8 * _along(x, y, [(0.34, 0.79), (0.36, 0.9), (0.33, 0.99)], 0.018)
    )  # fmt: skip
    lip = step(np.abs(x), 0.36, 0.28) * step(y, 0.54, 0.6) * step(y, 0.73, 0.70)
    chin = step(y, 0.86, 0.95) * step(np.abs(x), 0.62, 0.5) + step(y, 0.3, 0.75) * step(np.abs(x), 0.5, 0.64)
    beard = np.clip(chin + blob(x, y, 0, 0.88, 0.03, 0.04), 0, 1) * step(angle, 2.0, 1.8)
    nostril = pair(x, y, 0.082, 0.508, 0.045, 0.021)
    grain = _grain(rng, 256)
    maps = {
        "x": x, "y": y, "angle": angle, "dark": _hollows(x, y, angle), "flush": flush * (angle < 2.2),
        "relief": _relief(x, y) * front, "fold": fold * front, "age": np.clip(age, 0, 1.3) * front,
        "nostril": np.clip(nostril * 2.2 - 0.6, 0, 1) * front, "beard": beard, "moustache": lip,
        "stubble": np.clip(0.75 + 0.25 * _grain(rng, 256)[:TEXELS, :TEXELS], 0, 1.4),
        "strands": _strands(rng, x, y), "gloss": 0.35 * np.exp(-(((y + 0.8) / 0.22) ** 2)),
        "band": 0.95 - 0.4 * np.exp(-(((y + 0.5) / 0.03) ** 2)), "strokes": _strokes(rng), "low": _grain(rng, 8),
        "middle": _grain(rng, 32), "fine": grain,
    }  # fmt: skip
    return Detail(**{name: _settle(values) for name, values in maps.items()})
