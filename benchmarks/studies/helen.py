"""Real photographs: our predictions for the 330 HELEN test faces beside two references and the mean face.

All rows are computed here by the project's own metrics, on the same faces, normalised by the outer eye corners.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from benchmarks.readme import table
from benchmarks.record import Result, append_record, slug
from common.data.readers.crops import PreparedCrops
from common.errors import LabError
from common.files.arrays import read_arrays
from common.geometry import apply_affine, box_center, box_sides, crop_matrix, invert_affine
from common.metrics.functional import auc_exact, failure_rate, nme, normaliser, point_errors
from common.metrics.protocols import PROTOCOLS
from common.metrics.stats import bootstrap_interval, metric_intervals
from common.prediction.plotting import write_ced
from common.schemes import IBUG68

THRESHOLD = 8.0
CED_END = 10.0  # percent, end of the drawn curves
PFLD = ("pfld_68pt_112.onnx", 112, 1.12, 0.0)  # file, side, crop over the box's longer side, value of 0
OUT = Path("runs/benchmark")


def face_nmes(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Return each face's NME (N,) in percent."""
    return nme(point_errors(pred, gt, normaliser("corners", gt, IBUG68)))


def mean_face(train: PreparedCrops, test: PreparedCrops) -> np.ndarray:
    """Return the training set's mean face laid into each test face's landmark box (N, 68, 2)."""
    unit = (train.points - train.boxes[:, None, :2]) / box_sides(train.boxes)[:, None]
    return np.asarray(test.boxes[:, None, :2] + unit.mean(axis=0) * box_sides(test.boxes)[:, None])


class PublicNetwork:
    """A public ONNX network whose first 136 numbers are 68 points in shares of a square crop.

    Args:
        model: the file.
        size: side of the crop, pixels.
        scale: that side in the image over the box's longer side.
        zero: value of a pixel that the network sees as 0. With 0 it takes RGB in 0..1, else BGR in about -1..1.
    """

    def __init__(self, model: Path, size: int, scale: float, zero: float = 0.0) -> None:
        self._net = cv2.dnn.readNetFromONNX(str(model))
        self._names = self._net.getUnconnectedOutLayersNames()
        self._size, self._scale, self._zero = size, scale, zero

    def __call__(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Return the points (68, 2) in the picture's pixels."""
        matrix = crop_matrix(box_center(box), float(box_sides(box).max()) * self._scale, self._size)
        crop = cv2.warpAffine(image, matrix, (self._size, self._size))
        zero = self._zero
        self._net.setInput(cv2.dnn.blobFromImage(crop, 1 / (zero or 255), mean=(zero,) * 3, swapRB=bool(zero)))
        count = 2 * IBUG68.num_points
        found = next(out for out in self._net.forward(self._names) if count <= out.size < count + 10)
        return apply_affine(invert_affine(matrix), found.reshape(-1)[:count].reshape(-1, 2) * self._size)


def pfld(test: PreparedCrops, model: Path) -> np.ndarray:
    """Return the points (N, 68, 2) of the public PFLD network, run on the landmark box."""
    network = PublicNetwork(model, *PFLD[1:])
    return np.stack([network(sample.image, sample.box) for sample in (test[row] for row in range(len(test)))])


def spiga_nmes(shared: Path) -> np.ndarray:
    """Return the NMEs (330,) of SPIGA's published predictions for the same faces."""
    table = np.load(shared / "golden/metrics/spiga_300wpublic_test.npz", allow_pickle=False)
    rows = table["subset_helen"]
    return face_nmes(table["pred"][rows], table["gt"][rows])


def load_predictions(path: Path, test: PreparedCrops) -> np.ndarray:
    """Return predictions (N, 68, 2) in the order of the test set; a missing face is an error."""
    record = read_arrays(path, "run the method's `test` on the crops first")
    if record["ids"].tolist() == test.files:  # as `test` writes them; names need not be unique
        return np.asarray(record["points"])
    rows = {str(name): row for row, name in enumerate(record["ids"])}
    missing = [name for name in test.files if name not in rows]
    if missing:
        raise LabError(f"{path}: {len(missing)} of the {len(test)} test faces have no prediction, first {missing[0]}")
    return np.asarray(record["points"][[rows[name] for name in test.files]])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("--record", type=Path, metavar="FOLDER",
                        help="also append the rows to the records of this folder, for `report`")  # fmt: skip
    parser.add_argument("--row", action="append", default=[], metavar="LABEL=FILE",
                        help="a row of the table: what it is, and test_predictions.npz of its run")  # fmt: skip
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder of the reference data")


def main(options: argparse.Namespace) -> None:
    """Score all rows; write helen.json, which BENCHMARKS.md shows, and helen_ced.png to runs/benchmark.

    Raises:
        LabError: a row is not LABEL=FILE, or its file lacks faces.
    """
    folder = options.shared / "data/crops_300w"
    test, train = PreparedCrops(str(folder), "test"), PreparedCrops(str(folder), "train")
    rows = {"mean face in the landmark box": face_nmes(mean_face(train, test), test.points)}
    for row in options.row:
        label, mark, file = row.partition("=")
        if not mark:
            raise LabError(f"--row {row}: must be LABEL=FILE")
        rows[label] = face_nmes(load_predictions(Path(file), test), test.points)
    pfld_file = options.shared / "data/models" / PFLD[0]
    rows["PFLD network (public ONNX)"] = face_nmes(pfld(test, pfld_file), test.points)
    rows["SPIGA's published predictions"] = spiga_nmes(options.shared)
    rows = dict(sorted(rows.items(), key=lambda item: -item[1].mean()))
    if options.record is not None:
        for label, values in rows.items():
            append_record(options.record / "records.jsonl", as_record(label, values))
    text = table_of(rows)
    write_ced(OUT / "helen_ced.png", rows, CED_END)
    print(text)


def as_record(label: str, values: np.ndarray) -> Result:
    """Return the record of a row's NMEs (N,), percent of the outer eye corners' distance, by the canonical protocol."""
    name = slug(label)
    protocol = PROTOCOLS["canonical"]
    limit = protocol.measure("helen", 0).threshold
    return Result(
        trial=f"scored/{name}/helen/canonical", method=name, title=label, dataset="helen",
        recipe="scored predictions", protocol="canonical",
        card=protocol.card("helen", IBUG68.num_points, n=len(values), landmarks=IBUG68.name, threshold=limit),
        metrics={"nme": float(values.mean()), "fr": failure_rate(values, limit), "auc": auc_exact(values, limit)},
        intervals=metric_intervals(values, limit), date=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def table_of(rows: dict[str, np.ndarray]) -> str:
    """Return the table of the rows' NMEs (N,), worst first, and record it in runs/benchmark/helen.json."""
    lines, content = [], {}
    for name, values in rows.items():
        low, high = bootstrap_interval(values)
        rate, area = failure_rate(values, THRESHOLD), auc_exact(values, THRESHOLD)
        lines.append((name, f"{values.mean():.2f}", f"[{low:.2f}, {high:.2f}]", f"{rate:.1f}", f"{area:.1f}"))
        content[name] = {"nme": values.mean(), "interval": [low, high], "fr8": rate, "auc8": area, "n": len(values)}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "helen.json").write_text(json.dumps(content, indent=1))
    return table(("method", "NME", "95 % interval", "FR8", "AUC8"), lines)
