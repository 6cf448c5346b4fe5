"""What a user would take instead: our default path beside public tools on the same faces, each with its own detector.

    python -m venv PEERS && PEERS/bin/pip install mediapipe==0.10.21
    python -m benchmarks.studies.peers --shared FOLDER --mediapipe PEERS/bin/python --document BENCHMARKS.md

One run, one thread, everything between a picture in memory and points is counted; tools take turns at every face.
Milliseconds are of the processor, so that other processes of the machine hardly count. The mesh of MediaPipe has other
points: a linear map to the 68 is fitted on training faces and their mirror images, its strength chosen on validation
faces. Test faces are looked at with --split test alone.
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.readme import fill, table
from benchmarks.record import Speed, append_record
from benchmarks.studies import mesh
from benchmarks.studies.helen import PFLD, PublicNetwork, as_record, face_nmes
from common.data.readers.crops import PreparedCrops
from common.errors import LabError, command
from common.files.provenance import machine
from common.methods import METHODS, default_weights
from common.metrics.functional import failure_rate
from common.metrics.stats import bootstrap_interval
from common.prediction.detection import Detections, FaceFinder, YuNet, overlap
from common.prediction.faces import find_landmarks
from common.prediction.inference import Predictor
from common.schemes import IBUG68

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
GOAL_NME, GOAL_MS = 3.5, 6.0  # of the default method by our detector: percent, milliseconds a face
PEPPA = ("peppa_slim_160_68pt.onnx", 160, 1.15, 127.0)  # file, side, crop over the box's longer side, value of 0
OVERLAP = 0.2  # least intersection over union of a detection with the face that it is taken for
LEFT, RIGHT = 33, 263  # outer corners of the mesh's eyes
STRENGTHS = tuple(10.0**power for power in range(-5, 3))
NO_FACE = np.full((IBUG68.num_points, 2), np.nan)


@dataclass(frozen=True)
class TimedPoints:
    """What a tool says of one picture.

    Attributes:
        points: (68, 2) image pixels; NaN where the face was not found.
        finding, placing: seconds of detector and landmarks; a tool that does both at once has them in the latter.
    """

    points: np.ndarray
    finding: float
    placing: float


Tool = Callable[[np.ndarray, np.ndarray], TimedPoints]  # of a picture, and the true box, which says which face is meant


def by_detector(
    find: Callable[[np.ndarray], Detections],
    place: Callable[[np.ndarray, Detections], np.ndarray],
    image: np.ndarray,
    box: np.ndarray,
) -> TimedPoints:
    """Return what a detector finds and what places the points (68, 2) in one detection."""
    start = time.process_time()
    found = find(image)
    found_at = time.process_time()
    common = overlap(box, found.boxes) if len(found) else np.zeros(0)
    if common.max(initial=0) <= OVERLAP:
        return TimedPoints(NO_FACE, found_at - start, 0.0)
    chosen = found.take([int(common.argmax())])
    before = time.process_time()
    points = place(image, chosen)
    return TimedPoints(points, found_at - start, time.process_time() - before)


class Mesh:
    """MediaPipe in another environment's Python."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen([python, mesh.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the mesh (478, 3) in pixels and the processor's seconds.

        Raises:
            LabError: the process ended.
        """
        source, target = self._process.stdin, self._process.stdout
        assert source is not None and target is not None
        size = 8 + 4 * 3 * mesh.POINTS
        try:
            source.write(struct.pack("<II", *image.shape[:2]) + np.ascontiguousarray(image).tobytes())
            source.flush()
            reply = target.read(size)
        except OSError:
            reply = b""
        if len(reply) != size:
            raise LabError("--mediapipe: its process ended; is mediapipe 0.10.21 installed for that Python?")
        points = np.frombuffer(reply[8:], np.float32).reshape(mesh.POINTS, 3).astype(float)
        return points, struct.unpack("<d", reply[:8])[0]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def frame_of(points: np.ndarray) -> np.ndarray:
    """Return the map image -> the mesh's own frame (2, 3): centred, its eyes level, of unit size."""
    across = points[RIGHT, :2] - points[LEFT, :2]
    cos, sin = across / np.hypot(*across)
    center = points[:, :2].mean(axis=0)
    turn = np.array([[cos, sin], [-sin, cos]]) / np.sqrt(((points[:, :2] - center) ** 2).sum(axis=1).mean())
    return np.column_stack([turn, -turn @ center])


