"""Readers of further formats: tiny files in the owners' form, genuine samples, and bytes that nobody expects."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from common.data.base import FaceDataset, all_faults
from common.data.readers import READERS, Wanted
from common.data.readers._mat import read_mat
from common.data.readers.aflw19 import AFLW
from common.data.readers.coco import CocoFaces
from common.data.readers.cofw68 import COFW68
from common.data.readers.lapa import LaPa
from common.data.readers.menpo import Menpo
from common.data.readers.merlrav import MerlRav
from common.data.readers.w300 import W300
from common.data.readers.w300vw import W300VW
from common.data.readers.youtube_faces import YouTubeFaces, person_of
from common.errors import LabError
from tests.conftest import SHARED, needs_shared

DATA = SHARED / "data"
SAMPLES = DATA / "samples"
P68 = np.random.default_rng(0).uniform(10, 60, (68, 2)).round(2)
P106, P19 = np.random.default_rng(1).uniform(10, 60, (106, 2)).round(2), P68[:19]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((80, 100, 3), 90, np.uint8))
    return path


def pts(path: Path, points: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(f"{x} {y}" for x, y in points)
    path.write_text(f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n")


def merlrav(root: Path) -> Path:
    points = P68.copy()
    points[3], points[4] = -points[3], (-1, -1)
    picture(root / "merl_rav_organized/left/trainset/a.jpg")
    pts(root / "merl_rav_organized/left/trainset/a.pts", points)
    return root / "merl_rav_organized/left/trainset/a.pts"


def aflw(root: Path) -> Path:
    picture(root / "train/a.jpg")
    (root / "train/a.pts").write_text("\n".join(f"{x} {y} {int(k != 2)}" for k, (x, y) in enumerate(P19)))
    (root / "train/a.rct").write_text("5 6 70 71\n")
    return root / "train/a.pts"


def w300vw(root: Path) -> Path:
    for clip in ("001", "114"):
        picture(root / clip / "imgs/000001.jpg")
        pts(root / clip / "annot/000001.pts", P68)
    return root / "001/annot/000001.pts"


def menpo(root: Path) -> Path:
    for name, count in (("a", 68), ("b", 39)):
        picture(root / "trainset" / f"{name}.jpg")
        pts(root / "trainset" / f"{name}.pts", P68[:count])
    return root / "trainset/a.pts"


def lapa(root: Path) -> Path:
    picture(root / "train/images/a.jpg")
    (root / "train/landmarks").mkdir(parents=True)
    (root / "train/landmarks/a.txt").write_text("106\n" + "\n".join(f"{x} {y}" for x, y in P106))
    return root / "train/landmarks/a.txt"


def youtube(root: Path) -> Path:
    table = root / "training_frames_keypoints.csv"
    rows = [",".join(["", *map(str, range(136))])]
    for name in ("Some_One_21.jpg", "Else_Body_11.jpg"):
        picture(root / "training" / name)
        rows.append(",".join([name, *(str(value) for value in P68.ravel())]))
    table.write_text("\n".join(rows))
    return table


def coco(root: Path) -> Path:
    picture(root / "images/a.jpg")
    triples = np.column_stack([P68, np.full(68, 2)])
    triples[3, 2], triples[4, 2] = 1, 0
    face = {"image_id": 7, "keypoints": triples.ravel().tolist(), "bbox": [5, 6, 70, 65]}
    (root / "train.json").write_text(json.dumps({"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [face]}))
    return root / "train.json"


def read_all(make: Callable[[], FaceDataset]) -> list[Any]:
    faces = make()
    return [faces[k] for k in range(len(faces))]


# Format -> what writes it, what reads it; the files that people edit or copy.
FORMATS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], FaceDataset]]] = {
    "merlrav": (merlrav, lambda root: MerlRav(str(root), "train")),
    "aflw": (aflw, lambda root: AFLW(str(root), "train")),
    "w300vw": (w300vw, lambda root: W300VW(str(root), "train")),
    "menpo": (menpo, lambda root: Menpo(str(root), "all")),
    "lapa": (lapa, lambda root: LaPa(str(root), "train")),
    "youtube_faces": (youtube, lambda root: YouTubeFaces(str(root), "train")),
    "coco": (coco, lambda root: CocoFaces(str(root), "train", "ibug68")),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_tiny_set_is_read(name: str, tmp_path: Path) -> None:
    write, read = FORMATS[name]
    write(tmp_path)
    faces = read(tmp_path)
    assert faces.scheme.num_points in (19, 68, 106) and len(faces) >= 1
    sample, shapes = faces[0], faces.shapes()
    assert sample.image.shape == (80, 100, 3) and shapes is not None
    first = {"lapa": P106, "aflw": P19}.get(name, P68) - (name in ("merlrav", "w300vw", "menpo"))
    known = np.ones(len(first), bool) if sample.annotated is None else sample.annotated
    np.testing.assert_allclose(sample.points[known], first[known], atol=1e-4)
    np.testing.assert_array_equal(np.isfinite(shapes[0]).all(-1), known)
    ids = [faces[k].id for k in range(len(faces))]
    assert len(set(ids)) == len(ids)
    assert name in READERS and len(READERS[name](str(tmp_path), Wanted("train", faces.scheme.name, "corners"))) >= 1


def test_signs_and_codes_say_what_is_visible(tmp_path: Path) -> None:
    merlrav(tmp_path)
    face = MerlRav(str(tmp_path))[0]
    assert face.annotated is not None and np.flatnonzero(~face.annotated).tolist() == [4]
    assert np.flatnonzero(~face.visible).tolist() == [3, 4] and face.subsets == ("left",)
    assert face.norm == pytest.approx(float(np.sqrt(np.prod(face.box[2:] - face.box[:2]))))
    for path in (tmp_path / "c",):
        coco(path)
        face = CocoFaces(str(path), "train", "ibug68")[0]
        assert face.annotated is not None and np.flatnonzero(~face.annotated).tolist() == [4]
        assert np.flatnonzero(~face.visible).tolist() == [3, 4] and face.box.tolist() == [5, 6, 75, 71]
    aflw(tmp_path / "a")
    face = AFLW(str(tmp_path / "a"))[0]
    assert np.flatnonzero(~face.visible).tolist() == [2] and face.box.tolist() == [5, 6, 70, 71]


def test_official_splits(tmp_path: Path) -> None:
    w300vw(tmp_path)
    assert [face.id for face in read_all(lambda: W300VW(str(tmp_path), "train"))] == ["001/imgs/000001.jpg"]
    assert W300VW(str(tmp_path), "test")[0].subsets == ("category1",)
    with pytest.raises(LabError, match="no clip of split category2"):
        W300VW(str(tmp_path), "category2")
    menpo(tmp_path / "m")
    assert Menpo(str(tmp_path / "m"), "all").profiles == 1
    assert person_of("Luis_Fonsi_21.jpg") == "Luis_Fonsi"


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("merlrav", "n_points: 68", "n_points: 67", r"a.pts:2: n_points is 67"),
        ("aflw", " 0\n", " 2\n", r"a.pts: the third number of a line says visible"),
        ("aflw", " 0\n", "\n", r"a.pts:3: expected 3 finite numbers"),
        ("w300vw", "}", "", r"000001.pts:72: ends without"),
        ("lapa", "106\n", "106\n1 2\n", r"a.txt: 107 points, expected 106"),
        ("lapa", f"{P106[0, 0]} ", "inf ", r"a.txt:2: expected 2 finite numbers"),
        ("youtube_faces", f",{P68[0, 0]},", ",nought,", r"keypoints.csv:2: could not convert"),
        ("youtube_faces", f",{P68[0, 0]},", ",", r"keypoints.csv:2: 135 numbers, expected 136"),
        ("youtube_faces", "One_21", "One_22", r"keypoints.csv:2: photograph .*Some_One_22.jpg is missing"),
        ("coco", '"image_id": 7', '"image_id": 8', r"train.json: annotations\[0\]: image_id 8 is not among"),
        ("coco", f"[{P68[0, 0]}, ", "[", r"annotations\[0\]: 203 numbers in keypoints"),
        ("coco", '"bbox": [5, 6, 70, 65]', '"bbox": [5, 6, 0, 65]', r"annotations\[0\]: box .* has no area"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(name: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    write, read = FORMATS[name]
    path = write(tmp_path)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LabError, match=message):
        read(tmp_path)
    if name != "coco":  # the others read face by face, and go on where all faults are wanted
        with all_faults() as faults:
            read(tmp_path)
        assert len(faults) == 1


def repeat_youtube(path: Path) -> None:
    path.write_text(path.read_text() + "\n" + path.read_text().splitlines()[1])


def repeat_coco(path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": content["annotations"] * 2}))


def spiga_list(root: Path) -> Path:
    picture(root / "a.jpg")
    (root / "db_info.json").write_text(json.dumps({"ldm_ids": list(range(68))}))
    face = {"imgpath": "a.jpg", "bbox": [5, 6, 70, 65], "ids": list(range(68)), "landmarks": P68.tolist(),
            "visible": [1] * 68}  # fmt: skip
    (root / "train.json").write_text(json.dumps([face]))
    return root / "train.json"


def repeat_spiga(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) * 2))


@pytest.mark.parametrize(
    ("name", "write", "repeat", "message"),
    [
        ("youtube_faces", youtube, repeat_youtube, r"keypoints.csv:4: is the same face as .*keypoints.csv:2"),
        ("coco", coco, repeat_coco, r"annotations\[1\]: is the same face as .*annotations\[0\]"),
        ("json", spiga_list, repeat_spiga, r"train.json: face 1: is the same face as .*train.json: face 0"),
    ],
)
def test_a_face_that_a_list_has_twice_is_told(
    name: str, write: Callable[[Path], Path], repeat: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    """Both were read: the face counted twice in training, and in the mean of a test."""
    path, wanted = write(tmp_path), Wanted("train", "ibug68", "corners")
    before = len(READERS[name](str(tmp_path), wanted))
    repeat(path)
    with pytest.raises(LabError, match=message):
        READERS[name](str(tmp_path), wanted)
    with all_faults() as faults:
        assert len(READERS[name](str(tmp_path), wanted)) == before
    assert len(faults) == 1


def test_lists_by_line_end_alike(tmp_path: Path) -> None:
    youtube(tmp_path)
    table = tmp_path / "training_frames_keypoints.csv"
    table.write_text(table.read_text() + '\n"open')
    with pytest.raises(LabError, match="is not valid CSV"):
        YouTubeFaces(str(tmp_path), "train")


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_but_a_laberror_comes_out(name: str, tmp_path: Path, data: st.DataObject) -> None:
    write, read = FORMATS[name]
    root = tmp_path / "fuzz"
    if root.exists():
        shutil.rmtree(root)
    path = write(root)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    piece, gone = data.draw(st.binary(max_size=4)), data.draw(st.sampled_from([0, 1, 4, len(whole)]))
    path.write_bytes(whole[:at] + piece + whole[at + gone :])
    try:
        read(root)
    except LabError:
        return


# MATLAB files.


def mat_bytes(compressed: bool) -> bytes:
    target = io.BytesIO()
    content = {"pt3d_68": np.arange(204, dtype=np.float32).reshape(3, 68), "Pose_Para": np.linspace(-1, 1, 7)[None],
               "roi": np.array([[1, 2, 3, 4]], np.int16), "Occ": np.array([[1, 0]], np.uint8),
               "word": "text"}  # fmt: skip
    savemat(target, content, do_compression=compressed)
    return target.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_arrays_are_as_scipy_reads_them(compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(mat_bytes(compressed))
    found = read_mat(path)
    assert set(found) == {"pt3d_68", "Pose_Para", "roi", "Occ"}
    for name, value in loadmat(path).items():
        if name in found:
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == value.dtype


@pytest.mark.parametrize("compressed", [False, True])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_of_a_matlab_file_is_no_end(compressed: bool, tmp_path: Path, data: st.DataObject) -> None:
    """SciPy's reader ends the process (SIGSEGV, SIGBUS) on some of these."""
    whole = bytearray(mat_bytes(compressed))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.mat"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    try:
        read_mat(path)
    except LabError:
        return


