"""`python -m benchmarks score PREDICTIONS --truth TRUTH --protocol NAME`: anyone's predictions, by any protocol.

    python -m benchmarks score mine.json --truth truth.csv --protocol spiga --dataset 300w --subsets subsets.json
    python -m benchmarks score mine.npz --truth truth.npz --all         every protocol, every normaliser
    python -m benchmarks score mine.csv --truth pts/ --against other.json   which one is better, and is that chance?
    python -m benchmarks score mine.json --truth-dataset w300 --root FOLDER the truth as the project's readers have it
    python -m benchmarks score mine98.npz --truth truth68.npz --map         through the scheme map, with its error floor
    python -m benchmarks score mine.npz --truth truth.npz --record runs/benchmark --title "Mine"   a row of the report

Files: JSON, CSV, npz or a folder of .pts; points are original image pixels, x right, y down, the first pixel's centre
at (0, 0) unless --origin says otherwise. A face without a prediction counts as a failure (by most protocols).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.score.cross_scheme import Floor, floor_text, map_floor, part_errors, source_scheme, through
from benchmarks.score.formats import Faces, match, read_faces, read_subsets
from benchmarks.score.plausible import suspicions
from benchmarks.score.text import Scores, compared_text, figures_text, matrix_text, protocols_text
from common.errors import LabError
from common.metrics.functional import NORMALISERS, normaliser, point_errors
from common.metrics.protocols import PROTOCOLS, Figures, Plain, Protocol, dataset_key, evaluate
from common.metrics.stats import Paired, metric_intervals, paired_bootstrap
from common.schemes import SCHEMES, LandmarkScheme, get_scheme

if TYPE_CHECKING:
    from benchmarks.record import Result

OFFICIAL = "released weights"
MADE = ("box", "decode", "flip", "checkpoint")  # fields of a card that belong to the predictions
SAME = {"merlrav68"}  # schemes whose points are those of another one of the same number


@dataclass
class Task:
    """Predictions beside their truth.

    Attributes:
        pred: (N, L, 2) image pixels; NaN for a face without a prediction.
        truth: the true points and what belongs to them.
        scheme: of the points.
        dataset: name by which protocols choose their measure.
        subsets: name -> (N,) mask.
        source: scheme that the predictions were mapped from, None where they are of the truth's.
        visible_only: leave out points that the truth marks as hidden, whatever the protocol does.
    """

    pred: np.ndarray
    truth: Faces
    scheme: LandmarkScheme
    dataset: str
    subsets: dict[str, np.ndarray]
    source: LandmarkScheme | None = None
    visible_only: bool = False

    def protocol(self, name: str) -> Protocol:
        """Return a protocol as it is applied here."""
        return replace(PROTOCOLS[name], visibility=True) if self.visible_only else PROTOCOLS[name]

    def evaluate(self, protocol: str, norm: str | None = None, pred: np.ndarray | None = None) -> Figures:
        """Return the figures by a protocol; raises LabError where it needs what is not there."""
        given = self.pred if pred is None else pred
        try:
            return evaluate(self.protocol(protocol), given, self.truth.points, self.scheme, self.dataset,
                            self.truth.bbox, self.truth.visible, self.subsets, norm)  # fmt: skip
        except ValueError as error:
            raise LabError(f"{self.truth.path}: {error}") from None


def guess_scheme(count: int, where: str) -> LandmarkScheme:
    """Return the scheme of a number of points.

    Raises:
        LabError: no scheme has so many points.
    """
    found = [scheme for name, scheme in SCHEMES.items() if scheme.num_points == count and name not in SAME]
    if not found:
        known = ", ".join(f"{scheme.num_points} ({name})" for name, scheme in SCHEMES.items() if name not in SAME)
        raise LabError(f"{where}: {count} points fit no scheme; known: {known}; give --scheme FILE.yaml for your own")
    return found[0]


def read_task(options: argparse.Namespace) -> Task:
    """Return what the command line names.

    Raises:
        LabError: a file is wrong, the two do not fit, or a subset is unknown.
    """
    given = read_faces(options.predictions, "prediction", options.origin)
    if options.truth_dataset:
        from benchmarks.score.truth import read_truth  # here: readers import torch, which takes seconds

        truth = read_truth(options, options.scheme or guess_scheme(given.points.shape[1], str(given.path)).name)
        options.dataset = options.dataset or options.truth_dataset
    else:
        signed = dataset_key(options.dataset or "") == "merlrav" or options.scheme == "merlrav68"
        truth = read_faces(options.truth, "truth", options.truth_origin, signed)
    scheme = get_scheme(options.scheme) if options.scheme else guess_scheme(truth.points.shape[1], str(truth.path))
    if scheme.num_points != truth.points.shape[1]:
        raise LabError(f"--scheme {scheme.name} has {scheme.num_points} points, {truth.path} has "
                       f"{truth.points.shape[1]}")  # fmt: skip
    source = _mapped(given, scheme, truth, options.map)
    subsets = truth.subsets | (read_subsets(options.subsets, truth) if options.subsets else {})
    pred = match(given, truth, options.ignore_extra or options.only is not None)
    for line in suspicions(pred, truth.points) if pred.shape == truth.points.shape else ():
        print(f"{given.path}: {line}", file=sys.stderr)
    if options.visible and truth.visible is None:
        raise LabError(f"{truth.path}: --visible needs `visible` (1 or 0 for each point) with every true face")
    if truth.visible is not None and not (options.visible or truth.visible.all() or options.all):
        print(f"{truth.path}: hidden points count too, as in protocol {options.protocol}; --visible leaves them out",
              file=sys.stderr)  # fmt: skip
    task = Task(pred, truth, scheme, options.dataset or "any", subsets, source, options.visible)
    return task if options.only is None else _only(task, options.only)


def _mapped(given: Faces, scheme: LandmarkScheme, truth: Faces, wanted: bool) -> LandmarkScheme | None:
    """Bring predictions to the truth's scheme where that is wanted; return the scheme that they had.

    Raises:
        LabError: the schemes differ, and no map is wanted or known.
    """
    count = given.points.shape[1]
    if count == scheme.num_points:
        return None
    if not wanted:
        raise LabError(f"{given.path}: {count} points a face, {truth.path} has {scheme.num_points}; --map scores "
                       "through the map between the schemes")  # fmt: skip
    source = source_scheme(count, scheme, str(given.path))
    given.points = through(given.points, source, scheme)
    return source


def _only(task: Task, name: str) -> Task:
    """Return the faces of one subset."""
    if name not in task.subsets:
        raise LabError(f"--only {name}: {task.truth.path} has no such subset; it has {', '.join(task.subsets)}")
    rows, truth = task.subsets[name], task.truth
    part = Faces(
        truth.path, [face for face, kept in zip(truth.ids, rows, strict=True) if kept], truth.points[rows],
        None if truth.bbox is None else truth.bbox[rows], None if truth.visible is None else truth.visible[rows],
    )  # fmt: skip
    subsets = {key: mask[rows] for key, mask in task.subsets.items() if key != name and mask[rows].any()}
    return Task(task.pred[rows], part, task.scheme, task.dataset, subsets, task.source, task.visible_only)


def card(task: Task, protocol: str, found: Figures, more: Mapping[str, Plain]) -> dict[str, Plain]:
    """Return the protocol card of found figures; how the points were made is not for the protocol to say."""
    result = task.protocol(protocol).card(
        task.dataset, task.scheme.num_points, n=found["n"], landmarks=task.scheme.name
    )
    result |= {name: f"not stated; the protocol's own: {result[name]}" for name in MADE}
    if found["norm"] != result["normaliser"]:
        result["normaliser"] = found["norm"]
        result["notes"] = f"another normaliser than the protocol's; {result['notes']}".rstrip("; ")
    return result | dict(more)


def floor_of(task: Task, norm: str) -> Floor | None:
    """Return the error of the map that the predictions went through, None where they went through none."""
    return None if task.source is None else map_floor(task.source.map_to(task.scheme), task.scheme, norm)


def map_text(task: Task, floor: Floor, value: float) -> str:
    """Return the map's floor beside the predictions' errors in each part of the face."""
    norm = normaliser(floor.norm, task.truth.points, task.scheme, task.truth.bbox)
    return floor_text(floor, value, part_errors(point_errors(task.pred, task.truth.points, norm), task.scheme))


def intervals(found: Figures, task: Task, level: float) -> dict[str, dict[str, tuple[float, float]]]:
    """Return set -> figure -> its interval, "" for all faces; of the exact area, whatever the protocol's rule."""
    sets = {"": np.ones(found["n"], bool)} | {k: v[found["kept"]] for k, v in task.subsets.items()}
    return {name: metric_intervals(found["per_image"][mask], found["threshold"], level)
            for name, mask in sets.items() if np.isfinite(found["per_image"][mask]).any()}  # fmt: skip


