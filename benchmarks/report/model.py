"""What a report is made of: comparable rows of records, paired comparisons, curves. No figure is ever typed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.record import Result, Robustness, Scalar, Speed, Timing, read_records
from benchmarks.score.formats import stem
from common.errors import LabError
from common.files.arrays import NUMBERS, read_arrays
from common.metrics.functional import ced
from common.metrics.stats import bootstrap_interval

# Fields of a protocol card that must be equal in one column; the others may differ and are then marked.
BINDING = ("protocol", "data", "n", "landmarks", "space", "normaliser", "threshold", "auc_rule", "failures")
SAME = "not significantly different"  # a mark beside the best row
CED_STEPS = 160  # samples of a cumulative error curve
Interval = tuple[float, float]


@dataclass
class Entry:
    """A row: one method with one recipe on one data set, over all its seeds.

    Attributes:
        label: how tables call it.
        records: one for each seed.
        metrics: means over the seeds, percent.
        intervals: 95 % bootstrap intervals over faces, percent.
        ids: (N,) names of the test faces in sorted order, None without predictions.
        nmes: (N,) percent in the order of `ids`, mean over the seeds.
    """

    label: str
    records: list[Result]
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    ids: np.ndarray | None = None
    nmes: np.ndarray | None = None

    @property
    def first(self) -> Result:
        """The record of the first seed."""
        return self.records[0]

    @property
    def card(self) -> dict[str, Scalar]:
        """The protocol card of the figures."""
        return self.first.card

    @property
    def speed(self) -> Speed:
        """Size and times of the network."""
        return self.first.speed

    @property
    def seeds(self) -> list[int]:
        """The seeds that were trained."""
        return [record.seed for record in self.records if record.seed is not None]

    @property
    def sd(self) -> float | None:
        """Standard deviation of the NME over the seeds, percent; None for one seed."""
        values = [record.metrics["nme"] for record in self.records]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    @property
    def seconds(self) -> float | None:
        """Mean training time of a seed; None when it was not measured."""
        values = [record.seconds for record in self.records if record.seconds]
        return float(np.mean(values)) if values else None

    @property
    def subsets(self) -> list[str]:
        """Names of the subsets that have figures; one that holds every face says nothing more."""
        names = sorted({key.rsplit("/", 1)[0] for key in self.metrics if "/" in key})
        return [name for name in names if self.metrics.get(f"{name}/nme") != self.metrics["nme"]]


@dataclass(frozen=True)
class Difference:
    """Mean NME of one row minus another's on the same faces, with its paired 95 % interval; percent."""

    mean: float
    low: float
    high: float

    @property
    def separable(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass
class Comparison:
    """Rows that may share columns: their cards agree in all binding fields. Best NME first.

    Attributes:
        dataset: name of the data set.
        card: the binding fields and what else all rows share.
        differing: fields of the cards that are not the same for all rows.
        entries: the rows.
        differences: (i, j) -> row i minus row j, for pairs with predictions for the same faces.
    """

    dataset: str
    card: dict[str, Scalar]
    differing: list[str]
    entries: list[Entry]
    differences: dict[tuple[int, int], Difference] = field(default_factory=dict)
    note: str = ""

    @property
    def title(self) -> str:
        """The data set, and what sets the table apart where a data set has several cards."""
        return f"{self.dataset} ({self.note})" if self.note else self.dataset

    @property
    def threshold(self) -> float:
        """Failure threshold and right end of the AUC, percent."""
        return float(self.card.get("threshold") or 10.0)

    def against_best(self, row: int) -> str:
        """Return how a row compares with the best: best, `SAME`, a signed difference, or not measured."""
        if row == 0:
            return "best"
        found = self.differences.get((row, 0))
        if found is None:
            return "not measured"
        return signed(found.mean) if found.separable else SAME


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign; a true minus sign for readers."""
    return f"{value:+.{digits}f}".replace("-", "−")


def read_faces(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Return sorted ids (N,) and NMEs (N,) in percent of a predictions file; None when it is missing.

    Ids come without folders and extensions where they stay unique, since copies of a set keep its faces elsewhere.
    """
    if not path.is_file():
        return None
    content = read_arrays(path)
    ids, nmes = content.get("ids"), content.get("nme")
    if ids is None or nmes is None or ids.ndim != 1 or nmes.shape != ids.shape or nmes.dtype.kind not in NUMBERS:
        raise LabError(f"{path}: needs ids and nme of as many faces; test the trial again")
    stems = np.array([stem(str(name)) for name in ids])
    ids = stems if len(np.unique(stems)) == len(ids) else ids
    order = np.argsort(ids, kind="stable")
    return ids[order], nmes[order]


def _faces(records: Sequence[Result], folder: Path | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the faces of all seeds with their mean NMEs; None unless every seed has the same faces."""
    paths = [record.predictions for record in records if record.predictions]
    if folder is None or len(paths) < len(records):
        return None
    found = [read_faces(folder / path) for path in paths]
    present = [faces for faces in found if faces is not None]
    if len(present) < len(found) or not all(np.array_equal(present[0][0], ids) for ids, _ in present):
        return None
    return present[0][0], np.mean([nmes for _, nmes in present], axis=0)


def make_entry(records: list[Result], folder: Path | None) -> Entry:
    """Return the row of the records of one method and recipe, one for each seed.

    The interval of several seeds is that of the faces' mean error over the seeds; FR and AUC, which are not means of
    such errors, then have none.
    """
    records = sorted(records, key=lambda record: record.seed or 0)
    names = [name for name in records[0].metrics if all(name in record.metrics for record in records)]
    metrics = {name: float(np.mean([record.metrics[name] for record in records])) for name in names}
    faces = _faces(records, folder)
    intervals: dict[str, Interval] = {}
    if len(records) == 1:
        intervals = records[0].intervals
    elif faces is not None and np.isfinite(faces[1]).all():
        intervals["nme"] = bootstrap_interval(faces[1])
    ids, nmes = faces if faces is not None else (None, None)
    return Entry(records[0].title, records, metrics, intervals, ids, nmes)


def _label(entries: list[Entry]) -> None:
    """Give rows that would have the same name their recipe's name too."""
    titles = [entry.label for entry in entries]
    for entry in entries:
        if titles.count(entry.label) > 1:
            entry.label = f"{entry.label}, {Path(str(entry.first.recipe)).stem}"


def _differences(entries: Sequence[Entry]) -> dict[tuple[int, int], Difference]:
    """Compare every pair of rows with finite errors on the same faces."""
    found = {}
    for i, first in enumerate(entries):
        for j, second in enumerate(entries[:i]):
            if first.nmes is None or second.nmes is None or first.ids is None or second.ids is None:
                continue
            if not np.array_equal(first.ids, second.ids):
                continue
            gap = first.nmes - second.nmes
            if not np.isfinite(gap).all():
                continue  # a face without a prediction must not be left out in silence
            low, high = bootstrap_interval(gap)
            mean = float(gap.mean())
            found[i, j], found[j, i] = Difference(mean, low, high), Difference(-mean, -high, -low)
    return found


def _field(card: Mapping[str, Scalar], name: str) -> str:
    """Return a field of a card for comparison: 10 and 10.0 are one threshold."""
    value = card.get(name)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def compare(records: Iterable[Result], folder: Path | None = None) -> list[Comparison]:
    """Return one comparison for each data set and set of binding fields: figures of unlike cards share no column.

    Args:
        records: finished cells.
        folder: where their prediction files are; None leaves out what needs them.
    """
    groups: dict[tuple[str, ...], dict[tuple[str, str], list[Result]]] = {}
    for record in records:
        if "nme" not in record.metrics:
            print(f"{record.trial}: left out of the tables, its NME is not finite", file=sys.stderr)
            continue
        key = (record.dataset, *(_field(record.card, name) for name in BINDING))
        rows = groups.setdefault(key, {})
        rows.setdefault((record.method, str(record.recipe)), []).append(record)
    result = []
    for key, rows in groups.items():
        entries = sorted((make_entry(found, folder) for found in rows.values()), key=lambda e: e.metrics["nme"])
        _label(entries)
        names = list(dict.fromkeys(name for entry in entries for name in entry.card))
        same = [name for name in names if len({_field(entry.card, name) for entry in entries}) == 1]
        shared = {name: entries[0].card[name] for name in same}
        differing = [name for name in names if name not in same]
        result.append(Comparison(key[0], shared, differing, entries, _differences(entries)))
    _tell_apart(result)
    return result


def _tell_apart(comparisons: list[Comparison]) -> None:
    """Say in the titles of a data set's several comparisons in which binding fields they differ."""
    for dataset in {comparison.dataset for comparison in comparisons}:
        group = [comparison for comparison in comparisons if comparison.dataset == dataset]
        names = [name for name in BINDING if len({_field(c.card, name) for c in group}) > 1]
        for comparison in group:
            comparison.note = ", ".join(f"{name}: {comparison.card.get(name, 'not stated')}" for name in names)


def ced_curves(comparison: Comparison) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return NME levels (K,) and each row's share of faces at or below them (K,), both in percent.

    The levels reach beyond the failure threshold where errors do, at most to twice of it. Rows without predictions
    have no curve; a face without a prediction is at no level.
    """
    found = {entry.label: entry.nmes for entry in comparison.entries if entry.nmes is not None}
    errors = {label: np.where(np.isfinite(nmes), nmes, np.inf) for label, nmes in found.items()}
    reach = max((float(np.quantile(values, 0.98, method="lower")) for values in errors.values()), default=0.0)
    end = max(comparison.threshold, float(np.ceil(min(reach, 2 * comparison.threshold))))
    levels = np.linspace(0, end, CED_STEPS + 1)
    return levels, {label: 100 * ced(values, levels) for label, values in errors.items()}


@dataclass
class Curve:
    """A robustness or risk-coverage curve of one method.

    Attributes:
        label: how charts call the method.
        x: levels or coverage.
        y: NME in percent.
        area: mean height of the curve in percent, None when it was not recorded.
    """

    label: str
    x: list[float]
    y: list[float]
    area: float | None = None


@dataclass
class Disturbance:
    """One kind of disturbance on one data set: the curves of all methods."""

    dataset: str
    kind: str
    unit: str
    curves: list[Curve]


def disturbances(records: Sequence[Robustness]) -> list[Disturbance]:
    """Return the robustness curves, means over the seeds."""
    found: dict[tuple[str, str, str], dict[str, dict[float, list[float]]]] = {}
    areas: dict[tuple[str, str, str], list[float]] = {}
    for record in records:
        if record.value is None:
            continue
        if record.level is None:
            areas.setdefault((record.dataset, record.kind, record.title), []).append(record.value)
        else:
            curves = found.setdefault((record.dataset, record.kind, record.unit), {})
            curves.setdefault(record.title, {}).setdefault(record.level, []).append(record.value)
    result = []
    for (dataset, kind, unit), methods in found.items():
        drawn = []
        for title, levels in methods.items():
            x = sorted(levels)
            own = areas.get((dataset, f"{kind}_area", title))
            y = [float(np.mean(levels[level])) for level in x]
            drawn.append(Curve(title, x, y, float(np.mean(own)) if own else None))
        result.append(Disturbance(dataset, kind, unit, drawn))
    return result


def risk_curves(records: Sequence[Robustness]) -> dict[str, list[Curve]]:
    """Return data set -> risk-coverage curves of the methods that say how sure they are; the first seed's."""
    result: dict[str, dict[str, Curve]] = {}
    for record in records:
        if record.kind == "risk_coverage":
            own = Curve(record.title, *record.curve, record.aurc)
            result.setdefault(record.dataset, {}).setdefault(record.title, own)
    return {dataset: list(curves.values()) for dataset, curves in result.items()}


def flickers(records: Sequence[Robustness]) -> dict[tuple[str, str], float]:
    """Return (data set, method's title) -> mean flicker in percent over the seeds."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if record.kind == "flicker" and record.value is not None:
            found.setdefault((record.dataset, record.title), []).append(record.value)
    return {key: float(np.mean(values)) for key, values in found.items()}


@dataclass
class Machine:
    """A machine on which networks were timed."""

    letter: str
    card: dict[str, Scalar]
    methods: list[str]


@dataclass
class Report:
    """Everything that a report shows, read from one folder.

    Attributes:
        folder: where the records are.
        comparisons: the tables.
        robustness, speeds: records of the commands of these names.
        styles: label -> number of its colour and line style, the same in all charts.
    """

    folder: Path
    comparisons: list[Comparison]
    robustness: list[Robustness]
    speeds: list[Timing]
    styles: dict[str, int]
    machines: list[Machine]

    def machine_of(self, card: Mapping[str, Scalar] | None) -> str:
        """Return the letter of a machine card, "" when there is only one machine or none is known."""
        letters = [machine.letter for machine in self.machines if machine.card == card]
        return letters[0] if letters and len(self.machines) > 1 else ""


def read_report(folder: Path) -> Report:
    """Return the content of a report from the records in a folder.

    Raises:
        LabError: a record or a file of predictions is not as it must be.
    """
    comparisons = compare(read_records(folder / "records.jsonl", Result), folder)
    robustness = read_records(folder / "robustness.jsonl", Robustness)
    speeds = read_records(folder / "speed.jsonl", Timing)
    labels = sorted({e.label for c in comparisons for e in c.entries} | {record.title for record in robustness})
    machines: list[Machine] = []
    timed = [(entry.label, entry.speed.machine) for c in comparisons for entry in c.entries]
    timed += [(record.title, record.machine) for record in speeds]
    for label, card in [(label, card) for label, card in timed if card]:
        known = next((machine for machine in machines if machine.card == card), None)
        if known is None:
            known = Machine(chr(ord("A") + len(machines)), card, [])
            machines.append(known)
        if label not in known.methods:
            known.methods.append(label)
    styles = {label: number for number, label in enumerate(labels)}
    return Report(folder, comparisons, robustness, speeds, styles, machines)
