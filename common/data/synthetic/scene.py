"""What is behind and before a head: background, hair behind, neck, clothes; glasses, the brim of a hat, occluders."""

from __future__ import annotations

import cv2
import numpy as np

from common.data.synthetic._math import clip
from common.data.synthetic.appearance import Look
from common.data.synthetic.landmarks import View
from common.data.synthetic.texture_maps import GRAIN_SIDE, detail

SUB = 4  # bits of sub-pixel places
CHIN_SHADOW = np.array([[-0.5, -0.3, 0, 0.3, 0.5], [0.95, 1.2, 1.33, 1.2, 0.95], [-0.4, -0.2, -0.1, -0.2, -0.4]])
LENS_GLOSS = np.array([[-0.1, -0.02, -0.06], [-0.06, -0.08, 0.0]])  # units from the lens's middle
SATURATION = np.array([0.05, 0.05, 0.05, 0.14, 0.14, 0.14, 0.14, 0.35])  # drawn evenly


def _fixed(points: np.ndarray) -> np.ndarray:
    """Return drawing coordinates (N, 1, 2) int32 of picture pixels (2 or 3, N)."""
    return np.round(points[:2].T * (1 << SUB)).astype(np.int32)[:, None]


def _color(values: np.ndarray) -> list[float]:
    return [float(v) for v in clip(values, 0, 255)]


def polygon(image: np.ndarray, points: np.ndarray, color: np.ndarray) -> None:
    """Fill a polygon of picture pixels (2 or 3, N)."""
    cv2.fillPoly(image, [_fixed(points)], _color(color), cv2.LINE_AA, SUB)


def line(image: np.ndarray, points: np.ndarray, color: np.ndarray, width: int, closed: bool = False) -> None:
    """Draw a line through picture pixels (2 or 3, N)."""
    cv2.polylines(image, [_fixed(points)], closed, _color(color), width, cv2.LINE_AA, SUB)


def _muted(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return colours (count, 3) as they occur round people: seldom saturated."""
    grey = rng.uniform(8, 240, (count, 1))
    strength = SATURATION[rng.integers(len(SATURATION), size=count)]
    return clip(grey * (1 + rng.normal(size=(count, 3)) * strength[:, None]), 0, 255)


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return (size, size, 3) uint8 of nothing in particular: a gradient, soft blobs, clutter in or out of focus."""
    small = 64
    colors, coins = _muted(rng, 12), rng.uniform(size=5)
    corners = colors[:4].reshape(2, 2, 3)
    if coins[0] < 0.5:
        corners = corners[:1, :1] + (corners - corners[:1, :1]) * 0.3
    picture = cv2.resize(corners.astype(np.float32), (small, small), interpolation=cv2.INTER_LINEAR)
    row, column = rng.integers(0, GRAIN_SIDE - small, 2)
    noise = (detail().middle if coins[1] < 0.6 else detail().low)[row : row + small, column : column + small]
    strength = rng.normal(size=4) * [7, 7, 7, 22]
    picture += noise[..., None] * (strength[:3] + strength[3]).astype(np.float32)
    picture = clip(picture, 0, 255).astype(np.uint8)
    for color in colors[4 : 4 + int(coins[4] * 9)]:
        (ax, ay), (bx, by) = rng.integers(-16, small + 16, (2, 2)).tolist()
        kind, width, wide, high = rng.integers((0, 1, 2, 2), (4, 7, 18, 18)).tolist()
        if kind == 0:
            cv2.line(picture, (ax, ay), (bx, by), _color(color), width, cv2.LINE_AA)
        elif kind == 1:
            cv2.ellipse(picture, (ax, ay), (wide, high), float(bx * 3), 0, 360, _color(color), -1)
        else:
            cv2.rectangle(picture, (ax, ay), (bx, by), _color(color), -1 if kind == 2 else 2)
    if coins[2] < 0.75:
        side = (3, 5, 9)[int(coins[2] * 4)]
        picture = cv2.blur(picture, (side, side))
    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR)
    if coins[3] < 0.5:
        _clutter(rng, picture)
    return picture


def _clutter(rng: np.random.Generator, picture: np.ndarray) -> None:
    """Draw sharp things over a background."""
    size = picture.shape[0]
    for color in _muted(rng, int(rng.integers(1, 7))):
        place = rng.uniform(-0.2, 1.2, (2, 1)) * size
        corners, width, filled = rng.integers((3, 1, 0), (6, 5, 2)).tolist()
        points = place + rng.normal(size=(2, corners)) * size * rng.uniform(0.05, 0.3)
        if filled:
            polygon(picture, points, color)
        else:
            line(picture, points, color, width)


