"""The commands that users type, called as functions, with what they can get wrong."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from awing.cli import main
from awing.module import AWingTask
from common.files.checkpoints import save_safetensors
from common.types import FaceBatch

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--config", str(ROOT / "awing/smoke.yaml"), "--data.crop.size", "64", "--model.width", "16", "--model.stacks", "1",
    "--model.depth", "2", "--data.num_workers", "0", "--data.train_count", "32", "--data.val_count", "8",
    "--data.test_count", "8", "--data.batch_size", "8", "--trainer.accelerator", "cpu", "--track", "false",
    "--trainer.enable_progress_bar", "false", "--model.train.channels_last", "false", "--trainer.deterministic", "true",
]  # fmt: skip


def tiny(folder: Path, *more: str) -> list[str]:
    return [*TINY, "--run", str(folder), *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    main(["fit", *tiny(folder, "--trainer.max_epochs", "2")])
    return folder


def curve(folder: Path) -> dict[int, float]:
    """Return epoch -> validation NME from all CSV logs of a run."""
    values: dict[int, float] = {}
    for path in sorted(folder.glob("logs/version_*/metrics.csv")):
        with path.open() as file:
            for row in csv.DictReader(file):
                if row.get("val/nme"):
                    values[int(row["epoch"])] = float(row["val/nme"])
    return values


def test_fit_leaves_checkpoints_config_curve_and_pictures(trained: Path) -> None:
    assert (trained / "checkpoints/best.ckpt").is_file() and (trained / "checkpoints/last.ckpt").is_file()
    assert "width: 16" in (trained / "config.yaml").read_text()
    assert sorted(curve(trained)) == [0, 1]
    assert list((trained / "pictures").glob("val-*.png"))


def test_validate_test_and_predict_on_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    ckpt = str(trained / "checkpoints/last.ckpt")
    found = main(["validate", *tiny(tmp_path, "--ckpt_path", ckpt)])
    assert float(found.trainer.callback_metrics["val/nme"]) == pytest.approx(curve(trained)[1], rel=1e-5)
    tested = main(["test", *tiny(tmp_path, "--ckpt_path", ckpt)])
    metrics = tested.trainer.callback_metrics
    assert {"test/nme", "test/fr", "test/auc"} <= set(metrics)
    record = np.load(tmp_path / "test_predictions.npz")
    assert record["points"].shape == (8, 68, 2)
    assert record["nme"].mean() == pytest.approx(float(metrics["test/nme"]), rel=1e-5)
    main(["predict", *tiny(tmp_path, "--ckpt_path", ckpt)])
    assert not (tmp_path / "logs").exists()  # each left a folder
    predicted = np.load(tmp_path / "predictions.npz")
    np.testing.assert_allclose(predicted["points"], record["points"], atol=1e-4)


def test_the_trainers_folder_is_the_runs_when_no_run_is_named(tmp_path: Path) -> None:
    main(["fit", *TINY, "--trainer.default_root_dir", str(tmp_path / "mine"), "--trainer.max_epochs", "1"])
    assert (tmp_path / "mine/checkpoints/last.ckpt").is_file() and (tmp_path / "mine/config.yaml").is_file()


def test_warm_start_takes_the_weights(trained: Path, tmp_path: Path) -> None:
    """With learning rate 0 the weights after one epoch are those of the file."""
    ckpt = trained / "checkpoints/last.ckpt"
    more = (
        "--init_from",
        str(ckpt),
        "--trainer.max_epochs",
        "1",
        "--model.train.lr",
        "0",
        "--model.train.weight_decay",
        "0",
    )
    run = main(["fit", *tiny(tmp_path, *more)])
    state = torch.load(ckpt, weights_only=True)["state_dict"]
    for name, parameter in run.model.named_parameters():
        assert torch.equal(parameter.detach(), state[name]), name


def test_several_files_fill_each_others_gaps(trained: Path, tmp_path: Path) -> None:
    """The first file's weights count; what it lacks comes from the second."""
    ckpt = trained / "checkpoints/last.ckpt"
    content = torch.load(ckpt, weights_only=True)
    whole = content["state_dict"]
    names = [name for name in whole if name.endswith(".weight")][:3]
    part = {name: whole[name] + 1 for name in names}
    first = tmp_path / "first.ckpt"
    torch.save({**content, "state_dict": part}, first)
    more = ("--init_from", f"[{first},{ckpt}]", "--trainer.max_epochs", "1", "--model.train.lr", "0",
            "--model.train.weight_decay", "0")  # fmt: skip
    run = main(["fit", *tiny(tmp_path / "run", *more)])
    for name, parameter in run.model.named_parameters():
        assert torch.equal(parameter.detach(), part.get(name, whole[name])), name


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--model.no_such_key", "3"], "no_such_key"),
        (["--config", "missing.yaml"], "missing.yaml: no such configuration file"),
        (["--data.dataset", "crops"], "needs its folder: give --data.root"),
        (["--data.dataset", "crops", "--data.root", "/no/such/folder"], "/no/such/folder: no such folder"),
        (["--data.dataset", "lfw"], "--data.dataset must be one of"),
        (["--ckpt_path", "none.ckpt"], "none.ckpt: checkpoint is missing"),
        (["--init_from", "none.ckpt"], "none.ckpt: weights to start from are missing"),
        (["--data.scheme", "dlib5"], "dlib5"),
        (["--model.decode", "best"], "model.decode"),
        (["--data.crop.size", "60"], "input_size must be a multiple of 16"),
        (["--weights_only", "false"], "weights_only: false would let a checkpoint run code"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(
    more: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", *tiny(tmp_path / "run", *more)])
    assert stop.value.code not in (0, None)
    message = capsys.readouterr().err
    assert text in message
    assert "Traceback" not in message
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_checkpoint_of_another_method_and_truncated_one(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    content["method"] = "other"
    torch.save(content, tmp_path / "other.ckpt")
    data = (trained / "checkpoints/last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(data[: len(data) // 2])
    for name, text in (("other.ckpt", "is a checkpoint of method other, not of awing"), ("half.ckpt", "truncated")):
        with pytest.raises(SystemExit) as stop:
            main(["test", *tiny(tmp_path / "run", "--ckpt_path", str(tmp_path / name))])
        assert stop.value.code == 2
        assert text in capsys.readouterr().err


def test_a_recipe_cannot_switch_safe_loading_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`weights_only: false` with `ckpt_path: last` ran what the pickle of the run's last.ckpt said."""

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    torch.save({"state_dict": Bomb()}, last)
    recipe = tmp_path / "own.yaml"
    for text, said in (("weights_only: false\n", "weights_only: false would let"), ("", "refused, since this pickle")):
        recipe.write_text(f"{text}ckpt_path: last\n")
        with pytest.raises(SystemExit) as stop:
            main(["test", *tiny(tmp_path / "run", "--config", str(recipe))])
        (line,) = capsys.readouterr().err.splitlines()
        assert stop.value.code == 2 and said in line and not (tmp_path / "ran").exists()


def test_wandb_is_offline_and_asks_nothing(tmp_path: Path) -> None:
    args = [word for word in tiny(tmp_path, "--trainer.max_epochs", "1")]
    args[args.index("--track") + 1] = "true"
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "awing.cli", "fit", *args], cwd=ROOT, env=env,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.glob("wandb/offline-run-*"))


def test_killed_and_resumed_run_gives_the_same_curve(tmp_path: Path) -> None:
    """Signal 9 in the middle of an epoch, then a resume from last.ckpt: the validation curve does not change."""
    epochs = ("--trainer.max_epochs", "4", "--data.train_count", "64", "--data.batch_size", "4")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    main(["fit", *tiny(whole, *epochs)])
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "WANDB_MODE": "disabled"}
    command = [sys.executable, "-m", "awing.cli", "fit", *tiny(broken, *epochs)]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last, deadline = broken / "checkpoints/last.ckpt", time.monotonic() + 200
    while not last.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    time.sleep(0.3)  # some way into the next epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists()
    main(["fit", *tiny(broken, *epochs, "--ckpt_path", str(last))])
    assert sorted(curve(whole)) == [0, 1, 2, 3]
    assert {k: v for k, v in curve(broken).items()} == {k: curve(whole)[k] for k in curve(broken)}
    assert max(curve(broken)) == 3


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line by which a command is refused."""
    with pytest.raises(SystemExit) as stop:
        main(args)
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and said.startswith("error: ") and "\n" not in said, said
    return said


def test_what_is_typed_wins_over_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    ckpt = str(trained / "checkpoints/last.ckpt")
    bare = ["test", "--data.train_count", "8", "--data.test_count", "8", "--data.num_workers", "0", "--track", "false",
            "--run", str(tmp_path), "--ckpt_path", ckpt, "--trainer.enable_progress_bar", "false"]  # fmt: skip
    run = main([*bare, "--model.threshold", "500"])
    assert run.model.threshold == 500 and run.model.train_config.lr == 4e-3
    assert run.datamodule.crop.size == 64 and run.datamodule.crop.box_scale == 1.28  # the checkpoint's, not defaults
    assert main([*bare, "--data.crop.size", "96", "--data.crop.box_scale", "1.5"]).datamodule.crop.box_scale == 1.5


def test_the_box_that_a_network_was_trained_on_is_kept(trained: Path, tmp_path: Path) -> None:
    """In the checkpoint beside the crop; files of former versions keep it in the crop."""
    ckpt = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    assert ckpt["data"].pop("box") == "dataset"
    for name, data in (("box", {"box": "gt"}), ("former", {"crop": ckpt["data"]["crop"] | {"box": "gt"}})):
        path = tmp_path / f"{name}.ckpt"
        torch.save(ckpt | {"data": ckpt["data"] | data}, path)
        command = ["test", *tiny(tmp_path / name, "--ckpt_path", str(path), "--trainer.limit_test_batches", "1")]
        assert main(command).datamodule.box == "gt"
        assert main([*command, "--data.box", "dataset"]).datamodule.box == "dataset", "what is typed wins"


def test_what_the_checkpoint_s_network_forbids_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ckpt = str(trained / "checkpoints/last.ckpt")
    said = refused(["test", *tiny(tmp_path, "--ckpt_path", ckpt, "--data.scheme", "wflw98")], capsys)
    assert "do not fit this network" in said


def test_weights_must_be_named_and_keywords_are_the_run_s_own(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("validate", "test", "predict"):
        assert "needs weights" in refused([command, *tiny(tmp_path)], capsys)
        assert "best.ckpt: checkpoint is missing" in refused([command, *tiny(tmp_path, "--ckpt_path", "best")], capsys)
    assert main(["validate", *tiny(trained, "--ckpt_path", "best")]).trainer.callback_metrics["val/nme"] > 0


def test_a_run_is_not_overwritten_in_silence(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "checkpoints/last.ckpt").read_bytes()
    said = refused(["fit", *tiny(trained, "--trainer.max_epochs", "1")], capsys)
    assert str(trained) in said and "--resume" in said and "--overwrite" in said
    again = ["fit", "--config", str(trained / "config.yaml"), "--run", str(tmp_path), "--trainer.max_epochs", "1"]
    main(again)
    assert (tmp_path / "checkpoints/last.ckpt").is_file()
    assert (trained / "checkpoints/last.ckpt").read_bytes() == before
    main(["fit", *tiny(tmp_path, "--trainer.max_epochs", "2", "--resume")])
    assert sorted(curve(tmp_path)) == [0, 1]


def test_abbreviations_former_names_and_repeated_keys(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["fit", *tiny(tmp_path, "--model.stack", "1")])
    assert "model.stack" in capsys.readouterr().err
    path = tmp_path / "twice.yaml"
    path.write_text("model:\n  width: 16\ndata: {}\nmodel:\n  depth: 2\n")
    said = refused(["fit", "--config", str(path)], capsys)
    assert "key model is given twice, in lines 1 and 4" in said
    path.write_text("model:\n  lr: 0.1\n")
    assert "model.lr is now model.train.lr" in refused(["fit", "--config", str(path)], capsys)
    with pytest.raises(SystemExit):
        main(["fit", *tiny(tmp_path, "--model.lr", "0.125", "--print_config")])
    assert "lr: 0.125" in capsys.readouterr().out


def test_bare_weights_and_other_formats(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    save_safetensors(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        found = main(["test", *tiny(tmp_path / "run", "--ckpt_path", str(tmp_path / name))])
        assert float(found.trainer.callback_metrics["test/nme"]) > 0
        said = refused(["fit", *tiny(tmp_path / "other", "--ckpt_path", str(tmp_path / name))], capsys)
        assert "start from it by --init_from" in said


def test_a_dry_run_writes_nothing(trained: Path, tmp_path: Path) -> None:
    ckpt = str(trained / "checkpoints/last.ckpt")
    main(["test", *tiny(tmp_path / "dry", "--ckpt_path", ckpt, "--trainer.fast_dev_run", "true")])
    assert not (tmp_path / "dry").exists()


def test_wrong_trainer_settings_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--trainer.strategy", "nosuch"], ["--trainer.devices", "0"]):
        assert "trainer: " in refused(["fit", *tiny(tmp_path, *more)], capsys)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_in_one_line(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training went on, and the checkpoints of a network of NaN replaced the good ones."""
    real, steps = AWingTask.training_loss, []

    def spoilt(task: AWingTask, batch: FaceBatch) -> dict[str, torch.Tensor]:
        parts = real(task, batch)
        steps.append(float(parts["loss"].detach()))
        return {**parts, "loss": parts["loss"] * value} if len(steps) == 2 else parts

    monkeypatch.setattr(AWingTask, "training_loss", spoilt)
    said = refused(["fit", *tiny(tmp_path / "run")], capsys)
    assert f"the training loss is {value} at step 1" in said and f"the last finite one was {steps[0]:.6g}" in said
    assert not list((tmp_path / "run").rglob("*.ckpt"))
