"""Draws the nodes of a head: triangles with a depth order, light at the nodes, a picture of texture coordinates."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from common.data.synthetic._math import snap
from common.data.synthetic.appearance import Look
from common.data.synthetic.landmarks import View
from common.data.synthetic.surface import NODES, OUTER, nodes

CELL = 2.0 / (NODES - 1)
NEXT = np.array([1, 2, 0])
FLAT = 1e-6  # pixels; flatter triangles are seen from their edge
SLACK = 1e-3  # pixels by which rows overlap, so that none falls between two triangles
FAR = 1e6


@cache
def _triangles() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return corner indices (3, T) into the flat nodes, texture coordinates (2, T) of the first, the direction of the
    sides from it, and each triangle's index among all of them.

    Each cell gives two triangles, whose second and third corner lie along s and along t from the first.
    """
    index = np.arange(NODES * NODES).reshape(NODES, NODES)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    corners = np.concatenate([np.stack([a, b, c]).reshape(3, -1), np.stack([d, c, b]).reshape(3, -1)], axis=1)
    _, s, t, _ = nodes()
    origin = np.stack([s.ravel(), t.ravel()])[:, corners[0]]
    sign = np.repeat([1.0, -1.0], a.size)
    keep = np.hypot(s.ravel()[corners], t.ravel()[corners]).max(axis=0) < OUTER
    return corners[:, keep], origin[:, keep], sign[keep], np.flatnonzero(keep)


def _visible_triangles(pixels: np.ndarray) -> np.ndarray:
    """Return indices of the triangles that face the camera, far ones first."""
    z = pixels[2]
    across, along = pixels[:2, :, 1:] - pixels[:2, :, :-1], pixels[:2, 1:] - pixels[:2, :-1]
    # A cell's first triangle has its upper and left side, the second one its lower and right side.
    first = across[0, :-1] * along[1, :, :-1] - across[1, :-1] * along[0, :, :-1]
    second = across[0, 1:] * along[1, :, 1:] - across[1, 1:] * along[0, :, 1:]
    middle = z[:-1, 1:] + z[1:, :-1]
    area = np.stack([first, second]).ravel()[_triangles()[3]]
    depth = np.stack([middle + z[:-1, :-1], middle + z[1:, 1:]]).ravel()[_triangles()[3]]
    front = np.flatnonzero(area > FLAT)
    depth = depth[front]
    low, high = depth.min(initial=0.0), depth.max(initial=1.0)
    steps = ((depth - low) * (32000 / (high - low))).astype(np.int16)  # whole numbers sort several times faster
    return np.asarray(front[np.argsort(steps, kind="stable")])