def _blend(image: np.ndarray, mask: np.ndarray, shade: np.ndarray, color: np.ndarray) -> None:
    """Lay a colour times a shade (size, size) float32 over the picture where a uint8 mask says so."""
    planes = [cv2.convertScaleAbs(shade, alpha=float(c)) for c in color]
    cv2.copyTo(cv2.merge(planes), mask, image)


def hair_behind(rng: np.random.Generator, image: np.ndarray, look: Look, view: View) -> None:
    """Draw the hair that hangs behind the head."""
    size = image.shape[0]
    wide = 0.92 + 0.35 * rng.uniform() + look.volume
    bottom = look.length - 0.1
    height = np.linspace(0, 1, 12)
    waves = 1 + 0.05 * look.wave * np.sin(9 * height + rng.uniform(0, 6)) + 0.02 * rng.normal(size=12)
    half = wide * waves * np.interp(height, [0, 0.12, 0.3, 0.8, 1], [0.55, 0.85, 1.0, 1.0 + 0.15 * look.wave, 0.7])
    y = -1.2 - look.volume + (bottom + 1.2) * height
    x = np.concatenate([half, -half[::-1] * rng.uniform(0.9, 1.1)])
    outline = view.project(np.array([x, np.concatenate([y, y[::-1]]), np.full(24, -0.75)]))
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [_fixed(outline)], 255, cv2.LINE_8, SUB)
    strands = detail().fine[: size // 8 + 1, :]
    row = np.resize(strands[int(rng.integers(strands.shape[0]))], size)
    streak = cv2.blur(np.repeat(row[None], 8, axis=0), (3, 1))
    shade = cv2.resize(0.52 + 0.14 * streak, (size, size), interpolation=cv2.INTER_LINEAR)
    _blend(image, mask, shade, look.hair * look.ambient.mean() * 1.5)


def body(rng: np.random.Generator, image: np.ndarray, look: Look, view: View) -> None:
    """Draw shoulders, clothes and neck; they turn with the head only half."""
    scale, bright = view.scale, float(look.ambient.mean() + 0.35 * look.key.mean() * max(look.light[2], 0.2))
    root = view.project(np.array([0, 0.55, -0.55]))[:2]
    foot = view.centre + (root - view.centre) * 0.35 + np.array([0, 1.42 + 0.12 * rng.normal()]) * scale
    neck_wide, slope = rng.uniform(0.38, 0.52), rng.uniform(0.15, 0.6)
    wide = rng.uniform(1.5, 2.1)
    x = np.array([-wide * 1.3, -wide, -neck_wide - 0.1, neck_wide + 0.1, wide, wide * 1.3, wide, -wide]) * scale
    y = np.array([2.0, slope, 0.06, 0.06, slope, 2.0, 3.5, 3.5]) * scale
    polygon(image, foot[:, None] + np.array([x, y]), look.cloth * bright)
    shift = -np.sign(look.light[0]) if abs(look.light[0]) > 0.15 else 0.0
    steps = ((1.0, 0.62), (0.82, 0.72), (0.6, 0.8), (0.35, 0.86))
    for share, shade in steps:
        half, move = neck_wide * share * scale, -shift * (1 - share) * neck_wide * scale * 0.8
        dip = rng.uniform(0.1, 0.5) * scale if share == 1.0 else 0.1 * scale
        hem = foot[1] + 0.1 * scale
        x = np.array([root[0] - half, foot[0] - half * 1.15, foot[0], foot[0] + half * 1.15, root[0] + half]) + move
        column = np.array([x, np.array([root[1], hem, hem + dip, hem, root[1]])])
        polygon(image, column, look.skin * bright * shade)
    polygon(image, view.project(CHIN_SHADOW), look.skin * bright * 0.45)
    if rng.uniform() < 0.4:
        x = np.array([-neck_wide - 0.12, -0.25, 0, 0.25, neck_wide + 0.12])
        edge = foot[:, None] + scale * np.array([x, np.array([0.02, 0.2, rng.uniform(0.25, 0.6), 0.2, 0.02])])
        line(image, edge, _muted(rng, 1)[0] * bright, max(int(scale * rng.uniform(0.03, 0.14)), 1))


def glasses(rng: np.random.Generator, image: np.ndarray, look: Look, view: View, depth: float) -> None:
    """Draw glasses.

    Args:
        depth: z of the bridge of the nose.
    """
    wide, high, power = look.lens
    angle = np.linspace(0, 2 * np.pi, 25)[:-1]
    cosine, sine = np.cos(angle), np.sin(angle)
    ring_x = np.sign(cosine) * np.abs(cosine) ** power * wide
    ring_y = np.sign(sine) * np.abs(sine) ** power * high * (1 + 0.15 * (sine > 0))
    width = max(int(round(view.scale * {"thin": 0.014, "thick": 0.045, "dark": 0.03}[look.glasses])), 1)
    centre_x, y = wide + 0.09, 0.0 + rng.uniform(-0.02, 0.05)
    lens = _color(look.frame * 0.5 + rng.uniform(0, 40)) if look.glasses == "dark" else None
    for side in (-1, 1):
        bend = depth - 0.25 * (np.abs(side * centre_x + ring_x) - 0.1) ** 2 - 0.02
        pixels = view.project(np.array([side * centre_x + ring_x, y + ring_y, bend]))
        if lens is not None:
            cv2.fillPoly(image, [_fixed(pixels)], lens, cv2.LINE_AA, SUB)
            gloss = pixels[:2].mean(axis=1, keepdims=True) + LENS_GLOSS * view.scale
            line(image, gloss, np.array(lens) + rng.uniform(10, 120), max(width, 1))
        elif rng.uniform() < 0.3:
            glare = pixels[:2].mean(axis=1, keepdims=True) + rng.normal(size=(2, 4)) * 0.06 * view.scale
            polygon(image, glare, np.full(3, rng.uniform(190, 255)))
        line(image, pixels, look.frame, width, closed=True)
        facing = view.turn(np.array([side * 1.0, 0, 0.25]))[2]
        if facing > -0.35:
            arm = view.project(np.array([[side * (centre_x + wide), side * 0.8], [y - 0.03, y], [depth - 0.2, -0.55]]))
            line(image, arm, look.frame * 0.8, width)
    bar = np.array([[-0.09, 0, 0.09], [y - 0.03, y - 0.05, y - 0.03], [depth, depth + 0.02, depth]])
    line(image, view.project(bar), look.frame, width)


def brim(rng: np.random.Generator, image: np.ndarray, look: Look, view: View) -> None:
    """Draw the brim of a cap."""
    if look.hat is None or rng.uniform() < 0.45:
        return
    turn = np.linspace(-1, 1, 9)
    inner = np.array([0.72 * turn, np.full(9, -0.52), 0.52 - 0.6 * turn**2])
    reach = rng.uniform(0.25, 0.5)
    outer = inner[:, ::-1] + np.array([0.06 * turn[::-1], 0.1 + 0.08 * (1 - turn**2), reach * (1.05 - turn**2)])
    polygon(image, view.project(np.concatenate([inner, outer], axis=1)), look.hat * rng.uniform(0.35, 0.8))


def occlude(rng: np.random.Generator, image: np.ndarray, look: Look, points: np.ndarray) -> np.ndarray:
    """Lay a hand-like or other thing over a part of the face; return which points (L, 2) it hides."""
    size = image.shape[0]
    extent = np.ptp(points, axis=0)
    middle = points.min(axis=0) + rng.uniform(-0.05, 1.05, 2) * extent
    mask = np.zeros((size, size), np.uint8)
    kind, turn = rng.uniform(), rng.uniform(0, 180)
    if kind < 0.45:  # fingers
        thick = max(int(extent[0] * rng.uniform(0.09, 0.14)), 2)
        way = np.array([np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))])
        for k in range(int(rng.integers(1, 5))):
            start = middle + np.array([-way[1], way[0]]) * thick * 1.05 * k
            end = start + way * extent * rng.uniform(0.5, 0.9)
            cv2.line(mask, np.round(start).astype(int).tolist(), np.round(end).astype(int).tolist(), 255, thick)
        color = look.skin * rng.uniform(0.6, 1.0)
        shade = 1 + 0.05 * detail().low[:size, :size] if size <= GRAIN_SIDE else np.ones((size, size), np.float32)
        _blend(image, mask, shade.astype(np.float32), color)
    else:
        rect = (middle.tolist(), (extent * rng.uniform(0.15, 0.5, 2)).tolist(), float(turn))
        if kind < 0.7:
            cv2.ellipse(mask, rect, 255, -1)
        else:
            cv2.fillPoly(mask, [np.round(cv2.boxPoints(rect)).astype(np.int32)], 255)
        cv2.copyTo(background(rng, size), mask, image)
    column, row = (np.clip(np.round(points[:, k]).astype(int), 0, size - 1) for k in (0, 1))
    return np.asarray(mask[row, column] > 0)
