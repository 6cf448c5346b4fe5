"""Genuine small files of every kind, changed at random: a reader answers or raises a LabError, whatever they hold.

    python -m tests.integration.fuzz KIND CASES SEED    shows what else is raised, with the smallest file of each

A kind is a name of `targets`. The files are made here, none is copied; a seed gives the same cases everywhere.
"""

from __future__ import annotations

import copy
import json
import random
import struct
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from common.errors import LabError
from tests.benchmarks.test_broken_files import VALUES
from tests.integration.fuzz_kinds import Read, targets, written

ROOT = str(Path(__file__).resolve().parents[2])
WORDS = (b"nan", b"inf", b"1e999", b"-1", b"0", b"9" * 25, b"\0", b"\xff", b"{", b"}", b"[", b"]", b":", b",", b'"',
         b"'", b"\n", b"\r", b"\xe2\x80\xa8", b"null", b"true", b"&a ", b"*a", b"!!int ", b"- ", b"|", b"#", b"<<: ",
         b"\xc2\xb2", b"1:30", b"0o7", b"2020-01-01", b"...", b"---")  # fmt: skip
WORDS_OF_HEADS = (0, 1, 255, 2**16, 2**31 - 1, 2**32 - 1)


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return a copy with one to four changes: bits, bytes, words put in, parts left out, doubled or cut off."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(made) + 1)
        end = min(len(made), place + rng.choice((1, 2, 8, 64)))
        way = rng.randrange(7)
        if way == 0 and place < len(made):
            made[place] ^= 1 << rng.randrange(8)
        elif way == 1 and place < len(made):
            made[place] = rng.randrange(256)
        elif way == 2:
            made[place:place] = rng.choice(WORDS)
        elif way == 3:
            del made[place:end]
        elif way == 4:
            made[place:place] = made[place:end] * rng.choice((1, 3))
        elif way == 5 and place + 4 <= len(made):
            struct.pack_into("<I", made, place, rng.choice(WORDS_OF_HEADS))
        elif way == 6 and rng.random() < 0.3:
            del made[place:]
    return bytes(made)


def changed_value(content: Any, rng: random.Random) -> Any:
    """Return a copy of JSON content in which one to three parts are another value, missing, or there twice."""
    made = {"": copy.deepcopy(content)}
    for _ in range(rng.choice((1, 1, 2, 3))):
        part: Any = made
        while True:
            keys = list(part) if isinstance(part, dict) else list(range(len(part)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(part[key], dict | list) and part[key] and rng.random() < 0.8:
                part = part[key]
                continue
            way = rng.randrange(5)
            if way == 0 and part is not made:
                del part[key]
            elif way == 1 and isinstance(part, list):
                part.insert(key, copy.deepcopy(part[key]))
            elif way == 2 and isinstance(part, dict) and part is not made:
                part[rng.choice(("x", "", "id", "points"))] = part[key]
            else:
                part[key] = copy.deepcopy(rng.choice(VALUES))
            break
    return made[""]


def case(content: Any, name: str, rng: random.Random) -> bytes:
    """Return one changed file."""
    if isinstance(content, bytes):
        return changed_bytes(content, rng)
    if rng.random() < 0.8:
        return written(changed_value(content, rng), name)
    return changed_bytes(written(content, name), rng)


def placed(kind: str, folder: Path) -> tuple[Path, Any, Read]:
    """Return where a kind's file goes, with all that it needs beside it, its content and its reader."""
    name, content, read = targets(folder)[kind]
    content = json.loads(json.dumps(content, default=str)) if not isinstance(content, bytes) else content
    place = folder if kind.startswith(("crops", "wflw")) else folder / kind.replace(" ", "_").replace("/", "_")
    place.mkdir(exist_ok=True)
    for beside in ("db_info.json", "test.json", "config.yaml", "one.png", "a.jpg") if place != folder else ():
        (place / beside).write_bytes((folder / beside).read_bytes())
    return place / name, content, read


def sound(kind: str, folder: Path) -> None:
    """Read a kind's file as it is.

    Raises:
        LabError: it is refused.
    """
    path, content, read = placed(kind, folder)
    path.write_bytes(content if isinstance(content, bytes) else written(content, path.name))
    read(path)


def run(kind: str, cases: int, seed: int, folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return what a kind's reader raised that is no LabError -> how often, and the smallest file that did it."""
    path, content, read = placed(kind, folder)
    rng, found = random.Random(f"{kind} {seed}"), dict[str, tuple[int, bytes]]()
    for _ in range(cases):
        data = case(content, path.name, rng)
        path.write_bytes(data)
        try:
            read(path)
        except LabError as error:
            if "\n" not in str(error):
                continue
            said = "a LabError of several lines"
        except SystemExit:
            continue
        except Exception as error:  # whatever it is, it is reported
            own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(ROOT)]
            said = f"{type(error).__name__} at {own[-1].filename.removeprefix(ROOT)}:{own[-1].lineno}"
        else:
            continue
        count, smallest = found.get(said, (0, data))
        found[said] = (count + 1, min(data, smallest, key=len))
    return found


def main(words: list[str]) -> int:
    """Command line; 1 where something else than a LabError was raised."""
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        for kind in targets(Path(scratch)) if words[0] == "all" else [words[0]]:
            found = run(kind, int(words[1]), int(words[2]), Path(scratch))
            bad += len(found)
            print(f"{kind}: {words[1]} cases, {sum(n for n, _ in found.values())} foreign exceptions", flush=True)
            for said, (count, data) in found.items():
                print(f"    {count} x {said}: {data[:200]!r}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
