"""Records: one form, written and read back equal, the former form too; a broken line is one line with its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record import Record, Result, Robustness, Speed, Timing, append_record, read_records
from common.errors import LabError
from tests.benchmarks import made_up

PLAIN = {"cell": "a", "method": "m", "dataset": "d", "metrics": {"nme": 1.0}}
CURVE = {"method": "m", "dataset": "d", "kind": "risk_coverage", "nme": [1.0], "coverage": [1.0]}


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    speed = Speed(parameters=1e6, ms_per_face_b1=2.5, machine={"device": "d", "cores": 2, "precision": "float32"})
    made: list[Record] = [
        Result(trial="a", method="m", title="M", dataset="d", seed=0, card={"n": 3, "threshold": 8.0},
               metrics={"nme": 4.0}, intervals={"nme": (3.0, 5.0)}, speed=speed, seconds=1.5),
        Robustness(trial="b", method="m", dataset="d", kind="shift", level=0.5, unit="share", nme=7.0, n=3),
        Timing(trial="c", method="m", parameters=1e6, macs=None, pixels=128),
    ]  # fmt: skip
    for record in made:
        path.unlink(missing_ok=True)
        append_record(path, record)
        assert read_records(path, type(record)) == [record]
    assert made[1].title == "m", "without a title a record is called by its method"


def test_former_records_are_read(tmp_path: Path) -> None:
    """With `cell` for the trial's name, null for no seed, NaN for no figure, and keys that nothing reads any more."""
    path = tmp_path / "records.jsonl"
    former = made_up.record(tmp_path, "spiga") | {"unused": [1]}
    former["metrics"] |= {"large pose/nme": float("nan")}
    former["intervals"] |= {"large pose/nme": [float("nan"), 1.0]}
    path.write_text(json.dumps(former) + "\n" + json.dumps(former | {"cell": "other", "seed": None}) + "\n")
    first, second = read_records(path, Result)
    assert (first.trial, second.trial, second.seed) == ("spiga/synthetic/smoke/0", "other", None)
    assert first.metrics == {k: v for k, v in former["metrics"].items() if k != "large pose/nme"}
    assert first.intervals["nme"] == tuple(former["intervals"]["nme"]) and "large pose/nme" not in first.intervals
    assert first.speed.ms(8) == former["speed"]["ms_per_face_b8"] and first.speed.ms(64) is None
    assert Result.model_validate(former | {"title": "Adaptive Wing, trained on synthetic"}).title == (
        "AWing, trained on synthetic"
    )
    append_record(path, first)
    assert json.loads(path.read_text().splitlines()[-1])["unused"] == [1], "it is kept when a record is written anew"


def test_a_cut_line_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    first, second = (Result(trial=name, method="m", dataset="d", metrics={"nme": 1.0}) for name in "ab")
    append_record(path, first)
    with path.open("a") as file:
        file.write(second.model_dump_json()[:9])  # as a kill in the middle of a write leaves it
    append_record(path, second)
    assert read_records(path, Result) == [first, second]
    append_record(path, first.model_copy(update={"seed": 3}))
    assert {r.trial: r.seed for r in read_records(path, Result)} == {"a": 3, "b": None}


@pytest.mark.parametrize(("kind", "content", "text"), [
    (Result, b'{"method": "\xc6"}', "is not UTF-8 text"),
    (Result, [1], "Input should be an object"),
    (Result, PLAIN | {"method": ["x"]}, "method: Input should be a valid string, got ['x']"),
    (Result, PLAIN | {"title": []}, "title: Input should be a valid string"),
    (Result, PLAIN | {"metrics": None}, "metrics: Input should be an object"),
    (Result, PLAIN | {"metrics": {"nme": "4"}}, "metrics.nme: Input should be a valid number, got '4'"),
    (Result, PLAIN | {"metrics": {"nme": True}}, "metrics.nme: Input should be a valid number, got True"),
    (Result, PLAIN | {"metrics": {"nme": 10**400}}, "metrics.nme: Input should be a"),
    (Result, PLAIN | {"intervals": {"nme": [1, 2, 3]}}, "intervals.nme: Tuple should have at most 2"),
    (Result, PLAIN | {"card": []}, "card: Input should be"),
    (Result, PLAIN | {"card": {"box": [1]}}, "card.box"),
    (Result, PLAIN | {"card": {"threshold": 0}}, "card: Value error, threshold must be a positive number"),
    (Result, PLAIN | {"card": {"n": "x"}}, "card: Value error, n must be a positive number"),
    (Result, PLAIN | {"seed": "0"}, "seed: Input should be a valid integer"),
    (Result, PLAIN | {"speed": {"macs": "much"}}, "speed.macs: Input should be a valid number"),
    (Result, {"cell": "x"}, "method: Field required (2 more)"),
    (Robustness, CURVE | {"coverage": [0.5, 1.0]}, "nme and coverage must have one length"),
    (Robustness, CURVE | {"coverage": None}, "nme and coverage of a risk-coverage curve must be lists"),
    (Robustness, CURVE | {"kind": "shift"}, "nme must be a number"),
    (Robustness, CURVE | {"kind": "shift", "nme": 1.0, "level": float("inf")}, "level: Input should be"),
    (Timing, {"method": "m", "parameters": float("inf")}, "parameters: Input should be"),
])  # fmt: skip
def test_a_broken_line_is_one_line(tmp_path: Path, kind: type[Record], content: Any, text: str) -> None:
    path = tmp_path / "records.jsonl"
    line = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(json.dumps(PLAIN | CURVE | {"nme": [1.0]}).encode() + b"\n" + line + b"\n")
    with pytest.raises(LabError) as error:
        read_records(path, kind)
    assert str(error.value).startswith(f"{path}:2: is") and text in str(error.value) and len(str(error.value)) < 500
