"""The one error type that users are meant to read.

Whatever a user can get wrong (a path, a file's content, a configuration value) raises `LabError` with one line that
says what is wrong, where (file and line) and what to do. Command lines print that line and exit with a code other
than 0, and so they do where the system refuses a file; anything else that is raised is a defect of the project and
keeps its traceback.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

Given = ParamSpec("Given")
USER_ERROR = 2  # exit code, the same as argparse's


class LabError(Exception):
    """A user's mistake or a damaged file, told in one line."""

    def __init__(self, message: str) -> None:
        if message.startswith("Caught LabError in "):  # made again by torch, from the traceback of a loader's process
            message = message.rpartition("LabError: ")[2]
        super().__init__(" ".join(message.split()))


def command(main: Callable[Given, int]) -> Callable[Given, int]:
    """Return a command line's main function that tells a user's mistake in one line and answers `USER_ERROR`.

    The same for a file that the system refuses (no permission, no room, a folder in its place).
    """

    @functools.wraps(main)
    def told(*args: Given.args, **more: Given.kwargs) -> int:
        try:
            return main(*args, **more)
        except LabError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            if error.filename is None:
                raise
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return USER_ERROR

    return told
