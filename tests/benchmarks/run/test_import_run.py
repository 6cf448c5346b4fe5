"""Runs that were trained apart stand in a plan by links, and are never deleted as if they were its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.__main__ import main
from benchmarks.run import runner
from benchmarks.run.import_run import LAST, choose, import_runs
from benchmarks.run.plan import Plan, read_plan
from benchmarks.run.trial import last_checkpoint, planned_epochs, training_state
from common.errors import LabError


def make_plan(folder: Path, recipe: str = "smoke") -> Plan:
    content = {"folder": str(folder / "out"), "methods": ["awing", "spiga"],
               "jobs": [{"dataset": "synthetic", "recipe": recipe, "seeds": [0, 1]}]}  # fmt: skip
    (folder / "plan.yaml").write_text(yaml.safe_dump(content))
    return read_plan(folder / "plan.yaml")


def make_run(folder: Path, name: str) -> Path:
    (folder / name / "checkpoints").mkdir(parents=True)
    (folder / name / LAST).write_text("weights")
    return folder / name


@pytest.mark.parametrize("command", ["import", "adopt"])
def test_a_run_becomes_a_trial(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, run = make_plan(tmp_path), make_run(tmp_path, "mine")
    trial = choose(plan, "awing", None, 1)
    assert not last_checkpoint(plan.folder, trial).is_file()
    main([command, "awing", str(run), "--config", str(plan.source), "--seed", "1"])
    assert last_checkpoint(plan.folder, trial).read_text() == "weights"
    assert "python -m benchmarks evaluate" in capsys.readouterr().out
    other = make_run(tmp_path, "other")
    import_runs(plan.folder, trial, [other])
    assert (plan.folder / trial.name).resolve() == other.resolve(), "another run takes the link's place"
    runner.forget(plan, [trial])
    assert (other / LAST).is_file() and not (plan.folder / trial.name).exists()


def test_each_stage_is_a_run(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "helen")
    trial = choose(plan, "spiga", "synthetic", 0)
    names = [f"stage{n + 1}" for n in range(len(trial.stages))]
    assert len(names) > 1
    runs = [make_run(tmp_path, name) for name in names]
    assert [link.name for link in import_runs(plan.folder, trial, runs)] == names
    assert last_checkpoint(plan.folder, trial).resolve() == (runs[-1] / LAST).resolve()
    with pytest.raises(LabError, match=f"has {len(names)} stage.* got 1 runs"):
        import_runs(plan.folder, trial, runs[:1])


def test_mistakes_are_told(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    trial = choose(plan, "awing", None, 0)
    with pytest.raises(LabError, match="last.ckpt: checkpoint is missing"):
        import_runs(plan.folder, trial, [tmp_path])
    with pytest.raises(LabError, match="must name one trial of awing; they name none"):
        choose(plan, "awing", None, 7)
    make_run(plan.folder, trial.name)
    with pytest.raises(LabError, match="the trial was trained here"):
        import_runs(plan.folder, trial, [make_run(tmp_path, "mine")])
    assert not (plan.folder / trial.name).is_symlink()


@pytest.mark.parametrize(("epoch", "epochs", "text"), [
    (11, 30, "epoch 12 of 30"), (29, 30, "last epoch"), (3, None, "last epoch"), (3, -1, "last epoch"),
])  # fmt: skip
def test_a_stopped_training_is_said(tmp_path: Path, epoch: int, epochs: int | None, text: str) -> None:
    torch.save({"epoch": epoch, "state_dict": {}}, tmp_path / "last.ckpt")
    assert training_state(tmp_path / "last.ckpt", epochs) == text


def test_an_imported_run_is_measured_by_its_own_length(tmp_path: Path) -> None:
    assert planned_epochs(tmp_path, 120) == 120
    for trainer, epochs in (("{max_epochs: 40}", 40), ("{max_epochs: null}", 120), ("null", 120)):
        (tmp_path / "config.yaml").write_text(f"trainer: {trainer}\n")
        assert planned_epochs(tmp_path, 120) == epochs
