"""The pages: every command starts and knows its options, every link leads somewhere, every Python block runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from common.data.readers import READERS
from common.methods import METHODS
from tests.pages import CALLS, OTHERS, PAGES, ROOT, blocks

WITH_SUBCOMMANDS = re.compile(r"\w+\.cli|benchmarks|common\.data")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def commands() -> dict[tuple[str, ...], set[str]]:
    """Return (module, subcommand or nothing) -> the options that the pages give it."""
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for _, words, _ in CALLS:
        rest = words[1:2] if WITH_SUBCOMMANDS.fullmatch(words[0]) and not words[1:2] == ("COMMAND",) else []
        rest = [word for word in rest if not word.startswith("--")]
        found[(words[0], *rest)] |= {word.partition("=")[0] for word in words if word.startswith("--")}
    return found


COMMANDS = commands()


def test_there_are_pages_and_commands() -> None:
    names = {page.stem for page in PAGES}
    assert names >= {"index", "quick_start", "data", "protocols", "add_a_method", "add_a_dataset", "python_api"}
    assert len(COMMANDS) >= 40 and len(CALLS) >= 180
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    paths = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}
    assert all(f"({path})" in index for path in paths - {"index.md"})


@pytest.mark.parametrize("command", list(COMMANDS), ids=" ".join)
def test_command_starts_and_knows_its_options(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    module, *sub = command
    package = importlib.util.find_spec(module)
    name = f"{module}.__main__" if package is not None and package.submodule_search_locations else module
    with pytest.raises(SystemExit) as end:
        importlib.import_module(name).main([*sub, "--help"])
    shown = capsys.readouterr().out
    assert end.value.code in (0, None)
    known = set(re.findall(r"--[\w.]+(?:-\w+)*", shown)) | {"--help", "--help-all", "--version"}
    assert not COMMANDS[command] - known


def test_recipes_and_plans_of_commands_exist() -> None:
    for page, words, _ in CALLS:
        for name, value in zip(words, words[1:], strict=False):
            if name != "--config" or value.isupper():
                continue
            package = words[0].partition(".")[0]
            known = METHODS[package].recipes if package in METHODS else {}
            assert value in known or re.search(r"\bNAME\b", value) or (ROOT / value).is_file(), f"{page}: {value}"


def test_targets_exist() -> None:
    named = {
        target
        for page in [*PAGES, *OTHERS]
        for block in blocks(page, "bash")
        for target in re.findall(r"^make ([a-z-]+)", block, re.M)
    }
    assert named and named <= TARGETS


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith(("https://", "http://")) or (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and page.stem != "export"], ids=lambda path: path.stem
)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):  # one after the other, as a reader does
        exec(compile(block, str(page), "exec"), names)


def test_files_that_pages_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(
            r"`((?:awing|benchmarks|common|dpr|musica|sdu3d|spiga|tests)/[\w/.]+)`", page.read_text()
        ):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_readme_is_short_and_names_all_methods() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.sub(r"<!-- results:begin -->.*<!-- results:end -->", "", text, flags=re.S).split()) <= 900
    assert all(f"({name}/README.md)" in text for name in METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_s_readme_begins_with_use_and_results(method: str) -> None:
    opening = (ROOT / method / "README.md").read_text(encoding="utf-8").split("\n## ")[0].split()[:250]
    assert re.search(r"HELEN.*NME \d\.\d\d %.*python -m ", " ".join(opening))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_s_readme_leaves_experiments_to_its_study(method: str) -> None:
    text = (ROOT / method / "README.md").read_text(encoding="utf-8")
    assert len([word for word in text.split() if word != "|"]) <= 920
    study = ROOT / "docs/studies" / f"{method}.md"
    assert not study.exists() or f"](../docs/studies/{method}.md)" in text


def test_every_data_set_has_address_tree_and_recipe() -> None:
    """Each name that the command line takes is in the table; its recipe is there, and its folder tree."""
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    first = text[: text.index("\n## ", text.index("| `synthetic`"))].split("\n\n")
    table = next(part for part in first if "| `synthetic`" in part)
    rows = re.findall(r"^\| (`[a-z0-9_`, ]+`) \| (.+?) \| .+? \| (.+?) \|", table, re.M)
    named = {name for names, _, _ in rows for name in re.findall(r"`(\w+)`", names)}
    assert named == {"synthetic", "synthetic3d", *READERS} - {"store"} and "--data.dataset store" in text
    for names, about, recipe in rows:
        assert recipe in ("-", "any") or (ROOT / recipe.strip("`")).is_file(), names
        assert "](" in about or re.search(r"this project|the same|AFLW2000|JSON|lists|RecordIO|cut out", about), about
    trees = re.search(r"Folder trees.*?```\n(.*?)```", text, re.S)
    assert trees is not None
    known = {line.split()[0] for line in trees[1].splitlines()}
    assert {name for name in named if not name.startswith("synthetic") and not name.endswith("_3d")} == known


@pytest.mark.slow  # imports all libraries, twice
def test_from_a_clone_to_the_first_landmarks(tmp_path: Path) -> None:
    """What the README begins with, after the installation: three commands, and minutes on whatever machine."""
    block = next(block for block in blocks(ROOT / "README.md", "bash") if "synthetic_grid" in block)
    first = blocks(ROOT / "README.md", "bash")[0]
    assert first.startswith("make setup") and len(block.splitlines()) == 2
    began, env = time.monotonic(), os.environ | {"PYTHONPATH": str(ROOT)}
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        done = subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "predictions/predictions.json").read_text(encoding="utf-8"))
    assert len(found["pictures"][0]["faces"]) == 3 and (tmp_path / "predictions/faces.landmarks.png").is_file()
    assert time.monotonic() - began < 600


def test_renamed_commands_are_there() -> None:
    """The right column of the changelog's table of renamed commands can be run, the left one is gone."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `python -m ([\w.]+)` \| `python -m ([\w.]+)` \|$", text, re.M)
    assert len(table) >= 20
    for old, new in table:
        assert 'if __name__ == "__main__"' in (ROOT / f"{new.replace('.', '/')}.py").read_text(encoding="utf-8"), new
        former = ROOT / f"{old.replace('.', '/')}.py"
        assert not former.exists() or '"__main__"' not in former.read_text(encoding="utf-8"), old
