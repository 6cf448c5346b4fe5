"""What a method's command line does before any library is imported: help, version, recipes by name, stages in turn."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common import __version__
from common.errors import USER_ERROR, LabError
from common.methods import Method
from common.training.command import SUBCOMMANDS, commands

if TYPE_CHECKING:
    from common.training.cli import LandmarkCLI


# Options of glibc's allocator, by their numbers in malloc.h, and bytes from which on it gives memory back: never.
_KEPT = {-3: 2**30, -1: 2**31 - 1, -2: 2**28}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors free, for the next ones; return whether it does (glibc only).

    Else each large tensor is fresh memory, whose pages the system clears one by one: a third of a step where weights
    are large (`python -m benchmarks speed --train`). Results stay the same to the bit.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none that can be asked (Windows)
        return False
    return all([set_option(option, value) for option, value in _KEPT.items()])


def start(method: Method, args: Sequence[str] | None = None) -> LandmarkCLI:
    """Run a method's command line and return its last run (tests look at its trainer and model).

    A user's mistake is printed as one line, and the process ends with exit code 2.

    Args:
        method: whose command line.
        args: the words; None takes those of the process.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        if "--version" in words:
            print(f"face-alignment-lab {__version__}, {method.title}")
            raise SystemExit(0)
        if not words or {"-h", "--help"} & set(words):
            from common.training.help import show_help

            show_help(method, next((word for word in words if word in SUBCOMMANDS), None))
            raise SystemExit(0)
        runs = commands(method, ["--help" if word == "--help-all" else word for word in words])
        if "fit" in words:
            keep_freed_memory()
        from common.training.cli import run_command

        for index, run in enumerate(runs):
            if len(runs) > 1:
                print(f"stage {index + 1} of {len(runs)}: {run.stage}")
            found = run_command(method.task_class(), run)
        return found
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
