"""From a picture and detections to faces with landmarks: what prediction, video and the demo page share.

Networks are trained on upright faces. A face that is turned further than they know is therefore cut out upright first,
and its points are brought back. Frames: image pixels, centre of the first pixel at (0, 0); angles in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.data.crops import warp_image
from common.errors import LabError
from common.geometry import apply_affine, invert_affine, tight_box
from common.prediction.confidence import LARGEST_TRUSTED
from common.prediction.detection import LEVEL_ROLL, Detections, upright_matrix
from common.prediction.head_pose import fit_pose, five_points_pose
from common.prediction.inference import Predictor

PATCH_SCALE = 3.0  # side of the upright patch over the box's longer side: room for any method's crop
LARGEST_PATCH = 1024  # side of that patch, pixels
SMALL_SIDE = 32.0  # box sides below this give the network a blurred face
FAR_YAW = 60.0  # degrees from which half of the face is hidden
FAR_YAW_OF_FIVE = 67.0  # the same by a detector's five points, which make yaws of 30 degrees and more 6 too large
DECIMALS = 3


@dataclass(frozen=True)
class Face:
    """One face with landmarks.

    Attributes:
        box: (4,) x0 y0 x1 y1, image pixels, in the frame turned by `roll` about the box's centre.
        roll: degrees clockwise by which the face was turned before the network saw it; 0 for an upright one.
        points: (L, 2) x, y, image pixels.
        score: (L,) confidence of the method, larger is surer; None if it gives none.
        pose: (3,) yaw, pitch, roll in degrees (frame of `common.pose`), by the method's own head or fitted to the
            points; None where neither is known.
        translation: (3,) x right, y down, z away from the viewer: where the head's origin lies
            from the camera of the method's square crop (focal length 1.5 times its side, axis through its middle),
            in units of its mean face; None but for a method's own head.
        detector_score: the detector's score in 0..1, or None for a given box.
        expected_error: mean error of the points to be expected, percent of the distance of the outer eye corners; None
            where it is not known what the method's scores mean (see `common.prediction.confidence`).
        point_errors: (L,) the same for each point.
        warnings: what the prediction may suffer from, in words.
    """

    box: np.ndarray
    roll: float
    points: np.ndarray
    score: np.ndarray | None = None
    pose: np.ndarray | None = None
    translation: np.ndarray | None = None
    detector_score: float | None = None
    expected_error: float | None = None
    point_errors: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return what is written to files: plain numbers with named angles."""
        record: dict[str, Any] = {"box": rounded(self.box), "points": rounded(self.points)}
        if self.roll:
            record["turned"] = round(self.roll, 1)
        if self.score is not None:
            record["score"] = rounded(self.score)
        if self.pose is not None:
            record["pose"] = dict(zip(("yaw", "pitch", "roll"), rounded(self.pose), strict=True))
        if self.translation is not None:
            record["translation"] = dict(zip("xyz", rounded(self.translation), strict=True))
        if self.detector_score is not None:
            record["detector_score"] = round(self.detector_score, DECIMALS)
        if self.expected_error is not None and self.point_errors is not None:
            record["expected_error"] = round(self.expected_error, 2)
            record["point_errors"] = np.round(self.point_errors, 2).tolist()
        if self.warnings:
            record["warnings"] = list(self.warnings)
        return record


def rounded(values: np.ndarray) -> Any:
    """Return an array as nested lists of numbers with three decimals."""
    return np.round(np.asarray(values, np.float64), DECIMALS).tolist()


def find_landmarks(predictor: Predictor, image: np.ndarray, found: Detections, where: str) -> list[Face]:
    """Return the faces of a picture in the detections' order.

    Args:
        predictor: the method.
        image: (H, W, 3) uint8, RGB.
        found: boxes that the method expects (see `common.prediction.detection.BoxMap`), perhaps turned.
        where: name of the picture for messages.

    Raises:
        LabError: the network's points are not finite; or see `Predictor`.
    """
    faces: dict[int, Face] = {}
    level = [row for row in range(len(found)) if abs(found.roll[row]) <= LEVEL_ROLL]
    if level:
        for row, face in zip(level, _upright(predictor, image, found.boxes[level], where), strict=True):
            faces[row] = face
    for row in range(len(found)):
        if row not in faces:
            faces[row] = _turned(predictor, image, found.boxes[row], float(found.roll[row]), where)
    yaw = five_points_pose(found.five)[:, 0]
    return [_judged(faces[row], image, float(found.scores[row]), float(yaw[row])) for row in range(len(found))]


