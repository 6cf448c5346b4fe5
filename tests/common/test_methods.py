"""The list of methods comes from the installation, and the front door opens quickly."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import common
from common import methods
from common.errors import LabError
from common.methods import METHODS, Installed, get_method
from tests.test_architecture import PAPERS

ROOT = Path(__file__).resolve().parents[2]


def install(folder: Path, name: str, entries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a distribution's metadata on the path, as pip leaves it."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{methods.GROUP}]\n{entries}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_every_paper_is_a_method_and_ours_are_imported() -> None:
    assert set(PAPERS) <= set(METHODS)
    for name in PAPERS:
        method = METHODS[name]
        assert method.folder == ROOT / name
        assert method.task_class().METHOD == name and callable(method.main())
        assert all(method.file(stage).is_file() for recipe in method.recipes for stage in method.stages(recipe))


def test_an_outsider_s_method_is_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sixth"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "smoke.yaml").write_text("data: {dataset: synthetic, scheme: ibug68}\n")
    (package / "method.py").write_text(
        "from common.methods import Method\n"
        "METHOD = Method('sixth', 'A sixth', 'tests.common.evaluations:Truth', 'sixth.cli',"
        " {'smoke': 'sixth/smoke.yaml'})\n"
    )
    install(tmp_path, "sixth-method", "sixth = sixth.method:METHOD", monkeypatch)
    found = Installed()
    assert list(found) == sorted([*METHODS, "sixth"])
    assert found["sixth"].task_class().__name__ == "Truth"
    assert found["sixth"].file("sixth/smoke.yaml").is_file() and found["sixth"].weights() == []
    monkeypatch.setattr(methods, "METHODS", found)
    assert get_method("sixth").title == "A sixth"


def test_broken_and_missing_installations_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="method 'seventh' is not installed; known: .*spiga"):
        get_method("seventh")
    (tmp_path / "one").mkdir()
    install(tmp_path / "one", "broken-method", "eighth = nowhere.method:METHOD", monkeypatch)
    with pytest.raises(LabError, match="method eighth of broken-method cannot be imported .*install it anew"):
        len(Installed())
    monkeypatch.undo()
    install(tmp_path, "odd-method", "ninth = pathlib:Path", monkeypatch)
    with pytest.raises(LabError, match="odd-method: entry point ninth .* must name a Method called ninth"):
        len(Installed())
    monkeypatch.setattr(methods, "entry_points", lambda group: ())
    with pytest.raises(LabError, match="pip install -e"):
        len(Installed())


def test_the_door_is_light_and_complete() -> None:
    """Its names come when they are asked for; without them, torch is not imported."""
    code = "import sys, common, common.methods; assert not {'torch', 'numpy', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for name in common.__all__:
        assert getattr(common, name) is not None and name in dir(common)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", common.__version__)
    with pytest.raises(AttributeError, match="nothing"):
        common.nothing  # noqa: B018


def test_the_readme_s_python_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Load, predict a picture, evaluate a split: as printed."""
    monkeypatch.chdir(ROOT)
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## In Python\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    scope: dict[str, object] = {}
    exec(code, scope)  # noqa: S102
    assert scope["points"].shape == (1, 68, 2)  # type: ignore[attr-defined]
    assert len(scope["found"]) == 4 and 0 < scope["found"].nme.mean() < 100  # type: ignore[arg-type, attr-defined]
    assert "%" in capsys.readouterr().out
