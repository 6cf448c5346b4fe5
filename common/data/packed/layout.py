"""What a store holds, and how one face becomes bytes and a face again.

    store.json             the data set, its scheme and its splits
    SPLIT/index.json       written and read by litdata, with SPLIT/chunk-0-N.bin
    SPLIT/points.npy       (N, L, D) float32, the landmarks alone, for mean shapes

A face is three strings of bytes: its picture (JPEG, PNG, or height, width and the pixels as they are), its numbers
(float64) and its words (id, then subsets).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from common.data.crops import CropConfig, square_side, warp_image
from common.errors import LabError, check_ranges
from common.files.images import decode_known
from common.geometry import apply_affine, box_center, crop_matrix, tight_box
from common.types import FaceSample

ABOUT, POINTS = "store.json", "points.npy"
FORMAT, READABLE = 2, (1, 2)  # written, and those that are read
GRID = 64  # pixels; parts of photographs begin at multiples, so that halving them six times keeps the same pixels
PLAIN = CropConfig()  # of most recipes
SIZES = struct.Struct("<II")  # height and width of a picture that is kept as it is
LARGEST_RAW = 1024  # pixels; a chunk is addressed by 32 bits
OTHERS = 9  # numbers besides the landmarks': box 4, pose 3, normaliser, whether some landmarks are not annotated

Buffer = bytes | memoryview
Row = Mapping[str, Buffer]


class SplitAbout(BaseModel):
    """What store.json says of a split; two splits of the same faces share a folder."""

    model_config = ConfigDict(extra="forbid")
    folder: str
    name: str
    count: int
    subset_names: list[str]
    dims: int
    raw: bool = False


class About(BaseModel):
    """store.json."""

    model_config = ConfigDict(extra="forbid")
    format: int
    dataset: str
    scheme: str
    room: float
    splits: dict[str, SplitAbout]


@dataclass(frozen=True)
class Packing:
    """How faces are packed.

    Attributes:
        size: side in pixels of the training crops, at most; a crop is not enlarged, and has no more pixels than the
            recipes' plain crop of 256 pixels is made of.
        room: side of what is kept over the longer side of the box that holds the face's box and its landmarks.
        quality: of the training crops' JPEG.
        face: pixels; evaluation faces are halved while the longer side of that box stays at least so large.
        exact: keep evaluation's pixels: a part of the photograph, halved at most, as PNG.
        raw: keep the pixels of training crops as they are, not as JPEG: some 14 times the disk, twice as fast.
    """

    size: int = 512
    room: float = 2.0
    quality: int = 95
    face: int = 256
    exact: bool = True
    raw: bool = True

    def __post_init__(self) -> None:
        check_ranges("packing", self, size="[32, 4096]", room="[1, 100]", quality="[1, 100]", face="[1, 4096]")
        if self.raw and self.size > LARGEST_RAW:
            raise LabError(f"packing.size must be at most {LARGEST_RAW} without --jpeg, got {self.size}")


def held_box(sample: FaceSample) -> np.ndarray:
    """Return the box x0 y0 x1 y1 (4,) float64 that holds the face's own box and its annotated landmarks."""
    points = sample.points if sample.annotated is None else sample.points[sample.annotated]
    tight = tight_box(points[:, :2].astype(np.float64))
    box = sample.box.astype(np.float64)
    return np.concatenate([np.minimum(box[:2], tight[:2]), np.maximum(box[2:], tight[2:])])


def training_crop(sample: FaceSample, packing: Packing) -> tuple[np.ndarray, np.ndarray]:
    """Return the square round a face (S, S, 3) and the map (2, 3) from the photograph to it.

    Where that enlarges nothing, the default crop without augmentation is a part of it, pixel for pixel.
    """
    box, held = sample.box.astype(np.float64), held_box(sample)
    centre = box_center(box)
    reach = float(np.abs(held.reshape(2, 2) - centre).max())  # of the landmarks, from the middle of the box
    side = max(float((held[2:] - held[:2]).max()) * packing.room, 2 * reach)
    scale = PLAIN.size / (square_side(box, PLAIN.side_rule) * PLAIN.box_scale)
    size = 2 * math.ceil(side * scale / 2)  # even, as the default crop's
    if scale > 1 or size > packing.size:
        size = min(packing.size, max(32, round(side)))
        scale = size / side
    matrix = crop_matrix(centre, size / scale, size)
    return warp_image(sample.image, matrix, size), matrix


