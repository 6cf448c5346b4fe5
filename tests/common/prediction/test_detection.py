"""Detections: scales, turns, repeats, box maps, and the two detectors."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.geometry import apply_affine
from common.prediction import detector_file
from common.prediction.detection import (
    BoxMap,
    Detections,
    DlibDetector,
    FaceFinder,
    YuNet,
    overlap,
    roll_of,
    upright_matrix,
    without_repeats,
)
from tests.conftest import needs_shared

UPRIGHT_FIVE = np.array([[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]])


@dataclass
class BrightSpot:
    """A detector of white squares between `least` and 66 px on black, with which scales can be tested."""

    name: str = "spot"
    least: int = 10
    seen: list[tuple[int, int]] = field(default_factory=list)

    def detect(self, image: np.ndarray) -> Detections:
        self.seen.append(image.shape[:2])
        rows, columns = np.nonzero(image[..., 0] > 128)
        if not len(rows):
            return Detections.of(np.zeros((0, 4)), np.zeros(0))
        box = np.array([columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5])
        side = box[2] - box[0]
        seen = self.least <= side <= 66
        return Detections.of(box[None] if seen else np.zeros((0, 4)), np.full(int(seen), 0.95))


def square(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    return image


@pytest.mark.parametrize("turn", [0, 30, 90, 180, -120])
def test_the_roll_of_five_points(turn: float) -> None:
    angle = math.radians(turn)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])  # clockwise, y down
    assert roll_of(UPRIGHT_FIVE @ matrix.T) == pytest.approx(turn, abs=1e-6)
    assert roll_of(np.full((5, 2), np.nan)) == 0


@pytest.mark.parametrize("turn", [40.0, 90.0, 180.0, -75.0])
def test_an_upright_patch_holds_the_face_upright(turn: float) -> None:
    angle = math.radians(turn)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = (UPRIGHT_FIVE - 50) @ matrix.T + [200, 300]
    box = np.array([150.0, 250, 250, 350])
    moved = apply_affine(upright_matrix(box, turn, 2.0, 200), points)
    assert roll_of(moved) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(moved.mean(0) - 99.5, (UPRIGHT_FIVE - 50).mean(0), atol=1e-6)


def test_small_faces_of_large_pictures_and_faces_that_fill_the_frame_are_found() -> None:
    """68 px in 6000 x 4000 and close-ups were missed: one look at 640 px was all."""
    spot = BrightSpot()
    finder = FaceFinder(spot, turned=False)
    small = finder.detect(square(2000, 3000, (1400, 900, 1460, 960)))
    np.testing.assert_allclose(small.boxes, [[1399.5, 899.5, 1459.5, 959.5]], atol=3.0)  # cells of 1.9 px
    assert len(spot.seen) == 2 and max(spot.seen[1]) > 640
    close = finder.detect(square(640, 640, (200, 200, 390, 390)))
    np.testing.assert_allclose(close.boxes, [[199.5, 199.5, 389.5, 389.5]], atol=2.0)
    assert len(finder.detect(np.zeros((5, 900, 3), np.uint8))) == 0


def test_without_a_face_the_picture_is_looked_at_larger_once_more() -> None:
    """A face of 110 px in 6000 x 4000, which the detector sees from 36 px on, was missed at 33 px."""
    spot = BrightSpot(least=36)
    found = FaceFinder(spot, turned=False).detect(square(4000, 6000, (440, 330, 550, 440)))
    np.testing.assert_allclose(found.boxes, [[439.5, 329.5, 549.5, 439.5]], atol=3.0)
    assert [seen[1] for seen in spot.seen] == [640, 1800, 200, 3600]


def test_repeats_go_and_the_surest_stays() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 0, 30, 10]])
    found = without_repeats(Detections.of(boxes, np.array([0.7, 0.9, 0.8])))
    np.testing.assert_array_equal(found.boxes, boxes[[1, 2]])
    np.testing.assert_allclose(overlap(boxes[0], boxes), [1, 81 / 119, 0])


def test_a_box_map_is_fitted_and_follows_the_turn() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (20, 2))
    found = np.concatenate([corner, corner + rng.uniform(20, 60, (20, 2))], axis=1)
    wanted = BoxMap(0.01, 0.12, 1.03, 0.76)(Detections.of(found, np.linspace(1, 0.5, 20))).boxes
    fitted = BoxMap.fit(found, wanted)
    assert (fitted.right, fitted.down, fitted.width, fitted.height) == pytest.approx((0.01, 0.12, 1.03, 0.76))
    one = Detections(found[:1], np.ones(1), np.array([90.0]), np.full((1, 5, 2), np.nan))
    moved = BoxMap(down=0.5)(one).boxes[0] - found[0]
    height = found[0, 3] - found[0, 1]
    np.testing.assert_allclose(moved, [-height / 2, 0, -height / 2, 0], atol=1e-9)  # the chin points to the left


def test_a_file_that_is_no_detector_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="missing"):
        YuNet(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(LabError, match="no YuNet model"):
        YuNet(tmp_path / "text.onnx")
    for content, what in ((b"", "is empty"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
                          (b"<!DOCTYPE html><html>Quota exceeded", "is a web page")):  # fmt: skip
        (tmp_path / "text.onnx").write_bytes(content)
        with pytest.raises(LabError, match=what):
            YuNet(tmp_path / "text.onnx")


def test_a_user_without_account_and_home_fetches_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--user 4242` of a container: Path.home() raises, or is a folder that this user cannot write."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME", "FACE_ALIGNMENT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    (tmp_path / "model.onnx").write_bytes(b"model")
    monkeypatch.setattr(detector_file, "YUNET_ADDRESS", (tmp_path / "model.onnx").as_uri())
    monkeypatch.setattr(detector_file, "YUNET_SHA256", hashlib.sha256(b"model").hexdigest())
    found = detector_file.fetch_yunet()
    assert found.read_bytes() == b"model" and found.is_relative_to(detector_file.cache_folder())
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FACE_ALIGNMENT_CACHE", str(tmp_path / "file" / "cache"))  # below a file, nobody can write
    assert detector_file.fetch_yunet().read_bytes() == b"model"


def test_dlib_needs_no_file() -> None:
    pytest.importorskip("dlib")
    detector = DlibDetector()
    assert len(detector.detect(np.zeros((100, 120, 3), np.uint8))) == 0


def test_dlib_s_model_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took a quarter of the processor time of `common.predict` with one picture."""
    dlib = pytest.importorskip("dlib")
    face = np.pad(SyntheticFaces(1, seed=8)[0].image, ((60, 60), (60, 60), (0, 0)), mode="edge")
    unpack, calls = dlib.get_frontal_face_detector, list[int]()

    def counted() -> object:
        calls.append(1)
        return unpack()

    monkeypatch.setattr(dlib, "get_frontal_face_detector", counted)
    first = DlibDetector(0.1, tmp_path / "cache").detect(face)
    (kept,) = (tmp_path / "cache").iterdir()
    second = DlibDetector(0.1, tmp_path / "cache").detect(face)
    assert len(calls) == 1 and len(first) > 0
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.scores, second.scores)
    kept.write_bytes(kept.read_bytes()[:-9])  # damaged: unpacked again, and kept again
    third = DlibDetector(0.1, tmp_path / "cache").detect(face)
    np.testing.assert_array_equal(first.boxes, third.boxes)
    assert len(calls) == 2 and kept.stat().st_size > 100_000


