"""One run of prediction: large photographs, full disks, patterns, and what is drawn of what."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest

from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.files.images import read_image, write_image
from common.predict import main
from common.prediction import job
from common.prediction.detection import Detections, FaceFinder
from common.prediction.faces import Face
from common.prediction.inference import Predictor
from common.prediction.results import Results
from common.prediction.sources import drawn_name, expand
from tests.common.test_predict import predicted


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
import sys
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
with open("/proc/self/status") as status:  # ru_maxrss would begin with the peak of the process that started this one
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
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
