"""`python -m common.predict`: pictures in, JSON and drawn pictures out, mistakes in one line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from awing.module import AWingTask
from common.data.crops import CropConfig
from common.data.readers._pts import read_pts
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.files.checkpoints import save_safetensors
from common.files.images import read_image
from common.geometry import apply_affine, fit_similarity
from common.packing import Description
from common.predict import main
from common.prediction import job
from common.prediction.aligned import TEMPLATE, aligned_crop, eyes_and_mouth
from common.prediction.detection import Detections, FaceFinder
from common.prediction.plotting import draw_box
from common.prediction.results import FORMATS
from common.prediction.sources import output_names, read_rct
from common.schemes import get_scheme
from tests.common.conftest import SETTINGS


def test_points_and_drawings_are_written(weights: str, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*map(str, pictures), "--weights", weights, "--out", str(out)]) == 0
    content = json.loads((out / "predictions.json").read_text())
    assert (content["method"], content["scheme"], len(content["pictures"])) == ("awing", "ibug68", 2)
    faces = SyntheticFaces(2, seed=1)
    for index, (record, name) in enumerate(zip(content["pictures"], ("face", "face-2"), strict=True)):
        (face,) = record["faces"]
        assert np.array(face["points"]).shape == (68, 2) and np.isfinite(face["points"]).all()
        np.testing.assert_allclose(face["box"], faces[index].box, atol=0.051)
        assert set(face["pose"]) == {"yaw", "pitch", "roll"} and "yaw turns the nose" in content["frame"]
        drawn = read_image(out / f"{name}.landmarks.png")
        changed = (drawn != draw_box(faces[index].image, faces[index].box)).any(-1)
        assert drawn.shape == (256, 256, 3) and 50 < changed.sum() < 256 * 256 / 4
        x0, y0, x1, y1 = np.round(faces[index].box).astype(int)
        side = (drawn != faces[index].image).any(-1)[max(y0, 0) : y1, max(x0 - 1, 0) : x0 + 2]
        assert side.any(1).mean() > 0.95  # the left side of the box


def test_a_scheme_without_a_3d_mean_face_has_no_pose_and_says_so_once(
    pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = {**SETTINGS, "scheme": "aflw19"}
    path = tmp_path / "aflw.safetensors"
    task = AWingTask(**settings)
    save_safetensors(task.state_dict(), path, Description("awing", task.settings(), CropConfig(size=64)).metadata())
    assert main([*map(str, pictures), "--weights", str(path), "--out", str(tmp_path / "out"), "--no-pictures"]) == 0
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())["pictures"]
    assert all("pose" not in face for record in records for face in record["faces"])
    assert capsys.readouterr().out.count("no head pose: scheme aflw19 has no 3D mean face") == 1


def test_a_box_on_the_command_line(weights: str, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    box = ["--box", "60", "50", "190", "200"]
    assert main([str(pictures[0]), "--weights", weights, "--out", str(out), "--no-pictures", *box]) == 0
    (record,) = json.loads((out / "predictions.json").read_text())["pictures"]
    assert record["faces"][0]["box"] == [60, 50, 190, 200]
    assert [path.name for path in out.iterdir()] == ["predictions.json"]


def without_detectors(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make YuNet's address a missing file and hide dlib: tests need no network and no extra."""
    monkeypatch.setenv("FACE_ALIGNMENT_CACHE", str(folder / "cache"))
    monkeypatch.setattr("common.prediction.detector_file.YUNET_ADDRESS", (folder / "none.onnx").as_uri())
    monkeypatch.setitem(sys.modules, "dlib", None)


def test_mistakes_are_one_line(
    weights: str,
    pictures: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_detectors(monkeypatch, tmp_path)
    broken, lone = tmp_path / "broken.png", tmp_path / "lone.png"
    broken.write_bytes(b"no picture")
    lone.write_bytes(pictures[0].read_bytes())
    out = tmp_path / "out"
    cases = {
        ("none.png",): "none.png",
        (str(broken),): "broken.png",
        (str(lone),): "no face detector",
        (str(lone), "--box", "9", "9", "9", "40"): "--box",
        (*map(str, pictures), "--box", "1", "1", "9", "9"): "--box is for one picture",
        (str(lone), "--detector", "none.onnx"): "none.onnx",
        (str(lone), "--weights", "none.safetensors"): "none.safetensors",
        (str(lone), "--method", "nothing"): "has no embedded weights",
    }
    for arguments, word in cases.items():
        given = [] if {"--weights", "--method"} & set(arguments) else ["--weights", weights]
        assert main([*arguments, *given, "--out", str(out)]) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ") and word in line and line.count("\n") == 1, arguments
        assert not (out / "predictions.json").exists()


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 4 5", "1 2 3 x", "5 5 5 9", "1 2 nan 4"])
def test_rct_files_are_one_box(text: str, tmp_path: Path) -> None:
    path = tmp_path / "face.rct"
    path.write_text(text, encoding="ascii")
    with pytest.raises(LabError, match=r"face\.rct:1"):
        read_rct(path)


def test_names_of_drawn_pictures_differ() -> None:
    paths = [Path("a/x.png"), Path("b/x.jpg"), Path("x-2.png"), Path("c/x.png")]
    names = output_names(paths)
    assert len(set(names)) == 4 and names[0] == "x"


def predicted(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "predictions.json").read_text())["pictures"]