def in_frame(points: np.ndarray) -> np.ndarray:
    """Return the numbers (3 * 478,) of a mesh (478, 3) in its own frame, depth in the same unit."""
    frame = frame_of(points)
    scale = np.sqrt(np.linalg.det(frame[:, :2]))
    return np.column_stack([points[:, :2] @ frame[:, :2].T + frame[:, 2], scale * points[:, 2:]]).ravel()


@dataclass(frozen=True)
class MeshMap:
    """A linear map from a mesh to the 68 points, each in the mesh's own frame.

    Attributes:
        center, mean: (1434,) and (136,) means of the meshes and of the points that it was fitted to.
        weights: (1434, 136).
    """

    center: np.ndarray
    mean: np.ndarray
    weights: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the 68 points (68, 2) of a mesh (478, 3), image pixels."""
        inside = ((in_frame(points) - self.center) @ self.weights + self.mean).reshape(-1, 2)
        frame = frame_of(points)
        return np.asarray((inside - frame[:, 2]) @ np.linalg.inv(frame[:, :2]).T)


def ridge_maps(meshes: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> list[MeshMap]:
    """Return the maps of ridge regression, one of each strength, from meshes (478, 3) to points (68, 2)."""
    inputs = np.stack([in_frame(points) for points in meshes])
    frames = [frame_of(points) for points in meshes]
    wanted = np.stack([(t @ f[:, :2].T + f[:, 2]).ravel() for t, f in zip(truth, frames, strict=True)])
    center, mean = inputs.mean(axis=0), wanted.mean(axis=0)
    left, values, right = np.linalg.svd(inputs - center, full_matrices=False)
    parts = left.T @ (wanted - mean)
    return [MeshMap(center, mean, right.T @ ((values / (values**2 + each))[:, None] * parts)) for each in STRENGTHS]


def fit_map(run: Mesh, train: PreparedCrops, val: PreparedCrops) -> MeshMap:
    """Return the map that is best on validation faces, fitted on training faces and their mirror images."""
    meshes, truth = [], []
    for row in range(len(train)):
        sample = train[row]
        turned = (sample.image.shape[1] - 1 - sample.points[:, :1], sample.points[:, 1:2])
        mirrored = np.concatenate(turned, axis=1)[list(IBUG68.mirror)]
        for image, points in ((sample.image, sample.points), (sample.image[:, ::-1], mirrored)):
            found = run(image)[0]
            if np.isfinite(found).all():
                meshes.append(found)
                truth.append(points)
    known = [(found, val[row].points) for row in range(len(val)) if np.isfinite(found := run(val[row].image)[0]).all()]

    def error(candidate: MeshMap) -> float:
        points = np.stack([candidate(found) for found, _ in known])
        return float(face_nmes(points, np.stack([wanted for _, wanted in known])).mean())

    return min(ridge_maps(meshes, truth), key=error)


def our_tool(predictor: Predictor, finder: FaceFinder) -> Tool:
    """Return the default path of `common.predict`."""
    box_map = predictor.box_maps[finder.detector.name]
    return partial(by_detector, lambda image: box_map(finder.detect(image)),
                   lambda image, found: find_landmarks(predictor, image, found, "face")[0].points[:, :2])  # fmt: skip


def network_tool(network: PublicNetwork, finder: FaceFinder, predictor: Predictor) -> Tool:
    """Return a public network by the same detector's boxes, mapped as ours are."""
    box_map = predictor.box_maps[finder.detector.name]
    return partial(by_detector, lambda image: box_map(finder.detect(image)),
                   lambda image, found: network(image, found.boxes[0]))  # fmt: skip


def mesh_tool(run: Mesh, fitted: MeshMap) -> Tool:
    """Return MediaPipe with a map of its points; its own detector is in its time."""

    def run_tool(image: np.ndarray, box: np.ndarray) -> TimedPoints:
        points, seconds = run(image)
        start = time.process_time()
        found = fitted(points) if np.isfinite(points).all() else NO_FACE
        return TimedPoints(found, 0.0, seconds + time.process_time() - start)

    return run_tool


