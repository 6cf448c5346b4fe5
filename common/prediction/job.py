"""What one run of `common.predict` does: sources in, points, pictures, films and files of results out."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from common.data.base import check_box
from common.errors import LabError, check_range
from common.files.images import read_image, write_image
from common.files.whole import naming
from common.methods import default_weights, method_weights
from common.packing import named_values
from common.prediction.aligned import aligned_crop
from common.prediction.detection import Detections, FaceFinder
from common.prediction.detector_file import open_detector
from common.prediction.faces import Face, find_landmarks
from common.prediction.inference import Predictor
from common.prediction.plotting import TRUE, draw_box, draw_landmarks
from common.prediction.results import Header, Results, open_results
from common.prediction.sources import drawn_name, expand, output_names, read_rct
from common.prediction.video import FaceTracker, OneEuro, frames, is_video

TERMS = "LICENSE.txt"  # beside embedded weights


@dataclass
class Job:
    """What every picture of a run needs."""

    predictor: Predictor
    finder: FaceFinder | None
    results: Results
    options: argparse.Namespace
    reported: bool = False

    def report_once(self, faces: list[Face]) -> None:
        """Say once what the faces of this method lack, and why."""
        if not self.reported and faces and faces[0].pose is None:
            report(f"no head pose: scheme {self.predictor.scheme.name} has no 3D mean face")
            self.reported = True

    def detect(self, picture: Path, image: np.ndarray) -> Detections:
        """Return the boxes of a picture: given, from its .rct file, or found.

        Raises:
            LabError: a given box has no area or lies outside the picture.
        """
        if self.options.box is not None:
            return _given(np.array(self.options.box), image, "--box")
        beside = picture.with_suffix(".rct")
        if self.options.detector is None and beside.is_file():
            return _given(read_rct(beside), image, str(beside))
        if self.finder is None:
            self.finder = make_finder(self.options)
        return self.predictor.box_maps[self.finder.detector.name](self.finder.detect(image))

    def write(self, picture: Path, name: str, image: np.ndarray, faces: list[Face]) -> None:
        """Write the aligned crops that were asked for and the drawn picture, for which the picture is written over.

        Of a large photograph, each copy takes hundreds of megabytes.
        """
        scheme = self.predictor.scheme
        for index, face in enumerate(faces if self.options.crops else ()):
            crop = aligned_crop(image, face.points, scheme, self.options.crops)
            write_image(self.options.out / "crops" / f"{name}-{index + 1}.png", crop)
        if not self.options.no_pictures:
            drawn = draw_faces(self.predictor, image, faces, copy=False)
            write_image(self.options.out / drawn_name(picture, name), drawn, spare=True)


def make_finder(options: argparse.Namespace) -> FaceFinder:
    """Return the detector that the command line asks for, with its search."""
    detector = open_detector(options.detector, options.score)
    return FaceFinder(detector, options.min_face, not options.upright, options.faces)


def _given(box: np.ndarray, image: np.ndarray, where: str) -> Detections:
    height, width = image.shape[:2]
    box = check_box(box, where)
    inside = np.clip(box, 0, [width, height, width, height])
    if inside[2] - inside[0] <= 0 or inside[3] - inside[1] <= 0:
        raise LabError(f"{where}: box {box.tolist()} is outside the picture of {width} x {height} pixels")
    if min(box[2] - box[0], box[3] - box[1]) < 4:
        raise LabError(f"{where}: box {box.tolist()} is under 4 pixels; give x0 y0 x1 y1 in pixels, not in shares")
    return Detections.of(box[None], np.array([np.nan]))


def draw_faces(
    predictor: Predictor,
    image: np.ndarray,
    faces: list[Face],
    numbers: Sequence[int] | None = None,
    copy: bool = True,
) -> np.ndarray:
    """Return a copy of the picture (H, W, 3) with box, number, points and what else the method knows of each face.

    Args:
        predictor: what found the points.
        image: (H, W, 3) uint8, RGB.
        faces: in this picture.
        numbers: of the faces; default 1, 2, ... where there are several, as the aligned crops count them.
        copy: False may draw into the image itself.
    """
    alone = len(faces) == 1 and numbers is None
    labels = [""] if alone else [str(number) for number in numbers or range(1, len(faces) + 1)]
    canvas = np.array(image, order="C", copy=copy or None)  # None: only where it is not contiguous
    for face, label in zip(faces, labels, strict=True):
        draw_box(canvas, face.box, face.roll, label, copy=False)
        draw_landmarks(canvas, face.points, predictor.scheme, TRUE, copy=False)
        canvas = predictor.task.decorate(canvas, face.points, face.pose)
    return canvas


def predict_picture(job: Job, picture: Path, name: str) -> int:
    """Predict one picture, write what is known of it, and return the number of its faces."""
    image = read_image(picture, follow_orientation=True)
    faces = find_landmarks(job.predictor, image, job.detect(picture, image), str(picture))
    job.report_once(faces)
    job.write(picture, name, image, faces)
    job.results.add(str(picture), image.shape[:2], faces)
    return len(faces)


def predict_video(job: Job, source: Path | int, name: str) -> int:
    """Predict a video or a camera frame by frame; return the number of faces in all frames."""
    if job.finder is None:
        job.finder = make_finder(job.options)
    box_map = job.predictor.box_maps[job.finder.detector.name]
    smooth = OneEuro() if job.options.smooth else None
    tracker = FaceTracker(job.predictor, job.finder, box_map, job.options.every, smooth)
    count = 0
    with contextlib.ExitStack() as stack:
        film = None
        for number, (frame, seconds) in enumerate(frames(source)):
            label = f"{source if isinstance(source, Path) else name}#{number}"
            found = tracker(frame, seconds, label)
            faces = [face for _, face in found]
            job.report_once(faces)
            count += len(faces)
            if label not in job.results.done:  # a video that was stopped is followed anew, its frames are added once
                job.results.add(label, frame.shape[:2], faces, [identity for identity, _ in found])
            if not job.options.no_pictures:
                if film is None:
                    film = stack.enter_context(open_film(job.options.out / drawn_name(source, name), frame, seconds))
                drawn = draw_faces(job.predictor, frame, faces, [identity for identity, _ in found])
                film.write(drawn[..., ::-1].copy())
            if job.options.frames and number + 1 >= job.options.frames:
                break
    return count


@contextlib.contextmanager
def open_film(path: Path, frame: np.ndarray, seconds: float) -> Iterator[cv2.VideoWriter]:
    """Yield a writer of BGR frames like this one; the file has its name once it is whole.

    Raises:
        LabError: OpenCV cannot write videos here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part.{path.name}")
    height, width = frame.shape[:2]
    film = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), 1 / seconds, (width, height))
    if not film.isOpened():
        raise LabError(f"{path}: OpenCV cannot write a video here; give --no-pictures")
    try:
        yield film
    finally:
        film.release()
        os.replace(part, path)