def _upright(predictor: Predictor, image: np.ndarray, boxes: np.ndarray, where: str) -> list[Face]:
    prediction = predictor(image, boxes)
    points = prediction.points.double().cpu().numpy()
    if not np.isfinite(points).all():
        raise LabError(f"{where}: the network gave no finite landmarks; are the weights trained?")
    score = None if prediction.score is None else prediction.score.double().cpu().numpy()
    own, moved = prediction.pose, prediction.translation
    pose = fit_pose(points[..., :2], predictor.scheme) if own is None else own.double().cpu().numpy()
    faces = [
        Face(
            box=np.asarray(boxes[row], float),
            roll=0.0,
            points=points[row],
            score=None if score is None else score[row],
            pose=None if pose is None else pose[row],
            translation=None if moved is None else moved[row].double().cpu().numpy(),
        )
        for row in range(len(boxes))
    ]
    if score is None or predictor.confidence is None:
        return faces
    expected = zip(faces, *predictor.confidence.expected(score), strict=True)
    return [replace(face, expected_error=float(error), point_errors=errors) for face, error, errors in expected]


def _turned(predictor: Predictor, image: np.ndarray, box: np.ndarray, roll: float, where: str) -> Face:
    longer = float((box[2:] - box[:2]).max())
    size = int(np.clip(round(longer * PATCH_SCALE), 16, LARGEST_PATCH))
    matrix = upright_matrix(box, roll, PATCH_SCALE, size)
    half = (box[2:] - box[:2]) / 2 * size / (longer * PATCH_SCALE)
    center = apply_affine(matrix, (box[:2] + box[2:]) / 2)
    inside = np.concatenate([center - half, center + half]).reshape(1, 4)
    (face,) = _upright(predictor, warp_image(image, matrix, size), inside, where)
    pose, moved = face.pose, face.translation
    if pose is not None:
        pose = pose + np.array([0.0, 0.0, roll])
        pose[2] = (pose[2] + 180) % 360 - 180
    if moved is not None:  # turned back about the crop's middle, where its camera looks
        cos, sin = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
        moved = np.array([cos * moved[0] - sin * moved[1], sin * moved[0] + cos * moved[1], moved[2]])
    points = apply_affine(invert_affine(matrix), face.points)
    return replace(face, box=np.asarray(box, float), roll=roll, points=points, pose=pose, translation=moved)


def _judged(face: Face, image: np.ndarray, detector_score: float, detector_yaw: float) -> Face:
    """Return the face with the detector's score and warnings of what the network was not trained for.

    Args:
        face: with its points.
        image: (H, W, 3).
        detector_score: NaN for a given box.
        detector_yaw: degrees, by the detector's five points; NaN where there are none.
    """
    height, width = image.shape[:2]
    warnings = []
    if face.roll:
        warnings.append(f"turned by {face.roll:.0f} degrees")
    if (face.box[2:] - face.box[:2]).min() < SMALL_SIDE:
        warnings.append("small")
    x0, y0, x1, y1 = tight_box(face.points).tolist()
    if x0 < -0.5 or y0 < -0.5 or x1 > width - 0.5 or y1 > height - 0.5:
        warnings.append("partly outside the picture")
    if (face.pose is not None and abs(face.pose[0]) > FAR_YAW) or abs(detector_yaw) > FAR_YAW_OF_FIVE:
        warnings.append("profile: the far half of the face is hidden")
    if face.expected_error is not None and face.expected_error > LARGEST_TRUSTED:
        warnings.append(f"expected error {face.expected_error:.1f} %, above {LARGEST_TRUSTED:g}")
    score = detector_score if np.isfinite(detector_score) else None
    return replace(face, detector_score=score, warnings=tuple(warnings))