def _spans(x: np.ndarray, y: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the pixel rows that triangles cover.

    Args:
        x, y: corners (3, T), turning clockwise as seen (y runs down).
        size: side of the picture.

    Returns:
        Triangle, row, first column and count of columns (R,), in the order of the triangles.
    """
    top = np.maximum(np.ceil(y.min(axis=0)), 0)
    rows = np.maximum(np.minimum(np.floor(y.max(axis=0)), size - 1) - top + 1, 0).astype(np.int64)
    ex, ey = x[NEXT] - x, y[NEXT] - y
    level = np.abs(ey) < FLAT
    slope = ex / np.where(level, 1.0, ey)
    start = x + (top - y) * slope
    # A side that runs up bounds the row on the left, one that runs down on the right.
    owner = np.repeat(np.arange(x.shape[1]), rows)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(rows) - rows, rows)
    up, down = ~level & (ey < 0), ~level & (ey > 0)
    low, high = (
        [a[owner] + b[owner] * step for a, b in zip(np.where(on, start, far), np.where(on, slope, 0.0), strict=True)]
        for on, far in ((up, -FAR), (down, FAR))
    )
    first = np.maximum(np.ceil(np.maximum(np.maximum(*low[:2]), low[2]) - SLACK), 0).astype(np.int64)
    last = np.minimum(np.floor(np.minimum(np.minimum(*high[:2]), high[2]) + SLACK), size - 1).astype(np.int64)
    return owner, top.astype(np.int64)[owner] + step, first, np.maximum(last - first + 1, 0)


def rasterize(pixels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a surface.

    Args:
        pixels: projected nodes (3, NODES, NODES), z to the viewer.
        size: side of the picture.

    Returns:
        Flat indices (P,) of the covered pixels and the texture coordinates s and t (P,) that they show.
    """
    corners, origin, sign, _ = _triangles()
    chosen = _visible_triangles(pixels)
    x, y = (c[corners[:, chosen]] for c in pixels.reshape(3, -1)[:2])
    owner, row, first, count = _spans(x, y, size)
    run = np.repeat(np.arange(len(owner)), count)
    flat = np.arange(len(run)) + np.repeat(row * size + first - np.cumsum(count) + count, count)
    winner = np.full(size * size, -1, np.int64)
    winner[flat] = run  # of several the last, nearest one stays
    covered = np.flatnonzero(winner >= 0)
    run = winner[covered]
    triangle, down = owner[run], row[run]
    ux, uy, vx, vy = x[1] - x[0], y[1] - y[0], x[2] - x[0], y[2] - y[0]
    scale = CELL * sign[chosen] / (ux * vy - uy * vx)
    dx, dy = covered - down * size - x[0][triangle], down - y[0][triangle]
    # Second and third corner lie one cell along s and along t from the first.
    s = dx * (vy * scale)[triangle] - dy * (vx * scale)[triangle] + origin[0, chosen][triangle]
    t = dy * (ux * scale)[triangle] - dx * (uy * scale)[triangle] + origin[1, chosen][triangle]
    return covered, s, t


def normals(view: View, surface: np.ndarray) -> np.ndarray:
    """Return unit normals (3, NODES, NODES) of a surface's nodes in the camera's frame."""
    across, along = np.zeros_like(surface), np.zeros_like(surface)
    across[..., 1:-1], along[:, 1:-1] = surface[..., 2:] - surface[..., :-2], surface[:, 2:] - surface[:, :-2]
    across[..., 0], across[..., -1] = across[..., 1], across[..., -2]
    along[:, 0], along[:, -1] = along[:, 1], along[:, -2]
    (ax, ay, az), (bx, by, bz) = across, along
    # x runs right and y down, so across x along points away from the viewer's side for a right-handed frame's z.
    normal = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    return snap(view.turn(normal / np.maximum(np.sqrt((normal**2).sum(axis=0)), 1e-9)))


def light(look: Look, normal: np.ndarray) -> np.ndarray:
    """Return the light at the nodes, (NODES, NODES, 4) float32: what multiplies red, green and blue, and shine."""
    x, y, z = normal
    lx, ly, lz = look.light
    diffuse = np.maximum((x * lx + y * ly + z * lz + 0.18) / 1.18, 0)
    hx, hy, hz = look.light + [0, 0, 1]
    size = np.sqrt(hx * hx + hy * hy + hz * hz)
    gloss = np.maximum((x * hx + y * hy + z * hz) / size, 0)
    for _ in range(3):
        gloss = gloss * gloss
    gloss = gloss * gloss * (0.35 + 0.65 * gloss)
    edge = look.rim * np.clip(1 - z, 0, 1) ** 2 * np.clip(0.5 - 0.8 * x * np.sign(lx), 0, 1)
    sky = 0.88 - 0.12 * y  # light from above fills more than light from below
    gains = [diffuse * key + sky * ambient + edge for key, ambient in zip(look.key, look.ambient, strict=True)]
    return np.stack([*gains, look.shine * gloss], axis=2).astype(np.float32)


def texture_maps(s: np.ndarray, t: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return texel coordinates of texture coordinates for a texture with `side` texels a side."""
    return ((s + 1) * (side / 2) - 0.5).astype(np.float32), ((t + 1) * (side / 2) - 0.5).astype(np.float32)


def show(texture: np.ndarray, covered: np.ndarray, s: np.ndarray, t: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Lay the drawn head over the picture (size, size, 3) uint8 with a soft rim; return the picture."""
    size = image.shape[0]
    mx, my = np.zeros((2, size, size), np.float32)
    mx.ravel()[covered], my.ravel()[covered] = texture_maps(s, t, texture.shape[0])
    mask = np.zeros((size, size), np.uint8)
    mask.ravel()[covered] = 255
    head = cv2.remap(texture, mx, my, cv2.INTER_LINEAR)
    cv2.copyTo(head, mask, image)
    rim = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    cv2.copyTo(cv2.blur(image, (3, 3)), rim, image)
    return image
