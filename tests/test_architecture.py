"""The rules of the tree, read from the source with `ast`: who imports whom, sizes, and what must never be written."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAPERS = ("spiga", "dpr", "musica", "awing", "sdu3d")
PACKAGES = ("common", *PAPERS, "benchmarks", "tests")
HERE = [name for name in PACKAGES if (ROOT / name).is_dir()]
MAX_LINES = 400
MAX_ARGUMENTS = 15  # of a constructor, without self
MAX_MODULES = 14  # of one folder, without __init__.py
MAX_ANY = 120  # in the source, imports of it too
# Folders of one kind, here one format a file, may hold more; they may only shrink.
MORE_MODULES = {"common/data/readers": 21}
# Layers inside common, lowest first; a module imports its own layer or a lower one. Names not listed are free, and
# only the rule against cycles holds for them.
LAYERS = ("errors geometry schemes", "types", "data losses metrics heatmaps", "task", "training")
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}


def sources(*packages: str) -> list[Path]:
    return [path for name in packages for path in sorted((ROOT / name).rglob("*.py"))]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Yield the full name of everything that a file imports, at any depth of the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(package: str) -> set[str]:
    """Return the project packages that a package may import."""
    if package == "tests":
        return set(PACKAGES)
    if package == "benchmarks":
        return {"common", "benchmarks", *PAPERS}
    return {"common", package}


@pytest.mark.parametrize("package", HERE)
def test_packages_import_only_what_they_may(package: str) -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if name.split(".")[0] in set(PACKAGES) - allowed(package)
    ]
    assert not broken


def test_the_rule_sees_imports_of_every_form(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import awing.network as n\ndef f():\n    from common.types import FaceBatch\n")
    assert list(imported(path)) == ["awing.network", "common.types.FaceBatch"]


def import_graph(package: str) -> dict[str, set[str]]:
    """Return module of a package -> modules of the package that it imports, at any depth, for type checking, too."""
    modules = {module_name(path): path for path in sources(package)}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        graph[module] = set()
        for name in imported(path):
            target = name if name in modules else name.rpartition(".")[0]
            if target in modules and target not in (package, module):
                graph[module].add(target)
    return graph


@pytest.mark.parametrize("package", HERE)
def test_packages_have_no_cycle(package: str) -> None:
    graph, done = import_graph(package), set[str]()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_common_s_layers_look_down() -> None:
    broken = []
    for module, targets in import_graph("common").items():
        level = LEVEL.get(module.split(".")[1]) if "." in module else None
        for target in targets:
            other = LEVEL.get(target.split(".")[1])
            if level is not None and other is not None and other > level:
                broken.append(f"{module} imports {target}")
    assert not broken


@pytest.mark.parametrize("package", PAPERS)
def test_only_the_task_chooses_native_code(package: str) -> None:
    """A network never calls its accelerated version; the module decides which of them runs."""
    broken = [
        f"{module} imports {target}"
        for module, targets in import_graph(package).items()
        for target in targets
        if target.startswith(f"{package}.native.") and not module.startswith((f"{package}.native", f"{package}.module"))
    ]
    assert not broken


def test_common_names_no_paper() -> None:
    word = re.compile(r"(?<![a-z])(" + "|".join((*PAPERS, "sdu")) + r")(?![a-z])", re.IGNORECASE)
    broken = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "common").rglob("*"))
        if path.suffix in (".py", ".yaml") and path != ROOT / "common" / "metrics" / "protocols.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if word.search(line)
    ]
    assert not broken


@pytest.mark.parametrize("package", HERE)
def test_files_stay_short(package: str) -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in sources(package)}
    assert not {name: count for name, count in lengths.items() if count > MAX_LINES}


def modules_by_folder(*packages: str) -> dict[str, int]:
    folders = [str(path.parent.relative_to(ROOT)) for path in sources(*packages) if path.name != "__init__.py"]
    return {folder: folders.count(folder) for folder in folders}


def test_folders_stay_small() -> None:
    """A package with more modules than a reader keeps in mind wants a seam."""
    counts = modules_by_folder(*(name for name in HERE if name != "tests"))
    limits = {folder: MORE_MODULES.get(folder, MAX_MODULES) for folder in counts}
    assert not {folder: count for folder, count in counts.items() if count > limits[folder]}
    assert all(counts[folder] > MAX_MODULES for folder in MORE_MODULES), "a folder became small: delete its exception"


def long_constructors(tree: ast.AST) -> Iterator[str]:
    """Yield `line: class` for each class whose constructor has more than MAX_ARGUMENTS arguments, self not counted."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for function in node.body:
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                given = function.args
                if len([*given.posonlyargs, *given.args, *given.kwonlyargs]) - 1 > MAX_ARGUMENTS:
                    yield f"{function.lineno}: {node.name}"


