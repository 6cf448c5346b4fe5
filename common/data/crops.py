"""One warp per sample: crop, turn, scale, shift and flip in a single matrix; then samples become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from common.data.base import FaceDataset
from common.errors import LabError
from common.geometry import apply_affine, box_center, box_sides, crop_matrix, invert_affine
from common.schemes import LandmarkScheme
from common.types import FaceBatch, FaceSample

SIDE_RULES = ("longer", "mean", "geometric")


@dataclass(frozen=True)
class CropConfig:
    """How a box becomes a crop, and how far training may depart from it.

    Attributes:
        size: side of the crop in pixels.
        box_scale: side of the square over the side of the box.
        side_rule: side of the box: the longer one, the mean or the geometric mean of width and height.
        rotation: largest turn in degrees, either way.
        scale: largest relative change of size, either way.
        shift: largest shift of the centre, each axis, as a share of the square's side.
        flip: chance of a mirrored picture.
    """

    size: int = 256
    box_scale: float = 1.25
    side_rule: str = "longer"
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 8 or self.box_scale <= 0:
            raise LabError(f"crop size must be at least 8 and box_scale positive, got {self.size}, {self.box_scale}")
        if self.side_rule not in SIDE_RULES:
            raise LabError(f"side_rule must be one of {', '.join(SIDE_RULES)}, got {self.side_rule}")
        if not (0 <= self.flip <= 1 and 0 <= self.scale < 1):
            raise LabError(f"flip must be in [0, 1] and scale in [0, 1), got {self.flip} and {self.scale}")

    def still(self) -> CropConfig:
        """Return the same crop without augmentation."""
        return CropConfig(self.size, self.box_scale, self.side_rule)


def square_side(box: np.ndarray, rule: str) -> float:
    """Return the side in image pixels that stands for a box x0 y0 x1 y1 (4,)."""
    width, height = (float(v) for v in box_sides(box))
    match rule:
        case "longer":
            return max(width, height)
        case "mean":
            return (width + height) / 2
        case "geometric":
            return float(np.sqrt(width * height))
    raise LabError(f"side_rule must be one of {', '.join(SIDE_RULES)}, got {rule}")


def draw_matrix(box: np.ndarray, config: CropConfig, rng: np.random.Generator | None) -> tuple[np.ndarray, bool]:
    """Return the map image -> crop (2, 3) and whether it mirrors; without a generator there is no augmentation."""
    center = box_center(box).astype(np.float64)
    side = square_side(box, config.side_rule) * config.box_scale
    if rng is None:
        return crop_matrix(center, side, config.size), False
    # Always the same number of draws, so that one switched-off change does not shift the others' stream.
    turn, grow, dx, dy, coin = rng.uniform(-1, 1, 4).tolist() + [rng.uniform()]
    center = center + np.array([dx, dy]) * config.shift * side
    flip = coin < config.flip
    return crop_matrix(center, side * (1 + grow * config.scale), config.size, turn * config.rotation, flip), flip


def warp_image(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Return the (size, size, 3) uint8 crop; black outside the image; area-averaged first when it shrinks a lot.

    Bilinear sampling reads four pixels only, which aliases below half size; so the image is first halved as often as
    the map shrinks by two, with the matrix adapted to the pixel centres of the halved image.
    """
    shrink = 1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    while shrink >= 2 and min(image.shape[:2]) >= 4:
        rows, cols = image.shape[0] // 2, image.shape[1] // 2
        # INTER_AREA on an even cut: new pixel u covers old 2u and 2u + 1, whose centre is 2u + 0.5.
        image = cv2.resize(image[: 2 * rows, : 2 * cols], (cols, rows), interpolation=cv2.INTER_AREA)
        doubling = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]])
        matrix = np.concatenate([matrix[:, :2] * 2, (matrix[:, :2] @ doubling[:, 2] + matrix[:, 2])[:, None]], axis=1)
        shrink /= 2
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)


@dataclass
class CroppedFace:
    """A sample after its one warp: what the collate function stacks. Frames as in `FaceBatch`."""

    image: np.ndarray
    points: np.ndarray
    image_points: np.ndarray
    to_image: np.ndarray
    visible: np.ndarray
    norm: float
    subsets: np.ndarray
    pose: np.ndarray
    id: str


def crop_sample(
    sample: FaceSample,
    scheme: LandmarkScheme,
    config: CropConfig,
    subset_names: Sequence[str] = (),
    rng: np.random.Generator | None = None,
) -> CroppedFace:
    """Crop one face; with a generator, augment it in the same warp.

    Raises:
        LabError: the outer eye corners coincide, so that the face has no inter-ocular distance.
    """
    matrix, flip = draw_matrix(sample.box, config, rng)
    points, visible = sample.points, sample.visible
    left, right = (points[i, :2] for i in scheme.corners)
    norm = float(np.linalg.norm(left - right))
    if norm <= 0:
        raise LabError(f"{sample.id}: the outer eye corners coincide; the face has no inter-ocular distance")
    pose = np.full(3, np.nan, np.float32) if sample.pose is None else np.asarray(sample.pose, np.float32)
    if flip:
        order = list(scheme.mirror)
        points, visible = points[order], visible[order]
        pose = pose * np.array([-1, 1, -1], np.float32)
    return CroppedFace(
        image=warp_image(sample.image, matrix, config.size),
        points=apply_affine(matrix, points.astype(np.float64)).astype(np.float32),
        image_points=points.astype(np.float32),
        to_image=invert_affine(matrix).astype(np.float32),
        visible=visible,
        norm=norm,
        subsets=np.array([name in sample.subsets for name in subset_names], dtype=bool),
        pose=pose,
        id=sample.id,
    )


class CroppedFaces(Dataset[CroppedFace]):
    """A data set behind its crop.

    Args:
        faces: the data set.
        config: the crop and its augmentation.
        seed: None for no augmentation; else draws depend on (seed, epoch, index) alone, so that they are the same
            for any number of workers and after a resume.
    """

    def __init__(self, faces: FaceDataset, config: CropConfig, seed: int | None = None) -> None:
        self.faces, self.config, self.seed = faces, config, seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the stream of augmentation; seen by workers that are already running."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> CroppedFace:
        rng = None
        if self.seed is not None:
            rng = np.random.default_rng([self.seed, int(self._epoch.item()), index])
        return crop_sample(self.faces[index], self.faces.scheme, self.config, self.faces.subset_names, rng)


class Collate:
    """Stacks cropped faces to a `FaceBatch`; a class, so that worker processes can be sent it."""

    def __init__(self, subset_names: Sequence[str] = ()) -> None:
        self.subset_names = tuple(subset_names)

    def __call__(self, faces: list[CroppedFace]) -> FaceBatch:
        def stack(name: str) -> torch.Tensor:
            return torch.from_numpy(np.stack([getattr(face, name) for face in faces]))

        # A view: channels stay last in memory, which spares a copy and is what convolutions prefer.
        image = stack("image").permute(0, 3, 1, 2)
        points = stack("points")
        return FaceBatch(
            image=image,
            points=points,
            weight=torch.ones(points.shape[:2]),
            image_points=stack("image_points"),
            to_image=stack("to_image"),
            norm=torch.tensor([face.norm for face in faces], dtype=torch.float32),
            visible=stack("visible"),
            subsets=stack("subsets"),
            pose=stack("pose"),
            ids=[face.id for face in faces],
            subset_names=self.subset_names,
        )
