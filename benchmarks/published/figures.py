"""Published figures: the entries of `published.yaml`, one figure set for each test set or subset, digits as printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from common.errors import LabError

PUBLISHED = Path(__file__).with_name("figures.yaml")
ACCURACY = ("nme", "fr", "auc", "p90", "p95", "p99")  # percent
COST = ("params", "macs", "ms", "fps")
METRICS = ACCURACY + COST
EVIDENCE = ("repository", "page", "issue", "measured", "remembered")
TEXTS = ("dataset", "variant", "normaliser", "auc_rule", "protocol", "source", "table", "evidence", "slip", "machine")
NUMBERS = ("threshold", "n", "input")
LINE = "__line__"


class Printed(float):
    """A number that knows how it was printed."""

    text: str

    def __new__(cls, text: str, value: float | None = None) -> Printed:
        """Make it from the digits; `value` where the number means another one (a fraction that stands for percent)."""
        made = super().__new__(cls, float(text) if value is None else value)
        made.text = text
        return made

    @property
    def half(self) -> float:
        """Half a unit of the last printed digit, in units of the value."""
        scale = float(self) / float(self.text) if float(self.text) else 1.0
        return 0.5 * 10.0 ** -len(self.text.partition(".")[2]) * abs(scale)

    def percent(self) -> Printed:
        """Return a fraction as percent, with its precision."""
        return Printed(self.text, 100 * float(self.text))


@dataclass(frozen=True)
class Figure:
    """What one source prints about one method on one test set or subset.

    Attributes:
        method: key.
        dataset: "" for costs.
        subset: "full" or its name.
        values: metric -> number as printed.
        threshold: of FR and AUC, percent, or None.
        n: faces, or None where the data set tells.
        facts: the texts: variant, normaliser, auc_rule, protocol, source, table, evidence, slip, machine.
        remembered: metrics that were not read again.
        where: file and line.
    """

    method: str
    dataset: str
    subset: str
    values: dict[str, Printed]
    threshold: float | None = None
    n: int | None = None
    facts: dict[str, str] = field(default_factory=dict)
    remembered: tuple[str, ...] = ()
    where: str = ""

    @property
    def title(self) -> str:
        """Method, variant, data set and subset in words."""
        variant = f" ({self.facts['variant']})" if self.facts.get("variant") else ""
        return f"{self.method}{variant}, {self.dataset or 'cost'}" + (f" {self.subset}" if self.dataset else "")


class _Loader(yaml.SafeLoader):
    """Safe loader that keeps the digits of numbers and the lines of mappings."""


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Printed:
    return Printed(str(node.value).replace("_", ""))


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True) | {LINE: node.start_mark.line + 1}


for _tag in ("float", "int"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_published(path: Path = PUBLISHED) -> list[Figure]:
    """Return all figures of a file, subsets behind the full set that they belong to.

    Raises:
        LabError: the file is missing or an entry is not as it must be; names file and line.
    """
    try:
        written = path.stat().st_mtime_ns
    except OSError as error:
        raise LabError(f"{path}: cannot be read ({error.strerror})") from None
    return list(_read(path, written))


@lru_cache(maxsize=4)
def _read(path: Path, written: int) -> tuple[Figure, ...]:
    """Return the figures of a file as it was written at a time: a report asks for them many times."""
    try:
        with path.open(encoding="utf-8") as stream:
            content = _Loader(stream).get_single_data()
    except OSError as error:
        raise LabError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise LabError(f"{path}:{line}: is not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise LabError(f"{path}:1: must map each method to a list of entries")
    content.pop(LINE)
    figures: list[Figure] = []
    for method, entries in content.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise LabError(f"{path}: {method} must hold a list of entries")
        for entry in entries:
            figures += _figures(path, str(method), entry)
    return tuple(figures)


def _figures(path: Path, method: str, entry: dict[str, Any]) -> list[Figure]:
    where = f"{path}:{entry[LINE]}"
    _check_keys(where, entry, (*TEXTS, *NUMBERS, *METRICS, "subsets", "remembered"))
    missing = [key for key in ("source", "table", "protocol", "evidence") if key not in entry]
    if missing or entry["evidence"] not in EVIDENCE:
        raise LabError(f"{where}: {method}: needs source, table, protocol and evidence ({', '.join(EVIDENCE)})")
    facts = {key: str(entry[key]) for key in TEXTS if key in entry}
    dataset = facts.pop("dataset", "")
    base = {key: float(entry[key]) for key in ("threshold",) if key in entry}
    count = int(entry["n"]) if "n" in entry else None
    result = []
    if values := _values(where, entry):
        result.append(Figure(method, dataset, "full", values, base.get("threshold"), count, facts,
                             _remembered(where, entry, values), where))  # fmt: skip
    subsets = dict(entry.get("subsets") or {})
    subsets.pop(LINE, None)
    for name, part in subsets.items():
        place = f"{path}:{part[LINE]}" if isinstance(part, dict) else where
        if not isinstance(part, dict):
            raise LabError(f"{place}: {method}: subset {name} must hold figures")
        _check_keys(place, part, (*METRICS, "remembered", "slip", "n"))
        values = _values(place, part)
        marked = _remembered(place, {"remembered": entry.get("remembered") is True} | part, values)
        own = {key: value for key, value in facts.items() if key != "slip"}
        own |= {"slip": str(part["slip"])} if "slip" in part else {}
        size = int(part["n"]) if "n" in part else None
        result.append(Figure(method, dataset, str(name), values, base.get("threshold"), size, own, marked, place))
    if not result:
        raise LabError(f"{where}: {method}: the entry holds no figure ({', '.join(METRICS)})")
    return result


def _check_keys(where: str, entry: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(str(key) for key in entry if key not in known and key != LINE)
    if unknown:
        raise LabError(f"{where}: unknown key {unknown[0]}; known are {', '.join(known)}")


def _values(where: str, entry: dict[str, Any]) -> dict[str, Printed]:
    values = {key: entry[key] for key in METRICS if key in entry}
    wrong = [key for key, value in values.items() if not isinstance(value, Printed)]
    if wrong:
        raise LabError(f"{where}: {wrong[0]} must be a number, got {values[wrong[0]]!r}")
    return values


def _remembered(where: str, entry: dict[str, Any], values: dict[str, Printed]) -> tuple[str, ...]:
    marks = entry.get("remembered", False)
    if isinstance(marks, bool):
        return tuple(values) if marks else ()
    if not isinstance(marks, list) or not set(marks) <= set(values):
        raise LabError(f"{where}: remembered must be true or a list of the entry's metrics, got {marks!r}")
    return tuple(marks)
