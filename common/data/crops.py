"""One warp per sample: crop, turn, scale, shift and flip in a single matrix; then samples become a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from common.errors import LabError, check_ranges
from common.geometry import apply_affine, compose_affine, crop_matrix, invert_affine
from common.schemes import LandmarkScheme
from common.types import FaceSample

SideRule = Literal["longer", "mean", "geometric"]
SAME = 1e-3  # pixels; a map that moves no pixel farther from a whole place samples nothing
UNKNOWN_POSE = np.full(3, np.nan, np.float32)
MIRRORED_POSE = np.array([-1, 1, -1], np.float32)  # yaw and roll change their sign


@dataclass(frozen=True)
class CropConfig:
    """How a box becomes a crop, and how far training may depart from it.

    Attributes:
        size: side of the crop in pixels.
        box_scale: side of the square over the side of the box.
        fit: the box grows about its middle, by the steps of `grown_box`, until the crop holds all annotated landmarks;
            in tests, too, so that a figure with it has seen the truth.
        side_rule: side of the box: the longer one, the mean or the geometric mean of width and height.
        rotation: largest turn in degrees, either way.
        scale: largest relative change of size, either way.
        shift: largest shift of the centre, each axis, as a share of the square's side.
        flip: chance of a mirrored picture.
        shear: largest shear, either way, each axis: x grows by so much of y, y by so much of x.
        stretch: largest relative change of the width alone, either way.
        chance: share of the training samples that are changed at all; the others get the plain crop.
        grow: a turn enlarges the crop until the box, turned along, has its margin again.
        nearest: take the nearest pixel of the image, in training and at test, instead of a weighted mean.
    """

    size: int = 256
    box_scale: float = 1.25
    side_rule: SideRule = "longer"
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    shear: float = 0.0
    stretch: float = 0.0
    chance: float = 1.0
    grow: bool = False
    nearest: bool = False
    fit: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= 1:
            raise LabError(f"crop.shift is a share of the crop's side, in [0, 1], not pixels; got {self.shift}")
        check_ranges("crop", self, size="[8, 4096]", box_scale="(0, 100]", rotation="[0, 180]", scale="[0, 1)",
                     flip="[0, 1]", shear="[0, 1)", stretch="[0, 1)", chance="[0, 1]")  # fmt: skip

    def still(self) -> CropConfig:
        """Return the same crop without augmentation."""
        return CropConfig(self.size, self.box_scale, self.side_rule, nearest=self.nearest, fit=self.fit)

    def description(self, box: str) -> str:
        """Return box (in words), scale and size in the words of protocol cards."""
        box += ", grown until all landmarks fit" if self.fit else ""
        return f"{box}, {self.side_rule} side times {self.box_scale:g}, crop {self.size} px"


def square_side(box: np.ndarray, rule: SideRule) -> float:
    """Return the side in image pixels that stands for a box x0 y0 x1 y1 (4,)."""
    x0, y0, x1, y1 = box.tolist()
    width, height = x1 - x0, y1 - y0
    match rule:
        case "longer":
            return max(width, height)
        case "mean":
            return (width + height) / 2
        case "geometric":
            return math.sqrt(width * height)


def turned_box(box: np.ndarray, degrees: float) -> np.ndarray:
    """Return the upright box (4,) round a box x0 y0 x1 y1 that was turned about its middle."""
    x0, y0, x1, y1 = box.tolist()
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = (x1 - x0) * cos + (y1 - y0) * sin, (x1 - x0) * sin + (y1 - y0) * cos
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def draw_matrix(box: np.ndarray, config: CropConfig, rng: np.random.Generator | None) -> tuple[np.ndarray, bool]:
    """Return the map image -> crop (2, 3) and whether it mirrors; without a generator there is no augmentation."""
    x0, y0, x1, y1 = box.tolist()
    center = ((x0 + x1) / 2, (y0 + y1) / 2)
    side = square_side(box, config.side_rule) * config.box_scale
    if rng is None:
        return crop_matrix(center, side, config.size), False
    # Always the same number of draws, so that one switched-off change does not shift the others' stream.
    *draws, coin = rng.random(5).tolist()
    turn, grow, dx, dy = (2 * value - 1 for value in draws)
    if config.grow:
        side = square_side(turned_box(box, turn * config.rotation), config.side_rule) * config.box_scale
    center = (center[0] + dx * config.shift * side, center[1] + dy * config.shift * side)
    flip = coin < config.flip
    matrix = crop_matrix(center, side * (1 + grow * config.scale), config.size, turn * config.rotation, flip)
    if config.chance == 1 and not config.shear and not config.stretch:
        return matrix, flip
    coin, *draws = rng.random(4).tolist()  # after the others, so that a recipe without these keeps its stream
    if coin >= config.chance:
        return draw_matrix(box, config, None)
    across, down, wider = (2 * value - 1 for value in draws)
    wide = 1 + wider * config.stretch
    linear = np.array([[wide, wide * across * config.shear], [down * config.shear, 1.0]])  # sheared, then stretched
    middle = np.full(2, (config.size - 1) / 2)
    return compose_affine(np.column_stack([linear, middle - linear @ middle]), matrix), flip


def warp_image(
    image: np.ndarray, matrix: np.ndarray, size: int, out: np.ndarray | None = None, nearest: bool = False
) -> np.ndarray:
    """Return the (size, size, 3) uint8 crop; black outside the image; area-averaged first when it shrinks a lot.

    It is written into `out` where that is given.

    Bilinear sampling reads four pixels only, which aliases below half size; so the image is first halved as often as
    the map shrinks by two, with the matrix adapted to the pixel centres of the halved image. With `nearest` each pixel
    of the crop is the image's nearest one, and nothing is averaged.
    """
    (a, b, dx), (c, d, dy) = matrix.tolist()
    left, top = round(-dx), round(-dy)
    off = max(abs(a - 1), abs(b), abs(c), abs(d - 1)) * size + max(abs(left + dx), abs(top + dy))
    if off < SAME and min(left, top) >= 0 and left + size <= image.shape[1] and top + size <= image.shape[0]:
        part = image[top : top + size, left : left + size]  # the pixels as they are
        if out is None:
            return part.copy()
        out[...] = part
        return out
    if nearest:
        return cv2.warpAffine(image, matrix, (size, size), dst=out, flags=cv2.INTER_NEAREST)
    shrink = 1 / math.sqrt(abs(a * d - b * c))
    while shrink >= 2 and min(image.shape[:2]) >= 4:
        rows, cols = image.shape[0] // 2, image.shape[1] // 2
        # INTER_AREA on an even cut: new pixel u covers old 2u and 2u + 1, whose centre is 2u + 0.5.
        image = cv2.resize(image[: 2 * rows, : 2 * cols], (cols, rows), interpolation=cv2.INTER_AREA)
        doubling = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]])
        matrix = np.concatenate([matrix[:, :2] * 2, (matrix[:, :2] @ doubling[:, 2] + matrix[:, 2])[:, None]], axis=1)
        shrink /= 2
    return cv2.warpAffine(image, matrix, (size, size), dst=out, flags=cv2.INTER_LINEAR)


@dataclass
class CroppedFace:
    """A sample after its one warp: what the collate function stacks. Frames as in `FaceBatch`.

    What follows from the crop's matrix is computed when asked for; `Collate` does so for a whole batch at once.

    Attributes:
        matrix: (2, 3) float64, image -> crop.
        source_points: (L, D), image pixels, mirrored with the crop, in the data set's own precision.
        source_box: (4,) x0 y0 x1 y1, image pixels.
        row: place in the data set; -1 where it is of none.
    """

    image: np.ndarray
    matrix: np.ndarray
    source_points: np.ndarray
    source_box: np.ndarray
    visible: np.ndarray
    weight: np.ndarray
    norm: float
    subsets: np.ndarray
    pose: np.ndarray
    id: str
    row: int = -1

    @property
    def points(self) -> np.ndarray:
        """Points (L, D) float32, crop pixels."""
        return move_points(self.matrix, self.source_points)

    @property
    def image_points(self) -> np.ndarray:
        """Points (L, D) float32, image pixels."""
        return self.source_points.astype(np.float32)

    @property
    def to_image(self) -> np.ndarray:
        """The map crop -> image (2, 3) float32."""
        return invert_affine(self.matrix).astype(np.float32)

    @property
    def box(self) -> np.ndarray:
        """The data set's box (4,) float32, crop pixels."""
        return move_box(self.matrix, self.source_box)