def all_scores(task: Task) -> Scores:
    """Return protocol -> normaliser -> figures, "" for the protocol's own; a reason where one cannot be had."""
    result: dict[str, dict[str, Figures | str]] = {}
    for protocol in PROTOCOLS:
        row = result.setdefault(protocol, {})
        for norm in ("", *NORMALISERS):
            try:
                row[norm] = task.evaluate(protocol, norm or None)
            except LabError as error:
                row[norm] = str(error).removeprefix(f"{task.truth.path}: ")
    return result


def against(task: Task, options: argparse.Namespace) -> dict[str, Paired]:
    """Return the paired comparison with another file's predictions for the same faces."""
    other = read_faces(options.against, "prediction", options.origin)
    _mapped(other, task.scheme, task.truth, options.map)
    second = match(other, task.truth, options.ignore_extra or options.only is not None)
    one, two = (task.evaluate(options.protocol, options.norm, pred) for pred in (task.pred, second))
    if not np.array_equal(one["kept"], two["kept"]):
        raise LabError(f"protocol {options.protocol} drops faces without a prediction, and the two files lack "
                       "different ones; compare by canonical")  # fmt: skip
    return paired_bootstrap(one["per_image"], two["per_image"], one["threshold"], options.level)


def record(task: Task, options: argparse.Namespace, found: Figures, face: dict[str, Plain]) -> Result:
    """Return a record of the report for found figures, and write the predictions beside it."""
    from benchmarks.record import Result, read_records, slug

    title = options.title or options.predictions.stem
    name = slug(title)
    trial = f"scored/{name}/{task.dataset}/{options.protocol}"
    for former in read_records(options.record / "records.jsonl", Result):
        if former.trial == trial and former.title != title:
            raise LabError(f"--title {title}: the report would call this row's file as that of {former.title}; give "
                           "another title")  # fmt: skip
    path = Path("scored") / f"{name}-{task.dataset}-{options.protocol}.npz"
    (options.record / path).parent.mkdir(parents=True, exist_ok=True)
    kept = found["kept"]
    ids = np.array(task.truth.ids)[kept]
    masks = {f"subset/{key}": mask[kept] for key, mask in task.subsets.items()}
    np.savez_compressed(
        options.record / path, allow_pickle=False, ids=ids, points=task.pred[kept], nme=found["per_image"], **masks
    )
    metrics = {key: found[key] for key in ("nme", "fr", "auc", "nme_p90", "nme_p95", "nme_p99")}
    for subset, figures in found["subset"].items():
        metrics |= {f"{subset}/{key}": figures[key] for key in ("nme", "fr", "auc")}
    spans = {f"{part}/{key}".lstrip("/"): span for part, values in intervals(found, task, options.level).items()
             for key, span in values.items()}  # fmt: skip
    return Result(
        trial=trial, method=options.official or name, title=title,
        official=bool(options.official), dataset=task.dataset, recipe="scored predictions", protocol=options.protocol,
        card=face, metrics=metrics, intervals=spans, predictions=str(path),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("predictions", type=Path, help="JSON, CSV, npz or a folder of .pts")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--truth", type=Path, help="true points, in any of the same formats")
    truth.add_argument("--truth-dataset", metavar="NAME", help="or the test faces of a data set (docs/data.md)")
    parser.add_argument("--root", help="folder of --truth-dataset")
    parser.add_argument("--eval-split", help="where --truth-dataset has several test lists")
    parser.add_argument("--protocol", default="canonical", choices=sorted(PROTOCOLS), help="how it is scored")
    parser.add_argument("--dataset", help="name that chooses thresholds and normalisers (wflw, 300w, cofw68, ...)")
    parser.add_argument("--scheme", metavar="NAME", help=f"{', '.join(SCHEMES)}, or the .yaml file of one of your own; "
                        "default: by the number of points")  # fmt: skip
    parser.add_argument("--visible", action="store_true", help="leave out points that the truth marks as hidden")
    parser.add_argument("--norm", choices=NORMALISERS, help="another normaliser than the protocol's")
    parser.add_argument("--subsets", type=Path, help="JSON object: subset -> list of face ids")
    parser.add_argument("--only", help="score the faces of this subset alone")
    parser.add_argument("--map", action="store_true", help="bring predictions of another scheme to the truth's")
    parser.add_argument("--all", action="store_true", help="every protocol and every normaliser")
    parser.add_argument("--against", type=Path, help="predictions of another method: paired comparison")
    parser.add_argument("--origin", type=int, choices=(0, 1), help="first pixel's centre in the predictions; "
                        "default 1 for .pts, else 0")  # fmt: skip
    parser.add_argument("--truth-origin", type=int, choices=(0, 1), help="the same for the truth")
    parser.add_argument("--ignore-extra", action="store_true", help="allow predictions for faces without truth")
    parser.add_argument("--level", type=float, default=95.0, help="of the intervals, percent")
    parser.add_argument("--digits", type=int, default=3, help="printed after the point")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="add a row to the report of this folder")
    parser.add_argument("--title", help="name of that row")
    parser.add_argument("--official", metavar="METHOD", help="the predictions are of this method's official weights: "
                        "they are in the reproduction table too")  # fmt: skip
    parser.add_argument("--card", nargs="+", default=[], metavar="FIELD=TEXT",
                        help="fields of the protocol card to state, as box=... checkpoint=...")  # fmt: skip


