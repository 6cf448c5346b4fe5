"""The doctor on a tiny drawn set in the tree of 300W: sound as it is, and with one fault in each copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.data.__main__ import main
from common.data.base import FaceDataset
from common.data.doctor import examine, official
from common.data.readers._pts import read_pts
from common.data.synthetic import SyntheticFaces
from common.files.images import read_image, write_image
from common.schemes import IBUG68
from common.types import FaceSample
from tests.conftest import SHARED, needs_shared

PARTS = {"afw": 8, "helen/trainset": 8, "lfpw/trainset": 8, "helen/testset": 4, "lfpw/testset": 4}
ARGS = ["--eval-split", "common", "--splits", "train", "test", "--workers", "1"]
Break = Callable[[Path], object]


def write_pts(path: Path, points: np.ndarray) -> None:
    rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points)
    path.write_text(f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n", encoding="ascii")


def change(tree: Path, fn: Callable[[np.ndarray, int], np.ndarray], pattern: str = "*/*set/*.pts") -> None:
    """Rewrite the points (as the files have them: from 1 on) of the files that match; `fn` gets the width, too."""
    for path in [*tree.glob(pattern), *(tree.glob("afw/*.pts") if pattern.startswith("*") else [])]:
        width = read_image(path.with_suffix(".png")).shape[1]
        write_pts(path, fn(read_pts(path, 68), width))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree, index = tmp_path_factory.mktemp("doctor") / "w300", 0
    faces = SyntheticFaces(sum(PARTS.values()), seed=3)
    for part, count in PARTS.items():
        (tree / part).mkdir(parents=True)
        for number in range(count):
            sample = faces[index]
            left = 15 + index  # no face is in the middle of its picture, as none is in a photograph
            image = np.pad(sample.image, ((5, 5), (left, 5), (0, 0)))
            write_image(tree / part / f"face_{number}.png", image)
            write_pts(tree / part / f"face_{number}.pts", sample.points + [left + 1, 6])
            index += 1
    return tree


@pytest.fixture
def tree(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the drawn set, which the doctor takes for the official one."""
    counts = {"train": {"": 24, "afw": 8, "helen": 8, "lfpw": 8}, "common": {"": 8, "common": 8}}
    known = {
        name: tuple((read_pts(drawn / f"{name}.pts", 68).mean(axis=0) - 1).tolist())
        for name in ("afw/face_0", "helen/trainset/face_1", "lfpw/testset/face_2")
    }
    monkeypatch.setitem(official.COUNTS, "w300", counts)
    monkeypatch.setitem(official.KNOWN, "w300", known)
    shutil.copytree(drawn, tmp_path / "w300")
    return tmp_path / "w300"


def run(tree: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["doctor", "w300", "--root", str(tree), *ARGS])
    return code, capsys.readouterr().out


def test_a_sound_copy_is_sound(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(tree, capsys)
    assert code == 0 and text.endswith("verdict: sound\n"), text
    assert "train: 24 faces (afw 8, helen 8, lfpw 8), 68 landmarks; index base compared in 2 known faces" in text


def twin(tree: Path) -> None:
    """Put a test photograph, compressed anew, among the training ones in the place of another."""
    image = read_image(tree / "helen/testset/face_0.png")
    (tree / "afw/face_3.png").unlink()
    cv2.imwrite(str(tree / "afw/face_3.jpg"), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])
    shutil.copy(tree / "helen/testset/face_0.pts", tree / "afw/face_3.pts")


def again(tree: Path) -> None:
    """Let a split hold a face twice, under two names."""
    for suffix in ("png", "pts"):
        shutil.copy(tree / f"afw/face_2.{suffix}", tree / f"afw/face_5.{suffix}")


def lose(tree: Path) -> None:
    for path in tree.glob("afw/face_0.*"):
        path.unlink()


def move(tree: Path) -> None:
    """Give a face to another subset."""
    for path in list(tree.glob("afw/face_0.*")):
        path.rename(tree / "helen/trainset" / f"other{path.suffix}")


def flip_pictures(tree: Path) -> None:
    for path in tree.rglob("*.png"):
        write_image(path, np.ascontiguousarray(read_image(path)[:, ::-1]))


def exchanged(one: int, other: int) -> Callable[[np.ndarray, int], np.ndarray]:
    order = np.arange(68)
    order[[one, other]] = [other, one]
    return lambda points, width: points[order]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


