"""Recipes are found by name, and are put together from what they are based on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from awing.method import METHOD as AWING
from common.errors import LabError
from common.files.recipes import BASE, find_recipe, merged, read_recipe, read_yaml
from common.methods import METHODS
from spiga.method import METHOD as SPIGA

ROOT = Path(__file__).resolve().parents[3]
FILES = [path for name in METHODS for path in sorted((ROOT / name).glob("*.yaml"))]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def same(below: dict[str, Any], above: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the keys that both have with the same value."""
    found = []
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            found += same(below[key], above[key], f"{prefix}{key}.")
        elif below[key] == above[key]:
            found.append(prefix + key)
    return found


def test_sections_are_merged_and_other_values_replaced(tmp_path: Path) -> None:
    write(tmp_path / "first.yaml", "model: {stacks: 4, train: {milestones: [1, 2], lr: 1.0}}\n")
    write(tmp_path / "second.yaml", "model: {train: {lr: 2.0}}\ndata: {dataset: json}\n")
    path = write(
        tmp_path / "own.yaml", "base: [first.yaml, second.yaml, data/w300.yaml]\nmodel: {train: {milestones: [3]}}"
    )
    assert read_recipe(path) == {
        "model": {"stacks": 4, "train": {"milestones": [3], "lr": 2.0}},
        "data": {"dataset": "w300", "scheme": "ibug68", "num_workers": 8},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base: none.yaml\n", "own.yaml: its base none.yaml is missing"),
        ("base: own.yaml\n", "own.yaml: is based on itself"),
        ("model: {a: 1, a: 2}\n", "key a is given twice"),
        ("- 1\n", "holds no keys"),
        ("model: [\n", "own.yaml:2: is not valid YAML"),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=said.replace(".", r"\.")):
        read_recipe(write(tmp_path / "own.yaml", text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_recipes_hold_differences_only(path: Path) -> None:
    content = read_yaml(path)
    bases = content.pop(BASE, [])
    below: dict[str, Any] = {}
    for name in [bases] if isinstance(bases, str) else bases:
        beside = path.parent / name
        below = merged(below, read_recipe(beside if beside.is_file() else ROOT / "common" / "configs" / name))
    assert not same(below, content)


def test_recipes_are_found_by_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("helen", AWING) == [ROOT / "awing/helen.yaml"]
    for name in ("stage3", "stage3.yaml", "spiga/stage3.yaml"):
        assert find_recipe(name, SPIGA) == [ROOT / "spiga/stage3.yaml"]
    assert [path.name for path in find_recipe("wflw", SPIGA)] == ["stage1.yaml", "stage2.yaml", "stage3.yaml"]
    write(tmp_path / "helen.yaml", "data: {}\n")
    assert find_recipe("helen.yaml", AWING) == [Path("helen.yaml")]
    with pytest.raises(LabError, match="smok: no such configuration file; did you mean smoke"):
        find_recipe("smok", AWING)
    with pytest.raises(LabError, match="awing has .*wflw"):
        find_recipe("../../etc/passwd", AWING)