def test_a_bad_picture_loses_nothing_and_a_second_run_adds(
    weights: str, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """One empty file ended the run with no JSON at all; a second run replaced the first one's."""
    out, bad = tmp_path / "out", tmp_path / "0" / "bad.png"
    bad.write_bytes(b"")
    given = ["--weights", weights, "--out", str(out), "--no-pictures"]
    assert main([str(pictures[0]), str(bad), *given]) == 1
    assert [Path(entry["picture"]).name for entry in predicted(out)] == ["face.png"]
    assert "not predicted" in capsys.readouterr().err
    assert main([*map(str, pictures), *given]) == 0
    assert [entry["picture"] for entry in predicted(out)] == list(map(str, pictures))
    assert "1 of 2 were predicted before" in capsys.readouterr().out
    other = tmp_path / "other.safetensors"
    other.write_bytes(Path(weights).read_bytes())
    assert main([str(pictures[0]), "--weights", str(other), *given[2:]]) == 2
    assert "holds predictions of awing with small.safetensors" in capsys.readouterr().err


def test_a_stop_keeps_what_was_predicted(
    weights: str, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = job.predict_picture

    def stopped(run: job.Job, picture: Path, name: str) -> int:
        if picture == pictures[1]:
            raise KeyboardInterrupt
        return real(run, picture, name)

    monkeypatch.setattr(job, "predict_picture", stopped)
    out = tmp_path / "out"
    assert main([*map(str, pictures), "--weights", weights, "--out", str(out), "--no-pictures"]) == 130
    assert [entry["picture"] for entry in predicted(out)] == [str(pictures[0])]


def test_a_closed_pipe_keeps_what_was_predicted(
    weights: str, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`common.predict ... | head -1` ended with a traceback, and no JSON."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            if "face.png" in text:
                raise BrokenPipeError
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    out = tmp_path / "out"
    assert main([*map(str, pictures), "--weights", weights, "--out", str(out), "--no-pictures"]) == 130
    assert [entry["picture"] for entry in predicted(out)] == [str(pictures[0])]


@pytest.mark.parametrize(("encoding", "name"), [("ascii", "写真.jpg"), ("utf-8", os.fsdecode(b"caf\xe9.jpg"))])
def test_any_name_is_printed_on_any_terminal(encoding: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ended after the picture was done, with a traceback and no JSON."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
    job.report(f"{name}: 1 face")
    assert printed.getvalue().endswith(b".jpg: 1 face\n") and b"\\" in printed.getvalue()


def test_folders_and_patterns_are_taken_and_no_input_is_written_over(
    weights: str, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The drawn picture replaced the photograph when --out was its folder."""
    folder, before = pictures[0].parent, pictures[0].read_bytes()
    assert main([str(folder), "--weights", weights, "--out", str(folder)]) == 0
    assert pictures[0].read_bytes() == before and (folder / "face.landmarks.png").is_file()
    assert main([str(folder / "*.png"), "--weights", weights, "--out", str(tmp_path / "o2"), "--box", *"1234"]) == 2
    drawn = folder / "face.landmarks.png"
    drawn.rename(folder / "x.landmarks.png")
    pictures[0].rename(folder / "x.png")
    given = [str(folder / "x.png"), str(folder / "x.landmarks.png"), "--weights", weights, "--out", str(folder)]
    assert main(given) == 2
    assert "written over an input" in capsys.readouterr().err


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_holds_the_points(kind: str, weights: str, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = [*map(str, pictures), "--weights", weights, "--out", str(out), "--no-pictures", "--format", kind]
    assert main(given) == 0
    reference = tmp_path / "reference"
    assert main([*given[:-2], "--out", str(reference)]) == 0
    points = np.array(predicted(reference)[0]["faces"][0]["points"])
    match kind:
        case "json":
            found = predicted(out)[0]["faces"][0]["points"]
        case "jsonl":
            lines = (out / "predictions.jsonl").read_text().splitlines()
            found = json.loads(lines[1])["faces"][0]["points"]
        case "csv":
            rows = list(csv.reader((out / "predictions.csv").open()))
            found = np.array(rows[1][rows[0].index("roll") + 1 :], float).reshape(-1, 2)
        case "pts":
            found = read_pts(out / "face.pts", 68) - 1  # the files count from 1
        case _:
            annotation = json.loads((out / "predictions.coco.json").read_text())["annotations"][0]
            found = np.array(annotation["keypoints"]).reshape(-1, 3)[:, :2]
    np.testing.assert_allclose(found, points, atol=0.0011)


@pytest.mark.parametrize("box", ["2000 2000 2300 2300", "-900 -900 -500 -500", ".13 .22 .57 .67", "30 30 30.01 30.01"])
def test_boxes_that_hold_no_face_are_refused(box: str, weights: str, pictures: list[Path], tmp_path: Path) -> None:
    """Landmarks came out with exit code 0, with errors of 67 to 912 %."""
    given = [str(pictures[0]), "--weights", weights, "--out", str(tmp_path / "out"), "--box", *box.split()]
    assert main(given) == 2


def test_aligned_crops_have_eyes_and_mouth_in_place() -> None:
    face = SyntheticFaces(1, seed=4)[0]
    scheme = get_scheme("ibug68")
    crop = aligned_crop(face.image, face.points.astype(float), scheme, 112)
    assert crop.shape == (112, 112, 3) and crop.std() > 10
    matrix = fit_similarity(eyes_and_mouth(face.points.astype(float), scheme), TEMPLATE)
    moved = apply_affine(matrix, eyes_and_mouth(face.points.astype(float), scheme))
    assert np.abs(moved - TEMPLATE).max() < 8, "a similarity moves a face near the template"


def test_a_film_is_followed(weights: str, tmp_path: Path) -> None:
    face = SyntheticFaces(1, seed=1)[0]
    path = tmp_path / "film.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (256, 256))
    for _ in range(4):
        film.write(face.image[..., ::-1].copy())
    film.release()

    class Known:
        name = "yunet"

        def detect(self, image: np.ndarray) -> Detections:
            return Detections.of(face.box[None], np.ones(1))

    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "make_finder", lambda options: FaceFinder(Known(), turned=False))
        assert main([str(path), "--weights", weights, "--out", str(out), "--smooth"]) == 0
    entries = predicted(out)
    assert [entry["picture"].rpartition("#")[2] for entry in entries] == list("0123")


@pytest.mark.parametrize("method", ["awing", "dpr", "musica"])
def test_a_method_s_embedded_weights_are_used_by_name(
    method: str, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert main([str(pictures[0]), "--method", method, "--out", str(out), "--no-pictures"]) == 0
    terms = re.findall(r"for non-commercial research only: (.+)", capsys.readouterr().out)
    assert len(terms) == 1 and Path(terms[0]).is_file() and method in terms[0]
    content = json.loads((out / "predictions.json").read_text())
    assert content["method"] == method
    face = SyntheticFaces(2, seed=1)[0]
    points = np.array(content["pictures"][0]["faces"][0]["points"])
    size = np.linalg.norm(face.points[36] - face.points[45])
    assert np.linalg.norm(points - face.points, axis=1).mean() < 0.35 * size, "near the drawn face's landmarks"


ALONE = """
import resource, sys
import torch
torch_alone = resource.getrusage(resource.RUSAGE_SELF).ru_utime
from common import only_predict
only_predict()
from common.predict import main
assert main(sys.argv[1:]) == 0
heavy = {"lightning", "torchmetrics", "torchvision", "torch._dynamo", "matplotlib", "scipy", "numba", "onnx", "wandb"}
heavy |= {"pydantic", "timm", "pandas", "sympy"}
print(sorted(heavy & set(sys.modules)), torch_alone, resource.getrusage(resource.RUSAGE_SELF).ru_utime)
"""


def predict_alone(*given: str) -> tuple[list[str], float, float]:
    """Return what a process loaded to predict: heavy packages; seconds of processor time, torch's import and all."""
    threads = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run([sys.executable, "-c", ALONE, *given], capture_output=True, text=True,
                          env=os.environ | threads, check=True)  # fmt: skip
    packages, first, whole = done.stdout.splitlines()[-1].rsplit(" ", 2)
    return json.loads(packages.replace("'", '"')), float(first), float(whole)


def test_a_picture_loads_nothing_that_only_training_needs(pictures: list[Path], tmp_path: Path) -> None:
    """Lightning, torchvision and torch's compiler took two thirds of 13 seconds."""
    loaded, _, _ = predict_alone(str(pictures[0]), "--out", str(tmp_path / "out"), "--no-pictures")
    assert loaded == []
    assert len(predicted(tmp_path / "out")[0]["faces"]) == 1


@pytest.mark.slow
def test_a_picture_takes_little_longer_than_torch(pictures: list[Path], tmp_path: Path) -> None:
    """1.5 times torch's own import was measured; with Lightning it was 4.5 times."""
    given = [str(pictures[0]), "--out", str(tmp_path / "out"), "--no-pictures", "--overwrite"]
    found = [predict_alone(*given) for _ in range(3)]
    assert min(whole / first for _, first, whole in found) < 2.3
