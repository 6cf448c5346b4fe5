"""Published figures: the entries of `published.yaml`, one figure set for each test set or subset, digits as printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, Field, InstanceOf

from common.errors import LabError
from common.files.validation import Strict, UniqueKeys, read_text, validated

PUBLISHED = Path(__file__).with_name("figures.yaml")
ACCURACY = ("nme", "fr", "auc", "p90", "p95", "p99")  # percent
COST = ("params", "macs", "ms", "fps")
METRICS = ACCURACY + COST
TEXTS = ("variant", "normaliser", "auc_rule", "protocol", "source", "table", "evidence", "slip", "machine")
LINE = "__line__"
LEAST, LARGEST = 1e-9, 1e9  # a threshold is at least the one, no figure of a table is larger than the other


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
        n: faces, or None where the data set says it.
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


class _Loader(UniqueKeys):
    """Safe loader that keeps the digits of numbers and the lines of mappings."""


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Printed:
    try:
        return Printed(str(node.value).replace("_", ""))
    except ValueError:
        word = f"{node.value!r} is no decimal number"
        raise yaml.constructor.ConstructorError(None, None, word, node.start_mark) from None


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[object, object]:
    return loader.construct_mapping(node, deep=True) | {LINE: node.start_mark.line + 1}


for _tag in ("float", "int"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def _between(low: float) -> AfterValidator:
    def check(value: Printed) -> Printed:
        if not low <= value <= LARGEST:
            raise ValueError(f"must lie between {low:g} and {LARGEST:g}")
        return value

    return AfterValidator(check)


Number = Annotated[Printed, InstanceOf(), _between(0)]
Limit = Annotated[Printed, InstanceOf(), _between(LEAST)]
Count = Annotated[Printed, InstanceOf(), _between(1)]


class _Part(Strict):
    """Figures of a test set or of a subset, and what must be known of them."""

    line: int = Field(alias="__line__")
    nme: Number | None = None
    fr: Number | None = None
    auc: Number | None = None
    p90: Number | None = None
    p95: Number | None = None
    p99: Number | None = None
    params: Number | None = None
    macs: Number | None = None
    ms: Number | None = None
    fps: Number | None = None
    n: Count | None = None
    slip: str | None = None
    remembered: bool | list[str] = False

    @property
    def values(self) -> dict[str, Printed]:
        """The figures that are there."""
        return {name: value for name in METRICS if (value := getattr(self, name)) is not None}

    def marked(self, where: str, default: bool = False) -> tuple[str, ...]:
        """Return the metrics that were not read again."""
        marks = self.remembered if "remembered" in self.model_fields_set else default
        if isinstance(marks, bool):
            return tuple(self.values) if marks else ()
        if not set(marks) <= set(self.values):
            raise LabError(f"{where}: remembered must be true or a list of the entry's metrics, got {marks!r}")
        return tuple(marks)


class _Entry(_Part):
    """An entry of the file."""

    source: str
    table: str
    protocol: str
    evidence: Literal["repository", "page", "issue", "measured", "remembered"]
    dataset: str = ""
    variant: str | None = None
    normaliser: str | None = None
    auc_rule: str | None = None
    machine: str | None = None
    threshold: Limit | None = None
    input: Limit | None = None
    subsets: dict[str, _Part | int] = {}  # the whole number is the mapping's line

    @property
    def facts(self) -> dict[str, str]:
        """The texts that are there."""
        return {name: text for name in TEXTS if (text := getattr(self, name)) is not None}


def read_published(path: Path = PUBLISHED) -> list[Figure]:
    """Return all figures of a file, subsets after the full set that they belong to.

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
        content = _Loader(read_text(path)).get_single_data()
    except LabError as error:
        raise LabError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise LabError(f"{path}:{line}: is not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise LabError(f"{path}:1: must map each method to a list of entries")
    content.pop(LINE)
    figures: list[Figure] = []
    for method, entries in content.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise LabError(f"{path}: {method} must hold a list of entries")
        for entry in entries:
            where = f"{path}:{entry[LINE]}: {method}"
            figures += _figures(path, str(method), validated(_Entry, entry, where))
    return tuple(figures)


def _figures(path: Path, method: str, entry: _Entry) -> list[Figure]:
    where = f"{path}:{entry.line}"
    limit = None if entry.threshold is None else float(entry.threshold)
    result = []
    if entry.values:
        count = None if entry.n is None else int(entry.n)
        result.append(Figure(method, entry.dataset, "full", entry.values, limit, count, entry.facts,
                             entry.marked(where), where))  # fmt: skip
    for name, part in entry.subsets.items():
        if isinstance(part, int):
            continue
        place = f"{path}:{part.line}"
        own = {key: text for key, text in entry.facts.items() if key != "slip"}
        own |= {} if part.slip is None else {"slip": part.slip}
        size = None if part.n is None else int(part.n)
        result.append(Figure(method, entry.dataset, name, part.values, limit, size, own,
                             part.marked(place, entry.remembered is True), place))  # fmt: skip
    if not result:
        raise LabError(f"{where}: {method}: the entry holds no figure ({', '.join(METRICS)})")
    return result
