"""W&B: who is logged in, where a run goes, what it holds; against wandb's own files and a stand-in server."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import common.training.tracking as tracking
from awing.cli import main
from tests.common.training.wandb_server import KEY, StandIn

ROOT = Path(__file__).resolve().parents[3]
TINY = (
    "--config", "smoke", "--data.crop.size", "64", "--model.width", "16", "--model.stacks", "1", "--model.depth", "2",
    "--data.num_workers", "0", "--data.train_count", "24", "--data.val_count", "4", "--data.test_count", "4",
    "--data.batch_size", "8", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1",
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[str]:
    """A server that does not know the key."""
    running = StandIn(401)
    yield running.address
    running.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import wandb

    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT", "WANDB_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    wandb.teardown()
    yield
    if wandb.run is not None:
        wandb.run.finish()
    wandb.teardown()


def offline_runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*"))


def test_a_login_is_what_wandb_finds(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in netrc counts for its own server only, a self-hosted one too."""
    monkeypatch.setenv("WANDB_BASE_URL", server)
    assert tracking.chosen_mode() == ("offline", "not logged in")
    (tmp_path / "netrc").write_text(f"machine {server.removeprefix('http://')}\n  login user\n  password {KEY}\n")
    assert tracking.has_key() and tracking.chosen_mode() == ("online", "")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracking.chosen_mode() == ("disabled", "")


def test_servers_that_answer_and_that_do_not(server: str, silent: str) -> None:
    assert tracking.answers(server)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    before = time.monotonic()
    assert not tracking.answers(f"http://127.0.0.1:{port}") and not tracking.answers("no address")
    assert not tracking.answers(silent, 0.3)
    assert time.monotonic() - before < 3


@pytest.mark.parametrize("kind", ["refuses", "silent", "gone"])
def test_a_key_without_a_server_that_takes_it_goes_on_offline_within_seconds(
    kind: str,
    server: str,
    silent: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = {"refuses": server, "silent": silent, "gone": "http://127.0.0.1:1"}[kind]
    monkeypatch.setenv("WANDB_BASE_URL", address)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(tracking, "PATIENCE", 1.0)
    before = time.monotonic()
    run = tracking.open_run(tmp_path / "run", "awing", "fit")
    run.finish()
    assert time.monotonic() - before < 60  # it was two minutes and a crash
    said = capsys.readouterr().err
    assert "W&B: offline (" in said and "wandb sync" in said and str(tmp_path) in said
    assert len(offline_runs(tmp_path / "run")) == 1


def test_names_of_the_environment_win_and_a_resumed_run_keeps_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_NAME", "first")
    run = tracking.open_run(tmp_path / "a" / "run", "awing", "fit")
    assert (run.project, run.name, run.group) == ("mine", "first", "awing")
    run.finish()
    again = tracking.open_run(tmp_path / "a" / "run", "awing", "fit", resume=True)
    again.finish()
    assert again.id == run.id == tracking.training_id(tmp_path / "a" / "run")


def test_a_server_that_accepts_gets_the_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accepting = StandIn()
    for name, value in (("BASE_URL", accepting.address), ("API_KEY", KEY), ("PROJECT", "mine"), ("NAME", "first"),
                        ("TAGS", "a,b"), ("NOTES", "why")):  # fmt: skip
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.delenv("WANDB_SILENT")
    logger = tracking.wandb_logger(tmp_path / "run", "awing", "fit", config={"dataset": "synthetic"})
    run = logger.experiment
    for step, error in enumerate((9.0, 5.0, 7.0)):
        logger.log_metrics({"val/nme": error}, step)
    tracking.close([logger], {"best/nme": 5.0})
    accepting.close()
    assert capsys.readouterr().err == f"W&B: online, {accepting.address}/me/mine/runs/{run.id}\n"
    began = accepting.runs[0]
    assert {key: began[key] for key in ("name", "project", "displayName", "groupName", "jobType", "tags", "notes")} == {
        "name": run.id, "project": "mine", "displayName": "first", "groupName": "awing", "jobType": "fit",
        "tags": ["a", "b"], "notes": "why",
    }  # fmt: skip
    assert json.loads(began["config"])["dataset"]["value"] == "synthetic"
    assert [row["val/nme"] for row in accepting.rows if "val/nme" in row] == [9.0, 5.0, 7.0]
    assert accepting.summary["best/nme"] == 5.0 and accepting.summary["val/nme"] == {"min": 5.0}


def trial_words(values: dict[str, Any]) -> list[str]:
    """Return the words by which wandb's agent starts a trial of the example."""
    from wandb.sdk.launch.sweeps import utils

    sweep = yaml.safe_load((ROOT / "examples" / "sweep.yaml").read_text())
    assert sweep["metric"] == {"name": "best/nme", "goal": "minimize"} and values.keys() == sweep["parameters"].keys()
    args = utils.create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
    known = {"${program}": [sweep["program"]], "${args}": args["args"]}
    return [found for word in utils.create_sweep_command(sweep["command"]) for found in known.get(word, [word])]


@pytest.mark.slow
def test_the_example_of_a_sweep_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.chdir(tmp_path)
    words = trial_words({"model.train.lr": 0.002, "model.width": 16, "model.decode": "window"})
    assert words[:4] == ["python", "-m", "awing.cli", "fit"]
    for trial in ("one", "two"):  # in folders of their own, since the second would be refused in that of the first
        monkeypatch.setenv("WANDB_RUN_ID", trial)
        words = [word.replace("awing/smoke.yaml", "smoke") for word in words]
        run = main([*words[3:], *(word for word in TINY[2:])])
        assert run.model.train_config.lr == 0.002
        (training,) = offline_runs(tmp_path / "runs/sweep" / trial)
        assert training.name.endswith(f"-{trial}") and history(training)[2]["best/nme"] > 0


def records(content: bytes) -> Iterator[bytes]:
    """Yield the records of wandb's file: a header of 7 bytes, then a LevelDB log in blocks of 32 KiB."""
    place, record = 7, b""
    while place + 7 <= len(content):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def messages(folder: Path) -> Iterator[Any]:
    """Yield what wandb wrote of an offline run."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    wandb.teardown()  # its process writes the file, and has not done so when the run ends
    for data in records(next(folder.glob("*.wandb")).read_bytes()):
        record = Record()
        record.ParseFromString(data)
        yield record


def artifacts(folder: Path) -> set[str]:
    """Return the names of the files that an offline run keeps as artifacts of type model."""
    found = [record.artifact for record in messages(folder)]
    found += [record.request.log_artifact.artifact for record in messages(folder)]
    return {artifact.name for artifact in found if artifact.type == "model"}


def history(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Return rows, configuration and summary of an offline run from wandb's own file."""
    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for record in messages(folder):
        rows += [{item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}]
        for part in (record.run.config.update, record.config.update):
            config |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in part}
        for part in (record.run.summary.update, record.summary.update):
            summary |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in part}
    return [row for row in rows if row], config, summary