BREAKS: dict[str, tuple[Break, str]] = {
    "one pixel": (lambda tree: change(tree, lambda p, w: p - 1), "index base: 2 of 2 known faces are moved by -1.0"),
    "one pixel, a part": (
        lambda tree: change(tree, lambda p, w: p + 1, "lfpw/testset/*.pts"),
        "index base: 1 of 1 known faces are moved by +1.0, +1.0",
    ),
    "other labels": (lambda tree: change(tree, lambda p, w: p + [7, 0], "afw/*.pts"), "afw/face_0 by +7.0, +0.0"),
    "mirrored points": (
        lambda tree: change(tree, lambda p, w: p * [-1, 1] + [w + 1, 0]),
        "landmarks 36 and 45 (outer eye corners) have changed sides in most faces",
    ),
    "one mirrored": (
        lambda tree: change(tree, lambda p, w: p * [-1, 1] + [w + 1, 0], "afw/face_4.pts"),
        "mirrored: afw/face_4.png: left and right landmarks have changed sides",
    ),
    "mirrored pictures": (flip_pictures, "faces fit the mirrored picture better"),
    "permuted": (
        lambda tree: change(tree, exchanged(30, 8)),
        "permuted: train: the mean face is not that of scheme ibug68 at landmarks 8, 30:",
    ),
    "permuted lip": (
        lambda tree: change(tree, exchanged(21, 60)),
        "permuted: train: the mean face is not that of scheme ibug68 at landmarks 21, 60:",
    ),
    "one permuted": (
        lambda tree: change(tree, lambda p, w: p[::-1], "afw/face_4.pts"),
        "permuted: afw/face_4.png: the landmarks form no face",
    ),
    "lost": (lose, "train: all faces: 23 faces, officially 24; one face less: was the first row"),
    "moved": (move, "train: subset afw: 7 faces, officially 8"),
    "twin": (twin, "near-identical: test helen/testset/face_0.png and train afw/face_3.jpg: one photograph"),
    "again": (again, "repeated: train: afw/face_2.png and afw/face_5.png are one face"),
    "outside": (
        lambda tree: change(tree, lambda p, w: p + [w, 0], "afw/face_1.pts"),
        "outside: afw/face_1.png: 68 landmarks outside the picture",
    ),
    "unreadable": (lambda tree: cut(tree / "afw/face_6.png"), "afw/face_6.png: the image does not decode"),
    "cut short": (lambda tree: cut(tree / "afw/face_6.pts"), "afw/face_6.pts:"),
    "no photograph": (lambda tree: (tree / "afw/face_6.png").unlink(), "afw/face_6.pts: its photograph is missing"),
    "no folder": (lambda tree: shutil.rmtree(tree / "lfpw/testset"), "lfpw/testset: folder is missing"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_fault_is_found(name: str, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    breaking, message = BREAKS[name]
    breaking(tree)
    code, text = run(tree, capsys)
    assert code == 1 and message in text, text


def test_all_faults_are_listed_in_one_run(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("unreadable", "one permuted", "again"):
        BREAKS[name][0](tree)
    (tree / "helen/testset/face_1.png").unlink()
    code, text = run(tree, capsys)
    assert code == 1
    wanted = [BREAKS["unreadable"][1], BREAKS["one permuted"][1], BREAKS["again"][1], "face_1.pts: its photograph"]
    assert all(message in text for message in wanted), text


def test_the_manifest_is_written_then_compared(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tree / "manifest.sha256"
    args = ["doctor", "w300", "--root", str(tree), *ARGS, "--manifest", str(path)]
    assert main(args) == 0 and len(path.read_text().splitlines()) == 2 * 32
    write_pts(tree / "ibug.pts", np.zeros((68, 2)))
    lose(tree)
    change(tree, lambda p, w: p + 0.01, "afw/face_1.pts")
    capsys.readouterr()
    assert main(args) == 1
    text = capsys.readouterr().out
    for message in ("ibug.pts: is not in the manifest", "face_0.png: is missing", "face_1.pts: has changed"):
        assert message in text
    path.write_text("half a line\n")
    assert main(args) == 2 and "manifest.sha256:1: expected" in capsys.readouterr().err


class Few(FaceDataset):
    """Faces in memory."""

    def __init__(self, samples: list[FaceSample]) -> None:
        self.samples, self.name, self.scheme = samples, "few/train", IBUG68

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> FaceSample:
        return self.samples[index]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([0, 0, 0.5, 0.5], "in shares of the picture"),
        ([500, 500, 600, 600], "outside the picture"),
        ([0, 0, 12, 12], "not where the landmarks are"),
        ([-2000, -2000, 2000, 2000], "not where the landmarks are"),
    ],
)
def test_boxes_that_cannot_be(box: list[float], message: str) -> None:
    drawn = SyntheticFaces(9, seed=5)
    samples = [drawn[index] for index in range(9)]
    samples[1] = replace(samples[1], box=np.array(box, np.float32))
    report = examine("few", lambda split: Few(samples), ["train"], workers=1, quiet=True)
    assert [fault.kind for fault in report.faults] == ["box"] and message in report.faults[0].text


@needs_shared
def test_genuine_files_show_no_fault_but_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    """The samples are a few of each part; some folders are absent."""
    root = SHARED / "data" / "samples" / "aflw2000"
    main(["doctor", "aflw2000", "--root", str(root), "--splits", "test", "--workers", "1"])
    assert "verdict: 1 faults (1 counts)" in capsys.readouterr().out
