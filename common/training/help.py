"""`--help` at once: options are read from the source by `ast`, since the libraries take seconds to import."""

from __future__ import annotations

import ast
import importlib.util
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from common.methods import Method
from common.schemes import SCHEMES
from common.training.command import SUBCOMMANDS

RUN = (
    ("config", "", "a recipe: a file, a name (see above), or several, of which the later wins"),
    ("run", "runs/METHOD/DATA/STAGE", "folder of the run"),
    ("init_from", "null", "weights to start from (.ckpt, .safetensors); each of a list adds what those before lack"),
    ("ckpt_path", "null", "checkpoint of a run to go on with (fit), else the weights; also best or last of the run"),
    ("resume", "false", "go on with the run's last.ckpt (fit)"),
    ("overwrite", "false", "replace the run in the folder (fit)"),
    ("track", "true", "log to W&B (offline unless logged in)"),
    ("upload_checkpoints", "false", "W&B keeps best.ckpt and last.ckpt as artifacts"),
    ("seed_everything", "0", "seed of weights and draws"),
    ("print_config", "", "show what would run, and stop"),
)  # fmt: skip
WIDTH = 110
COLUMN = 34


@dataclass(frozen=True)
class Source:
    """A module as `ast` reads it."""

    classes: Mapping[str, ast.ClassDef]
    values: Mapping[str, ast.expr]
    imports: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> tuple[Source, ast.ClassDef] | None:
        """Return a class and the module that defines it."""
        if name in self.classes:
            return self, self.classes[name]
        return (
            read(self.imports[name]).find(name)
            if self.imports.get(name, "").split(".")[0] != "torch" and name in self.imports
            else None
        )

    def value(self, name: str) -> ast.expr | None:
        """Return what a name stands for in the module."""
        if name in self.values:
            return self.values[name]
        return read(self.imports[name]).value(name) if name in self.imports else None


@lru_cache
def read(module: str) -> Source:
    """Return a module's source; an empty one where there is none."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    path = folder.joinpath(*rest)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    return Source(
        {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)},
        {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        },
        {
            alias.asname or alias.name: node.module or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        },
    )


@dataclass(frozen=True)
class Option:
    """An option: dotted name, default, choices and what its docstring says."""

    name: str
    default: str
    choices: tuple[str, ...]
    text: str


def described(node: ast.ClassDef) -> dict[str, str]:
    """Return what a class's docstring says of its arguments or attributes."""
    init = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    text = (ast.get_docstring(node) or "") + "\n" + ((ast.get_docstring(init) or "") if init else "")
    found: dict[str, str] = {}
    for names, said in re.findall(r"^ {4}([\w, ]+): (.+(?:\n {8,}.+)*)", text, re.M):
        found |= {name.strip(): " ".join(said.split()) for name in names.split(",")}
    return found


def literal(source: Source, annotation: ast.expr | None) -> tuple[str, ...]:
    """Return the choices of a type, none where it has no list of them."""
    for node in ast.walk(annotation) if annotation is not None else ():
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal":
            return tuple(ast.unparse(item).strip("'") for item in getattr(node.slice, "elts", [node.slice]))
        if isinstance(node, ast.Name) and isinstance(source.value(node.id), ast.Subscript):
            return literal(source, source.value(node.id))
    return ()


