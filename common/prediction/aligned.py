"""Faces cut out in a standard position: eyes and mouth at the places that face recognition networks expect."""

from __future__ import annotations

import numpy as np

from common.data.crops import warp_image
from common.errors import LabError
from common.geometry import fit_similarity
from common.schemes import LandmarkScheme

# Centres of the left and right eye and corners of the mouth in a crop of 112 px: the template that ArcFace (Deng et
# al., CVPR 2019) and its followers use, without the tip of the nose, which moves with the head's yaw.
TEMPLATE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [41.5493, 92.3655], [70.7299, 92.2041]])
TEMPLATE_SIDE = 112


def eyes_and_mouth(points: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Return the centres of the left and right eye and the mouth's corners (4, 2) of points (L, 2), same frame.

    Raises:
        LabError: the scheme has no curve of the mouth.
    """
    names = {curve.name: curve for curve in scheme.curves}
    mouth = names.get("outer_lip_upper") or names.get("mouth")
    if mouth is None:
        raise LabError(f"scheme {scheme.name} has no mouth; faces cannot be aligned by it")
    left, right = (points[list(eye), :2].mean(axis=0) for eye in scheme.pupils)
    return np.stack([left, right, points[mouth.points[0], :2], points[mouth.points[-1], :2]])


def aligned_crop(image: np.ndarray, points: np.ndarray, scheme: LandmarkScheme, side: int) -> np.ndarray:
    """Return the face (side, side, 3) uint8, moved, turned and scaled so that eyes and mouth are where TEMPLATE says.

    Args:
        image: (H, W, 3) uint8, RGB.
        points: (L, 2), image pixels.
        scheme: of the points.
        side: of the crop, pixels.
    """
    scale = side / TEMPLATE_SIDE
    target = (TEMPLATE + 0.5) * scale - 0.5  # pixel areas are scaled on each other
    return warp_image(image, fit_similarity(eyes_and_mouth(points, scheme), target), side)
