"""Schemes of the user's own: what a file says, and what is said of a file that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from common.schemes import get_scheme
from common.schemes.own import parse_scheme

FILE = """\
name: face7
points: [brow, eye_l, eye_r, nose, mouth_l, mouth_r, chin]
mirror:
- [eye_l, eye_r]
- [mouth_l, mouth_r]
normaliser: [eye_l, eye_r]
curves:
  jaw: [eye_l, chin, eye_r]
  middle: [brow, nose]
  mouth: {points: [mouth_l, nose, mouth_r], closed: true}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "face7.yaml"
    target.write_text(FILE)
    return target


def test_a_file_becomes_a_scheme(path: Path) -> None:
    scheme = get_scheme(str(path))
    assert (scheme.name, scheme.num_points, scheme.names[1]) == ("face7", 7, "eye_l")
    assert scheme.mirror == (0, 2, 1, 3, 5, 4, 6) and scheme.corners == (1, 2) and scheme.pupils == ((1,), (2,))
    assert [c.points for c in scheme.curves] == [(1, 6, 2), (0, 3), (4, 3, 5)]
    assert (5, 4) in scheme.edges and scheme.singles == ()
    assert scheme.parts == ((0, 3, 4, 5),)  # the jaw is no part; middle and mouth share the nose


def test_all_of_it_travels_as_text(path: Path) -> None:
    scheme = get_scheme(str(path))
    path.unlink()
    assert get_scheme(scheme.word) == scheme
    assert get_scheme("ibug68").word == "ibug68"


def test_parts_may_be_given(path: Path) -> None:
    path.write_text(FILE + "parts: {face: [chin, brow]}\neyes: [[eye_l], [eye_r, nose]]\n")
    scheme = get_scheme(str(path))
    assert scheme.parts == ((0, 6),) and scheme.pupils == ((1,), (2, 3))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chin]\nmirror", "chin, nose]\nmirror", r"face7.yaml:2: points\[7\]: nose is named twice"),
        ("[eye_l, eye_r]\n- [mouth_l", "[eye_l, ear]\n- [mouth_l", r"face7.yaml:4: mirror\[0\]\[1\]: ear is not among"),
        ("- [mouth_l, mouth_r]", "- [eye_l, mouth_r]", r"face7.yaml:5: mirror\[1\]: .* is in an earlier pair"),
        ("normaliser: [eye_l, eye_r]", "normaliser: [eye_l, eye_l]", r":6: normaliser\[1\]: eye_l is named twice"),
        ("[brow, nose]", "[brow]", r"face7.yaml:9: curves.middle.*at least 2 items"),
        ("  middle", "  jaw", "key jaw is given twice, in lines 8 and 9"),
        ("name: face7", "name: ibug68", "ibug68 is a known scheme's name"),
        ("normaliser: [eye_l, eye_r]\n", "", "normaliser: Field required"),
        ("name: face7", "nam: face7", "name: Field required"),
        ("brow, eye_l", "two words, eye_l", r"face7.yaml:2: points\[0\]"),
        ("closed: true", "closed: [", "is not valid YAML"),
    ],
)
def test_a_wrong_file_is_told_with_line_key_and_remedy(path: Path, old: str, new: str, message: str) -> None:
    assert old in FILE
    path.write_text(FILE.replace(old, new))
    with pytest.raises(LabError, match=message):
        get_scheme(str(path))


def test_a_missing_file_is_told() -> None:
    with pytest.raises(LabError, match=r"none.yaml: no such file; docs/your_landmarks.md shows a file"):
        get_scheme("none.yaml")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80) | st.sampled_from(range(len(FILE))).map(lambda k: FILE[:k] + "]" + FILE[k + 1 :]))
def test_nothing_but_a_laberror_comes_out(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "s.yaml"
    path.write_text(text, encoding="utf-8")
    for word in (str(path), "{" + text):
        try:
            get_scheme(word)
        except LabError:
            continue


def test_text_of_a_checkpoint_is_checked() -> None:
    with pytest.raises(LabError, match="checkpoint.*points"):
        parse_scheme('{"name": "a", "points": ["b"], "normaliser": ["b", "b"]}', "landmark scheme of the checkpoint")
