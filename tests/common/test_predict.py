"""`python -m common.predict`: pictures in, JSON and drawn pictures out, mistakes in one line."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch

from awing.module import AWingTask
from common.data.crops import CropConfig
from common.data.readers._pts import read_pts
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.files.checkpoints import save_safetensors
from common.files.images import read_image, write_image
from common.geometry import apply_affine, fit_similarity
from common.packing import Description
from common.predict import main
from common.prediction import job
from common.prediction.aligned import TEMPLATE, aligned_crop, eyes_and_mouth
from common.prediction.detection import Detections, FaceFinder
from common.prediction.faces import Face
from common.prediction.inference import Predictor
from common.prediction.plotting import draw_box
from common.prediction.results import FORMATS, Results
from common.prediction.sources import drawn_name, expand, output_names, read_rct
from common.schemes import get_scheme

SETTINGS: dict[str, Any] = {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, "depth": 2}


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(3)
    path = tmp_path / "small.safetensors"
    save_safetensors(
        AWingTask(**SETTINGS).state_dict(), path, Description("awing", SETTINGS, CropConfig(size=64)).metadata()
    )
    return str(path)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two pictures of one name in two folders, the boxes beside them."""
    faces, paths = SyntheticFaces(2, seed=1), []
    for index in range(2):
        path = tmp_path / str(index) / "face.png"
        path.parent.mkdir()
        cv2.imwrite(str(path), faces[index].image[..., ::-1])
        path.with_suffix(".rct").write_text(" ".join(f"{v:.1f}" for v in faces[index].box), encoding="ascii")
        paths.append(path)
    return paths


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


def test_a_jpeg_is_drawn_as_one(weights: str, pictures: list[Path], tmp_path: Path) -> None:
    """Of a photograph of a megapixel a PNG took 50 ms, more than the network, where a JPEG takes 5."""
    image, photo = read_image(pictures[0]), pictures[0].with_suffix(".JPG")
    write_image(photo.with_suffix(".jpg"), image)
    photo.with_suffix(".jpg").rename(photo)
    assert main([str(photo), "--weights", weights, "--out", str(tmp_path / "out")]) == 0
    path = tmp_path / "out" / "face.landmarks.jpg"
    drawn = read_image(path)
    assert path.read_bytes()[:3] == b"\xff\xd8\xff" and drawn.shape == image.shape
    assert np.abs(drawn.astype(int) - image).mean() < 20 and (np.abs(drawn.astype(int) - image) > 60).sum() > 50
    path.rename(photo.parent / path.name)
    given = [str(photo), str(photo.parent / path.name), "--weights", weights, "--out", str(photo.parent)]
    assert main(given) == 2, "a drawing that is given is not written over"
    assert [drawn_name(source, "a") for source in (Path("a.mp4"), 0, Path("a.webp"))] == [
        "a.landmarks.mp4", "a.landmarks.mp4", "a.landmarks.png"]  # fmt: skip


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


def test_a_full_disk_is_one_line(
    weights: str, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A file that grows says nothing of itself when there is no room left."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    out = tmp_path / "out"
    out.mkdir()
    (out / "predictions.csv").symlink_to("/dev/full")
    given = ["--weights", weights, "--out", str(out), "--no-pictures", "--format", "csv"]
    assert main([str(pictures[0]), *given]) == 2
    assert capsys.readouterr().err == f"error: {out}: No space left on device\n"


def test_patterns_leave_out_what_was_drawn_and_addresses_are_shown_as_given(tmp_path: Path) -> None:
    for name in ("a.png", "a.landmarks.png"):
        (tmp_path / name).touch()
    assert expand([tmp_path / "*.png"]) == [tmp_path / "a.png"]
    with pytest.raises(LabError, match="https://example.org/a.jpg: is an address"):
        expand([Path("https://example.org/a.jpg")])


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


class Blind:
    """A detector that finds nothing, so that everything is looked at."""

    name = "blind"

    def detect(self, image: np.ndarray) -> Detections:
        return Detections.of(np.zeros((0, 4)), np.zeros(0))


def test_a_large_photograph_is_not_copied(weights: str, tmp_path: Path) -> None:
    """Turning it for the detector, drawing a face and writing it took a copy each, 324 MB of 108 megapixels."""
    face = SyntheticFaces(1, seed=8)[0]
    image = cv2.resize(face.image, (3000, 3000), interpolation=cv2.INTER_NEAREST)
    options = argparse.Namespace(out=tmp_path, crops=None, no_pictures=False)
    made = job.Job(Predictor.load(weights), None, cast(Results, None), options)
    found = Face(face.box, 0.0, face.points)
    tracemalloc.start()
    try:
        FaceFinder(Blind()).detect(image)
        made.write(Path("a.png"), "a", image, [found])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < image.nbytes / 2
    assert read_image(tmp_path / "a.landmarks.png").shape == image.shape


LARGE = """
import resource, sys
import cv2
import numpy as np
from common import only_predict
only_predict()
from common.predict import main
from common.prediction import job
from common.prediction.detection import Detections, FaceFinder

class Known:
    name = "yunet"

    def detect(self, image):  # the face at the size of this look, which the whole picture is
        box = np.array([[float(value) for value in sys.argv[1:5]]]) * image.shape[1] / 12000
        return Detections.of(box, np.ones(1))

job.make_finder = lambda options: FaceFinder(Known(), turned=False)
assert main(sys.argv[5:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_photograph_of_108_megapixels_takes_less_than_one_and_a_half_gigabytes(tmp_path: Path) -> None:
    """2.5 GB were needed."""
    face, photo, out = SyntheticFaces(2, seed=1)[0], tmp_path / "photo.jpg", tmp_path / "out"
    scale = np.array([12000, 9000]) / 256
    write_image(photo, cv2.resize(face.image, (12000, 9000), interpolation=cv2.INTER_LINEAR))
    words = [str(value) for value in (face.box * np.tile(scale, 2)).tolist()]
    done = subprocess.run([sys.executable, "-c", LARGE, *words, str(photo), "--out", str(out)], check=True, text=True,
                          capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    assert int(done.stdout.split()[-1]) / 1e6 < 1.5
    points = np.array(predicted(out)[0]["faces"][0]["points"]) / scale
    size = np.linalg.norm(face.points[36] - face.points[45])
    assert np.linalg.norm(points - face.points, axis=1).mean() < 0.35 * size, "near the drawn face's landmarks"
    assert read_image(out / "photo.landmarks.jpg").shape == (9000, 12000, 3)
