"""The documents' commands, as a reader would type them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from benchmarks.__main__ import MODULES, PLANS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
OTHERS = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG", "THIRD_PARTY", "BENCHMARKS")),
    *sorted(ROOT.glob("[a-z]*/README.md")), *sorted(ROOT.glob("[a-z]*/weights/README.md")),
    ROOT / "tests/golden/README.md",
]  # fmt: skip
VERBS = {*MODULES, *PLANS}
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}


class Call(NamedTuple):
    """A command of this project on a page.

    Attributes:
        page: where it is.
        words: after `python -m`.
        several: it starts several processes or a job of a cluster.
    """

    page: Path
    words: tuple[str, ...]
    several: bool


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of languages; "" for those of none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [text for language, text in found if language in languages]


def typed(page: Path) -> list[str]:
    """Return the lines of a page's blocks of commands."""
    return "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()


def lines(page: Path) -> list[str]:
    """Return the command lines of a page: those of blocks, and those in the text between backticks."""
    text = page.read_text(encoding="utf-8")
    indented = re.findall(r"^ {4}(python .*)", text, re.M)
    plain = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    inline = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", plain)]
    return [*typed(page), *"\n".join(blocks(page, "")).splitlines(), *indented, *inline]


def calls() -> list[Call]:
    """Return every command of this project; `METHOD` stands for any method, for awing here."""
    found = []
    for page in [*PAGES, *(page for page in OTHERS if page.name != "CHANGELOG.md")]:
        for line in lines(page):
            line = re.sub(r"^(?:python -m )?(?:METHOD|<method>)\.", "python -m awing.", line.strip())
            if page.parent.name == "benchmarks" and line.partition(" ")[0] in VERBS:
                line = f"python -m benchmarks {line}"  # the tables of that page leave it out
            starter = re.match(r"(?:[A-Z_]+=\S+ )*(torchrun|sbatch|srun)? ?.*?-m (\w+)", line)
            if not starter or not (starter[1] or re.match(r"(?:[A-Z_]+=\S+ )*python -m", line)):
                continue
            if starter[1] == "sbatch":
                line = line.rpartition('"')[0]  # of --wrap
            words = shlex.split(re.split(r" -m (?=\w)", line, maxsplit=1)[1].replace("|", " "), comments=True)
            if words[0].partition(".")[0] in PACKAGES:
                found.append(Call(page, tuple(words), bool(starter[1]) or "--trainer.devices" in words))
    return found


CALLS = calls()