def take_turns(tools: dict[str, Tool], faces: PreparedCrops) -> dict[str, list[TimedPoints]]:
    """Return what each tool says of all faces; they take turns, and the first face is also shown uncounted."""
    found: dict[str, list[TimedPoints]] = {name: [] for name in tools}
    for row in [0, *range(len(faces))]:
        sample = faces[row]
        for name, tool in tools.items():
            found[name].append(tool(sample.image, sample.box))
    return {name: each[1:] for name, each in found.items()}


def line(name: str, given: list[TimedPoints], truth: np.ndarray) -> tuple[list[str], np.ndarray, float]:
    """Return a tool's line of the table, the NMEs (N,) of the faces that it found, and its milliseconds a face."""
    points = np.stack([each.points for each in given])
    known = np.isfinite(points).all(axis=(1, 2))
    values = face_nmes(points[known], truth[known])
    low, high = bootstrap_interval(values)
    finding, placing, both = (1000 * float(np.median(each)) for each in (
        [each.finding for each in given], [each.placing for each in given],
        [each.finding + each.placing for each in given]))  # fmt: skip
    cells = [name, f"{values.mean():.2f}", f"[{low:.2f}, {high:.2f}]", f"{failure_rate(values, 8.0):.1f}",
             f"{(~known).sum()}", f"{finding:.1f}" if finding else "-", f"{placing:.1f}", f"{both:.1f}"]  # fmt: skip
    return cells, values, both


def make_tools(options: argparse.Namespace, faces: Path) -> dict[str, Tool]:
    """Return name -> tool of those that can be had here; ours is the first."""
    models = options.shared / "data/models"
    predictor = Predictor.load(default_weights())
    predictor.fast.prepare()
    finder = FaceFinder(YuNet(options.detector or models / "face_detection_yunet_2023mar.onnx"))
    tools = {f"{METHODS[predictor.task.METHOD].title}, embedded, by YuNet": our_tool(predictor, finder)}
    for name, (file, side, scale, zero) in {"PFLD": PFLD, "Peppa slim": PEPPA}.items():
        if (models / file).is_file():
            network = PublicNetwork(models / file, side, scale, zero)
            tools[f"{name} (public ONNX), by YuNet"] = network_tool(network, finder, predictor)
    if options.mediapipe:
        run = Mesh(options.mediapipe)
        fitted = fit_map(run, PreparedCrops(str(faces), "train"), PreparedCrops(str(faces), "val"))
        tools["MediaPipe face mesh 0.10.21, mapped"] = mesh_tool(run, fitted)
    return tools


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: run all tools on the faces of a split, print the table, record it and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.peers", description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder of the reference data")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="whose faces; default val")
    parser.add_argument("--detector", type=Path, help="YuNet's model file; default that of the reference data")
    parser.add_argument("--mediapipe", metavar="PYTHON", help="Python of an environment that has MediaPipe")
    parser.add_argument("--record", type=Path, help="append the rows to this file of records")
    parser.add_argument("--document", type=Path, help=f"write the table between {BEGIN} and {END} of this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folder = options.shared / "data/crops_300w"
    faces = PreparedCrops(str(folder), options.split)
    rows, card = [], machine()
    for name, given in take_turns(make_tools(options, folder), faces).items():
        cells, values, both = line(name, given, faces.points)
        rows.append(cells)
        if not rows[1:]:
            reached = values.mean() <= GOAL_NME and both < GOAL_MS
        if options.record:
            record = as_record(name, values)
            append_record(options.record, record.model_copy(update={"speed": Speed(ms_per_face_b1=both, machine=card)}))
    header = ["tool", "NME", "95 % interval", "FR8", "missed", "ms: detector", "ms: points", "ms in all"]
    body = (
        f"{table(header, rows, 'lrlrrrrr')}\n\n{len(faces)} {options.split} faces; milliseconds of the processor a "
        f"face, medians; {card['device']}, {card['threads']} thread. Goal of the first row: {GOAL_NME} % and "
        f"{GOAL_MS:g} ms, {'reached' if reached else 'not reached'}."
    )
    print(body)
    if options.document is not None:
        fill(options.document, BEGIN, END, body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
