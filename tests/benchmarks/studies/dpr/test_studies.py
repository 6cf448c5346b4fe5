"""Ablation, embedding of weights with their card, and the README's figures, on tiny networks and drawn faces."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.studies.dpr import ablation, model_card, readme
from benchmarks.studies.dpr.ablation import stage_errors
from common import predict
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.evaluation import evaluate, load_data, read_config
from common.files.checkpoints import read_state_dict
from common.files.images import write_image
from common.methods import Method
from common.packing import read_metadata
from common.prediction import inference
from common.task import load_task
from dpr.module import DprTask

STRIDES = [1, 2, 2, 2, 2, 1, 1, 1]
NETWORK = {
    "face_size": 64,
    "part_size": 32,
    "face_strides": STRIDES,
    "part_strides": [1, 2, 2, 2, 1, 1, 1, 1],
}
MODEL: dict[str, Any] = {"stage": "glsr", "net": NETWORK, "loss": {"reinit_weight": 20.0}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one cell of an ablation by its command; return the folder."""
    folder = tmp_path_factory.mktemp("ablation")
    data = {"dataset": "synthetic", "scheme": "ibug68", "crop": {"size": 96, "box_scale": 1.5}, "train_count": 4,
            "val_count": 3, "test_count": 4, "num_workers": 0, "batch_size": 2}  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"data": data, "model": MODEL, "trainer": {"max_epochs": 1}}))
    assert ablation.main([*options(folder), "--cells", "error_driven"]) == 0
    return folder


def options(folder: Path) -> list[str]:
    return ["--config", str(folder / "recipe.yaml"), "--runs", str(folder / "runs"), "--out",
            str(folder / "record.jsonl"), "--set", "model.train.lr=0.002"]  # fmt: skip


def best(folder: Path) -> Path:
    return next((folder / "runs").glob("error_driven-seed0-*/checkpoints/best.ckpt"))


