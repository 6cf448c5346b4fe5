"""Cases from public reports of people who train and score landmark models that no other test holds.

Each was wrong here once: a traceback, a silently wrong value, or a message that said something false.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from awing.cli import main as train
from awing.targets import AWingTargets
from benchmarks.__main__ import main
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.data.readers._pts import read_pts
from common.data.readers.cofw import COFW
from common.data.readers.json_faces import JsonFaces
from common.data.readers.w300 import W300
from common.data.readers.wflw import LISTS, WFLW
from common.errors import LabError
from common.schemes import COFW29, IBUG68, WFLW98
from tests.conftest import SHARED, needs_shared

POINTS = np.random.default_rng(0).uniform(10, 60, (98, 2)).round(3)


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((80, 80, 3), 90, np.uint8))
    return path


def pts(points: np.ndarray, comment: str = "") -> str:
    rows = "\n".join(f"{x!r} {y!r}" for x, y in points.tolist())
    return f"version: 1{comment}\nn_points: {len(points)}\n{{\n{rows}\n}}\n"


@pytest.mark.parametrize(
    "data",
    [
        "\ufeff".encode() + pts(POINTS[:5]).encode(),
        pts(POINTS[:5], "\n// créé à la main").encode(),
        pts(POINTS[:5], "\n// créé à la main").encode("latin-1"),
        pts(POINTS[:5]).replace("\n", "\r\n").encode(),
        pts(POINTS[:5]).replace(" ", "\t").encode(),
    ],
    ids=["mark", "accent", "latin-1", "crlf", "tabs"],
)
def test_points_as_editors_save_them(data: bytes, tmp_path: Path) -> None:
    """A byte-order mark and accents in comments were "not a text file"."""
    path = tmp_path / "a.pts"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_pts(path, 5), POINTS[:5])


@pytest.mark.parametrize("data", [pts(POINTS[:5]).encode("utf-16"), b"\x00\x01\x02"], ids=["utf-16", "binary"])
def test_binary_and_utf16_are_no_points(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pts").write_bytes(data)
    with pytest.raises(LabError, match="is not a text file of landmarks"):
        read_pts(tmp_path / "a.pts", 5)


@pytest.mark.parametrize("gap", [" ", "\t"])
def test_wflw_lists_with_a_mark_tabs_and_blanks_in_names(gap: str, tmp_path: Path) -> None:
    name = "1--A/my photo 2.jpg"
    photo(tmp_path / "WFLW_images" / name)
    words = [*(f"{v:.3f}" for v in POINTS.ravel()), *"10 10 60 60 0 1 0 0 0 0".split(), name]
    (tmp_path / LISTS).mkdir(parents=True)
    (tmp_path / LISTS / "list_98pt_rect_attr_test.txt").write_text(gap.join(words) + "\n", encoding="utf-8-sig")
    (face,) = WFLW(str(tmp_path), "test").rows
    assert face[3] == name and face[2] == ("expression",)
    np.testing.assert_allclose(face[0], POINTS, atol=1e-5)


def json_set(folder: Path, **changes: object) -> JsonFaces:
    photo(folder / "a.jpg")
    sample = {"imgpath": "a.jpg", "bbox": [5, 5, 60, 60], "ids": list(range(68)), "landmarks": POINTS[:68].tolist(),
              "visible": [1] * 68}  # fmt: skip
    about = {"ldm_ids": list(range(68)), "test_subsets": changes.pop("test_subsets", {})}
    (folder / "db_info.json").write_text(json.dumps(about), encoding="utf-8-sig")
    (folder / "test.json").write_text(json.dumps([sample | changes]), encoding="utf-8-sig")
    return JsonFaces(str(folder), "test")


def test_json_with_a_mark_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    """The messages were "ValueError in ids, landmarks, visible, bbox or headpose"; a wrong subset was ignored."""
    np.testing.assert_allclose(json_set(tmp_path)[0].points, POINTS[:68], atol=1e-5)
    for changes, said in (
        ({"landmarks": [[*p, 2] for p in POINTS[:68].tolist()]}, r"\[0\].landmarks\[0\]"),
        ({"ids": list(range(1, 69))}, "face 0: ids names 68, which db_info.json does not list"),
        ({"imgpath": "b.jpg"}, "test.json: face 0: photograph .*b.jpg is missing"),
        ({"test_subsets": {"dark": [7]}}, "test_subsets.dark names face 7 of 1 in test.json"),
    ):
        with pytest.raises(LabError, match=said):
            json_set(tmp_path, **changes)


def cofw(folder: Path, picture: np.ndarray) -> np.ndarray:
    with h5py.File(folder / "COFW_test_color.mat", "w") as file:
        file["picture"] = picture.T
        cell = file.create_dataset("IsT", (1, 1), dtype=h5py.ref_dtype)
        cell[0, 0] = file["picture"].ref
        points = POINTS[: COFW29.num_points]
        file["phisT"] = np.concatenate([points[:, 0], points[:, 1], np.zeros(len(points))])[:, None]
        file["bboxesT"] = np.array([[3.0], [4], [10], [5]])
    return COFW(str(folder), "test")[0].image


def test_cofw_pictures_of_other_kinds(tmp_path: Path) -> None:
    """Values in 0..1 came out black, one channel as one channel."""
    bytes_ = np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)
    for picture in (bytes_, bytes_ / 255.0, bytes_.astype(np.float32), bytes_.astype(np.uint16)):
        np.testing.assert_array_equal(cofw(tmp_path, picture), bytes_)
    grey = bytes_[..., :1]
    for picture in (grey, grey[..., 0]):
        np.testing.assert_array_equal(cofw(tmp_path, picture), np.repeat(grey, 3, 2))
    with pytest.raises(LabError, match="face 1: a picture of int64 values outside 0..255"):
        cofw(tmp_path, bytes_.astype(np.int64) * 9)


def test_two_photographs_of_one_name_and_what_macos_leaves(tmp_path: Path) -> None:
    """The second photograph was taken without a word; "._" files were faces."""
    photo(tmp_path / "ibug/a.jpg")
    (tmp_path / "ibug/a.pts").write_text(pts(POINTS[:68]))
    for name in ("._a.jpg", "._a.pts"):
        (tmp_path / "ibug" / name).write_bytes(b"\x00\x05\x16\x07")
    assert len(W300(str(tmp_path), "challenge")) == 1
    photo(tmp_path / "ibug/a.png")
    with pytest.raises(LabError, match=r"a.jpg and a.png: two photographs of one name"):
        W300(str(tmp_path), "challenge")


def test_a_shift_in_pixels_is_refused() -> None:
    with pytest.raises(LabError, match="shift is a share of the crop's side"):
        CropConfig(shift=5)


def test_errors_by_the_box_of_any_set(tmp_path: Path) -> None:
    """`--data.norm box` did nothing but for lists of faces, so that the 300W private test was of no protocol."""
    photo(tmp_path / "ibug/a.jpg")
    (tmp_path / "ibug/a.pts").write_text(pts(POINTS[:68]))
    sides = np.ptp(POINTS[:68], axis=0)
    for norm, length in (("box", np.sqrt(sides.prod())), ("corners", np.linalg.norm(POINTS[36] - POINTS[45]))):
        data = FaceDataModule("w300", str(tmp_path), eval_split="challenge", norm=norm, num_workers=0)
        assert data.cropped("test")[0].norm == pytest.approx(length, rel=1e-5)
    with pytest.raises(LabError, match="--data.norm must be one of"):
        FaceDataModule("w300", str(tmp_path), norm="pupil")


def score(*words: object) -> None:
    main(["score", *map(str, words)])


def figures(path: Path) -> dict[str, float]:
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def test_merlrav_signs_are_no_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Predictions equal to the truth had an NME of 24.9 %: minus signs of hidden points were read as places."""
    points = POINTS[:68].copy()
    given = points + 1
    given[:5] = -1  # hidden by the head: no place
    given[5:9] *= -1  # hidden by something else
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth/a.pts").write_text(pts(given))
    points[:5] += 40  # not annotated, so of no account
    points[5] += 3
    (tmp_path / "mine.json").write_text(json.dumps({"a": points.tolist()}))
    common = [tmp_path / "mine.json", "--truth", tmp_path / "truth", "--dataset", "merlrav", "--protocol", "spiga"]
    score(*common, "--json", tmp_path / "all.json")
    assert "hidden points count too" in capsys.readouterr().err
    known = POINTS[5:68]
    expected = 100 * np.hypot(3, 3) / 68 / np.sqrt(np.prod(known.max(0) - known.min(0)))
    assert figures(tmp_path / "all.json")["nme"] == pytest.approx(expected)
    score(*common, "--visible", "--json", tmp_path / "seen.json")
    assert "visible points only" in capsys.readouterr().out
    assert figures(tmp_path / "seen.json")["nme"] == pytest.approx(0, abs=1e-9)


