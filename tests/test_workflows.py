"""The code host's files are well-formed and call what exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OTHERS = [*sorted((ROOT / ".github").glob("*.yml")), *sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")),
          ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]  # fmt: skip
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pythons(node: Any) -> set[str]:
    """Return every Python version that a workflow names."""
    if isinstance(node, dict):
        own = {str(v) for key in ("python", "python-version") for v in _listed(node.get(key)) if "${{" not in str(v)}
        return own.union(*(pythons(value) for value in node.values()))
    return set().union(*(pythons(value) for value in node)) if isinstance(node, list) else set()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {text.rpartition(" ")[2] for text in project["classifiers"] if re.search(r"Python :: 3\.\d+$", text)}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_targets_that_exist(path: Path) -> None:
    jobs = read(path)["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = [target for run in runs for target in re.findall(r"\bmake ([a-z-]+)", run)]
    assert called and set(called) <= TARGETS
    assert all(job["timeout-minutes"] <= 180 for job in jobs.values())
    for job in jobs.values():
        assert job["steps"][0]["uses"].startswith("actions/checkout@")
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    assert pythons(jobs) <= declared()


def test_every_declared_python_is_tested() -> None:
    for name in ("tests", "style"):
        assert pythons(read(ROOT / ".github/workflows" / f"{name}.yml")["jobs"]) == declared()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()  # type: ignore[union-attr]
    assert declared() == {f"3.{minor}" for minor in range(int(low), int(high))}


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.name)
def test_other_files_parse(path: Path) -> None:
    assert isinstance(read(path), dict)


def test_issue_forms_ask_what_is_needed() -> None:
    forms = {path.stem: read(path) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")}
    assert set(forms) == {"config", "bug", "new_method", "new_dataset"}
    for name in set(forms) - {"config"}:
        assert {"name", "description", "body"} <= set(forms[name])
        ids = [field["id"] for field in forms[name]["body"]]
        assert len(ids) == len(set(ids))
        assert all(field["type"] in ("input", "textarea") for field in forms[name]["body"])
    assert "make" in [field["id"] for field in forms["bug"]["body"]]


def test_hooks_are_local() -> None:
    """Nothing is fetched for a commit, and each hook calls a tool that `make setup` installs."""
    for repository in read(ROOT / ".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        assert all(re.match(r"\.venv/bin/(ruff|mypy)\b", hook["entry"]) for hook in repository["hooks"])


def test_no_file_names_a_registry() -> None:
    for path in [*WORKFLOWS, *OTHERS]:
        assert not re.search(r"https?://", path.read_text(encoding="utf-8")), path