@needs_shared
def test_opencv_says_nothing_of_its_engine(shared_dir: Path) -> None:
    model = shared_dir / "data/models/face_detection_yunet_2023mar.onnx"
    code = "import sys, common, cv2; cv2.FaceDetectorYN.create(sys.argv[1], '', (64, 64), 0.6)"
    env = {key: value for key, value in os.environ.items() if key != "OPENCV_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code, str(model)], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""


@needs_shared
def test_pictures_of_any_shape_are_looked_at(shared_dir: Path) -> None:
    finder = FaceFinder(YuNet(shared_dir / "data" / "models" / "face_detection_yunet_2023mar.onnx"))
    for shape in ((1, 1), (8, 8), (10000, 1), (1, 10000), (20, 5000)):
        assert len(finder.detect(np.full((*shape, 3), 90, np.uint8))) == 0


@needs_shared
@pytest.mark.golden
def test_faces_of_every_turn_are_found(shared_dir: Path) -> None:
    """Faces turned by 90 and 180 degrees were answered upright, with errors of 87 to 116 % and without a word."""
    from common.data.readers.crops import PreparedCrops

    for name in ("pfld_68pt_112.onnx", "peppa_slim_160_68pt.onnx"):
        with pytest.raises(LabError, match="no YuNet model"):
            YuNet(shared_dir / "data" / "models" / name)
    finder = FaceFinder(YuNet(shared_dir / "data" / "models" / "face_detection_yunet_2023mar.onnx"))
    faces = PreparedCrops(str(shared_dir / "data" / "crops_300w"), "train", scheme="ibug68")
    for index in (5, 200, 600):
        image, points = faces[index].image, faces[index].points
        for turns in range(4):
            found = finder.detect(np.ascontiguousarray(np.rot90(image, -turns)))
            wrong = (found.roll[0] - 90 * turns + 180) % 360 - 180
            assert abs(wrong) < 25, (index, turns)
        upright = finder.detect(image)
        inside = (points > upright.boxes[0, :2]).all(1) & (points < upright.boxes[0, 2:]).all(1)
        assert upright.roll[0] == 0 and inside.mean() > 0.7
