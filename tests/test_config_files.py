"""Every recipe that is shipped is parsed by the real command line, so that none rots."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from common.files.recipes import read_recipe

ROOT = Path(__file__).resolve().parents[1]
PAPERS = [name for name in ("spiga", "dpr", "musica", "awing", "sdu3d") if (ROOT / name / "cli.py").is_file()]
RECIPES = [f"{paper}/{path.name}" for paper in PAPERS for path in sorted((ROOT / paper).glob("*.yaml"))]


def leaves(tree: object, prefix: str = "") -> dict[str, object]:
    """Return dotted key -> value of a nested mapping."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    found: dict[str, object] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def printed(recipe: str, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, object]:
    """Return what `fit --print_config` says for a recipe."""
    main = importlib.import_module(f"{recipe.split('/')[0]}.cli").main
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(ROOT / recipe), *more, "--print_config"])
    captured = capsys.readouterr()
    assert stop.value.code in (0, None), captured.err
    return leaves(yaml.safe_load(captured.out))


def test_there_are_recipes() -> None:
    assert "awing/smoke.yaml" in RECIPES and "awing/wflw.yaml" in RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_accepted_and_every_value_of_it_arrives(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = leaves(read_recipe(ROOT / recipe))
    used = printed(recipe, capsys)
    lost = {key: (value, used.get(key)) for key, value in said.items() if used.get(key) != value}
    assert not lost


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_opens_with_a_comment(recipe: str) -> None:
    """The first line says which section or table of the paper it stands for, or that it stands for none."""
    assert (ROOT / recipe).read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("recipe", RECIPES)
def test_shared_defaults_reach_the_recipe(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    used = printed(recipe, capsys, "--trainer.max_epochs", "2")
    assert used["checkpoint.monitor"] == "val/nme"
    assert used["trainer.max_epochs"] == 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_key_that_does_not_exist_is_refused(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = read_recipe(ROOT / recipe)
    wrong["model"]["learnin_rate"] = 1
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    main = importlib.import_module(f"{recipe.split('/')[0]}.cli").main
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(tmp_path / "wrong.yaml"), "--print_config"])
    assert stop.value.code not in (0, None)
    assert "learnin_rate" in capsys.readouterr().err
