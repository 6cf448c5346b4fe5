"""`face-lab predict|benchmarks|METHOD ...`: the command lines of the installed packages under one name."""

from __future__ import annotations

import difflib
import importlib
import sys
from importlib.metadata import entry_points

from common import __version__, only_predict
from common.errors import USER_ERROR
from common.methods import METHODS

GROUP = "face_alignment_lab.commands"


def main() -> int:
    """Run what the first word names; entry points of group `face_alignment_lab.commands`, and the methods."""
    words = sys.argv[1:]
    others = {point.name: point for point in entry_points(group=GROUP)}
    names = [*others, *METHODS]
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: face-lab {'|'.join(names)} ...\n\nface-lab NAME --help says more")
        return 0
    if words[0] == "--version":
        print(f"face-alignment-lab {__version__}")
        return 0
    name, *rest = words
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        more = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
        print(f"error: {name} is no command; {more}", file=sys.stderr)
        return USER_ERROR
    if name == "predict":
        only_predict()
    if name in others:
        return int(others[name].load()(rest) or 0)
    importlib.import_module(METHODS[name].cli).main(rest)
    return 0