def test_a_matlab_file_of_the_other_version_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file["pt2d"] = np.zeros(3)
    with pytest.raises(LabError, match="is a MATLAB 7.3 file, where version 5 is expected"):
        read_mat(path)


# Genuine files.


@needs_shared
def test_genuine_matlab_files() -> None:
    names = ["300wlp/IBUG/IBUG_image_008_1_0.mat", "aflw2000/AFLW2000/image00081.mat"]
    names += ["cofw/COFW68_Data/test_annotations/421_points.mat"]
    for name in names:
        found, theirs = read_mat(SAMPLES / name), loadmat(SAMPLES / name)
        assert set(found) == {key for key in theirs if not key.startswith("__")}
        assert all(np.array_equal(value, theirs[key]) for key, value in found.items())


@needs_shared
def test_genuine_merlrav() -> None:
    faces = [*read_all(lambda: MerlRav(str(SAMPLES / "merlrav"), "train"))]
    faces += read_all(lambda: MerlRav(str(SAMPLES / "merlrav"), "test"))
    assert len(faces) == 5 and {face.subsets for face in faces} == {("frontal",), ("left",), ("right",)}
    for face in faces:
        height, width = face.image.shape[:2]
        assert face.box[0] > 0 and face.box[1] > 0 and face.box[2] < width and face.box[3] < height
    hidden = [face for face in faces if face.annotated is not None]
    assert {"left", "right"} <= {face.subsets[0] for face in hidden}


