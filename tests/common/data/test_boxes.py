"""Boxes that faces are cropped by: the data set's, the landmarks', a detector's, a file's."""

from __future__ import annotations

import unicodedata
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.data import boxes
from common.data.__main__ import main
from common.data.boxes import HEADING, BoxedFaces, read_boxes, with_boxes
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.data.readers.w300 import W300
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.geometry import tight_box
from common.prediction.detection import Detections, overlap
from tests.conftest import SHARED, needs_shared

MDM = SHARED / "data/annotations/300w/mdm_detector_boxes.zip"


@pytest.fixture(scope="module")
def faces() -> SyntheticFaces:
    return SyntheticFaces(3)


def test_the_landmarks_box_leaves_out_what_is_not_annotated(faces: SyntheticFaces) -> None:
    sample = faces[0]
    points, known = sample.points.copy(), np.ones(len(sample.points), bool)
    known[5] = False
    points[5] = (1, 1)
    box = boxes.landmark_box(replace(sample, points=points, annotated=known))
    np.testing.assert_array_equal(box, tight_box(points[known]))
    with pytest.raises(LabError, match=r"no landmark is annotated.*--data.box gt"):
        boxes.landmark_box(replace(sample, annotated=np.zeros(68, bool)))


def test_crops_are_of_the_chosen_box_and_the_card_says_so() -> None:
    crop, drawn = CropConfig(size=64, box_scale=1.0), SyntheticConfig(test_count=2)
    given, tight = (FaceDataModule(synthetic=drawn, crop=crop, num_workers=0, box=box) for box in ("dataset", "gt"))
    assert given.crop_words() == "data set's box, longer side times 1, crop 64 px"
    assert tight.crop_words() == "tight box of the landmarks, longer side times 1, crop 64 px"
    face, sample = tight.cropped("test")[0], given.faces("test")[0]
    np.testing.assert_allclose(face.source_box, tight_box(sample.points), atol=1e-4)
    side = (face.source_box[2:] - face.source_box[:2]).max()
    np.testing.assert_allclose(np.linalg.norm(face.matrix[:, 0]), 64 / side, rtol=1e-5)
    np.testing.assert_array_equal(given.cropped("test")[0].source_box, sample.box)


@pytest.mark.parametrize("choice", ["file", "gt:x", "tight", "dataset:1"])
def test_unknown_boxes_are_refused(choice: str) -> None:
    with pytest.raises(LabError, match="--data.box must be dataset, gt, detector"):
        FaceDataModule(box=choice)


class Finder:
    """Finds each face a little off, and a surer one elsewhere; nothing in the second picture."""

    name = "dlib"

    def __init__(self, faces: SyntheticFaces) -> None:
        self.boxes = [tight_box(faces[row].points) for row in (0, 1, 1, 2)]  # a picture without a face is seen twice
        self.seen = 0

    def detect(self, image: np.ndarray) -> Detections:
        row = self.seen % 4
        self.seen += 1
        if row in (1, 2):
            return Detections.of(np.zeros((0, 4)), np.zeros(0))
        return Detections.of(np.stack([self.boxes[row] + 500, self.boxes[row] + 2]), np.array([0.99, 0.8]))


