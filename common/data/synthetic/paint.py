"""Paints the texture of a head: skin, eyes, brows, mouth, beard, hair; then lights it.

Colours are planes (3, TEXELS, TEXELS) float32, RGB. Shapes are painted where they lie on the average head; that the
head's nodes are elsewhere moves them.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from common.data.synthetic._math import clip, step
from common.data.synthetic.appearance import Look
from common.data.synthetic.head import (
    BROW_HALF,
    BROW_X,
    EYE_HALF,
    EYE_X,
    IRIS,
    MOUTH_Y,
    Head,
    brow_edges,
    iris_centre,
    lids,
    lips,
    mouth_half,
)
from common.data.synthetic.surface import EAR_HEIGHT, NODES, drop, ear_share, nodes, plane_to_chart
from common.data.synthetic.texture_maps import GRAIN_SIDE, TEXELS, detail

SOFT = 0.012  # units over which an edge goes from 0 to 1, a little more than a texel
TEETH, THROAT = np.array([222.0, 214, 198]), np.array([62.0, 24, 22])
SCLERA = np.array([226.0, 218, 212])
MIRROR = np.array([-1.0, 1.0], np.float32).reshape(2, 1, 1)  # of the left eye, which is painted mirrored
Window = tuple[slice, slice]


def _window(x0: float, y0: float, x1: float, y1: float) -> Window:
    """Return the texels round a rectangle of the average head's plane."""
    s, t = plane_to_chart(np.array([x0, x1, x0, x1]), np.array([y0, y0, y1, y1]))

    def span(values: np.ndarray) -> slice:
        low, high = ((v + 1) * TEXELS / 2 for v in (values.min(), values.max()))
        return slice(max(int(low) - 2, 0), min(int(high) + 3, TEXELS))

    return span(t), span(s)


@cache
def _windows() -> dict[str, Window]:
    """Return the texels of the right eye, the right brow, the nose and the mouth."""
    return {
        "eye": _window(0.13, -0.17, 0.56, 0.12), "brow": _window(0.10, -0.34, 0.72, -0.04),
        "nose": _window(-0.2, 0.4, 0.2, 0.6), "mouth": _window(-0.46, 0.55, 0.46, 1.2),
    }  # fmt: skip