def arguments(source: Source, node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    """Yield name, type and default of the fields of a dataclass or the arguments of a constructor."""
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            yield ast.unparse(part.target), part.annotation, part.value
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            names = part.args.args[1:]
            defaults: list[ast.expr | None] = [None] * (len(names) - len(part.args.defaults))
            for name, default in zip(names, [*defaults, *part.args.defaults], strict=True):
                yield name.arg, name.annotation, default
            for name, default in zip(part.args.kwonlyargs, part.args.kw_defaults, strict=True):
                yield name.arg, name.annotation, default


def options(
    source: Source, node: ast.ClassDef, prefix: str, given: Mapping[str, ast.expr] | None = None
) -> Iterator[Option]:
    """Yield the options of a class, those of its groups too.

    Args:
        source: module of the class.
        node: the class.
        prefix: of the dotted names.
        given: defaults that replace the class's own.
    """
    texts = described(node)
    for name, annotation, default in arguments(source, node):
        default = (given or {}).get(name, default)
        kind = ast.unparse(annotation) if annotation is not None else ""
        group = source.find(kind.removesuffix(" | None"))
        if isinstance(default, ast.Name):
            default = source.value(default.id) or default
        if group is not None and prefix.count(".") < 2:
            inner = (
                {word.arg: word.value for word in default.keywords if word.arg}
                if isinstance(default, ast.Call)
                else None
            )
            yield from options(*group, f"{prefix}.{name}", inner)
            continue
        shown = "required" if default is None else ast.unparse(default).strip("'").replace("None", "null")
        yield Option(
            f"{prefix}.{name}",
            shown.lower() if shown in ("True", "False") else shown,
            literal(source, annotation),
            texts.get(name, ""),
        )


def dataset_names() -> tuple[str, ...]:
    """Return the names of data sets, the keys of `READERS`."""
    path = Path(__file__).parents[1] / "data" / "readers" / "__init__.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.AnnAssign)
            and ast.unparse(node.target) == "READERS"
            and isinstance(node.value, ast.Dict)
        ):
            return ("synthetic", "synthetic3d", *(ast.unparse(key).strip("'") for key in node.value.keys if key))
    raise AssertionError(f"{path} has no READERS")


def choices(option: Option) -> tuple[str, ...]:
    """Return the choices of an option, of schemes and data sets too, whose lists stand elsewhere."""
    if option.name in ("data.scheme", "model.scheme"):
        return tuple(SCHEMES)
    if option.name == "data.dataset":
        return dataset_names()
    return option.choices


def line(option: Option) -> str:
    """Return an option as help shows it."""
    found = choices(option)
    text = option.text if not found else f"{{{', '.join(found)}}}" + (f" {option.text}" if option.text else "")
    if option.default:
        text = f"{text} (default {option.default})".strip()
    head = f"  --{option.name}"
    gap = "\n" + " " * COLUMN if len(head) >= COLUMN - 1 else " " * (COLUMN - len(head))
    wrapped = textwrap.wrap(text, WIDTH - COLUMN, break_long_words=False)
    return head + gap + ("\n" + " " * COLUMN).join(wrapped)


def show_help(method: Method, subcommand: str | None) -> None:
    """Print the help of a method's command line, or of one of its subcommands."""
    name = subcommand or "fit|validate|test|predict"
    print(f"usage: python -m {method.cli} {name} --config RECIPE [--OPTION VALUE ...]\n\n{method.title}")
    for word, text in SUBCOMMANDS.items() if subcommand is None else ():
        print(f"  {word:<10} {text}")
    print("\nRecipes (with several files, fit runs one after the other):")
    for recipe in method.recipes:
        print(f"  {recipe:<12} {' '.join(method.stages(recipe))}")
    if subcommand is None:
        print(f"\nOptions: python -m {method.cli} fit --help; --version")
        return
    module, _, kind = method.task.partition(":")
    task, data = read(module).find(kind), read("common.data.datamodule").find("FaceDataModule")
    assert task is not None and data is not None
    own = [option for option in options(*task, "model") if option.name not in ("model.scheme", "model.input_size")]
    for title, part in (
        ("The method's options", own),
        ("Data", list(options(*data, "data"))),
        ("The run", [Option(name, default, (), text) for name, default, text in RUN]),
    ):
        print(f"\n{title}:\n" + "\n".join(map(line, part)))
    trainer = read("lightning.pytorch.trainer.trainer").find("Trainer")
    assert trainer is not None
    rest = [f"--trainer.{name}" for name, _, _ in arguments(*trainer)]
    print("\nLightning's (described by --help-all; also checkpoint.* and last_checkpoint.*):")
    print(textwrap.fill(" ".join(rest), WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))
