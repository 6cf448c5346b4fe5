"""What a command line asks for: its subcommand, its recipe, and a run a stage."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import LabError
from common.files.recipes import find_recipe, merged, read_recipe
from common.methods import Method
from common.training.words import typed_keys

SUBCOMMANDS = {
    "fit": "train",
    "validate": "figures on the validation split",
    "test": "figures on the test split",
    "predict": "landmarks of the test split, to predictions.npz",
}
CONFIG = re.compile(r"(?:--config|-c)(?:=(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One run of a subcommand.

    Attributes:
        subcommand: fit, validate, test or predict.
        words: options, without --config.
        recipe: content of the files given by --config, put together.
        files: the files.
        shown: what was typed, for results.json.
    """

    subcommand: str
    words: tuple[str, ...] = ()
    recipe: dict[str, Any] | None = None
    files: tuple[Path, ...] = ()
    shown: str = ""

    @property
    def stage(self) -> str:
        """How the run's folder is called."""
        return self.files[-1].stem if self.files else "default"

    @property
    def typed(self) -> set[str]:
        """Dotted names of the options on the command line."""
        return typed_keys(list(self.words))

    def data_words(self) -> str:
        """Return the options that choose the data, as they were typed."""
        pairs = [f"{word} {value}" for word, value in zip(self.words, self.words[1:], strict=False)]
        return "".join(f" {pair}" for pair in pairs if re.match(r"--data\.(dataset|root|scheme) ", pair))

    def arguments(self) -> list[str]:
        """Return the words for the parser; it takes a configuration's text as it takes a file."""
        text = [] if self.recipe is None else ["--config", yaml.safe_dump(self.recipe, sort_keys=False)]
        return [self.subcommand, *text, *self.words]


def split_configs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the values of --config, and the other words."""
    configs: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        found = CONFIG.fullmatch(word)
        if found is None:
            others.append(word)
        else:
            configs.append(found[1] if found[1] is not None else next(rest, ""))
    return configs, others


def commands(method: Method, args: Sequence[str]) -> list[Command]:
    """Return the runs that a command line asks for: one, or one a stage where --config names a recipe of stages.

    Raises:
        LabError: the subcommand is unknown, or a recipe is missing or no YAML.
    """
    subcommand = args[0] if args else ""
    if subcommand not in SUBCOMMANDS:
        near = difflib.get_close_matches(subcommand, SUBCOMMANDS, 1)
        more = f"did you mean {near[0]}?" if near else f"known: {', '.join(SUBCOMMANDS)}"
        raise LabError(f"{subcommand or 'nothing'} is no subcommand; {more}")
    configs, words = split_configs(args[1:])
    found = [find_recipe(name, method) for name in configs]
    if subcommand != "fit":
        found = [files[-1:] for files in found]
    shown = " ".join(["python", "-m", method.cli, *args])
    runs = []
    for index in range(max(map(len, found), default=1)):
        files = tuple(files[min(index, len(files) - 1)] for files in found)
        recipe: dict[str, object] = {}
        for file in files:
            recipe = merged(recipe, read_recipe(file))
        runs.append(Command(subcommand, tuple(words), recipe if files else None, files, shown))
    return runs if len(runs) < 2 else [_as_stage(run, index) for index, run in enumerate(runs)]


def _as_stage(run: Command, index: int) -> Command:
    """Return the run of a stage: in a folder of its own inside --run, from the stage before it."""
    words, rest = [], iter(run.words)
    for word in rest:
        name, given, value = word.partition("=")
        if name not in ("--run", "--init_from"):
            words.append(word)
            continue
        value = value if given else next(rest, "")
        if name == "--run":
            words += ["--run", str(Path(value) / run.stage)]
        elif index == 0:
            words += ["--init_from", value]
    return Command(run.subcommand, tuple(words), run.recipe, run.files, run.shown)
