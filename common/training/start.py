"""What a method's command line does before any library is imported: help, version, recipes by name, stages in turn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common import __version__
from common.errors import USER_ERROR, LabError
from common.methods import Method
from common.training.command import SUBCOMMANDS, commands

if TYPE_CHECKING:
    from common.training.cli import LandmarkCLI


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
        from common.training.cli import run_command

        for index, run in enumerate(runs):
            if len(runs) > 1:
                print(f"stage {index + 1} of {len(runs)}: {run.stage}")
            found = run_command(method.task_class(), run)
        return found
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