def move_box(matrix: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return boxes x0 y0 x1 y1 (..., 4) float32 after the maps (..., 2, 3): centre moved, sides scaled, upright."""
    linear = matrix[..., :2]
    det = linear[..., 0, 0] * linear[..., 1, 1] - linear[..., 0, 1] * linear[..., 1, 0]
    center = (box[..., :2] + box[..., 2:]) / 2
    half = (box[..., 2:] - box[..., :2]) * (np.sqrt(np.abs(det)) / 2)[..., None]
    center = (linear * center[..., None, :]).sum(axis=-1) + matrix[..., 2]
    return np.concatenate([center - half, center + half], axis=-1).astype(np.float32)


@lru_cache
def mirror_order(mirror: tuple[int, ...]) -> np.ndarray:
    """Return the mirror index as an array, which indexes much faster than the tuple."""
    return np.array(mirror)


@lru_cache
def _membership(names: tuple[str, ...], member_of: tuple[str, ...]) -> np.ndarray:
    return np.array([name in member_of for name in names], dtype=bool)


@lru_cache
def _ones(count: int) -> np.ndarray:
    weight = np.ones(count, np.float32)
    weight.setflags(write=False)  # the samples share it
    return weight


def move_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (..., L, D) after the maps (..., 2, 3) as float32; computed in float64."""
    return apply_affine(matrix, points.astype(np.float64)).astype(np.float32)


def _normaliser(sample: FaceSample, scheme: LandmarkScheme) -> float:
    """Return the sample's own normaliser, or the distance of its outer eye corners."""
    if sample.norm is not None:
        return sample.norm
    left, right = scheme.corners
    if sample.annotated is not None and not (sample.annotated[left] and sample.annotated[right]):
        return math.nan  # where errors are divided by it, that is an error; training needs no such length
    return math.dist(sample.points[left, :2].tolist(), sample.points[right, :2].tolist()) or math.nan  # the same


def crop_box(sample: FaceSample, config: CropConfig) -> np.ndarray:
    """Return the box x0 y0 x1 y1 (4,), image pixels, that a crop is made of: the sample's, or what it grows to."""
    if not config.fit:
        return sample.box
    known = slice(None) if sample.annotated is None else sample.annotated
    return grown_box(sample.box, sample.points[known, :2], config, sample.id)


def grown_box(box: np.ndarray, points: np.ndarray, config: CropConfig, where: str) -> np.ndarray:
    """Return the box (4,), grown about its middle so far that its crop holds the points (N, 2).

    Wider windows are tried, 1.25 times the crop's side and 1 / 25, 2 / 25, ... of that more by shrinking divisors (250,
    240, ...), until one keeps the points 1 / 45 of its side away from its edge; the crop is the inner 0.8 of it, or all
    of it where a point would come within 5 of 256 pixels of the inner one's edge.

    Raises:
        LabError: no window holds them.
    """
    middle = (box[:2] + box[2:]) / 2
    side = square_side(box, config.side_rule) * config.box_scale
    before, behind = float((middle - points).max()), float((points - middle).max())
    for divisor in range(250, 0, -10):
        window = 1.25 * side * 250 / divisor
        if max(before, behind) <= window * (0.5 - 1 / 45):
            inner = 0.8 * window
            fits = before <= inner * (0.5 - 5 / 256) and behind <= inner * (0.5 - 6 / 256)
            factor = (inner if fits else window) / side
            return np.concatenate([middle - (middle - box[:2]) * factor, middle + (box[2:] - middle) * factor])
    raise LabError(f"{where}: no window round its box holds the landmarks; check box and points")


def crop_sample(
    sample: FaceSample,
    scheme: LandmarkScheme,
    config: CropConfig,
    subset_names: Sequence[str] = (),
    rng: np.random.Generator | None = None,
    out: np.ndarray | None = None,
) -> CroppedFace:
    """Crop one face; with a generator, augment it in the same warp; with `out` (S, S, 3), warp into that memory.

    Raises:
        LabError: the box is to be made of landmarks, and they do not allow it.
    """
    box = crop_box(sample, config)
    matrix, flip = draw_matrix(box, config, rng)
    points, visible = sample.points, sample.visible
    norm = _normaliser(sample, scheme)
    weight = _ones(len(points)) if sample.annotated is None else sample.annotated.astype(np.float32)
    pose = UNKNOWN_POSE if sample.pose is None else np.asarray(sample.pose, np.float32)
    if flip:
        order = mirror_order(scheme.mirror)
        points, visible, weight = points[order], visible[order], weight[order]
        pose = pose * MIRRORED_POSE
    return CroppedFace(
        image=warp_image(sample.image, matrix, config.size, out, config.nearest),
        matrix=matrix,
        source_points=points,
        source_box=box,
        visible=visible,
        weight=weight,
        norm=norm,
        subsets=_membership(tuple(subset_names), sample.subsets),
        pose=pose,
        id=sample.id,
    )
