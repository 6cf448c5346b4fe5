"""What held when it was tried, run as users run it: batches of one face, Lightning's callbacks, 300W's evaluation."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import pytest

from awing.cli import main
from common.data.synthetic import SyntheticFaces
from common.methods import METHODS
from common.packing import describe
from tests.integration.test_cli import TINY, curve
from tests.test_recipes_run import SMALL

ONE = ("--data.num_workers", "0", "--track", "false", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1",
       "--trainer.enable_progress_bar", "false", "--data.synthetic.store", "null")  # fmt: skip
FEW = [*TINY, "--data.train_count", "8", "--data.val_count", "2", "--data.batch_size", "4", "--data.crop.size", "48"]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("faces", "batch", "steps"), [(2, 1, 2), (1, 16, 1), (3, 2, 1)])
def test_batches_of_one_face_train_and_are_validated(
    name: str, faces: int, batch: int, steps: int, tmp_path: Path
) -> None:
    """Every batch or the only one of training (the last one of several is left out), the last one of validation."""
    method, more = METHODS[name], ["--model.stage_epochs", "[]"] if name == "spiga" else []
    found = method.main()([
        "fit", "--config", "smoke", *ONE, *SMALL[name], *more, "--run", str(tmp_path / "run"),
        "--data.batch_size", str(batch), "--data.eval_batch_size", "2",
        "--data.synthetic.train_count", str(faces), "--data.synthetic.val_count", "3",
    ])  # fmt: skip
    assert found.trainer.global_step == steps
    assert found.model.evaluation is not None and len(found.model.evaluation.ids) == 3


def fit(folder: Path, *more: str) -> Any:
    return main(["fit", *FEW, "--run", str(folder), *more])


def test_a_run_stops_early_in_a_folder_with_blanks_and_accents(tmp_path: Path) -> None:
    folder = tmp_path / "ein Lauf é"
    run = fit(
        folder, "--trainer.max_epochs", "6",
        "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/nme",
        "--trainer.callbacks.min_delta=1000", "--trainer.callbacks.patience=1",
        "--trainer.callbacks+=LearningRateMonitor", "--trainer.callbacks.logging_interval=epoch",
    )  # fmt: skip
    assert sorted(curve(folder)) == [0, 1] and (folder / "checkpoints/last.ckpt").is_file()
    assert run.trainer.current_epoch == 2, "the second epoch is not better by 1000 %"
    with next(folder.glob("logs/version_*/metrics.csv")).open() as file:
        assert any(name.startswith("lr-") for name in csv.DictReader(file).fieldnames or ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "steps"),
    [
        # The first steps once more for its averages; the finder's last one takes batches of the two faces it may try.
        (["+=StochasticWeightAveraging", ".swa_lrs=1e-3", ".swa_epoch_start=1"], 7),
        (["+=lightning.pytorch.callbacks.EMAWeightAveraging", ".decay=0.9"], 6),
        (["+=BatchSizeFinder", ".mode=power", ".max_trials=1", ".steps_per_trial=1", ".init_val=2"], 12),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_callbacks_of_lightning_run(words: list[str], steps: int, tmp_path: Path) -> None:
    run = fit(tmp_path, "--trainer.max_epochs", "3", *(f"--trainer.callbacks{word}" for word in words))
    name = words[0].rpartition(".")[2].removeprefix("+=")
    assert name in [type(callback).__name__ for callback in run.trainer.callbacks]
    assert run.trainer.global_step == steps and (tmp_path / "checkpoints/last.ckpt").is_file()


@pytest.mark.slow
def test_overfitting_one_batch_without_a_logger(tmp_path: Path) -> None:
    run = fit(tmp_path, "--trainer.max_epochs", "3", "--trainer.overfit_batches", "1", "--trainer.logger", "false")
    assert run.trainer.global_step == 3 and (tmp_path / "checkpoints/last.ckpt").is_file()
    assert not (tmp_path / "logs").exists()


def test_embedded_weights_are_tested_on_300w_s_tree(tmp_path: Path) -> None:
    """The README's command of AWing: full, common and challenging faces in one table, by the weights' own crop."""
    faces, index = SyntheticFaces(4, scheme="ibug68", seed=3), 0
    for part, count in (("helen/testset", 2), ("lfpw/testset", 1), ("ibug", 1)):
        (tmp_path / part).mkdir(parents=True)
        for _ in range(count):
            sample, stem = faces[index], tmp_path / part / f"{index}"
            cv2.imwrite(str(stem.with_suffix(".jpg")), sample.image[..., ::-1])
            rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in (sample.points + 1).tolist())
            stem.with_suffix(".pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
            index += 1
    weights = METHODS["awing"].folder / "weights/helen_ema.safetensors"
    run = main(["test", "--config", "awing/w300.yaml", "--ckpt_path", str(weights), "--data.root", str(tmp_path),
                "--data.num_workers", "0", "--track", "false", "--run", str(tmp_path / "run"),
                "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"])  # fmt: skip
    found = {key: float(value) for key, value in run.trainer.callback_metrics.items()}
    own = describe(weights).crop
    assert own is not None and run.datamodule.crop.size == own.size and run.datamodule.crop.box_scale == own.box_scale
    assert 0 < found["test/challenge/nme"] < 8, "drawn faces, found by a network of photographs"
    whole = 3 * found["test/common/nme"] + found["test/challenge/nme"]
    assert found["test/nme"] == pytest.approx(whole / 4, rel=1e-4)
