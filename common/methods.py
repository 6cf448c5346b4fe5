"""The one list of methods: what the installed packages declare, this project's and anyone's.

A package declares a method by an entry point of group `face_alignment_lab.methods` that names a `Method` object:

    [project.entry-points."face_alignment_lab.methods"]
    mine = "mine.method:METHOD"
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import LabError

if TYPE_CHECKING:  # a list of methods needs no torch
    from common.task import LandmarkTask

GROUP = "face_alignment_lab.methods"


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        name: its package; also written to its checkpoints.
        title: how tables call it.
        task: its LandmarkTask, as "module:class".
        cli: module with `main(args)`.
        recipes: name -> YAML, or the YAMLs of its stages, each of which starts from the weights of the one before;
            "smoke" is the one of `make benchmark`. Paths begin with the package.
        default: its embedded weights are those of `python -m common.predict`; one installed method says so.
    """

    name: str
    title: str
    task: str
    cli: str
    recipes: Mapping[str, str | tuple[str, ...]]
    default: bool = False

    @property
    def folder(self) -> Path:
        """Folder of its package."""
        file = importlib.import_module(self.name).__file__
        assert file is not None  # a package with an __init__.py
        return Path(file).resolve().parent

    def stages(self, recipe: str) -> tuple[str, ...]:
        """Return the YAML of each stage of a recipe."""
        files = self.recipes[recipe]
        return (files,) if isinstance(files, str) else tuple(files)

    def file(self, recipe: str) -> Path:
        """Return where a YAML of `recipes` is."""
        return self.folder.parent / recipe

    def weights(self) -> list[Path]:
        """Return the weights that come with the package."""
        return sorted(self.folder.glob("weights/*.safetensors"))

    def main(self) -> Callable[[list[str]], Any]:
        """Return its command line as a function."""
        return importlib.import_module(self.cli).main  # type: ignore[no-any-return]

    def task_class(self) -> type[LandmarkTask]:
        """Return its LandmarkTask."""
        module, _, name = self.task.partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


class Installed(Mapping[str, Method]):
    """Name -> method of all that are installed, in the order of names; read from the installation when first asked.

    Raises:
        LabError: none is installed, or one cannot be imported.
    """

    @cached_property
    def _found(self) -> dict[str, Method]:
        points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
        if not points:
            raise LabError("no method is installed, or the installation is older than their list: run "
                           "`pip install -e .` in the project's folder")  # fmt: skip
        return {point.name: _loaded(point) for point in points}

    def __getitem__(self, name: str) -> Method:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _loaded(point: EntryPoint) -> Method:
    source = point.dist.name if point.dist is not None else point.value
    try:
        method = point.load()
    except (ImportError, AttributeError) as error:
        raise LabError(f"method {point.name} of {source} cannot be imported ({error}); install it anew or remove it"
                       ) from None  # fmt: skip
    if not isinstance(method, Method) or method.name != point.name:
        raise LabError(f"{source}: entry point {point.name} of group {GROUP} must name a Method called {point.name}")
    return method


METHODS = Installed()


def method_weights(name: str) -> Path:
    """Return the weights that come with a method.

    Raises:
        LabError: there is no such method, or it has none.
    """
    found = METHODS[name].weights() if name in METHODS else []
    if not found:
        with_weights = ", ".join(method.name for method in METHODS.values() if method.weights())
        raise LabError(f"--method {name}: has no embedded weights (these have: {with_weights}); give --weights FILE")
    return found[0]


def default_weights() -> Path:
    """Return the weights of the method that says that it is the default.

    Raises:
        LabError: none does, or it has no weights.
    """
    for method in METHODS.values():
        if method.default and method.weights():
            return method.weights()[0]
    raise LabError("no default weights are embedded; give --weights FILE")


def get_method(name: str) -> Method:
    """Return a method.

    Raises:
        LabError: it is not installed.
    """
    if name not in METHODS:
        raise LabError(f"method {name[:40]!r} is not installed; known: {', '.join(METHODS)}")
    return METHODS[name]
