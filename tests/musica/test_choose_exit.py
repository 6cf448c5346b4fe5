"""Thresholds, the policy file, and the command that makes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import yaml

from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.evaluation import batches, load_data
from common.files.images import write_image
from common.files.recipes import read_recipe
from common.methods import METHODS
from common.packing import pack
from common.predict import main as predict
from common.prediction.inference import Predictor
from common.task import load_task, make_task
from musica.choose_exit import check_split, main
from musica.exit import (
    ExitPolicy,
    best_saving,
    choose,
    exit_iteration,
    failure_threshold,
    read_policy,
    sweep,
    usual_levels,
)
from musica.exit.records import augmented_batches
from musica.module import MusicaTask

SMALL: dict[str, Any] = {"net": {"patches": [30, 36, 45, 48, 54], "units": 16}, "train": {"ema": 0.9}}

EVEN = (1, 2, 3)  # multiply-adds after each iteration, where all cost the same


def records(faces: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return NME and predicted errors (n, 3): a hard half improves much, an easy half hardly."""
    rng = np.random.default_rng(0)
    hard = np.arange(faces) % 2 == 0
    nme = np.where(hard[:, None], [20.0, 12.0, 8.0], [4.0, 3.98, 3.97]) + rng.normal(size=(faces, 1)) * 0.1
    return nme, nme / 80 + rng.normal(size=nme.shape) * 1e-4


def test_sweep_scores_every_combination_by_hand() -> None:
    nme, predicted = records(8)
    found = sweep(nme, predicted, 4, EVEN)
    assert found.exit_below.shape == (16, 2)
    for thresholds, mean, iterations in zip(found.exit_below, found.nme, found.cost, strict=True):
        total, taken = 0.0, 0
        for face in range(8):
            for t in range(3):
                if t == 2 or predicted[face, t] < thresholds[t]:
                    total, taken = total + nme[face, t], taken + t + 1
                    break
        assert mean == pytest.approx(total / 8) and iterations == pytest.approx(taken / 8)
    assert found.cost.min() == 1 and found.cost.max() == 3
    assert found.nme[found.cost.argmax()] == pytest.approx(nme[:, 2].mean())


def test_cost_is_that_of_the_iterations_that_were_run() -> None:
    """Iterations need not cost alike: what counts is the sum up to the one after which a face leaves."""
    nme, predicted = records(8)
    costs = (9.0, 20.0, 100.0)
    found = sweep(nme, predicted, 4, costs)
    for thresholds, cost in zip(found.exit_below, found.cost, strict=True):
        assert cost == pytest.approx(np.array(costs)[exit_iteration(predicted, thresholds)].mean())
    two = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])  # without loss only the second face may leave, and at once
    assert best_saving(two, 0.0, costs) == pytest.approx((1 - 0.09) / 2)


def test_easy_faces_are_found() -> None:
    nme, predicted = records()
    found = sweep(nme, predicted, 21, EVEN)
    row = choose(found, nme[:, -1].mean(), 0.01)
    assert found.cost[row] == pytest.approx(2.0, abs=0.1)  # easy half after one, hard half after three
    assert found.nme[row] <= 1.01 * nme[:, -1].mean()
    cheaper = found.cost < found.cost[row] - 1e-9
    assert (found.nme[cheaper] > 1.01 * nme[:, -1].mean()).all()
    front = found.front()
    assert (np.diff(found.cost[front]) > 0).all() and (np.diff(found.nme[front]) < 0).all()


