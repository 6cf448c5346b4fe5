"""What the user typed: former names are renamed, and what the parser refuses is said in one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from common.errors import LabError

OUT_OF_RANGE = re.compile(r"\S+ must be in [\[(][^\])]*[\])], got \S+")  # what `check_range` says
FLAG = re.compile(r"--([\w.]+)(?:=(.*))?", re.DOTALL)


def typed_keys(args: list[str]) -> set[str]:
    """Return the dotted names of all options that are typed on the command line."""
    return {found[1] for word in args if (found := FLAG.fullmatch(word))}


def rename_former(args: list[str], moved: Mapping[str, str], group: str) -> list[str]:
    """Return the words with former names of a group's options replaced: --model.lr by --model.train.lr."""
    words = list(args)
    for index, word in enumerate(words):
        found = FLAG.fullmatch(word)
        key = found[1].removeprefix(f"{group}.") if found else ""
        if not found or found[1] == key or key not in moved:
            continue
        value = found[2] if found[2] is not None else words[index + 1] if index + 1 < len(words) else ""
        if moved[key].partition(".")[0] == key and value.lstrip().startswith("{"):
            continue  # the whole group of that name
        words[index] = f"--{group}.{moved[key]}" + ("" if found[2] is None else f"={found[2]}")
    return words


def check_moved(content: Mapping[str, object], moved: Mapping[str, str], where: str) -> None:
    """Check a configuration file's content.

    Raises:
        LabError: it uses a former name of a model option.
    """
    model = content.get("model")
    for key, value in model.items() if isinstance(model, dict) else ():
        place = moved.get(key, key)
        if place != key and not (place.partition(".")[0] == key and isinstance(value, dict)):
            raise LabError(f"{where}: model.{key} is now model.{place}; move it there")


def explained(message: str, known: Iterable[str]) -> str:
    """Return a parser's complaint as one line, with the option that was probably meant.

    Args:
        message: the parser's.
        known: dotted names of all options.
    """
    line = " ".join(message.split())
    unknown = re.search(r"unrecognized arguments: (\S+)|does not accept option '([^']+)'", line)
    if unknown:
        given = unknown[1] or unknown[2]
        key = given.lstrip("-").partition("=")[0]
        group, _, name = key.rpartition(".")
        near = difflib.get_close_matches(key, known, 1, 0.8) or [
            option for option in known if option.rpartition(".")[2] == name
        ] or difflib.get_close_matches(key, known, 1)  # fmt: skip
        dashes = "--" if given.startswith("--") else ""
        more = f"did you mean {dashes}{near[0]}?" if near else "--help lists the options"
        return f"{dashes}{key} is no option; {more}" if group or dashes else f"{given} is no option; {more}"
    wrong = re.search(r'Parser key "([\w.]+)": (.*)', line)
    if wrong is None:
        return line.removeprefix("argument ")
    inside = re.search(r"Option '([\w.]+)' is not accepted", wrong[2])  # of a group that may be absent
    if inside:
        return f"{wrong[1]}.{inside[1]} is no option; --help lists the options"
    what = re.sub(r"typing\.Literal\[(.*?)\]", lambda found: "one of " + found[1].replace("'", ""), wrong[2])
    what = re.sub(r"Expected an? <class '(?:\w+\.)*(\w+)'>", r"Expected \1", what).replace(
        "Expected a one", "Expected one"
    )
    return f"{wrong[1]}: {what[:1].lower()}{what[1:]}".replace(". Got value:", ", got")
