"""The pages: every command starts and knows its options, every link leads somewhere, every Python block runs."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
OTHERS = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "tests/golden/README.md")
]
WITH_SUBCOMMANDS = re.compile(r"\w+\.cli|benchmarks|common\.data")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands() -> dict[tuple[str, ...], set[str]]:
    """Return (module, subcommand or nothing) -> the options that the pages give it."""
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for page in PAGES:
        for line in "".join(blocks(page, "bash")).splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["python", "-m"]:
                rest = words[3:4] if WITH_SUBCOMMANDS.fullmatch(words[2]) else []
                found[(words[2], *rest)] |= {word for word in words if word.startswith("--")}
    return found


COMMANDS = commands()


def test_there_are_pages_and_commands() -> None:
    names = {page.stem for page in PAGES}
    assert names >= {"index", "quick_start", "data", "protocols", "add_a_method", "add_a_dataset", "python_api"}
    assert len(COMMANDS) >= 8
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert all(f"({name}.md)" in index for name in names - {"index"})


@pytest.mark.parametrize("command", list(COMMANDS), ids=" ".join)
def test_command_starts_and_knows_its_options(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    module, *sub = command
    package = importlib.util.find_spec(module)
    name = f"{module}.__main__" if package is not None and package.submodule_search_locations else module
    with pytest.raises(SystemExit) as end:
        importlib.import_module(name).main([*sub, "--help-all" if module.endswith(".cli") else "--help"])
    shown = capsys.readouterr().out
    assert end.value.code in (0, None)
    known = set(re.findall(r"--[\w.]+(?:-\w+)*", shown))
    assert not COMMANDS[command] - known


def test_targets_exist() -> None:
    named = {
        target
        for page in PAGES
        for block in blocks(page, "bash")
        for target in re.findall(r"^make ([a-z-]+)", block, re.M)
    }
    assert named and named <= TARGETS


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


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


def test_renamed_commands_are_there() -> None:
    """The right column of the changelog's table of renamed commands can be run, the left one is gone."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `python -m ([\w.]+)` \| `python -m ([\w.]+)` \|$", text, re.M)
    assert len(table) >= 20
    for old, new in table:
        assert 'if __name__ == "__main__"' in (ROOT / f"{new.replace('.', '/')}.py").read_text(encoding="utf-8"), new
        former = ROOT / f"{old.replace('.', '/')}.py"
        assert not former.exists() or '"__main__"' not in former.read_text(encoding="utf-8"), old