def test_no_rule_saves_more_than_the_one_that_knows_the_errors() -> None:
    nme, predicted = records()
    found = sweep(nme, predicted, 21, EVEN)
    for loss in (0.0, 0.01, 0.05, 0.2):
        saved = 1 - found.cost[choose(found, nme[:, -1].mean(), loss)] / 3
        assert best_saving(nme, loss, EVEN) >= saved - 1e-9
    two = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])  # mean 1; the second face may leave at once
    assert best_saving(two, 0.0, EVEN) == pytest.approx(1 / 3)
    assert best_saving(two, 0.5, EVEN) == pytest.approx(1 / 2)  # and the first after two, for 1 percent of two faces
    assert best_saving(two, 0.25, EVEN) == pytest.approx(5 / 12)  # half of that way: a bound, though no rule is there
    assert best_saving(two, 9.0, EVEN) == pytest.approx(2 / 3)


def test_exit_iteration() -> None:
    predicted = np.array([[0.1, 0.5, 0.5], [0.5, 0.1, 0.5], [0.5, 0.5, 0.5], [np.nan, 0.1, 0.0]])
    assert exit_iteration(predicted, np.array([0.2, 0.2])).tolist() == [0, 1, 2, 1]


def test_failure_threshold_splits_good_from_bad() -> None:
    nme = np.array([3.0, 4, 5, 20, 30])
    predicted = np.array([0.03, 0.04, 0.06, 0.2, 0.3])
    assert 0.06 < failure_threshold(nme, predicted, 8.0) < 0.2
    assert failure_threshold(nme, predicted, 50.0) == 0.3  # none failed: nothing seen is flagged


def test_a_longer_cascade_tries_fewer_thresholds_an_iteration() -> None:
    assert [usual_levels(iterations) for iterations in (2, 3, 4, 5)] == [41, 41, 41, 21]


def test_wrong_options_are_reported() -> None:
    nme, predicted = records(8)
    with pytest.raises(LabError, match="levels"):
        sweep(nme, predicted, 1, EVEN)
    with pytest.raises(LabError, match="no face"):
        sweep(nme[:0], predicted[:0], 4, EVEN)
    with pytest.raises(LabError, match="max_loss"):
        choose(sweep(nme, predicted, 4, EVEN), nme[:, -1].mean(), -0.9)


def test_policy_file_round_trip_and_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    policy = ExitPolicy((0.05, 0.04), 0.2, 3, "ibug68", {"faces": 126})
    policy.write(path)
    assert read_policy(path, 3, "ibug68") == policy
    for iterations, scheme in ((4, "ibug68"), (3, "wflw98")):
        with pytest.raises(LabError, match="was made for 3 iterations and scheme ibug68"):
            read_policy(path, iterations, scheme)
    with pytest.raises(LabError, match=r"ranks \(0, 0\).*has \(64, 32\)"):
        read_policy(path, 3, "ibug68", (64, 32))
    thin = replace(policy, ranks=(64, 32))
    thin.write(tmp_path / "thin.json")
    assert read_policy(tmp_path / "thin.json", 3, "ibug68", (64, 32)) == thin
    with pytest.raises(LabError, match=r"none.json: no such file; make it with `python -m musica.choose_exit`"):
        read_policy(tmp_path / "none.json", 3, "ibug68")
    content = json.loads(path.read_text())
    for wrong, text in (({"method": "other"}, "is a policy of method other"), ({"exit_below": "x"}, "exit_below: "),
                        ({"exit_below": [None, 1]}, r"exit_below\[0\]: "), ({"fail_above": "high"}, "fail_above: "),
                        ({"exit_below": [10**400, 1]}, r"exit_below\[0\]: "), ({"iterations": 1e999}, "iterations: "),
                        ({"exit_below": [float("nan"), 1]}, r"exit_below\[0\]: "), ({"iterations": "3"}, "iterat"),
                        ({"ranks": 3}, "ranks: "), ({"ranks": [1]}, "ranks"),
                        ({"ranks": ["a", 1]}, "ranks")):  # fmt: skip
        path.write_text(json.dumps(content | wrong))
        with pytest.raises(LabError, match=f"policy.json: {text}"):
            read_policy(path, 3, "ibug68")
    path.write_text("{\n oops")
    with pytest.raises(LabError, match=r"policy.json:2: is not valid JSON"):
        read_policy(path, 3, "ibug68")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a checkpoint as `fit` writes it, of a small network that moves faces at random, and its recipe."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    task = make_task(MusicaTask, {"scheme": "ibug68", "input_size": 96, **SMALL}, "test")
    for stage in task.net.stage_list:
        torch.nn.init.normal_(stage.output.weight, std=0.3)
        torch.nn.init.normal_(stage.hidden.weight, std=0.05)
        torch.nn.init.normal_(stage.conv2.weight, std=0.2)
        torch.nn.init.normal_(stage.conv1.weight, std=0.2)
    (folder / "checkpoints").mkdir()
    checkpoint = folder / "checkpoints" / "best.ckpt"
    content = {"state_dict": task.state_dict(), "hyper_parameters": task.settings(), "method": "musica",
               "pytorch-lightning_version": lightning.__version__, "epoch": 0, "global_step": 0}  # fmt: skip
    torch.save(content, checkpoint)
    recipe = folder / "recipe.yaml"
    crop = {"size": 96, "box_scale": 1.6}
    data = {"dataset": "synthetic", "scheme": "ibug68", "crop": crop, "val_count": 12, "test_count": 6,
            "train_count": 6, "num_workers": 0, "eval_batch_size": 6}  # fmt: skip
    recipe.write_text(yaml.safe_dump({"data": data, "model": SMALL}))
    return checkpoint, recipe


