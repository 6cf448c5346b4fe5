"""A plan's data are looked at before it is run; and a plan on landmarks of one's own, in every method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.run import runner
from benchmarks.run.check import check_data, data_sets
from benchmarks.run.plan import read_plan
from common.errors import LabError
from common.export.__main__ import main as export
from common.methods import METHODS
from tests.test_examples import example

FORMER = ["--data.dataset", "csv", "--data.num_workers", "0", "--data.batch_size", "4", "--trainer.max_epochs", "1"]


def own_plan(folder: Path, methods: list[str], train: int = 6) -> Path:
    """Write faces with twelve points of one's own, and a plan to train on them; return the plan."""
    faces = folder / "faces"
    example("train_your_own_landmarks").write_faces(faces, train, 2)
    args = [*FORMER, "--data.scheme", str(faces / "face12.yaml"), "--track", "false"]
    plan = {"folder": str(folder / "out"), "methods": methods,
            "jobs": [{"dataset": "face12", "recipe": "smoke", "root": str(faces), "args": args}]}  # fmt: skip
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def test_each_set_is_looked_at_once_and_drawn_faces_are_not(tmp_path: Path) -> None:
    path = own_plan(tmp_path, ["awing", "musica"])
    (data,) = data_sets(read_plan(path).trials())
    assert data.dataset == "csv" and data.root == str(tmp_path / "faces") and data.landmarks.name == "face12"
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    content["jobs"] = [{"dataset": "synthetic", "recipe": "smoke"}]
    path.write_text(yaml.safe_dump(content))
    assert not data_sets(read_plan(path).trials())


def test_a_broken_copy_is_refused_unless_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own_plan(tmp_path, ["awing"])
    check_data(read_plan(path).trials())  # sound
    picture = tmp_path / "faces/train_1.png"
    picture.write_bytes(picture.read_bytes()[:2000])
    with pytest.raises(LabError, match=r"data set csv is not sound: 1 unreadable.*train_1.png.*doctor csv --root .*"
                                       r"--unchecked"):  # fmt: skip
        runner.run(read_plan(path))
    done: list[str] = []
    monkeypatch.setattr(runner, "write_tables", lambda plan, trials: "")
    monkeypatch.setattr(runner, "_share", lambda plan, trials, work: done.extend(trial.name for trial in trials))
    main(["run", "--config", str(path), "--unchecked"])
    assert done == ["awing/face12/smoke/0"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_landmarks_of_your_own_are_benchmarked_and_exported(method: str, tmp_path: Path) -> None:
    path = own_plan(tmp_path, [method])
    main(["run", "--config", str(path)])
    (record,) = [json.loads(line) for line in (tmp_path / "out/records.jsonl").read_text().splitlines()]
    assert record["card"]["landmarks"] == "face12" and record["card"]["n"] == 2 and record["metrics"]["nme"] > 0
    assert "face12" in (tmp_path / "out/table.md").read_text()
    weights = tmp_path / "out" / record["trial"] / "checkpoints/last.ckpt"
    if not weights.is_file():
        weights = next((tmp_path / "out" / record["trial"]).rglob("last.ckpt"))
    assert export(["--weights", str(weights), "--out", str(tmp_path / "own.onnx")]) == 0
    assert (tmp_path / "own.onnx").is_file()
