"""Every recipe takes two training steps, with a small network on drawn faces; the stages of one follow each other."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import pytest

from common.data.synthetic import SyntheticFaces
from common.files.checkpoints import read_checkpoint
from common.files.recipes import read_recipe
from common.methods import METHODS, Method
from common.schemes import get_scheme

TINY = (
    "--data.batch_size", "2", "--data.eval_batch_size", "2", "--data.num_workers", "0",
    "--data.synthetic.train_count", "4", "--data.synthetic.val_count", "2", "--data.synthetic.test_count", "2",
    "--data.synthetic.store", "null", "--data.eval_split", "null", "--data.train_split", "null",
    "--track", "false", "--trainer.accelerator", "cpu", "--trainer.limit_train_batches", "2",
    "--trainer.check_val_every_n_epoch", "1", "--trainer.enable_progress_bar", "false",
)  # fmt: skip
SMALL = {  # method -> what makes its networks small
    "awing": ("--model.stacks", "1", "--model.width", "16", "--model.depth", "2", "--data.crop.size", "64"),
    "spiga": ("--model.width", "32", "--model.depth", "2", "--model.graph.steps", "2", "--data.crop.size", "64"),
    "dpr": (),
    "musica": ("--model.net.units", "16"),
    "sdu3d": ("--model.net.width", "32", "--data.crop.size", "64"),
}


def files(method: Method) -> list[Path]:
    return sorted(method.folder.glob("*.yaml"))


def runs(method: Method) -> list[tuple[str, ...]]:
    """Return the YAMLs that are run one after the other: those of each recipe, and each that no recipe names."""
    staged = list(dict.fromkeys(method.stages(name) for name in method.recipes))
    named = {method.file(file) for stages in staged for file in stages}
    return [*staged, *((f"{method.name}/{file.name}",) for file in files(method) if file not in named)]


RUNS = [(name, stages) for name in METHODS for stages in runs(METHODS[name])]


def write_faces(folder: Path, scheme: str) -> None:
    """Write a table of faces for a scheme that the drawn faces do not have, with points of theirs."""
    names = get_scheme(scheme).names
    with (folder / "faces.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "split", *(f"{name}_{axis}" for name in names for axis in "xy")])
        for split, count, seed in (("train", 4, 1), ("val", 2, 2), ("test", 2, 3)):
            faces = SyntheticFaces(count, seed=seed)
            for index in range(count):
                cv2.imwrite(str(folder / f"{split}{index}.png"), faces[index].image[..., ::-1])
                points = faces[index].points[[point % 68 for point in range(len(names))]]
                table.writerow([f"{split}{index}.png", split, *points.reshape(-1).round(2).tolist()])


def data_words(recipe: dict[str, Any], folder: Path) -> tuple[str, ...]:
    """Return the options that put small data in the place of the recipe's."""
    scheme = recipe["data"]["scheme"]
    if recipe["model"].get("net", {}).get("depth_head"):
        return ("--data.dataset", "synthetic3d")
    if scheme in ("ibug68", "wflw98"):
        return ("--data.dataset", "synthetic")
    write_faces(folder, scheme)
    return ("--data.dataset", "csv", "--data.root", str(folder))


def test_every_recipe_is_among_them() -> None:
    named = {file for _, stages in RUNS for file in stages}
    assert named == {f"{name}/{file.name}" for name in METHODS for file in files(METHODS[name])}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stages"), RUNS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_recipe_takes_two_steps(name: str, stages: tuple[str, ...], tmp_path: Path) -> None:
    method, former = METHODS[name], None
    recipes = [read_recipe(method.file(file)) for file in stages]
    data = data_words(recipes[0], tmp_path)
    for recipe, file in zip(recipes, stages, strict=True):
        run = tmp_path / Path(file).stem
        epochs = sum([1 for _ in recipe["model"].get("stage_epochs", [])]) + 1
        words = ["--config", str(method.file(file)), *TINY, *SMALL[name], *data, "--run", str(run),
                 "--trainer.max_epochs", str(epochs)]  # fmt: skip
        if "stage_epochs" in recipe["model"]:
            words += ["--model.stage_epochs", "[1, 1]"]
        words += ["--init_from", str(former)] if former else ["--init_from", "null"]
        found = method.main()(["fit", *words])
        former = run / "checkpoints/last.ckpt"
        assert found.trainer.global_step == 2 * epochs and read_checkpoint(former)["global_step"] == 2 * epochs
        assert float(found.trainer.callback_metrics["val/nme"]) > 0