def _both(canvas: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return views of a window of the right side and of its mirror image on the left, mirrored back."""
    rows, columns = window
    left = slice(TEXELS - columns.stop, TEXELS - columns.start)
    return canvas[:, rows, left][:, :, ::-1], canvas[:, rows, columns]


def _rgb(color: np.ndarray, share: np.ndarray | float = 1.0) -> np.ndarray:
    """Return a colour times a share (...) as planes (3, ...)."""
    share = np.asarray(share, np.float32)
    return color.astype(np.float32).reshape(3, *(1,) * share.ndim) * share


def _mix(canvas: np.ndarray, color: np.ndarray, share: np.ndarray) -> None:
    """Blend a colour (3,), or planes (3, ...), into planes."""
    if color.ndim == 1:
        color = color.astype(np.float32).reshape(3, *(1,) * (canvas.ndim - 1))
    canvas += (color - canvas) * share.astype(np.float32)


def _above(edge: np.ndarray, y: np.ndarray, soft: float = SOFT) -> np.ndarray:
    """Return the share of a texel at height y that lies above an edge."""
    return clip((edge - y) / soft + 0.5, 0, 1)


def _skin(head: Head, look: Look) -> np.ndarray:
    maps, (a, b) = detail(), look.shifts

    def grain(noise: np.ndarray, k: int) -> np.ndarray:
        row, column = (a * k) % (GRAIN_SIDE - TEXELS), (b * k) % (GRAIN_SIDE - TEXELS)
        return noise[row : row + TEXELS, column : column + TEXELS]

    smile = max(head.smile, 0.0)
    tone = 1 + look.blotch * (0.022 * grain(maps.low, 1) + 0.012 * grain(maps.middle, 3) + 0.016 * grain(maps.fine, 7))
    tone *= maps.dark
    tone -= (0.07 + 0.16 * smile + 0.12 * look.age) * maps.fold
    tone -= (0.09 * look.age * (1 + max(head.frown, 0))) * maps.age
    blood = (look.flush * (1.5 if look.makeup > 0.6 else 1.0)) * maps.flush
    canvas = np.empty((3, TEXELS, TEXELS), np.float32)
    for plane, color, hue in zip(canvas, look.skin, (0.02, -0.11, -0.08), strict=True):
        np.multiply(tone, np.float32(color), out=plane)
        plane *= 1 + np.float32(hue) * blood
    return canvas


def _eyeballs(head: Head, look: Look, x: np.ndarray, y: np.ndarray, upper: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return the colours (3, 2, H, W) of the left, mirrored, and the right eyeball under their lids."""
    below = y - upper
    white = (0.92 - 0.32 * along**2) * clip(0.45 + 14 * below, 0.4, 1)
    eye = _rgb(SCLERA * 0.9 + look.skin * 0.1, white)
    _mix(eye, look.lips * 0.9, clip((-along - 0.72) * 4, 0, 0.8))
    cx, cy = (np.reshape(c, (2, 1, 1)) for c in zip(*(iris_centre(head, side) for side in (0, 1)), strict=True))
    distance = np.sqrt((x - cx * MIRROR) ** 2 + (y - cy) ** 2)
    ring = (1.1 - 0.6 * step(distance, 0.6 * IRIS, IRIS)) * clip(0.55 + 9 * below, 0.4, 1)
    _mix(eye, _rgb(look.iris, ring), clip((IRIS - distance) / 0.014 + 0.5, 0, 1))
    _mix(eye, np.full(3, 10.0), clip((0.029 - distance) / 0.012 + 0.5, 0, 1))
    gx, gy = (cx + 0.03 * look.light[0] + 0.008) * MIRROR, cy + 0.03 * look.light[1] - 0.012
    glint = clip(1.5 - np.sqrt((x - gx) ** 2 + (y - gy) ** 2) / 0.012, 0, 1)
    _mix(eye, np.full(3, 250.0), glint * 0.9)
    return eye


def _paint_eyes(canvas: np.ndarray, head: Head, look: Look) -> None:
    win = _windows()["eye"]
    views = _both(canvas, win)
    view = np.stack(views, axis=1)
    x, y = detail().x[win], detail().y[win]
    along = (x - EYE_X) / EYE_HALF
    size = np.abs(along)
    upper, lower = lids(np.array(head.eye_close, np.float32).reshape(2, 1, 1), clip(along, -1, 1))
    near = clip((1.25 - size) * 4, 0, 1)
    crease = upper - 0.045 - 0.02 * (1 - along**2)
    _mix(view, look.skin * 0.55, np.exp(-(((y - crease) / 0.012) ** 2)) * (0.4 * near))
    if look.makeup:
        _mix(view, look.skin * 0.45, look.makeup * 0.5 * step(y, -0.16, -0.06) * _above(upper, y) * near)
    inside = _above(lower, y) * (1 - _above(upper, y)) * (size < 1)
    _mix(view, _eyeballs(head, look, x, y, upper, along), inside)
    lash = np.exp(-(((y - upper + 0.004) / (0.010 + 0.007 * look.makeup)) ** 2)) * (0.55 + 0.4 * look.makeup)
    _mix(view, look.skin * 0.12, lash * (clip((1.06 - size) * 8, 0, 1) * (0.75 + 0.25 * along)))
    rim = np.exp(-(((y - lower - 0.006) / 0.010) ** 2)) * (0.28 + 0.4 * look.makeup)
    _mix(view, look.skin * 0.35, rim * clip((1.0 - size) * 5, 0, 1))
    for target, side in zip(views, (0, 1), strict=True):
        target[:] = view[:, side]


def _paint_brows(canvas: np.ndarray, head: Head, look: Look) -> None:
    win = _windows()["brow"]
    x, y = detail().x[win], detail().y[win]
    along = (x - BROW_X) / BROW_HALF
    upper, lower = brow_edges(head, clip(along, -1, 1))
    soft = 0.03
    mask = _above(lower, y, soft) * (1 - _above(upper, y, soft))
    mask *= clip((1.04 - along) * 6, 0, 1) * clip((along + 1.06) * 4, 0, 1)
    hair = look.hair * 0.62 if look.hair.mean() > 70 else look.hair
    hair = np.minimum(hair, look.skin * 0.72)
    mask *= look.brow * (0.5 + 0.6 * detail().strokes[win])
    for view in _both(canvas, win):
        _mix(view, hair, mask)


def _paint_mouth(canvas: np.ndarray, head: Head, look: Look) -> None:
    win = _windows()["mouth"]
    view, x, y0 = canvas[(slice(None), *win)], detail().x[win], detail().y[win]
    y = drop(head, x, y0)
    half = mouth_half(head)
    along = x / half
    outer_up, inner_up, inner_low, outer_low = lips(head, clip(along, -1, 1))
    ends = clip((1.0 - np.abs(along)) * half / SOFT + 0.5, 0, 1)
    body = _above(outer_low, y, 0.02) * (1 - _above(outer_up, y, 0.02)) * ends
    upper = y < (inner_up + inner_low) / 2
    shade = np.where(upper, 0.86, 1.02 + 0.9 * (inner_low - y) * (1 - along**2))
    _mix(view, _rgb(look.lips, shade), body * (0.82 + 0.18 * (look.makeup > 0)))
    if head.mouth_open > 0.008:
        inside = _above(inner_low, y) * (1 - _above(inner_up, y)) * ends
        depth = _rgb(THROAT, clip(1 - (y - inner_up) * 4, 0.4, 1))
        tongue = step(y - inner_low, -0.16, -0.05) * (1 - 0.8 * along**2)
        _mix(depth, np.array([176.0, 86, 82]), tongue * (head.mouth_open > 0.12) * 0.85)
        gaps = 1 - 0.14 * np.exp(-((np.abs((x / 0.075 + 0.5) % 1 - 0.5) / 0.07) ** 2))
        row = _above(inner_up + 0.01 + 0.062 * clip(1 - along**2, 0, 1) ** 0.4, y, 0.02)
        bright = gaps * clip(1 - 0.55 * along**2, 0.2, 1)
        _mix(depth, _rgb(TEETH, bright), row * min(1.0, 0.3 + 0.7 * max(head.smile + 0.4, 0)))
        if head.mouth_open > 0.1 and look.shifts[0] % 3 == 0:
            _mix(depth, _rgb(TEETH, bright * 0.8), (1 - _above(inner_low - 0.04, y, 0.02)) * (along**2 < 0.5))
        _mix(view, depth, inside)
    line = np.exp(-(((y - inner_up) / 0.012) ** 2)) * clip((1.03 - np.abs(along)) * 12, 0, 1)
    _mix(view, look.lips * 0.34, line * (0.75 if head.mouth_open < 0.03 else 0.45))
    corner = np.exp(-(((np.abs(along) - 1) * half / 0.03) ** 2) - ((y - (MOUTH_Y - 0.073 * head.smile)) / 0.03) ** 2)
    _mix(view, look.skin * 0.45, 0.35 * corner)


class _HairPlaces(NamedTuple):
    """Places of the average head, and what of the edge of hair is the same for every head there."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    ragged: np.ndarray | float  # moves the hairline
    size: np.ndarray
    side: np.ndarray
    ears: np.ndarray
    tall: np.ndarray  # 1 where the hair stands highest


def _hair_places(x: np.ndarray, y: np.ndarray, angle: np.ndarray, ragged: np.ndarray | float) -> _HairPlaces:
    side = (angle - 1.42 - 0.2 * step(y, -0.2, 0.0)) * 0.7
    return _HairPlaces(x, y, angle, ragged, np.abs(x), side, ear_share(x, y, angle), step(y, 0.1, -0.9))


@cache
def _texture_places() -> _HairPlaces:
    """Return the places of texels at half the texture's resolution, enough for the edge of the hair."""
    maps = detail()
    x, y, angle, ragged = (cv2.resize(m, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
                           for m in (maps.x, maps.y, maps.angle, maps.strands))  # fmt: skip
    return _hair_places(x, y, angle, ragged)


@cache
def _node_places() -> _HairPlaces:
    (x, y, _), _, _, angle = nodes()
    return _hair_places(x, y, angle, 0.0)


def _hair_share(look: Look, at: _HairPlaces) -> np.ndarray:
    """Return the share (0 to 1) of hair, or hat, over places of the average head."""
    x, y, size = at.x, at.y, at.size
    line = look.hairline + look.parting * x * 0.5 + look.recede * (size - 0.1) ** 2 * 0.9 + 0.012 * at.ragged
    front = np.where(size < 0.72, line - y, look.sides - 0.05 - y)
    front = np.minimum(front, (0.9 + look.sides - y))
    side = np.minimum(at.side, look.sides - 0.35 - y + (at.angle - 1.5) * 0.9)
    if look.hat is not None:
        front, side = -0.48 + 0.15 * x * look.parting - y, -0.25 - y + (at.angle - 1.5) * 0.6
    share = np.maximum(front, side)
    share = share - at.ears  # short hair leaves the ears free, long hair falls over them
    if look.curtain < 1.5:
        reach = look.curtain + 0.12 * clip(-0.35 - y, 0, 1) + 0.025 * at.ragged
        share = np.maximum(share, np.minimum(size - reach, np.minimum(y + 0.7, look.length - 0.2 - y)))
    if look.hairline < -1.5 and look.hat is None:
        share = np.minimum(share, np.minimum(y + 0.55, 0.3 - y))
    return clip(share / 0.05 + 0.5, 0, 1)


def hair_height(look: Look) -> np.ndarray:
    """Return how high hair stands over the scalp at the surface's nodes."""
    at = _node_places()
    return _hair_share(look, at) * (look.volume * (0.6 + 0.8 * at.tall) - EAR_HEIGHT * at.ears)


def _paint_hair(canvas: np.ndarray, look: Look) -> None:
    maps = detail()
    small = _hair_share(look, _texture_places())
    if look.hat is None and look.hairline > -1.5:  # the shadow that hair throws on the forehead
        under = cv2.resize(1 - 0.5 * np.maximum(cv2.blur(small, (5, 5)) - small, 0), (TEXELS, TEXELS))
        canvas *= under
    share = cv2.resize(small, (TEXELS, TEXELS), interpolation=cv2.INTER_LINEAR)
    if look.hat is None:
        streak = np.roll(maps.strands, look.shifts[0] % TEXELS, axis=1)
        shade = np.maximum((0.78 + maps.gloss) + 0.2 * streak, 0.3)
    else:
        shade = maps.band
    for plane, color in zip(canvas, look.scalp, strict=True):
        plane += (shade * np.float32(color) - plane) * share


def _paint_beard(canvas: np.ndarray, look: Look) -> None:
    maps = detail()
    share = maps.beard * max(look.beard, look.stubble * 0.55) + maps.moustache * max(look.moustache, look.stubble * 0.5)
    grain = np.roll(maps.stubble, look.shifts[1] % TEXELS, axis=0)
    color = np.minimum(look.hair * 0.9, look.skin * 0.8).astype(np.float32)
    full = look.beard > 0
    shade = clip(1 + 0.22 * maps.strands, 0.4, 1.5) if full else np.float32(1)
    _mix(canvas, color[:, None, None] * shade, clip(share * grain, 0, 0.94))


def paint(head: Head, look: Look) -> np.ndarray:
    """Return the colours (3, TEXELS, TEXELS) of a head before light."""
    canvas = _skin(head, look)
    nose = _windows()["nose"]
    _mix(canvas[(slice(None), *nose)], look.skin * 0.22, detail().nostril[nose] * 0.85)
    if look.stubble or look.moustache:
        _paint_beard(canvas, look)
    _paint_mouth(canvas, head, look)
    _paint_eyes(canvas, head, look)
    _paint_brows(canvas, head, look)
    _paint_hair(canvas, look)
    return canvas


@cache
def _light_maps() -> tuple[np.ndarray, np.ndarray]:
    at = (((np.arange(TEXELS) + 0.5) * 2 / TEXELS) * ((NODES - 1) / 2)).astype(np.float32)
    column, row = np.meshgrid(at, at)
    return column, row


def lit(canvas: np.ndarray, look: Look, lights: np.ndarray, flat_light: tuple[float, float]) -> np.ndarray:
    """Return the texture (TEXELS, TEXELS, 3) uint8 under light.

    Args:
        canvas: colours; changed.
        lights: light at the nodes, (NODES, NODES, 4) of `synthetic_render.light`.
        flat_light: the light's direction right and down in the head's frame, for small forms.
    """
    *gains, shine = cv2.split(cv2.remap(lights, *_light_maps(), cv2.INTER_LINEAR))
    right, down = detail().relief
    form = np.float32(-1.6 * flat_light[0]) * right - np.float32(1.6 * flat_light[1]) * down
    for plane, gain, key in zip(canvas, gains, look.key, strict=True):
        gain += form * np.float32(key)
        plane *= np.maximum(gain, 0)
        plane += shine
    return cv2.convertScaleAbs(cv2.merge(list(canvas)))
