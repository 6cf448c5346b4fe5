"""What the converters of official weights share: their result, its file, how official files are recognised, commands.

A converter (`python -m <paper>.convert IN OUT.safetensors`) writes weights that say what they are, so that
`python -m common.predict --weights OUT.safetensors photo.jpg --box X0 Y0 X1 Y1` places points as the official
implementation does, with its crop and its decoding (`<paper>/original.py`).
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from common.data.crops import CropConfig
from common.errors import LabError
from common.files.checkpoints import read_checkpoint, save_safetensors, state_of
from common.packing import Description

PARALLEL = "module."  # prefix of weights that were saved from several GPUs


@dataclass(frozen=True)
class OfficialFiles:
    """How a method's official files are recognised, and what to do with them.

    Attributes:
        method: name of the method's package.
        keys: patterns of entries, each of which only this method's files have.
        names: pattern of names of files that hold no PyTorch weights, or empty.
        usage: arguments of the converter after the official file.
        origin: where the files are to be had.
    """

    method: str
    keys: tuple[str, ...]
    origin: str
    names: str = ""
    usage: str = "OUT.safetensors"

    def command(self, path: Path) -> str:
        """Return the command that converts a file."""
        return f"python -m {self.method}.convert {path} {self.usage}"

    def fits(self, name: str, keys: Iterable[str]) -> bool:
        """Return whether a file of that name and with these entries is an official one."""
        if self.names and re.fullmatch(self.names, name):
            return True
        plain = {key.removeprefix(PARALLEL) for key in keys}
        return any(re.fullmatch(pattern, key) for pattern in self.keys for key in plain)


@dataclass(frozen=True)
class Converted:
    """Official weights in this project's terms.

    Attributes:
        method: name of the method's package.
        state: entries of the task, all of them unless `lacking` says what is missing.
        settings: arguments of the task that these weights need.
        crop: the common crop nearest to the official one, for evaluation on data sets.
        dropped: official entries that no network uses.
        lacking: what the user must still give before these weights can predict; empty if nothing.
    """

    method: str
    state: dict[str, Tensor]
    settings: dict[str, object]
    crop: CropConfig
    dropped: tuple[str, ...] = ()
    lacking: str = ""

    def write(self, target: Path, overwrite: bool = False) -> None:
        """Write the weights with what they are, whole or not at all.

        Raises:
            LabError: see `check_target`.
        """
        check_target(target, overwrite)
        about = Description(self.method, self.settings, self.crop, official=True).metadata()
        if self.lacking:
            about["lacking"] = self.lacking
        save_safetensors(self.state, target, about, overwrite=overwrite)


def check_target(target: Path, overwrite: bool) -> None:
    """Raise a LabError if the file has another ending, or exists and `overwrite` is off."""
    if target.suffix != ".safetensors":
        raise LabError(f"{target}: the converted file must be named .safetensors")
    if target.exists() and not overwrite:
        raise LabError(f"{target}: exists already; choose another name or add --overwrite")


def converter_parser(files: OfficialFiles, sources: str, several: bool = False) -> argparse.ArgumentParser:
    """Return a converter's command line.

    Args:
        files: the method's official files.
        sources: what is converted, for the help text.
        several: it takes several files.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {files.method}.convert",
        description="Convert official weights; the result works with python -m common.predict --weights.",
        epilog=f"The official files: {files.origin}. They are not part of this project: check them against the "
        "SHA-256 in THIRD_PARTY.md, or add it there.",
    )
    if several:
        parser.add_argument("sources", type=Path, nargs="+", help=sources)
    else:
        parser.add_argument("source", type=Path, help=sources)
    parser.add_argument("target", type=Path, help="file to write; .safetensors")
    parser.add_argument("--overwrite", action="store_true", help="replace the target if it exists")
    return parser


def conclude(found: Converted, target: Path, overwrite: bool) -> None:
    """Write converted weights and print what they are.

    Raises:
        LabError: see `Converted.write`.
    """
    found.write(target, overwrite)
    if found.dropped:
        print(f"{len(found.dropped)} entries that no network uses were dropped: {', '.join(found.dropped)}")
    print(f"{target}: {found.method}, " + ", ".join(f"{key} {value}" for key, value in found.settings.items()))
    if found.lacking:
        print(f"{target}: cannot predict yet: {found.lacking}")


def read_official(path: Path) -> dict[str, Tensor]:
    """Return the tensors of an official file of PyTorch.

    Raises:
        LabError: as `read_state_dict`; or a run of this project wrote it.
    """
    content = read_checkpoint(path)
    if "method" in content:
        raise LabError(f"{path}: is a checkpoint of this project's method {content['method']}, no official file; give "
                       "it to --weights as it is")  # fmt: skip
    return state_of(content, path)


def official_hint(path: Path, keys: Iterable[str], methods: Sequence[str]) -> str | None:
    """Return what to do with an unconverted official file of one of the methods; None if it is of none.

    Args:
        path: the file.
        keys: its entries; none where it is no file of PyTorch.
        methods: names of the methods' packages.
    """
    keys = list(keys)
    for method in methods:
        files: OfficialFiles | None = getattr(importlib.import_module(f"{method}.convert"), "FILES", None)
        if files is not None and files.fits(path.name, keys):
            return f"holds official weights of {method}, not converted yet: {files.command(path)}"
    return None
