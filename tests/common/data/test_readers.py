"""Readers on genuine sample files, and what they say of files that are wrong."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from common.data.readers._pts import read_pts
from common.data.readers.cofw import COFW
from common.data.readers.crops import PreparedCrops
from common.data.readers.records import read_index
from common.data.readers.w300 import W300
from common.data.readers.wflw import LISTS, WFLW
from common.errors import LabError
from tests.conftest import SHARED, needs_shared

SAMPLES, DATA = SHARED / "data" / "samples", SHARED / "data"


def write_picture(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((80, 100, 3), value, np.uint8))


def pts_text(points: np.ndarray) -> str:
    rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points)
    return f"version: 1\nn_points:  {len(points)}\n{{\n{rows}\n}}\n"


POINTS68 = np.random.default_rng(0).uniform(10, 60, (68, 2)).round(3)


@pytest.fixture
def w300_tree(tmp_path: Path) -> Path:
    for part in ("helen/testset", "lfpw/testset", "ibug"):
        write_picture(tmp_path / part / "a_1.png")
        (tmp_path / part / "a_1.pts").write_text(pts_text(POINTS68))
    return tmp_path


def test_w300_reads_its_tree_zero_based(w300_tree: Path) -> None:
    data = W300(str(w300_tree), "full")
    assert len(data) == 3 and data.subset_names == ("common", "challenge")
    assert [data[i].subsets for i in range(3)] == [("common",), ("common",), ("challenge",)]
    np.testing.assert_allclose(data[0].points, POINTS68 - 1, atol=1e-4)
    assert data[0].image.shape == (80, 100, 3) and data[2].id == "ibug/a_1.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (pts_text(POINTS68[:67]), r"a_1.pts:2: n_points is 67, but the scheme has 68"),
        (pts_text(POINTS68).replace("}", ""), "ends without"),
        (pts_text(POINTS68).replace(f"{POINTS68[4, 0]:.3f}", "nan", 1), "a_1.pts:8: expected two finite numbers"),
        (pts_text(POINTS68).replace(f"{POINTS68[4, 0]:.3f}", "ten", 1), "a_1.pts:8: expected 'x y'"),
        (pts_text(POINTS68).split("{\n")[1], "a_1.pts:1: expected the header"),
        (
            pts_text(POINTS68).replace(f"{POINTS68[0, 0]:.3f} {POINTS68[0, 1]:.3f}\n", "", 1),
            "67 landmarks, expected 68",
        ),
    ],
)
def test_w300_names_file_and_line(w300_tree: Path, text: str, message: str) -> None:
    (w300_tree / "ibug" / "a_1.pts").write_text(text)
    with pytest.raises(LabError, match=message):
        W300(str(w300_tree), "full")


def test_w300_skips_nothing_silently(w300_tree: Path) -> None:
    with pytest.raises(LabError, match="01_Indoor: folder is missing"):
        W300(str(w300_tree), "private")
    with pytest.raises(LabError, match="splits train, common"):
        W300(str(w300_tree), "test")
    write_picture(w300_tree / "ibug" / "b_1.png")
    with pytest.raises(LabError, match="b_1.png: its .pts file is missing"):
        W300(str(w300_tree), "challenge")
    (w300_tree / "ibug" / "b_1.png").unlink()
    (w300_tree / "ibug" / "a_1.png").write_bytes(b"no picture")
    with pytest.raises(LabError, match="a_1.png: the image does not decode"):
        W300(str(w300_tree), "challenge")[0]
    (w300_tree / "ibug" / "a_1.png").rename(w300_tree / "ibug" / "cafe\u0301.png")
    (w300_tree / "ibug" / "a_1.pts").rename(w300_tree / "ibug" / "caf\u00e9.pts")
    with pytest.raises(LabError, match="is missing; caf.* looks the same in another Unicode form, rename one of them"):
        W300(str(w300_tree), "challenge")


def test_headerless_points_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "a.pts"
    path.write_text("1 2\n3 4\n")
    np.testing.assert_array_equal(read_pts(path, 2, headerless=True), [[1, 2], [3, 4]])


def wflw_line(
    points: np.ndarray, name: str = "1--A/a.jpg", box: str = "10 10 60 60", flags: str = "1 0 0 0 1 0"
) -> str:
    return " ".join(f"{v:.6f}" for v in points.ravel()) + f" {box} {flags} {name}"


@pytest.fixture
def wflw_tree(tmp_path: Path) -> Path:
    write_picture(tmp_path / "WFLW_images/1--A/a.jpg")
    (tmp_path / LISTS).mkdir(parents=True)
    return tmp_path


POINTS98 = np.random.default_rng(1).uniform(10, 60, (98, 2)).round(6)


def test_wflw_reads_a_list(wflw_tree: Path) -> None:
    (wflw_tree / LISTS / "list_98pt_rect_attr_test.txt").write_text(
        wflw_line(POINTS98[::-1]) + "\n" + wflw_line(POINTS98)  # two faces of a photograph
    )
    data = WFLW(str(wflw_tree), "test")
    sample = data[1]
    assert len(data) == 2 and sample.subsets == ("pose", "occlusion") and sample.id == "00001/1--A/a.jpg"
    np.testing.assert_allclose(sample.points, POINTS98, atol=1e-5)
    assert sample.box.tolist() == [10, 10, 60, 60]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (wflw_line(POINTS98[:97]), "test.txt:2: 205 fields, expected 207"),
        (wflw_line(POINTS98, flags="1 0 0 0 1"), "test.txt:2: 206 fields, expected 207"),
        (wflw_line(POINTS98).replace(" ", ",", 1), "test.txt:2: 206 fields, expected 207"),
        (wflw_line(POINTS98, box="10 10 10 60"), "test.txt:2: box .* has no area"),
        (wflw_line(POINTS98, flags="1 0 2 0 1 0"), "test.txt:2: the six attributes"),
        (wflw_line(POINTS98, name="1--A/none.jpg"), "test.txt:2: photograph .*none.jpg is missing"),
        (wflw_line(POINTS98 * np.nan), "test.txt:2: landmark 0 is not finite"),
        (wflw_line(POINTS98).replace(" 10 10 60 60 ", " ten 10 60 60 "), "test.txt:2: could not convert"),
        (wflw_line(POINTS98, box="9 9 60 60"), "test.txt:2: is the same face as .*test.txt:1; remove one of them"),
    ],
)
def test_wflw_names_the_line(wflw_tree: Path, line: str, message: str) -> None:
    (wflw_tree / LISTS / "list_98pt_rect_attr_test.txt").write_text(wflw_line(POINTS98) + "\n" + line + "\n")
    with pytest.raises(LabError, match=message):
        WFLW(str(wflw_tree), "test")


def write_cofw(path: Path, phis: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    image = np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)
    with h5py.File(path, "w") as file:
        file["picture"] = image.transpose(2, 1, 0)
        cell = file.create_dataset("IsT", (1, len(phis)), dtype=h5py.ref_dtype)
        for column in range(len(phis)):
            cell[0, column] = file["picture"].ref
        file["phisT"], file["bboxesT"] = phis.T, boxes.T
    return image


def test_cofw_reads_hdf5(tmp_path: Path) -> None:
    phis = np.concatenate([np.arange(1, 30), np.arange(2, 31), np.arange(29) % 2])[None].astype(float)
    image = write_cofw(tmp_path / "COFW_test_color.mat", phis, np.array([[3.0, 4, 10, 5]]))
    sample = COFW(str(tmp_path), "test")[0]
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.points, np.stack([np.arange(29), np.arange(1, 30)], 1))
    assert sample.visible.tolist() == [i % 2 == 0 for i in range(29)] and sample.box.tolist() == [2, 3, 12, 8]


def test_cofw_errors(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="COFW_test_color.mat: missing"):
        COFW(str(tmp_path), "test")
    (tmp_path / "COFW_test_color.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(LabError, match="is a MATLAB 5 file, where version 7.3 is expected; save it with -v7.3"):
        COFW(str(tmp_path), "test")
    (tmp_path / "COFW_test_color.mat").write_bytes(b"\x89HDF")
    with pytest.raises(LabError, match="no MATLAB 7.3 .* copy it again"):
        COFW(str(tmp_path), "test")
    phis = np.ones((2, 87))
    phis[1, 3] = np.inf
    write_cofw(tmp_path / "COFW_test_color.mat", phis, np.array([[3.0, 4, 10, 5]] * 2))
    with pytest.raises(LabError, match="face 2: landmark 3 is not finite"):
        COFW(str(tmp_path), "test")


def write_crops(folder: Path, points: np.ndarray, names: list[str] | None = None) -> None:
    names = names or [f"{i}.jpg" for i in range(len(points))]
    data = cv2.imencode(".jpg", np.full((64, 64, 3), 120, np.uint8))[1].tobytes()
    with zipfile.ZipFile(folder / "test.zip", "w") as archive:
        for i in range(len(points)):
            archive.writestr(f"{i}.jpg", data)
    np.savez(folder / "test.npz", filename=names, landmarks_crop=points, subset=["x"] * len(points))


def test_prepared_crops(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(5, 60, (3, 68, 2))
    write_crops(tmp_path, points)
    data = PreparedCrops(str(tmp_path), "test")
    assert len(data) == 3 and data[2].image.shape == (64, 64, 3) and data[2].subsets == ("x",)
    np.testing.assert_allclose(data[2].points, points[2], atol=1e-5)
    write_crops(tmp_path, points, ["0.jpg", "1.jpg", "9.jpg"])
    with pytest.raises(LabError, match="1 images of the table are missing, first 9.jpg"):
        PreparedCrops(str(tmp_path), "test")
    write_crops(tmp_path, points, ["0.jpg", "1.jpg", "0.jpg"])
    assert len(PreparedCrops(str(tmp_path), "test")) == 3, "equal names are not equal faces"
    write_crops(tmp_path, points[[0, 1, 0]], ["0.jpg", "1.jpg", "0.jpg"])
    with pytest.raises(LabError, match="row 2: is the same face as .*row 0"):
        PreparedCrops(str(tmp_path), "test")
    write_crops(tmp_path, points[:, :67])
    with pytest.raises(LabError, match="row 0: 67 landmarks, but scheme ibug68 has 68"):
        PreparedCrops(str(tmp_path), "test")
    points[1, 4] = np.nan
    write_crops(tmp_path, points)
    with pytest.raises(LabError, match="row 1: landmark 4 is not finite"):
        PreparedCrops(str(tmp_path), "test")
    np.savez(tmp_path / "test.npz", filename=np.array([object()]), landmarks_crop=points)
    with pytest.raises(LabError, match="pickled objects"):
        PreparedCrops(str(tmp_path), "test")
    with pytest.raises(LabError, match="missing; a split"):
        PreparedCrops(str(tmp_path), "train")


@pytest.mark.parametrize(
    ("lines", "message"),
    [("0\t0\n1\t40\n0\t80\n", "few.idx:3: key 0 is that of line 1"),
     ("0\t0\n1\t40\n2\t40\n", "few.idx:3: offset 40 is that of line 2; remove one of them")],
)  # fmt: skip
def test_a_record_that_an_index_has_twice_is_told(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "few.idx").write_text(lines)
    with pytest.raises(LabError, match=message):
        read_index(tmp_path / "few.idx")


@needs_shared
def test_genuine_files() -> None:
    counts = {"train": 24, "full": 16, "private": 1}
    for split, count in counts.items():
        data = W300(str(SAMPLES / "300w"), split, allow_missing=True)
        assert len(data) == count
        sample = data[count - 1]
        assert sample.box[2] < sample.image.shape[1] and sample.box[3] < sample.image.shape[0]
    wflw = WFLW(str(SAMPLES / "wflw"), "test")
    assert len(wflw) == 3 and all(len(wflw[i].points) == 98 for i in range(3))
    cofw = COFW(str(SAMPLES / "cofw"), str(SAMPLES / "cofw/COFW_test_color_2of507.mat"))
    assert len(cofw) == 2 and cofw[0].image.shape == (322, 235, 3)


@needs_shared
def test_genuine_crops_have_the_published_counts() -> None:
    for split, count in (("train", 1007), ("val", 126), ("test", 330)):
        assert len(PreparedCrops(str(DATA / "crops_300w"), split)) == count
    faces = PreparedCrops(str(DATA / "crops_youtube_faces"), "val")
    assert len(faces) == 438 and faces[5].image.shape == (256, 256, 3)
