"""The one error type that users are meant to read.

Whatever a user can get wrong (a path, a file's content, a configuration value) raises `LabError` with one line that
says what is wrong, where (file and line) and what to do. Command lines print that line and exit with a code other
than 0, and so they do where the system refuses a file; anything else that is raised is a defect of the project and
keeps its traceback.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import ParamSpec

Given = ParamSpec("Given")
USER_ERROR = 2  # exit code, the same as argparse's
SEEDS = "[0, 4294967295]"  # what NumPy takes


class LabError(Exception):
    """A user's mistake or a damaged file, reported in one line."""

    def __init__(self, message: str) -> None:
        if message.startswith("Caught LabError in "):  # made again by torch, from the traceback of a loader's process
            message = message.rpartition("LabError: ")[2]
        super().__init__(" ".join(message.split()))


def check_range(what: str, value: object, interval: str) -> None:
    """Check a number, or each of several; None, which stands for no number, passes.

    Args:
        what: the option's name.
        value: given for it.
        interval: as in mathematics, such as "[0, 1)" or "(0, inf)"; NaN is in none.

    Raises:
        LabError: a number is not in the interval; names all three.
    """
    low, high = map(float, interval[1:-1].split(","))
    for number in value if isinstance(value, list | tuple) else (value,):
        if number is None or (low < number < high):
            continue
        if not (number == low and interval[0] == "[" or number == high and interval[-1] == "]"):
            raise LabError(f"{what} must be in {interval}, got {number}")


def check_ranges(group: str, settings: object, **intervals: str) -> None:
    """Check attributes, or values of a mapping, as `check_range` does; `group` stands before their names.

    Raises:
        LabError: a number is not in its interval.
    """
    for name, interval in intervals.items():
        value = settings[name] if isinstance(settings, Mapping) else getattr(settings, name)
        check_range(f"{group}.{name}", value, interval)


def command(main: Callable[Given, int]) -> Callable[Given, int]:
    """Return a command line's main function that reports a user's mistake in one line and returns `USER_ERROR`.

    The same for a file that the system refuses (no permission, no room, a folder in its place).
    """

    @functools.wraps(main)
    def run(*args: Given.args, **more: Given.kwargs) -> int:
        try:
            return main(*args, **more)
        except LabError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            if error.filename is None:
                raise
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return USER_ERROR

    return run