@needs_shared
def test_all_genuine_merlrav_labels(tmp_path: Path) -> None:
    wanted = {"frontal": (8778, 2195), "left": (2080, 521), "lefthalf": (1180, 295), "right": (2190, 548),
              "righthalf": (1221, 306)}  # fmt: skip
    with tarfile.open(DATA / "annotations/merlrav/merl_rav_labels.tar.xz") as archive:
        names = [entry.name for entry in archive if entry.name.endswith(".pts")]
    for pose, counts in wanted.items():
        for split, count in zip(("trainset", "testset"), counts, strict=True):
            assert sum(name.startswith(f"merl_rav_labels/{pose}/{split}/") for name in names) == count
    assert len(names) == 19314


@needs_shared
def test_genuine_aflw_and_300vw_and_private_300w() -> None:
    faces = read_all(lambda: AFLW(str(SAMPLES / "aflw"), "all"))
    assert len(faces) == 3 and all(face.points.shape == (19, 2) for face in faces)
    assert not all(face.visible.all() for face in faces)
    assert len(W300VW(str(SAMPLES / "300vw"), "train")) == 2
    assert {face.subsets for face in read_all(lambda: W300VW(str(SAMPLES / "300vw"), "test"))} == {("category1",)}
    private = W300(str(SAMPLES / "300w"), "private", allow_missing=True)
    assert len(private) == 1 and private[0].subsets == ("indoor",)