def test_visible_points_alone_are_scored_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The field was checked for its length and then never used."""
    truth, seen = POINTS[:68], [0] * 17 + [1] * 51
    pred = truth.copy()
    pred[:17] += 50
    pred[17:] += [1, 0]
    (tmp_path / "truth.json").write_text(json.dumps([{"id": "a", "truth": truth.tolist(), "visible": seen}]))
    (tmp_path / "bare.json").write_text(json.dumps([{"id": "a", "truth": truth.tolist()}]))
    (tmp_path / "mine.json").write_text(json.dumps([{"id": "a", "points": pred.tolist()}]))
    score(tmp_path / "mine.json", "--truth", tmp_path / "truth.json", "--visible", "--json", tmp_path / "found.json")
    assert figures(tmp_path / "found.json")["nme"] == pytest.approx(100 / np.linalg.norm(truth[36] - truth[45]))
    with pytest.raises(SystemExit):
        score(tmp_path / "mine.json", "--truth", tmp_path / "bare.json", "--visible")
    assert "--visible needs `visible`" in capsys.readouterr().err


def test_any_number_of_points_is_scored_by_a_scheme_of_one_s_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seven points fitted no scheme, and none could be given."""
    truth = POINTS[:7]
    (tmp_path / "truth.json").write_text(json.dumps([{"id": "a", "truth": truth.tolist()}]))
    (tmp_path / "mine.json").write_text(json.dumps([{"id": "a", "points": (truth + [2, 0]).tolist()}]))
    common = [tmp_path / "mine.json", "--truth", tmp_path / "truth.json"]
    with pytest.raises(SystemExit):
        score(*common)
    assert "give --scheme FILE.yaml for your own" in capsys.readouterr().err
    names = [f"p{k}" for k in range(7)]
    (tmp_path / "seven.yaml").write_text(
        f"name: seven\npoints: [{', '.join(names)}]\nmirror: [[p0, p1]]\nnormaliser: [p0, p1]\n"
    )
    score(*common, "--scheme", tmp_path / "seven.yaml", "--json", tmp_path / "found.json")
    assert figures(tmp_path / "found.json")["nme"] == pytest.approx(200 / np.linalg.norm(truth[0] - truth[1]))


