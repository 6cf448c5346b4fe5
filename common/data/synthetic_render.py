"""Draws the parametric head: a painted frontal texture, lit on the relief, turned and splatted with a depth order."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from common.data.synthetic_head import BROW_THICKNESS, Head, eye_outline, frontal_landmarks, pupil_centres, relief

GRID = 230  # samples a side of the frontal plane
SPAN_X, SPAN_Y = (-1.15, 1.15), (-1.2, 1.45)
SKIN = np.array([(236, 200, 178), (222, 176, 148), (198, 150, 118), (160, 112, 82), (118, 78, 56), (82, 54, 40)], float)
HAIR = np.array([(24, 20, 18), (56, 38, 26), (96, 66, 38), (170, 128, 74), (140, 62, 36), (150, 148, 146)], float)


@dataclass
class Look:
    """What a face shows besides its shape."""

    skin: np.ndarray
    hair: np.ndarray
    hairline: float
    lips: np.ndarray
    eye: np.ndarray
    light: np.ndarray
    ambient: float
    makeup: bool = False
    glasses: bool = False
    beard: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    harsh: bool = False
    occluder: bool = False
    seed: int = 0
    brow: float = field(default=0.7)


def draw_look(rng: np.random.Generator) -> Look:
    """Draw skin, hair, light and accessories."""
    k = rng.uniform(0, len(SKIN) - 1.001)
    skin = SKIN[int(k)] + (SKIN[int(k) + 1] - SKIN[int(k)]) * (k % 1) + rng.normal(size=3) * 6
    makeup, harsh = bool(rng.uniform() < 0.15), bool(rng.uniform() < 0.2)
    lips = skin * [0.86, 0.58, 0.58] + (np.array([60, -25, -10]) if makeup else 0)
    light = rng.normal(size=3) * [0.75 if harsh else 0.4, 0.35, 0] + [0, -0.35, 1]
    return Look(
        skin=skin, hair=HAIR[rng.integers(len(HAIR))] + rng.normal(size=3) * 6, hairline=rng.uniform(-0.85, -0.5),
        lips=np.clip(lips, 0, 255), eye=rng.uniform((30, 25, 15), (110, 110, 120)),
        light=light / np.linalg.norm(light), ambient=rng.uniform(0.15, 0.35) if harsh else rng.uniform(0.35, 0.65),
        makeup=makeup, glasses=bool(rng.uniform() < 0.18), beard=float(rng.uniform(0.2, 0.8) * (rng.uniform() < 0.2)),
        blur=float(rng.uniform(1.2, 2.6) if rng.uniform() < 0.15 else rng.uniform(0, 0.8)), noise=rng.uniform(0, 7),
        harsh=harsh, occluder=bool(rng.uniform() < 0.2), seed=int(rng.integers(2**31)), brow=rng.uniform(0.45, 0.95),
    )  # fmt: skip


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Return (size, size) float32 noise of about unit spread whose blobs are size / cells wide."""
    coarse = rng.normal(size=(cells + 1, cells + 1)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _to_grid(points: np.ndarray) -> np.ndarray:
    """Return 1/16 grid pixels (int32) of points of the frontal plane."""
    scale = np.array([(GRID - 1) / (SPAN_X[1] - SPAN_X[0]), (GRID - 1) / (SPAN_Y[1] - SPAN_Y[0])])
    return np.round((points - [SPAN_X[0], SPAN_Y[0]]) * scale * 16).astype(np.int32)


def _fill(canvas: np.ndarray, outline: np.ndarray, color: np.ndarray) -> None:
    cv2.fillPoly(canvas, [_to_grid(outline)], np.clip(color, 0, 255).tolist(), cv2.LINE_AA, 4)


def _line(canvas: np.ndarray, points: np.ndarray, color: np.ndarray, width: int) -> None:
    cv2.polylines(canvas, [_to_grid(points)], False, np.clip(color, 0, 255).tolist(), width, cv2.LINE_AA, 4)


def _smooth(points: np.ndarray, count: int = 24) -> np.ndarray:
    """Return points along a smooth line through the given ones (a parabola blend, cheap and without overshoot)."""
    at = np.linspace(0, len(points) - 1, count)
    dense = np.stack([np.interp(at, np.arange(len(points)), points[:, k]) for k in range(2)], 1)
    padded = np.concatenate([dense[:1], dense, dense[-1:]])
    blended = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    blended[[0, -1]] = dense[[0, -1]]
    return blended


def _paint_eye(canvas: np.ndarray, head: Head, look: Look, side: int) -> None:
    upper, lower = (line * [1 if side < 0 else -1, 1] for line in eye_outline(head, 15))
    outline = np.concatenate([upper, lower[::-1]])
    white = np.zeros((GRID, GRID), np.uint8)
    cv2.fillPoly(white, [_to_grid(outline)], 255, cv2.LINE_AA, 4)
    eye = canvas.copy()
    eye[:] = np.clip(look.skin * 0.15 + np.array([200, 196, 192]) * 0.85, 0, 255)
    centre = pupil_centres(head)[0 if side < 0 else 1]
    x, y = _to_grid(centre[None])[0].tolist()
    unit = 16 * GRID / (SPAN_X[1] - SPAN_X[0])
    cv2.circle(eye, (x, y), round(0.066 * unit), look.eye.tolist(), -1, cv2.LINE_AA, 4)
    cv2.circle(eye, (x, y), round(0.032 * unit), (12, 10, 10), -1, cv2.LINE_AA, 4)
    cv2.circle(
        eye, (x - round(0.02 * unit), y - round(0.025 * unit)), round(0.013 * unit), (235,) * 3, -1, cv2.LINE_AA, 4
    )
    share = white[..., None].astype(np.float32) / 255
    canvas[:] = canvas * (1 - share) + eye * share
    _line(canvas, upper, look.skin * (0.16 if look.makeup else 0.32), 2)
    _line(canvas, lower, look.skin * 0.62, 1)
    _line(canvas, upper + [0, -0.045], look.skin * 0.72, 1)


def paint_texture(head: Head, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Return the (GRID, GRID, 3) float32 colours of the frontal plane before light."""
    lines = frontal_landmarks(head)
    y = np.linspace(*SPAN_Y, GRID)[:, None]
    x = np.linspace(*SPAN_X, GRID)[None, :]
    canvas: np.ndarray = np.empty((GRID, GRID, 3), np.float32)
    canvas[:] = look.skin
    canvas += _smooth_noise(rng, GRID, 6)[..., None] * 5 + _smooth_noise(rng, GRID, 70)[..., None] * 2.5
    for side in (-1, 1):
        flush = np.exp(-(((x - side * 0.45) / 0.22) ** 2) - ((y - 0.4) / 0.2) ** 2)[..., None]
        canvas += flush * np.array([14, -8, -6]) * (1.8 if look.makeup else 1)
        shade = np.exp(-(((x - side * 0.36) / 0.22) ** 2) - ((y + 0.02) / 0.13) ** 2)[..., None]
        canvas *= 1 - (0.3 if look.makeup else 0.16) * shade
    if look.beard:
        where = 1 / (1 + np.exp(-(y - 0.62 - 0.5 * (x**2 < 0.02)) / 0.06)) + np.exp(-(((y - 0.68) / 0.05) ** 2))
        grain = 0.75 + 0.25 * _smooth_noise(rng, GRID, 110)
        share = np.clip(where * look.beard * grain, 0, 0.9)[..., None]
        canvas = canvas * (1 - share) + look.hair.astype(np.float32) * share
    canvas = np.ascontiguousarray(np.clip(canvas, 0, 255), np.float32)
    for side in (-1, 1):
        _paint_eye(canvas, head, look, side)
        brow = lines["left_brow" if side < 0 else "right_brow"]
        thick = BROW_THICKNESS * np.array([0.35, 0.9, 1, 1, 0.9])[::-side, None] * [0, 1]
        hairy = look.hair * look.brow + look.skin * (1 - look.brow) * 0.8
        _fill(canvas, np.concatenate([_smooth(brow), _smooth(brow + thick)[::-1]]), hairy)
        nostril = np.array([side * 0.085, 0.555 * (1 + 0.5 * head.nose_length)])
        angle = np.linspace(0, 2 * np.pi, 12)
        _fill(canvas, nostril + np.stack([0.042 * np.cos(angle), 0.02 * np.sin(angle)], 1), look.skin * 0.3)
        wing = lines["nose_bottom"][0 if side < 0 else 4]
        _line(canvas, np.array([wing + [0, -0.12], wing + [side * 0.02, -0.05], wing]), look.skin * 0.72, 1)
        fold = np.array([wing + [side * 0.03, -0.02], wing + [side * 0.13, 0.12], wing + [side * 0.19, 0.3]])
        _line(canvas, _smooth(fold), look.skin * (0.84 - max(head.smile, 0)), 1)
    lips = {k: _smooth(v) for k, v in lines.items() if k.startswith("lips")}
    _fill(canvas, np.concatenate([lips["lips_outer_upper"], lips["lips_outer_lower"][::-1]]), look.lips)
    inner = np.concatenate([lips["lips_inner_upper"], lips["lips_inner_lower"][::-1]])
    _fill(canvas, inner, np.array([46, 16, 18]))
    if head.mouth_open > 0.05:
        teeth = lips["lips_inner_upper"]
        _fill(
            canvas,
            np.concatenate([teeth, (teeth + [0, min(0.07, 0.6 * head.mouth_open)])[::-1]]),
            np.array([214, 208, 196]),
        )
    _line(canvas, lips["lips_inner_upper"], look.lips * 0.5, 1)
    line = look.hairline + 0.06 * np.sin(x * 4 + look.seed % 7) + 0.35 * np.clip(np.abs(x) - 0.45, 0, None) * 2
    cap = 1 / (1 + np.exp((y - line) / 0.02))
    strands = 0.8 + 0.25 * cv2.resize(rng.normal(size=(9, 80)).astype(np.float32), (GRID, GRID))
    share = np.clip(cap, 0, 1)[..., None]
    return np.asarray(canvas * (1 - share) + look.hair.astype(np.float32) * strands[..., None] * share, np.float32)


def shaded_points(head: Head, look: Look, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (N, 3), lit colours (N, 3) and outward normals' z before the turn of the head's surface."""
    x, y = np.linspace(*SPAN_X, GRID)[None], np.linspace(*SPAN_Y, GRID)[:, None]
    depth = relief(head, x, y)
    z = cv2.GaussianBlur(depth, (5, 5), 1.0)
    step_x, step_y = x[0, 1] - x[0, 0], y[1, 0] - y[0, 0]
    dy, dx = np.gradient(z, step_y, step_x)
    normal = np.stack([-dx, -dy, np.ones_like(z)], -1) / np.sqrt(1 + dx**2 + dy**2)[..., None]
    lit = np.clip(normal @ look.light, 0, None)
    half = look.light + [0, 0, 1]
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, None) ** 24 * 22
    color = paint_texture(head, look, rng) * (look.ambient + (1.25 - look.ambient) * lit)[..., None] + shine[..., None]
    inside = depth > 0
    return np.stack([*np.broadcast_arrays(x, y, z)], -1)[inside], color[inside], inside


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a (size, size, 3) float32 picture of nothing in particular: gradients, blobs, shapes, blurred."""
    base = rng.uniform(10, 230, 3) + np.linspace(-1, 1, size)[:, None, None] * rng.normal(size=3) * 35
    picture = np.broadcast_to(base, (size, size, 3)).astype(np.float32).copy()
    picture += (
        _smooth_noise(rng, size, int(rng.integers(2, 12)))[..., None] * rng.normal(size=3).astype(np.float32) * 28
    )
    for _ in range(int(rng.integers(2, 9))):
        a, b = rng.integers(-size // 4, size + size // 4, (2, 2)).tolist()
        cv2.rectangle(picture, a, b, rng.uniform(0, 255, 3).tolist(), -1 if rng.uniform() < 0.6 else 5)
    return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.8, 5)))


def splat(points: np.ndarray, colors: np.ndarray, canvas: np.ndarray, side: int) -> np.ndarray:
    """Draw points (N, 3) in image pixels over the canvas, far ones first, `side` pixels a square; return the mask."""
    order = np.argsort(points[:, 2], kind="stable")
    column, row = np.round(points[order, 0]).astype(int), np.round(points[order, 1]).astype(int)
    size = canvas.shape[0]
    keep = (column >= 0) & (row >= 0) & (column < size - side) & (row < size - side)
    column, row, color = column[keep], row[keep], colors[order][keep].astype(np.float32)
    index = np.full((size, size), -1, np.int32)
    rank = np.arange(len(row), dtype=np.int32)
    for dr in range(side):
        for dc in range(side):
            layer = np.full((size, size), -1, np.int32)
            layer[row + dr, column + dc] = rank  # of several points in a pixel the last, nearest one stays
            np.maximum(index, layer, out=index)
    mask = index >= 0
    canvas[mask] = color[index[mask]]
    return mask