def test_detections_are_of_the_annotated_face(
    faces: SyntheticFaces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    finder = Finder(faces)
    monkeypatch.setattr(boxes, "open_detector", lambda model: finder)
    found = with_boxes(faces, "detector:dlib")
    assert isinstance(found, BoxedFaces)
    assert found.words == (
        "box of detector dlib, moved to the landmarks' (data set's box for 1 of 3 faces, which it misses)"
    )
    assert "which it misses" in capsys.readouterr().err
    for row in (0, 2):
        assert overlap(tight_box(faces[row].points), found[row].box[None])[0] > 0.6
    np.testing.assert_array_equal(found[1].box, faces[1].box)
    again = tmp_path / "boxes.csv"
    boxes.write_boxes(again, {"test": faces}, None)
    kept = with_boxes(faces, f"file:{again}")
    for row in range(3):
        np.testing.assert_allclose(kept[row].box, found[row].box, atol=1e-3)


def test_a_file_of_boxes(faces: SyntheticFaces, tmp_path: Path) -> None:
    path, name = tmp_path / "boxes.csv", "h\u00e9.jpg"
    path.write_text("id,x0,y0,x1,y1\n" + unicodedata.normalize("NFD", name) + ",1,2,30,40\n", encoding="utf-8")
    box_of, sample = read_boxes(path), replace(faces[0], id=name)
    np.testing.assert_array_equal(box_of(0, sample), [1, 2, 30, 40])
    with pytest.raises(LabError, match=r"boxes.csv: has no box of face other.*common.data boxes"):
        box_of(0, replace(sample, id="other"))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("a,1,2,3,4", r"boxes.csv:1: expected the heading id,x0,y0,x1,y1"),
        ("id,x0,y0,x1,y1\na,1,2,3", r"boxes.csv:2: expected an id and four numbers"),
        ("id,x0,y0,x1,y1\na,1,2,3,left", r"boxes.csv:2: expected an id and four numbers"),
        ("id,x0,y0,x1,y1\na,1,2,3,4\na,1,2,3,4", r"boxes.csv:3: face a is given twice"),
        ("id,x0,y0,x1,y1\na,5,2,3,4", r"boxes.csv:2: box .* has no area"),
        ("id,x0,y0,x1,y1\na,nan,2,3,4", r"boxes.csv:2: box .* is not four finite"),
        ("id,x0,y0,x1,y1\n" + "a" * 200_000, r"boxes.csv: is not CSV \(field larger"),
    ],
)
def test_a_wrong_file_of_boxes_is_one_line(lines: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(lines)
    with pytest.raises(LabError, match=told):
        read_boxes(path)


def corners(path: Path, x0: float, y0: float, x1: float, y1: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"version: 1\nn_points: 4\n{{\n{x0} {y0}\n{x0} {y1}\n{x1} {y1}\n{x1} {y0}\n}}\n")


def test_a_folder_of_corners(faces: SyntheticFaces, tmp_path: Path) -> None:
    corners(tmp_path / "lfpw/testset/image_1.pts", 2, 3, 12, 13)
    corners(tmp_path / "ibug/image_1.pts", 21, 31, 41, 51)
    corners(tmp_path / "300w/indoor_1.pts", 5, 5, 9, 9)
    box_of = read_boxes(tmp_path)
    np.testing.assert_array_equal(box_of(0, replace(faces[0], id="lfpw/testset/image_1.png")), [1, 2, 11, 12])
    np.testing.assert_array_equal(box_of(0, replace(faces[0], id="300W/01_Indoor/indoor_1.png")), [4, 4, 8, 8])
    with pytest.raises(LabError, match="image_1.* is missing, and its name is there more than once"):
        box_of(0, replace(faces[0], id="afw/image_1.jpg"))
    with pytest.raises(LabError, match="image_2.* is missing; is the folder complete"):
        box_of(0, replace(faces[0], id="afw/image_2.jpg"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match="holds no .pts file of boxes"):
        read_boxes(tmp_path / "empty")


@needs_shared
def test_mdm_s_boxes_are_of_the_faces_of_300w(tmp_path: Path) -> None:
    faces = W300(str(SHARED / "data/samples/300w"), "train", allow_missing=True)
    stems = {image.stem for image, *_ in faces.items}
    with zipfile.ZipFile(MDM) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if Path(name).stem in stems])
    boxed = with_boxes(faces, f"file:{tmp_path / 'bbs'}")
    shared = [overlap(tight_box(boxed[row].points), boxed[row].box[None])[0] for row in range(len(faces))]
    assert len(faces) >= 20 and np.median(shared) > 0.85 and min(shared) > 0.5


def test_the_command_writes_what_the_option_reads(
    faces: SyntheticFaces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    finder = Finder(faces)
    monkeypatch.setattr(boxes, "open_detector", lambda model: finder)
    monkeypatch.setattr(FaceDataModule, "faces", lambda self, split: faces)
    out = tmp_path / "boxes.csv"
    assert main(["boxes", "synthetic", "--splits", "test", "--out", str(out), "--workers", "0"]) == 0
    assert out.read_text().splitlines()[0] == ",".join(HEADING) and len(out.read_text().splitlines()) == 4
    assert "test: 3 faces, detector dlib" in capsys.readouterr().out