# What held when it was tried, so that it goes on to hold.


def test_numbers_in_yaml_and_words_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_bytes(b'\xef\xbb\xbfmodel:\r\n  train: {lr: "4e-3"}\r\n')
    with pytest.raises(SystemExit):
        train(["fit", "--config", str(recipe), "--model.train.milestones=[1,2]", "--print_config"])
    shown = capsys.readouterr().out
    assert "lr: 0.004" in shown and "- 1\n" in shown


@needs_shared
@pytest.mark.golden
def test_mirrored_landmarks_are_their_partners_on_photographs() -> None:
    """The mean face of 1,007 training faces, mirrored: each point's nearest one is the partner in the mirror index."""
    table = np.load(SHARED / "data/crops_300w/train.npz")
    points = table["landmarks_crop"].astype(float)
    points -= points.mean(axis=1, keepdims=True)
    mean = (points / np.linalg.norm(points[:, 36] - points[:, 45], axis=-1)[:, None, None]).mean(0)
    mirrored = mean * [-1, 1]
    distance = np.linalg.norm(mirrored[:, None] - mean[None], axis=-1)
    np.testing.assert_array_equal(distance.argmin(axis=1), np.asarray(IBUG68.mirror))
    assert distance[np.arange(68), np.asarray(IBUG68.mirror)].max() < 0.04


def test_points_in_one_place_give_finite_targets() -> None:
    """A closed mouth in one point, as WFLW has some."""
    points = torch.from_numpy(POINTS[None]).float()
    points[:, list(WFLW98.curve("inner_lip_upper").points)] = torch.tensor([30.0, 40.0])
    maps, marked = AWingTargets(WFLW98, map_size=16, stride=4).make(points)
    assert maps.isfinite().all() and maps[:, :98].amax() > 0.5 and marked.any()
