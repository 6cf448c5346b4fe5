"""Recipes: YAML files found by name from any folder, put together from the files that they are based on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import LabError
from common.files.validation import read_yaml
from common.methods import Method

CONFIGS = Path(__file__).parents[1] / "configs"
BASE = "base"  # the key under which a recipe names the files that it differs from


def merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, Any]:
    """Return both; where both have a key, sections are merged and any other value is the one above."""
    result = dict(below)
    for key, value in above.items():
        former = result.get(key)
        result[key] = merged(former, value) if isinstance(former, dict) and isinstance(value, dict) else value
    return result


def read_recipe(path: Path | str, inside: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return a recipe with all that it takes from its bases, which lie beside it or in `common/configs`.

    Args:
        path: the file.
        inside: files that are based on it.

    Raises:
        LabError: a file is missing, is no YAML, gives a key twice, or is based on itself.
    """
    path = Path(path)
    if not path.is_file():
        raise LabError(f"{path}: no such configuration file")
    if path.resolve() in inside:
        raise LabError(f"{path}: is based on itself")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise LabError(f"{path}: holds no keys; a recipe has sections data, model and trainer")
    bases = content.pop(BASE, None) or []
    result: dict[str, object] = {}
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(name, str) for name in bases):
        raise LabError(f"{path}: {BASE} must be the name of a file or a list of names")
    for name in bases:
        found = next((folder / name for folder in (path.parent, CONFIGS) if (folder / name).is_file()), None)
        if found is None:
            raise LabError(f"{path}: its base {name} is missing")
        result = merged(result, read_recipe(found, (*inside, path.resolve())))
    return merged(result, content)


def find_recipe(name: str, method: Method) -> list[Path]:
    """Return the file, or the files of all stages, that a word after --config means.

    It is a path, else the name of one of the method's recipes (wflw), else one of its files (stage3, stage3.yaml or
    METHOD/stage3.yaml), wherever the package is installed.

    Raises:
        LabError: there is none.
    """
    if Path(name).is_file():
        return [Path(name)]
    if name in method.recipes:
        return [method.file(stage) for stage in method.stages(name)]
    for file in (method.folder / name, method.folder / f"{name}.yaml", method.folder.parent / name):
        if name and file.is_file() and file.resolve().is_relative_to(method.folder.parent):
            return [file]
    files = [path.stem for path in sorted(method.folder.glob("*.yaml"))]
    near = difflib.get_close_matches(Path(name).stem, [*method.recipes, *files], 1)
    more = f"did you mean {near[0]}?" if near else f"{method.name} has {', '.join(sorted({*method.recipes, *files}))}"
    raise LabError(f"{name or '--config'}: no such configuration file; {more}")