def test_a_cell_is_run_with_its_form_and_recorded_once(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = trained / "record.jsonl"
    (row,) = ablation.read_record(record)
    task = load_task(DprTask, best(trained))
    assert task.loss.weighting == "direct" == row["weighting"] and task.train_config.lr == 0.002
    errors = stage_errors(evaluate(task, load_data(best(trained).parents[1] / "config.yaml"), "val"))
    assert row["split"] == "val" and len(row["glsr"]["faces"]) == 3
    np.testing.assert_allclose(row["glsr"]["faces"], errors["glsr"], atol=1e-3)
    assert row["gsr"]["nme"] == pytest.approx(errors["gsr"].mean(), abs=1e-4)
    with record.open("a") as file:
        file.write('{"key": "broken o')
    assert ablation.main([*options(trained), "--cells", "error_driven"]) == 0
    assert "has a line already" in capsys.readouterr().out
    assert len(ablation.read_record(record)) == 1


def test_a_broken_cell_goes_on_and_another_recipe_is_another_cell(trained: Path) -> None:
    parsed = ablation.parse([*options(trained), "--cells", "plain"])
    run = best(trained).parents[1]
    assert ablation.arguments_of(parsed, "plain", 0, run)[-2:] == ["--ckpt_path", str(run / "checkpoints/last.ckpt")]
    assert "--ckpt_path" not in ablation.arguments_of(parsed, "plain", 0, trained / "none")
    keys = {ablation.key_of(parsed, cell, seed) for cell in ablation.CELLS for seed in (0, 1)}
    parsed.set = ["model.train.lr=0.003"]
    assert len(keys | {ablation.key_of(parsed, "plain", 0)}) == 2 * len(ablation.CELLS) + 1


def test_mistakes_are_one_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablation.main([*options(trained)[:-1], "nothing", "--cells", "plain"]) == 2
    assert "must be NAME=VALUE" in capsys.readouterr().err
    assert ablation.main(["--config", str(trained / "none.yaml")]) == 2
    assert model_card.main([str(trained / "none.ckpt"), "--config", str(trained / "recipe.yaml")]) == 2
    assert model_card.main([str(best(trained)), "--config", str(trained / "none.yaml")]) == 2
    assert readme.main(["--document", str(trained / "none.md")]) == 2
    assert "is missing" in capsys.readouterr().err


@pytest.mark.parametrize("better", ["gsr", "glsr"])
def test_the_better_stage_is_embedded_and_answers_as_the_checkpoint(
    trained: Path, better: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "project/dpr/weights"
    task = load_task(DprTask, best(trained))
    found = stage_errors(evaluate(task, load_data(best(trained).parents[1] / "config.yaml"), "val"))
    errors = {name: values + 100 * (name != better) for name, values in found.items()}
    monkeypatch.setattr(model_card, "stage_errors", lambda _: errors)
    assert model_card.main([str(best(trained)), "--out", str(out), "--name", "tiny"]) == 0
    text = (out / "README.md").read_text()
    assert text == capsys.readouterr().out[:-1]
    assert "was not scored" in text and "no photographs" in text and "epochs: 1" in text and str(trained) not in text
    (path,) = out.glob("*.safetensors")
    assert path.name == f"tiny_{better}.safetensors" and path.stat().st_size < model_card.LARGEST
    metadata = read_metadata(path)
    assert metadata["terms"] in text
    assert json.loads(metadata["scores"])["val"]["nme"] == pytest.approx(errors[better].mean())
    shown = {"gsr": True, "glsr": better == "glsr"}
    assert {name: f"| {errors[name].mean():.2f} " in text for name in errors} == shown
    local = [key for key in read_state_dict(path) if key.startswith(model_card.LOCAL)]
    assert bool(local) == (better == "glsr")
    sample = SyntheticFaces(1, scheme="ibug68", seed=5)[0]
    steps = dict(zip(("gsr", "glsr"), task.predict_image(sample.image, sample.box[None]).steps, strict=True))
    answer = inference.Predictor.load(path)(sample.image, sample.box[None])
    assert torch.equal(answer.points, steps[better])
    # The command of all methods finds the default by itself, and the box beside the photograph.
    monkeypatch.setattr(Method, "weights", lambda _: [path])
    write_image(tmp_path / "face.png", sample.image)
    (tmp_path / "face.rct").write_text(" ".join(str(value) for value in sample.box))
    assert predict.main([str(tmp_path / "face.png"), "--out", str(tmp_path / "drawn")]) == 0
    content = json.loads((tmp_path / "drawn/predictions.json").read_text())
    assert content["weights"] == path.name and (tmp_path / "drawn/face.landmarks.png").is_file()


def test_the_card_goes_back_to_the_first_run_and_keeps_its_terms(tmp_path: Path) -> None:
    runs = {"third": ("synthetic", "second"), "second": ("crops", "first"), "first": ("synthetic", "first")}
    for name, (dataset, start) in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(
            f"data: {{dataset: {dataset}}}\ninit_from: {tmp_path / start / 'checkpoints' / 'last.ckpt'}\n"
        )
    third = tmp_path / "third/config.yaml"
    found = model_card.ancestors(third)
    assert [content["data"]["dataset"] for content in found] == ["crops", "synthetic"], "and no circle"
    assert model_card.terms_of([read_config(third), *found]) == model_card.TERMS["crops"]
    (tmp_path / "first/config.yaml").unlink()
    assert len(model_card.ancestors(third)) == 1
    (tmp_path / "both").mkdir()
    both, starts = tmp_path / "both/config.yaml", [str(tmp_path / run / "checkpoints/x.ckpt") for run in runs]
    both.write_text(f"data: {{dataset: synthetic}}\ninit_from: {json.dumps(starts)}\n")
    assert [content["data"]["dataset"] for content in model_card.ancestors(both)] == ["synthetic", "crops"]


def test_too_large_weights_are_not_embedded(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_card, "LARGEST", 1000)
    with pytest.raises(LabError, match="stay under"):
        model_card.write_weights(load_task(DprTask, best(trained)), CropConfig(), trained / "large.safetensors", {})
    assert not (trained / "large.safetensors").exists()


def test_figures_are_those_of_the_records(tmp_path: Path) -> None:
    row = {"released_ms": 30.0, "fast_ms": 10.0, "ratio": 3.0, "fast_batch_ms": 5.0, "ratio_batch": 6.0}
    (tmp_path / "speed.json").write_text(json.dumps({"points": 98, "threads": 2, "gsr": row, "glsr": row}))
    cells = []
    for cell, shift in (("plain", 0.0), ("weighted", -0.5)):
        faces = [4.0 + shift, 6.0 + shift]
        cells.append({"key": cell, "cell": cell, "seed": 0, "split": "val", "recipe": "r.yaml", "set": [],
                      **ablation.CELLS[cell], "gsr": {"nme": 5.0 + shift, "faces": faces}})  # fmt: skip
    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in cells))
    document = tmp_path / "page.md"
    document.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    arguments = ["--speed", str(tmp_path / "speed.json"), "--ablation", str(tmp_path / "cells.jsonl"), "--document",
                 str(document)]  # fmt: skip
    assert readme.main(arguments) == 0
    text = re.sub(" +", " ", document.read_text())
    assert "| GSR | 30.0 | 10.0 | 3.0 | 5.0 | 6.0 |" in text and "old" not in text and text.endswith("\nafter\n")
    assert "| weighted | weighting inverse | GSR | 1 | 4.500 | -0.500 [-0.500, -0.500] |" in text
    (tmp_path / "cells.jsonl").unlink()
    assert readme.main(arguments) == 0 and re.sub(" +", " ", document.read_text()) == text, "figures are not dropped"
    (tmp_path / "speed.json").write_text("{}")
    assert readme.main(arguments) == 2