@needs_shared
@pytest.mark.parametrize(
    ("folder", "name", "scheme"),
    [("cofw/mmpose", "test_cofw", "cofw29"), ("lapa106", "lapa_106", "lapa106"),
     ("aflw", "aflw19_mmpose_image04476", "aflw19"), ("300wlp/mmpose_images", "test_300wlp", "ibug68")],
)  # fmt: skip
def test_genuine_coco_files(folder: str, name: str, scheme: str) -> None:
    for face in read_all(lambda: CocoFaces(str(SAMPLES / folder), name, scheme, "box")):
        height, width = face.image.shape[:2]
        assert face.visible.any() and (face.points[face.visible] < [width, height]).all()


@needs_shared
def test_genuine_cofw68(tmp_path: Path) -> None:
    faces = DATA / "annotations/cofw/cofw68_benchmark.zip"
    with zipfile.ZipFile(faces) as archive:
        boxes = archive.read("COFW68_Data/cofw68_test_bboxes.mat")
        archive.extract("COFW68_Data/test_annotations/1_points.mat", tmp_path)
    shutil.copy(SAMPLES / "cofw/COFW_test_color_2of507.mat", tmp_path / "COFW_test_color.mat")
    (tmp_path / "COFW68_Data/cofw68_test_bboxes.mat").write_bytes(boxes)
    found = COFW68(str(tmp_path))
    assert len(found) == 1 and found[0].id == "cofw68/1" and found[0].points.shape == (68, 2)
    shutil.copy(SAMPLES / "cofw/COFW68_Data/test_annotations/421_points.mat", tmp_path / "COFW68_Data/test_annotations")
    with pytest.raises(LabError, match=r"421_points.mat: face 421, but .* has 2"):
        COFW68(str(tmp_path))
    hidden = read_mat(SAMPLES / "cofw/COFW68_Data/test_annotations/421_points.mat")["Occ"]
    assert 0 < hidden.sum() < 68
