"""Whatever a file holds, its reader returns or raises a LabError of one line; no other exception reaches a user."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.published.lint import lint, read_table
from benchmarks.report import build
from benchmarks.report.model import read_report
from benchmarks.report.page import page
from benchmarks.run.plan import read_plan
from benchmarks.score.formats import Faces, read_faces, read_subsets
from common.data.readers.json_faces import JsonFaces
from common.errors import LabError
from musica.exit import read_policy
from tests.conftest import SHARED, needs_shared

FAULTS = SHARED / "cases" / "faults"
SPLIT = b"\x01SPLIT\x01"  # between the two files of a case that needs two
# What may stand in a file where something else is meant.
VALUES: tuple[Any, ...] = (None, True, 0, -1, 1e308, 10**400, float("nan"), "", "x", "\0", [], {}, [[]], {"a": 1},
                           [1, 2, 3, 4])  # fmt: skip
RAW = (
    b"",
    b"\xc6",
    b"\0",
    b"[" * 5000,
    b"1" * 5000,
    b"{",
    b"- [",
    b'{"a": ',
    b"a: &a [*a]",
    b"id,x0\n\xff",
    b"nme\n1e999",
)

TRIAL = {"cell": "a/0", "method": "awing", "title": "A", "dataset": "synthetic", "recipe": "r", "seed": 0,
         "protocol": "canonical", "metrics": {"nme": 4.06, "fr": 2.0, "auc": 60.5, "pose/nme": 7.0},
         "card": {"threshold": 10.0, "n": 20, "normaliser": "corners"}, "intervals": {"nme": [4.0, 4.1]},
         "speed": {"macs": 1e9, "ms_per_face_b1": 3.0, "machine": {"device": "d"}},
         "date": "2026-01-01T00:00:00", "commit": "abc"}  # fmt: skip
SHIFT = {"cell": "a/1", "method": "awing", "dataset": "synthetic", "kind": "shift", "level": 0.1, "unit": "share",
         "nme": 5.0, "n": 3}  # fmt: skip
RISK = {"cell": "a/2", "method": "awing", "dataset": "synthetic", "kind": "risk_coverage", "nme": [1.0, 2.0],
        "coverage": [0.5, 1.0], "aurc": 1.5}  # fmt: skip
PLAN = {"folder": "runs", "methods": ["awing"], "jobs": [{"dataset": "synthetic", "recipe": "smoke", "seeds": [0]}]}
PRINTED = {"awing": [{"dataset": "WFLW", "source": "a", "table": "1", "protocol": "canonical", "evidence": "page",
                      "threshold": 10, "nme": 4.06, "fr": 2.08, "auc": 60.5, "n": 2500, "remembered": ["nme"],
                      "subsets": {"pose": {"nme": 7.1, "n": 326}}}]}  # fmt: skip
POLICY = {"method": "musica", "exit_below": [0.1, 0.2], "fail_above": 0.5, "iterations": 3, "scheme": "ibug68",
          "chosen_on": {"a": 1}, "ranks": [0, 0]}  # fmt: skip
POINTS = [{"id": "a", "points": [[1, 2], [3, 4.5]], "bbox": [0, 0, 5, 5], "visible": [1, 0], "subsets": ["s"]},
          {"imgpath": "b", "landmarks": [[1, 2], [3, 4]]}]  # fmt: skip
ABOUT = {"ldm_ids": list(range(68)), "test_subsets": {"a": [0]}}
FACES = [{"imgpath": "a.jpg", "bbox": [0, 0, 10, 10], "ids": list(range(68)), "visible": [1] * 68,
          "landmarks": [[k, k * k % 7] for k in range(68)], "headpose": [1, 2, 3]}]  # fmt: skip


def spoiled(content: Any) -> Iterator[Any]:
    """Yield copies of a file's content, in each of which one part is another value, missing, or there twice."""

    def places(part: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        keys: Any = part if isinstance(part, dict) else range(min(2, len(part))) if isinstance(part, list) else ()
        for key in keys:
            yield (*way, key)
            yield from places(part[key], (*way, key))

    for *way, last in places(content):
        for value in (*VALUES, "gone", "twice"):
            made = copy.deepcopy(content)
            part = made
            for key in way:
                part = part[key]
            if value == "gone":
                del part[last]
            elif value == "twice" and isinstance(part, list):
                part.append(copy.deepcopy(part[last]))
            else:
                part[last] = value
            yield made


def read_all(path: Path) -> None:
    """Read a file of records as the report and as the linter do, and write what they make of it."""
    report = read_report(path.parent)
    build.render(path.parent, report)
    page(report)
    if path.name == "records.jsonl":
        lint(read_table(path))


def read_data_set(path: Path) -> None:
    for norm in ("corners", "box"):
        JsonFaces(str(path.parent), "test", norm=norm)


def read_points(path: Path) -> None:
    for role in ("prediction", "truth"):
        read_faces(path, role)


def score(path: Path) -> None:
    main(["score", str(path), "--truth", str(path.with_name("truth.json")), "--all"])


def jsonl(content: Any) -> bytes:
    return json.dumps(content).encode() + b"\n"


def as_yaml(content: Any) -> bytes:
    return yaml.safe_dump(content).encode()


# What it is -> file name, sound content, how it is written, what reads it.
Reading = tuple[str, Any, Callable[[Any], bytes], Callable[[Path], Any]]
READINGS: dict[str, Reading] = {
    "trials": ("records.jsonl", TRIAL, jsonl, read_all),
    "perturbation": ("robustness.jsonl", SHIFT, jsonl, read_all),
    "risk": ("robustness.jsonl", RISK, jsonl, read_all),
    "plan": ("plan.yaml", PLAN, as_yaml, lambda path: read_plan(path).trials()),
    "published": ("figures.yaml", PRINTED, as_yaml, lambda path: lint(read_table(path))),
    "policy": ("policy.json", POLICY, jsonl, lambda path: read_policy(path, 3, "ibug68")),
    "predictions": ("points.json", POINTS, jsonl, read_points),
    "subsets": ("subsets.json", {"s": ["a"], "t": ["a", "b"]}, jsonl,
                lambda path: read_subsets(path, Faces(Path("t"), ["a", "b"], np.zeros((2, 3, 2))))),
    "faces": ("test.json", FACES, jsonl, read_data_set),
    "about": ("db_info.json", ABOUT, jsonl, read_data_set),
    "table": ("table.csv", b"method,dataset,subset,nme,fr,auc,threshold,n\nA,WFLW,full,4.06,2.08,60.5,10,2500\n",
              lambda content: content, lambda path: lint(read_table(path))),
}  # fmt: skip


def attempt(path: Path, data: bytes, read: Callable[[Path], Any]) -> None:
    """Read a file of these bytes; a LabError must be one line that begins with a file."""
    path.write_bytes(data)
    try:
        read(path)
    except LabError as error:
        text = str(error)
        assert path.parent.name in text and "\n" not in text and len(text) < 700, text[:900]


@pytest.mark.parametrize("name", list(READINGS))
def test_no_content_gives_a_foreign_exception(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, sound, write, read = READINGS[name]
    for other, content in (("db_info.json", ABOUT), ("test.json", FACES)):
        (tmp_path / other).write_text(json.dumps(content))
    (tmp_path / "a.jpg").touch()
    path = tmp_path / file
    path.write_bytes(write(sound))
    read(path)  # what is sound is read
    for data in RAW:
        attempt(path, data, read)
    if isinstance(sound, bytes):
        for value in (b"nan", b"inf", b"1e400", b"-1", b"0", b"x", b"\0", b'"', b"1" * 400):
            for k in range(8):
                cells = sound.splitlines()[1].split(b",")
                attempt(path, sound.splitlines()[0] + b"\n" + b",".join([*cells[:k], value, *cells[k + 1 :]]), read)
    else:
        for content in spoiled(sound):
            attempt(path, write(content), read)


ARRAYS = (np.array(["a", "b"]), np.arange(2), np.zeros((2, 3, 2)), np.zeros(2), np.array(3.0), np.array("a"),
          np.zeros((0, 3, 2)), np.full((2, 3, 2), np.nan), np.array([5, -1]), np.zeros((2, 3), complex),
          np.zeros((2, 0, 2)), np.array([b"a", b"b"]), np.array([[0, 1]]),
          np.zeros(2, dtype=[("a", "f4")]))  # fmt: skip


def test_no_arrays_give_a_foreign_exception(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    sound: dict[str, Any] = {"ids": ARRAYS[0], "points": ARRAYS[2], "bbox": np.ones((2, 4)), "subset_a": np.array([0])}
    for name in (*sound, "visible", "subset/b"):
        for array in ARRAYS:
            np.savez(path, **(sound | {name: array}))
            attempt(path, path.read_bytes(), read_points)
    np.savez(path, **sound)
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        attempt(path, data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :], read_points)
        attempt(path, data[:place], read_points)


KINDS = {"report": "trials", "lint_records": "trials", "plan": "plan", "published": "published", "policy": "policy",
         "json_pred": "predictions", "subsets": "subsets", "lint_csv": "table"}  # fmt: skip


OURS = (*KINDS, "npz_pred", "jsonfaces", "score")  # the other files belong to readers of other packages


def kind_of(file: Path) -> str:
    """Return which of our readers a file of ../shared/cases/faults once broke, or an empty string."""
    return next((kind for kind in OURS if file.name.startswith(f"fuzz_{kind}_")), "")


FILES = sorted(filter(kind_of, FAULTS.glob("fuzz_*"))) if FAULTS.is_dir() else []


@needs_shared
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_that_once_gave_a_foreign_exception(file: Path, tmp_path: Path) -> None:
    kind = kind_of(file)
    data = file.read_bytes()
    if kind in KINDS:
        name, _, _, read = READINGS[KINDS[kind]]
        attempt(tmp_path / name, data, read)
    elif kind == "npz_pred":
        attempt(tmp_path / "p.npz", data, read_points)
    elif kind == "jsonfaces":
        about, faces = data.split(SPLIT) if SPLIT in data else (json.dumps(ABOUT).encode(), data)
        (tmp_path / "db_info.json").write_bytes(about)
        attempt(tmp_path / "test.json", faces, read_data_set)
    else:
        truth, predictions = data.split(SPLIT)
        (tmp_path / "truth.json").write_bytes(truth)
        (tmp_path / "p.json").write_bytes(predictions)
        with pytest.raises(SystemExit) as stop:
            score(tmp_path / "p.json")
        assert stop.value.code == 2
