"""What the wheel and the source archive hold: programs, recipes, and the terms of the weights beside them."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import common

ROOT = Path(__file__).resolve().parents[1]
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = TABLE["project"]
# setuptools writes its own words into sys.argv, so the folder is read first.
BUILD = "import sys; from setuptools import build_meta as b; o = sys.argv[1]; b.build_wheel(o); b.build_sdist(o)"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from a copy of the files that git knows, so that no leftovers get in."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for folder in (*TABLE["tool"]["setuptools"]["packages"]["find"]["include"],):
        name = folder.removesuffix("*")
        ignored = shutil.ignore_patterns("__pycache__", "runs")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for path in ROOT.glob("*"):
        if path.is_file():
            shutil.copy(path, copy)
    done = subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("*.whl")))


def test_programs_recipes_and_templates_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for name in ("common", "benchmarks", "awing", "dpr", "musica", "sdu3d", "spiga"):
        wanted = {
            str(path.relative_to(ROOT)) for pattern in ("*.py", "*.yaml") for path in (ROOT / name).rglob(pattern)
        }
        assert wanted and not wanted - names
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks/report/templates").iterdir()}
    assert templates | {"common/py.typed", "common/data/synthetic/mean_faces.csv"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "examples/"))]
    assert not [name for name in names if name.endswith((".png", ".jpg", ".pyc", ".ckpt", ".npz"))]


def test_weights_are_not_handed_out_without_their_terms(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    about = email.message_from_bytes(wheel.read(next(name for name in names if name.endswith("/METADATA"))))
    expression, files = about["License-Expression"], about.get_all("License-File", [])
    weights = [name for name in names if name.endswith((".safetensors", ".pt", ".pth", ".params"))]
    for name in weights:
        folder = name.rpartition("/")[0]
        terms = wheel.read(f"{folder}/LICENSE.txt").decode()
        label = terms.split()[0]
        assert re.fullmatch(r"LicenseRef-[A-Za-z0-9.-]+", label) and label in expression.split(" AND ")
        assert f"{folder}/LICENSE.txt" in files and "research only" in terms
        assert f"{folder}/README.md" in names
    assert expression == PROJECT["license"] and ("LicenseRef" in expression) == bool(weights)
    assert {"LICENSE", "THIRD_PARTY.md"} <= set(files)
    for file in files:
        assert any(name.endswith(f".dist-info/licenses/{file}") for name in names)


def test_source_archive_holds_what_the_wheel_is_built_from(built: Path, wheel: zipfile.ZipFile) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} <= names
    assert {"LICENSE", "THIRD_PARTY.md", "README.md", "pyproject.toml"} <= names


def run_in(folder: Path, *command: str | Path) -> str:
    """Run a command away from the repository, without its path, and return what it printed."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow  # makes two environments, and imports all libraries
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_installed_in_an_empty_environment_it_works_from_any_folder(kind: str, built: Path, tmp_path: Path) -> None:
    """Nothing of the project but the archive is seen: of the tests' environment, the libraries alone."""
    run_in(tmp_path, sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    programs, site = tmp_path / "env/bin", next(tmp_path.glob("env/lib/python*/site-packages"))
    # A line of a .pth file adds a folder, but not what the .pth files therein add, such as the editable project.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    archive = next(built.glob(kind))
    run_in(tmp_path, sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet", "--no-deps",
           "--no-index", "--no-build-isolation", archive)  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said = run_in(elsewhere, programs / "python", "-c", "import common; print(common.__file__, common.__version__)")
    assert said.split() == [str(site / "common/__init__.py"), PROJECT["version"]]
    assert run_in(elsewhere, programs / "face-lab", "--version").strip() == f"face-alignment-lab {PROJECT['version']}"
    recipe = run_in(elsewhere, programs / "face-lab", "spiga", "fit", "--config", "stage3", "--print_config")
    assert yaml.safe_load(recipe)["model"]["stage"] == 3
    assert "--protocol" in run_in(elsewhere, programs / "face-lab", "benchmarks", "score", "--help")
    # A file of the package's name in the working folder, which `python -m` would find first.
    (elsewhere / "common.py").write_text("raise SystemExit('the wrong module')\n")
    assert "--weights" in run_in(elsewhere, programs / "face-lab", "predict", "--help")
    assert "--weights" in run_in(elsewhere, programs / "python", "-P", "-m", "common.predict", "--help")
    about = next(site.glob("face_alignment_lab-*.dist-info"))
    assert {"LICENSE", "THIRD_PARTY.md"} <= {path.name for path in (about / "licenses").iterdir()}
    for weights in site.glob("*/weights/*.safetensors"):
        assert {"README.md", "LICENSE.txt"} <= {path.name for path in weights.parent.iterdir()}
        assert (about / "licenses" / weights.parent.relative_to(site) / "LICENSE.txt").is_file()
    assert list(site.glob("*/weights/*.safetensors"))


def test_metadata_name_the_version_and_addresses(wheel: zipfile.ZipFile) -> None:
    about = email.message_from_bytes(wheel.read(next(name for name in wheel.namelist() if name.endswith("/METADATA"))))
    assert about["Version"] == PROJECT["version"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    addresses = [line.partition(", ")[2] for line in about.get_all("Project-URL", [])]
    assert addresses and all(address in readme for address in addresses)
    # An index shows the description away from the repository: a relative link or picture would lead nowhere.
    targets = re.findall(r"\]\(([^)]+)\)", str(about.get_payload()))
    assert targets and all(target.startswith("https://") for target in targets)
    scripts = wheel.read(next(name for name in wheel.namelist() if name.endswith("/entry_points.txt"))).decode()
    assert "face-lab = common.training.console:main" in scripts


def test_one_version() -> None:
    """The changelog opens with the version of pyproject.toml, below what is not yet released; the citation names it."""
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert released[0] == PROJECT["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", common.__version__)
    with pytest.raises(AttributeError, match="nothing"):
        common.nothing  # noqa: B018