def run(options: argparse.Namespace) -> int:
    """Predict all sources; return the exit code: 1 if some of them could not be predicted."""
    check_range("--score", options.score, "[0, 1]")
    check_range("--min-face", options.min_face, "(0, inf)")
    check_range("--camera", options.camera, "[0, inf)")
    for name in ("faces", "frames", "every"):
        check_range(f"--{name}", getattr(options, name), "[1, inf)")
    sources = expand(options.pictures, options.list)
    cameras = [] if options.camera is None else [options.camera]
    if not sources and not cameras:
        raise LabError("nothing to predict: give pictures, folders, videos, --list FILE or --camera 0")
    if options.box is not None and (len(sources) != 1 or is_video(sources[0])):
        raise LabError("--box is for one picture; put .rct files beside several, or give --detector")
    check_outputs(sources, options)
    weights = options.weights or (default_weights() if options.method is None else method_weights(options.method))
    changes = named_values(options.set)
    predictor = Predictor.load(weights, options.config, options.device, options.backend, options.precision, changes)
    report(f"{predictor.task.METHOD}, {predictor.scheme.num_points} points, on {predictor.device}")
    if options.weights is None and (terms := Path(weights).with_name(TERMS)).is_file():
        report(f"the weights are for non-commercial research only: {terms}")
    header: Header = {"weights": Path(weights).name, "method": predictor.task.METHOD, "scheme": predictor.scheme.name}
    if changes:
        header["settings"] = ", ".join(f"{name}={value}" for name, value in changes.items())
    finder = make_finder(options) if options.detector else None
    results = open_results(options.format, options.out, header, predictor.scheme.names, options.overwrite)
    job = Job(predictor, finder, results, options)
    with naming(options.out), contextlib.closing(results):
        bad = predict_all(job, [*sources, *cameras])
    report(f"wrote {options.out}")
    for line in bad:
        print(f"not predicted: {line}", file=sys.stderr)
    return 1 if bad else 0


def check_outputs(sources: Sequence[Path], options: argparse.Namespace) -> None:
    """Raise a LabError if what would be drawn has the name of a picture that is read."""
    inputs = {source.resolve() for source in sources}
    for source, name in zip(sources, output_names(sources), strict=True):
        target = options.out / drawn_name(source, name)
        if target.resolve() in inputs:
            raise LabError(f"{target}: would be written over an input; choose another --out")


def predict_all(job: Job, sources: Sequence[Path | int]) -> list[str]:
    """Predict one source after another; return a line for each that could not be read."""
    bad: list[str] = []
    known = 0
    for source, name in zip(sources, output_names(sources), strict=True):
        if str(source) in job.results.done:
            known += 1
            continue
        try:
            if isinstance(source, int) or is_video(source):
                count = predict_video(job, source, name)
            else:
                count = predict_picture(job, source, name)
        except LabError as error:
            if len(sources) == 1:
                raise
            bad.append(str(error))
            continue
        report(f"{source}: {count} face{'' if count == 1 else 's'}" + ("" if count else ", none was found"))
    if known:
        report(f"{known} of {len(sources)} were predicted before and are kept; --overwrite predicts them anew")
    return bad


def report(line: str) -> None:
    """Print a line; characters that the terminal lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
