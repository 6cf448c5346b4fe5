"""Plans that test the weights that come with the methods."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from benchmarks.__main__ import main
from benchmarks.record import Result, read_records
from benchmarks.run.plan import read_plan, restrict
from benchmarks.run.runner import run
from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.evaluation import evaluate
from common.methods import METHODS
from common.prediction.inference import Predictor

PLAN = """folder: {folder}
methods: [awing, dpr]
jobs:
  - dataset: synthetic
    recipe: embedded
    args: [--data.test_count, '3', --data.train_count, '2', --data.val_count, '2'{more}]
"""


def write_plan(folder: Path, more: str = "") -> Path:
    plan = folder / "plan.yaml"
    plan.write_text(PLAN.format(folder=folder / "out", more=more), encoding="utf-8")
    return plan


def test_embedded_weights_are_tested_without_a_training(tmp_path: Path) -> None:
    """The record's error is that of the predictor on the same faces, in the crops that the weights state."""
    plan = restrict(read_plan(write_plan(tmp_path)), ["awing"], None)
    run(plan, timing=False)
    (record,) = read_records(tmp_path / "out" / "records.jsonl", Result)
    predictor = Predictor.from_pretrained("awing")
    data = FaceDataModule(dataset="synthetic", scheme="ibug68", crop=predictor.crop,
                          synthetic=SyntheticConfig(2, 2, 3))  # fmt: skip
    assert record.metrics["nme"] == pytest.approx(evaluate(predictor, data).metrics()["nme"], rel=1e-6)
    assert record.recipe == f"awing/weights/{METHODS['awing'].weights()[0].name}"
    assert record.card["checkpoint"] == "embedded" and record.card["n"] == 3 and record.seconds == 0
    assert record.card["flip"] == "mean with the mirrored image" and "no flip" not in str(record.card["notes"])
    assert record.speed.ms_per_face_b1 is None and record.speed.parameters == 981_013


def test_methods_without_weights_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = read_plan(write_plan(tmp_path))
    with patch.object(type(METHODS["awing"]), "weights", side_effect=[[], [Path("w.safetensors")]]):
        assert [trial.method for trial in plan.trials()] == ["dpr"]
    assert "awing left out: no weights come with it" in capsys.readouterr().out


def test_an_unknown_argument_of_the_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--config", str(write_plan(tmp_path, more=", --data.sides, '3'"))])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "sides" in said[0]