def _fields(texts: list[str]) -> dict[str, Plain]:
    pairs = [text.partition("=") for text in texts]
    wrong = [name for name, mark, _ in pairs if not mark or not name]
    if wrong:
        raise LabError(f"--card {wrong[0]}: must be FIELD=TEXT")
    return {name: text for name, _, text in pairs}


def _check(options: argparse.Namespace) -> None:
    if not 0 < options.level < 100 or not 0 <= options.digits <= 12:
        raise LabError(f"--level must lie in (0, 100) and --digits in 0..12, got {options.level:g}, {options.digits}")
    if options.truth_dataset is None and (options.root or options.eval_split):
        raise LabError("--root and --eval-split belong to --truth-dataset; give its name")
    if options.record is not None and not (options.dataset or options.truth_dataset):
        raise LabError("--record needs --dataset, which names the table")


def main(options: argparse.Namespace) -> None:
    """Score predictions and print what was found.

    Raises:
        LabError: a file is wrong, the two do not fit, or the protocol needs what is not there.
    """
    _check(options)
    own: dict[str, Plain] = {"checkpoint": OFFICIAL} if options.official else {}
    more = own | _fields(options.card)
    task = read_task(options)
    if options.all:
        found_all = all_scores(task)
        print(f"{protocols_text(found_all, options.digits)}\n\n{matrix_text(found_all, options.digits)}")
        if options.json:
            write_json(options.json, {p: {k or "own": _plain(v) for k, v in row.items()}
                                      for p, row in found_all.items()})  # fmt: skip
        return
    found = task.evaluate(options.protocol, options.norm)
    floor = floor_of(task, found["norm"])
    if floor is not None:
        more = floor.facts() | more
    face = card(task, options.protocol, found, more)
    spans = intervals(found, task, options.level)
    print(figures_text(found, face, spans, options.level, options.digits))
    if floor is not None:
        print("\n" + map_text(task, floor, found["nme"]))
    if options.against:
        print("\n" + compared_text(against(task, options), options.predictions.name, options.against.name,
                                   options.level, options.digits))  # fmt: skip
    if options.json:
        write_json(
            options.json, {key: _plain(value) for key, value in found.items()} | {"card": face, "intervals": spans}
        )
    if options.record:
        from benchmarks.record import append_record

        append_record(options.record / "records.jsonl", record(task, options, found, face))
        print(f"\nrecorded in {options.record / 'records.jsonl'}; `python -m benchmarks report` shows it")


def _plain(value: object) -> object:
    """Return figures as JSON holds them: arrays as lists, no prediction as null."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write figures with all their digits."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise LabError(f"{path}: cannot be written ({error.strerror})") from None
    print(f"wrote {path}")