def test_command_makes_a_policy_that_predict_uses(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from musica.cli import main as cli

    checkpoint, recipe = trained
    out = tmp_path / "policy.json"
    arguments = [str(checkpoint), "--config", str(recipe), "--out", str(out), "--levels", "6", "--max_loss", "9",
                 "--timed", "3", "--repeats", "1"]  # fmt: skip
    assert main(arguments) == 0
    assert "multiply-adds" in capsys.readouterr().out
    policy = read_policy(out, 3, "ibug68")
    assert policy.chosen_on["faces"] == 12 and policy.chosen_on["copies"] == 8
    assert policy.chosen_on["macs_saved"] == pytest.approx(2 / 3)  # any loss is allowed: all leave at once
    assert out.with_suffix(".png").stat().st_size > 0
    curve = json.loads(out.with_suffix(".curve.json").read_text())
    assert {"nme", "macs", "ms_b1", "ms_b64"} <= set(curve["timed"][0])
    common = ["--config", str(recipe), "--ckpt_path", str(checkpoint), "--run", str(tmp_path / "run")]
    cli(["predict", *common, "--model.policy", str(out)])
    found = np.load(tmp_path / "run" / "predictions.npz", allow_pickle=False)
    assert found["iterations"].tolist() == [1] * 6 and found["points"].shape == (6, 68, 2)
    np.testing.assert_array_equal(found["failed"], ~(found["predicted_error"] <= policy.fail_above))
    cli(["predict", *common])
    full = np.load(tmp_path / "run" / "predictions.npz", allow_pickle=False)
    assert full["iterations"].tolist() == [3] * 6 and not full["failed"].any()
    assert not np.allclose(full["points"], found["points"])
    # The same by the command for pictures: its answers are those of the first iteration.
    packed, sample = tmp_path / "packed.safetensors", SyntheticFaces(1, scheme="ibug68", seed=2)[0]
    pack(checkpoint, packed, recipe)
    write_image(tmp_path / "face.png", sample.image)
    command = [str(tmp_path / "face.png"), "--weights", str(packed), "--no-pictures", "--overwrite", "--out",
               str(tmp_path), "--box", *map(str, sample.box.tolist())]  # fmt: skip
    points = []
    for more in ([], ["--set", f"policy={out}"]):
        assert predict([*command, *more]) == 0
        (entry,) = json.loads((tmp_path / "predictions.json").read_text())["pictures"]
        points.append(entry["faces"][0]["points"])
    whole = Predictor.load(packed, backend="eager")(sample.image, sample.box)
    np.testing.assert_allclose(points, [whole.points[0], whole.steps[0][0]], atol=1e-3)
    command.remove("--overwrite")
    assert predict(command) == 2 and f"policy={out}" in capsys.readouterr().err, "not added to those with the exit"
    assert predict([*command, "--set", "policy=none.json"]) == 2
    assert predict([*command, "--set", "wings=2"]) == 2 and "no such setting" in capsys.readouterr().err


def test_the_embedded_policy_is_of_the_embedded_network() -> None:
    weights = METHODS["musica"].weights()[0]
    policy = weights.with_name("helen_thin_policy.json")
    predictor = Predictor.load(weights, settings={"policy": str(policy)})
    face = SyntheticFaces(1, scheme="ibug68", seed=2)[0]
    found, whole = predictor(face.image, face.box), Predictor.load(weights)(face.image, face.box)
    assert found.points.shape == (1, 68, 2)
    np.testing.assert_allclose(found.points, whole.points, atol=0.05 * float(face.box[2] - face.box[0]))
    chosen = read_policy(policy, 4, "ibug68", (64, 32)).chosen_on
    assert chosen["split"] == "val" and chosen["nme_loss"] <= chosen["max_loss"]


def test_copies_are_the_same_faces_slightly_augmented(trained: tuple[Path, Path]) -> None:
    checkpoint, recipe = trained
    task = load_task(MusicaTask, checkpoint)
    data = load_data(recipe, None, task)
    data.crop = replace(data.crop, rotation=20, shift=0.04, scale=0.12)
    plain, copies = list(batches(data, "val", 6)), list(augmented_batches(data, "val", 6, 2, 0.25))
    assert [ids for batch in copies for ids in batch.ids] == 2 * [ids for batch in plain for ids in batch.ids]
    turns = []
    for one, other in zip(2 * plain, copies, strict=True):
        assert torch.equal(one.image_points, other.image_points) and not torch.equal(one.image, other.image)
        turns += torch.atan2(other.to_image[:, 1, 0], other.to_image[:, 0, 0]).rad2deg().tolist()
    assert 2.5 < max(map(abs, turns)) <= 5 + 1e-3
    assert not torch.equal(copies[0].image, copies[2].image)  # another copy, other changes
    still = list(augmented_batches(data, "val", 6, 1, 0.0))
    assert all(torch.equal(one.image, other.image) for one, other in zip(plain, still, strict=True))


def test_command_reports_mistakes(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, recipe = trained
    assert main([str(checkpoint), "--config", str(recipe), "--split", "test"]) == 2
    assert "must not be chosen" in capsys.readouterr().err
    data = FaceDataModule("synthetic", scheme="ibug68", synthetic=SyntheticConfig(val_count=2, test_count=2))
    check_split(data, "val")
    shapes = np.random.default_rng(0).uniform(size=(2, 68, 2))
    data.faces = lambda split: SimpleNamespace(shapes=lambda: shapes.copy())  # type: ignore[assignment, method-assign, return-value]
    with pytest.raises(LabError, match="2 of its 2 faces are test faces"):
        check_split(data, "val")
    for wrong in (["--copies", "-1"], ["--copy_share", "1.5"]):
        assert main([str(checkpoint), "--config", str(recipe), *wrong]) == 2
        assert f"{wrong[0]} must be in" in capsys.readouterr().err
    assert main([str(tmp_path / "none.ckpt"), "--config", str(recipe)]) == 2
    assert "missing" in capsys.readouterr().err
    assert main([str(checkpoint), "--config", str(tmp_path / "none.yaml")]) == 2
    assert "no such configuration" in capsys.readouterr().err
    content = read_recipe(recipe)
    content["data"]["crop"]["size"] = 128
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(content))
    assert main([str(checkpoint), "--config", str(tmp_path / "other.yaml")]) == 2
    assert "128 px" in capsys.readouterr().err
