"""Faces of the user's own: the table, the list, and what is said of a line that is wrong."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.readers.own_faces import OwnFaces, split_of
from common.data.shapes import training_shapes
from common.errors import LabError

SCHEME = '{"name": "face4", "points": ["a", "b", "c", "d"], "normaliser": ["a", "b"]}'
TABLE = """\
image,split,a_x,a_y,b_x,b_y,c_x,c_y,d_x,d_y,d_visible,subset
one.png,train,1,2,30,2,3,40,5,6.5,0,hard dark
one.png,train,2,2,31,2,4,40,6,6.5,,
two.png,test,1,2,30,2,3,40,,,,
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("one.png", "two.png"):
        cv2.imwrite(str(tmp_path / name), np.full((50, 60, 3), 90, np.uint8))
    (tmp_path / "faces.csv").write_text(TABLE)
    return tmp_path


def read(root: Path, split: str = "train", norm: str = "corners") -> OwnFaces:
    return OwnFaces(str(root), split, SCHEME, norm)


def test_a_table_is_read(root: Path) -> None:
    faces = read(root)
    assert len(faces) == 2 and faces.subset_names == ("hard", "dark")
    face = faces[0]
    np.testing.assert_array_equal(face.points, np.array([[1, 2], [30, 2], [3, 40], [5, 6.5]], np.float32))
    assert face.visible.tolist() == [True, True, True, False] and face.subsets == ("hard", "dark")
    assert face.box.tolist() == [1, 2, 30, 40] and face.norm == 29 and face.id == "00000/one.png"
    test = read(root, "test")
    annotated = test[0].annotated
    assert annotated is not None and annotated.tolist() == [True, True, True, False]
    assert len(read(root, "val")) == 0


def test_a_list_is_the_same(root: Path) -> None:
    table = read(root)
    points = {"a": [1, 2], "b": [30, 2], "c": [3, 40], "d": [5, 6.5]}
    value = {"image": "one.png", "points": points, "hidden": ["d"], "split": "train", "subset": ["hard", "dark"]}
    (root / "faces.csv").unlink()
    (root / "faces.json").write_text(json.dumps([value]))
    one, other = table[0], read(root)[0]
    np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(one.visible, other.visible)
    np.testing.assert_array_equal(one.box, other.box)


def test_without_a_split_photographs_keep_theirs(root: Path) -> None:
    lines = [line.replace("train", "").replace("test", "") for line in TABLE.splitlines()]
    (root / "faces.csv").write_text("\n".join(lines))
    assert sum(len(read(root, split)) for split in ("train", "val", "test")) == 3
    shares = [split_of(f"{k}.jpg") for k in range(1000)]
    assert 60 < shares.count("test") < 140 and 60 < shares.count("val") < 140


def test_gaps_are_filled_for_the_mean_face(root: Path) -> None:
    (root / "faces.csv").write_text(TABLE.replace("6,6.5", ","))
    shapes = training_shapes(read(root))
    assert shapes.shape == (2, 4, 2) and np.isfinite(shapes).all()
    np.testing.assert_allclose(shapes[1, 3], [6, 6.5], atol=0.5)  # the same face, moved by one pixel
    with pytest.raises(LabError, match="point d is annotated in no face"):
        training_shapes(read(root, "test"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("one.png,train,2,2", "one.png,train,2", r"faces.csv:3: 11 fields, but the heading has 12"),
        ("a_y,", "", r"faces.csv:1: column 'a_y' is missing"),
        ("d_visible", "e_x", r"faces.csv:1: column 'e_x' is not known to scheme face4"),
        ("a_y,b_x", "a_y,a_y,b_x", r"faces.csv:1: column 'a_y' is given twice"),
        ("5,6.5,0", "5,six,0", r"faces.csv:2: d_y is no number: 'six'"),
        ("5,6.5,0", "5,,0", r"faces.csv:2: d_y is no number: ''"),
        ("5,6.5,0", "5,nan,0", r"faces.csv:2: points.d\[1\]: Input should be a finite number"),
        ("5,6.5,0", "5,1e300,0", r"faces.csv:2: landmark 3 is not finite"),
        ("5,6.5,0", "5,6.5,2", r"faces.csv:2: d_visible must be 1, 0 or empty"),
        ("one.png,train,1", "lost.png,train,1", r"faces.csv:2: photograph .*lost.png is missing"),
        ("one.png,train,1", ",train,1", r"faces.csv:2: image"),
        ("train,1", "dev,1", r"faces.csv:2: split: Input should be 'train', 'val' or 'test'"),
        ("one.png,train,2,2,31,2,4,40,6", "one.png,train,1,2,30,2,3,40,5", r"faces.csv:3: is the same face as .*csv:2"),
        ("1,2,30,2", "1,2,1,2", r"faces.csv:2: its normaliser \(corners\) is 0.*try --data.norm box"),
        (TABLE, "", r"faces.csv: is empty"),
        ("two.png", '"two.png', r"faces.csv:4: is not valid CSV"),
    ],
)
def test_a_wrong_line_is_told(root: Path, old: str, new: str, message: str) -> None:
    assert old in TABLE
    (root / "faces.csv").write_text(TABLE.replace(old, new, 1))
    with pytest.raises(LabError, match=message):
        read(root)


def test_a_name_in_another_unicode_form_is_told(root: Path) -> None:
    name = "caf\u00e9.png"
    (root / "one.png").rename(root / unicodedata.normalize("NFD", name))
    (root / "faces.csv").write_text(TABLE.replace("one.png", name), encoding="utf-8")
    with pytest.raises(LabError, match="looks the same in another Unicode form"):
        read(root)


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=60)
    | st.tuples(st.integers(0, len(TABLE) - 1), st.characters(codec="utf-8")).map(
        lambda cut: TABLE[: cut[0]] + cut[1] + TABLE[cut[0] + 1 :]
    )
)
def test_nothing_but_a_laberror_comes_out(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    (root / "faces.csv").write_text(text, encoding="utf-8")
    for name in ("one.png", "two.png"):
        cv2.imwrite(str(root / name), np.full((8, 8, 3), 90, np.uint8))
    try:
        read(root)
    except LabError:
        return