@pytest.mark.parametrize("package", HERE)
def test_constructors_stay_short(package: str) -> None:
    """Options that belong together are one dataclass, whose fields are not counted."""
    broken = [
        f"{path.relative_to(ROOT)}:{found}"
        for path in sources(package)
        for found in long_constructors(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not broken


def test_the_rule_sees_long_constructors() -> None:
    text = "class A:\n    def __init__(self, {}, *, k): ..."
    names = [f"a{number}" for number in range(MAX_ARGUMENTS)]
    assert list(long_constructors(ast.parse(text.format(", ".join(names))))) == ["2: A"]
    assert not list(long_constructors(ast.parse(text.format(", ".join(names[1:])))))


def unsafe_calls(tree: ast.AST) -> Iterator[str]:
    """Yield `line: what` for each call that could run code from a data file."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            written = f"{keyword.arg}={ast.unparse(keyword.value)}"
            if written in ("weights_only=False", "allow_pickle=True"):
                yield f"{node.lineno}: {written}"
        function = ast.unparse(node.func)
        if function in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "yaml.load"):
            yield f"{node.lineno}: {function}"
        elif function == "torch.load" and "weights_only" not in {keyword.arg for keyword in node.keywords}:
            yield f"{node.lineno}: torch.load without weights_only=True"


@pytest.mark.parametrize("package", HERE)
def test_data_files_cannot_run_code(package: str) -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{found}"
        for path in sources(package)
        for found in unsafe_calls(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not broken


@pytest.mark.parametrize(
    "line",
    ["torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p, allow_pickle=True)", "pickle.loads(b)"],
)
def test_the_rule_sees_unsafe_calls(line: str) -> None:
    assert len(list(unsafe_calls(ast.parse(line)))) == 1


def test_no_registry_or_machine_is_named() -> None:
    """The project installs from whatever index the user has; no file may name one, nor a path of one machine."""
    hosts = ("index" + "-url", "pypi" + ".org", "python" + "hosted", "/ho" + "me/", "/ro" + "ot/")
    texts = [*sources(*HERE), *ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "Makefile", ROOT / ".ci" / "run"]
    texts += [path for name in HERE for path in (ROOT / name).rglob("*.yaml")]
    broken = [
        f"{path.relative_to(ROOT)} names {host}"
        for path in texts
        for host in hosts
        if host in path.read_text(encoding="utf-8")
    ]
    assert not broken


@pytest.mark.parametrize("package", [name for name in HERE if name != "tests"])
def test_the_packages_imported_are_ours(package: str) -> None:
    """Public packages of the same names exist; a clash must show here, not as a strange error later."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"


def test_few_names_are_of_any_type() -> None:
    """`Any` switches the checks of types off; it is for what JSON, pickles and foreign packages give untyped."""
    found = [
        node.lineno
        for path in sources(*(name for name in HERE if name != "tests"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id == "Any") or (isinstance(node, ast.alias) and node.name == "Any")
    ]
    assert 0 < len(found) <= MAX_ANY