def test_a_run_logs_steps_configuration_and_its_best_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "run"
    main(["fit", *TINY, "--run", str(folder), "--trainer.log_every_n_steps", "1", "--upload_checkpoints", "true"])
    said = capsys.readouterr()
    assert "epoch 1 of 1: loss " in said.out and "val NME" in said.out and "best NME" in said.out
    assert said.err.startswith("W&B: offline, in ") and said.err.count("\n") == 1
    (training,) = offline_runs(folder)
    rows, config, summary = history(training)
    keys = set().union(*rows)
    assert {"step/loss", "step/lr", "step/gradient_norm", "step/faces_per_second", "val/nme", "train/loss"} <= keys
    assert len([row for row in rows if "step/loss" in row]) == 3
    assert config["cli"]["data"]["synthetic"]["train_count"] == 24 and config["dataset"] == "synthetic"
    assert summary["best/nme"] > 0 and summary["best/epoch"] == 1
    assert artifacts(training) == {f"model-{tracking.training_id(folder)}"}
    results = json.loads((folder / "results.json").read_text())
    assert results["fit"]["val_nme"] == pytest.approx(summary["best/nme"]) and results["fit"]["commit"]
    assert results["fit"]["command"].startswith("python -m awing.cli fit --config smoke")

    name = f"python -m awing.cli test --config {folder}/config.yaml --run {folder} --ckpt_path best"
    assert name in said.out
    main(name.split()[3:])
    shown = capsys.readouterr().out
    assert "95 % interval" in shown and "FR10" in shown and "all" in shown
    (tested,) = set(offline_runs(folder)) - {training}
    _, config, _ = history(tested)
    assert config["dataset"] == "synthetic" and config["checkpoint"] == str(folder / "checkpoints" / "best.ckpt")
    assert config["training_run"] == tracking.training_id(folder) and config["training_run"] in training.name
    assert config["cli"]["data"]["synthetic"]["test_count"] == 4
    assert set(json.loads((folder / "results.json").read_text())) == {"fit", "test"}
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["synthetic"]["train_count"] == 24


def test_a_start_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for wrong in (["--data.dataset", "wflw"], ["--init_from", "none.ckpt"], ["--trainer.strategy", "nosuch"]):
        with pytest.raises(SystemExit):
            main(["fit", *TINY, "--run", str(tmp_path / "run"), *wrong])
        assert not (tmp_path / "run").exists(), wrong