def exact_part(sample: FaceSample, packing: Packing) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a photograph round a face, halved at most, and the map (2, 3) from the photograph to it.

    A crop of 256 pixels made of it is the one made of the photograph: `warp_image` halves in the same steps before it
    samples, and the part begins and ends where those steps have pixels' edges.
    """
    box = held_box(sample)
    longer, (height, width) = float((box[2:] - box[:2]).max()), sample.image.shape[:2]
    centre, half = (box[:2] + box[2:]) / 2, longer * packing.room / 2 + 4  # bilinear sampling reads a pixel more
    low = np.clip(np.floor((centre - half) / GRID) * GRID, 0, None).astype(int)
    high = np.minimum(np.ceil((centre + half) / GRID) * GRID, [width, height]).astype(int)
    if (high - low < 2).any():
        raise LabError(f"{sample.id}: the face is outside its picture of {width} x {height} pixels")
    image = sample.image[low[1] : high[1], low[0] : high[0]]
    scale = 1.0
    while longer * scale / 2 >= packing.face and scale > 1 / GRID and min(image.shape[:2]) >= 4:
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
        scale /= 2
    shift = (0.5 - low) * scale - 0.5
    return np.ascontiguousarray(image), np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


def encode(sample: FaceSample, train: bool, packing: Packing) -> tuple[dict[str, bytes], np.ndarray]:
    """Return a face as bytes, and its landmarks (L, D) float32 in the pixels of the kept picture."""
    crop = train or not packing.exact
    image, matrix = (training_crop if crop else exact_part)(sample, packing)
    if train and packing.raw:
        packed = SIZES.pack(*image.shape[:2]) + image.tobytes()
    else:
        flags = [cv2.IMWRITE_JPEG_QUALITY, packing.quality] if crop else [cv2.IMWRITE_PNG_COMPRESSION, 1]
        kind = ".jpg" if crop else ".png"
        packed = cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)[1].tobytes()
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    points = apply_affine(matrix, sample.points.astype(np.float64)).astype(np.float32)
    box = apply_affine(matrix, sample.box.astype(np.float64).reshape(2, 2)).ravel()
    known = np.ones(len(points), bool) if sample.annotated is None else sample.annotated
    pose = np.full(3, np.nan) if sample.pose is None else sample.pose
    norm = np.nan if sample.norm is None else sample.norm * scale
    parts = [points.ravel(), sample.visible, known, box, pose, [norm, float(sample.annotated is not None)]]
    numbers = np.concatenate([np.asarray(part, np.float64).ravel() for part in parts])
    words = "\n".join((sample.id, *sample.subsets)).encode("utf-8")
    return {"image": packed, "numbers": numbers.tobytes(), "words": words}, points


def decode(row: Row, landmarks: int, dims: int, raw: bool, where: str) -> FaceSample:
    """Return the face in bytes that `encode` wrote.

    Raises:
        LabError: the picture or the words are damaged, or the numbers are not those of so many landmarks.
    """
    count, total = landmarks, landmarks * (dims + 2) + OTHERS
    if len(row["numbers"]) != 8 * total:
        raise LabError(f"{where}: its numbers are not those of a face of {count} landmarks; prepare the store anew")
    numbers = np.frombuffer(row["numbers"], np.float64)
    flags = numbers[count * dims : -OTHERS] > 0  # which are visible, then which are annotated
    single = numbers[-OTHERS:].astype(np.float32)
    pose, norm = single[4:7], float(numbers[-2])
    try:
        name, *subsets = bytes(row["words"]).decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise LabError(f"{where}: its words are not UTF-8 text; copy the store again") from None
    return FaceSample(
        image=raw_picture(row["image"], where) if raw else decode_known(row["image"], where),
        points=numbers[: count * dims].astype(np.float32).reshape(count, dims),
        visible=flags[:count],
        box=single[:4],
        pose=None if np.isnan(pose).all() else pose,
        subsets=tuple(subsets),
        id=name,
        annotated=flags[count:] if numbers[-1] else None,
        norm=None if math.isnan(norm) else norm,
    )


def raw_picture(data: Buffer, where: str) -> np.ndarray:
    """Return the picture (H, W, 3) uint8 that is kept as it is, a view of the bytes.

    Raises:
        LabError: there are not so many pixels as it says.
    """
    height, width = SIZES.unpack_from(data) if len(data) >= SIZES.size else (0, 0)
    if not height * width or len(data) != SIZES.size + height * width * 3:
        raise LabError(f"{where}: {len(data)} bytes are not a picture of {width} x {height} pixels; prepare it anew")
    return np.frombuffer(data, np.uint8, offset=SIZES.size).reshape(height, width, 3)
