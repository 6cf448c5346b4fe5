"""`python -m benchmarks lint TABLE`: do the figures of a table agree with arithmetic?

Checks, all within the precision of the printed digits:

* FR times the number of faces is a whole number of faces;
* AUC = 1 - NME / t + what failures exceed the threshold t by: never below 1 - NME / t, equal to it at FR 0, and the
  mean error of failures that it implies must be believable;
* the AUC does not repeat the digits of the NME;
* a full set is the pool of its subsets;
* percentiles are ordered, and agree with FR.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.published.figures import ACCURACY, LARGEST, LEAST, Figure, Printed, read_published
from benchmarks.record import Result, numbered_records
from common.errors import LabError
from common.files.validation import read_text

# Faces of the official test sets and their subsets.
SIZES: dict[str, dict[str, int]] = {
    "WFLW": {"full": 2500, "pose": 326, "expression": 314, "illumination": 698, "makeup": 206, "occlusion": 736,
             "blur": 773},
    "300W": {"full": 689, "common": 554, "challenge": 135, "helen": 330, "lfpw": 224, "ibug": 135},
    "iBUG": {"full": 135},
    "300W private": {"full": 600, "indoor": 300, "outdoor": 300},
    "COFW": {"full": 507},
    "COFW-68": {"full": 507},
    "MERL-RAV": {"full": 3865, "frontal": 2195, "half": 601, "profile": 1069},
    "AFLW": {"full": 4386},
    "AFLW2000-3D": {"full": 2000},
}  # fmt: skip
# Subsets that make up a larger one without overlap: (data set, whole) -> parts.
POOLS: dict[tuple[str, str], tuple[str, ...]] = {
    ("300W", "full"): ("common", "challenge"),
    ("300W", "common"): ("helen", "lfpw"),
    ("300W private", "full"): ("indoor", "outdoor"),
    ("MERL-RAV", "full"): ("frontal", "half", "profile"),
}
POOLED = ("nme", "fr", "auc")
# Percentage points by which a rule's AUC may lie off the exact area: bins at left edges, coarse steps, one too far.
RULE_SLACK = {"exact": 0.0, "histogram": 0.02, "step": 0.2}
UNKNOWN_SLACK = 0.2
FAILURE_FACTOR = 5.0  # failures of sound tables average 1.2 to 2.1 thresholds; beyond this factor none is believable
DIGITS = 4  # of records after the point: their figures have been single-precision numbers
REPEAT_DIGITS = 3  # digits that AUC and NME must share to be called a repetition


@dataclass(frozen=True)
class Finding:
    """Something that cannot be; `known` where the table itself marks it as a slip."""

    where: str
    title: str
    rule: str
    message: str
    known: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.title}: {self.message}{' (known slip)' if self.known else ''}"


def faces(figure: Figure) -> int | None:
    """Return how many faces a figure is over, None where that is not known."""
    return figure.n or SIZES.get(figure.dataset, {}).get(figure.subset)


def slack(figure: Figure) -> float:
    """Return by how many percentage points the figure's AUC rule may be off the exact area."""
    return RULE_SLACK.get(figure.facts.get("auc_rule", ""), UNKNOWN_SLACK)


def whole_failures(figure: Figure) -> Iterator[tuple[str, str]]:
    """FR times n must be whole."""
    rate, count = figure.values.get("fr"), faces(figure)
    if rate is None or count is None or _whole(rate, count):
        return
    others = [other for other in (count - 1, count + 1) if _whole(rate, other)]
    hint = f"; it is {round(rate * others[0] / 100)} of {others[0]}" if others else ""
    yield "whole", f"FR {rate.text} is {rate * count / 100:.2f} of {count} faces, not a whole number{hint}"


def _whole(rate: Printed, count: int) -> bool:
    number = rate * count / 100
    if not math.isfinite(number):
        return False
    return abs(number - round(number)) <= (rate.half * 1.001 + 1e-9) * count / 100


def area_and_mean(figure: Figure) -> Iterator[tuple[str, str]]:
    """AUC, NME and FR must agree."""
    mean, area, limit = figure.values.get("nme"), figure.values.get("auc"), figure.threshold
    if mean is None or area is None or limit is None:
        return
    bound, unsure = 100 * (1 - mean / limit), area.half + 100 * mean.half / limit + 1e-6
    if area < bound - unsure - slack(figure):
        yield "bound", f"AUC {area.text} is below 100 (1 - NME/t) = {bound:.2f} for NME {mean.text} at t = {limit:g} %"
        return
    rate = figure.values.get("fr")
    excess = area - bound - unsure - slack(figure)
    if rate is None or excess <= 0:
        return
    if rate == 0:
        yield "equality", f"AUC {area.text} must equal 100 (1 - NME/t) = {bound:.2f}, as no face failed"
        return
    if figure.facts.get("evidence") == "measured":
        return  # the points are at hand, and a network that has hardly learnt errs as far as it likes
    implied = limit * (1 + excess / (rate + rate.half))
    if implied > FAILURE_FACTOR * limit:
        best = limit * (1 + (area - bound) / rate)
        yield "failures", (f"AUC {area.text} and NME {mean.text} need failures with a mean error of {best:.0f} % "
                           f"(FR {rate.text} at {limit:g} %)")  # fmt: skip


def repeated_digits(figure: Figure) -> Iterator[tuple[str, str]]:
    """An AUC whose digits are the NME's was copied."""
    mean, area = figure.values.get("nme"), figure.values.get("auc")
    if mean is None or area is None:
        return
    digits = len(area.text.replace(".", "").strip("0"))
    if digits > REPEAT_DIGITS and abs(area / 10 - mean) <= area.half / 10 + mean.half:
        yield "repeat", f"AUC {area.text} repeats the digits of NME {mean.text}"


def ordered_percentiles(figure: Figure) -> Iterator[tuple[str, str]]:
    """Percentiles must grow and agree with FR."""
    found = [(int(name[1:]), figure.values[name]) for name in ("p90", "p95", "p99") if name in figure.values]
    for (low, first), (high, second) in zip(found, found[1:], strict=False):
        if first > second + first.half + second.half:
            yield "percentiles", f"P{low} {first.text} is above P{high} {second.text}"
    rate, limit, count = figure.values.get("fr"), figure.threshold, faces(figure)
    if rate is None or limit is None or count is None:
        return
    unsure = rate.half + 100 / count
    for level, value in found:
        if value - value.half > limit and rate < 100 - level - unsure:
            yield "percentiles", f"P{level} {value.text} is above {limit:g} %, but FR is only {rate.text}"
        if value + value.half < limit and rate > 100 - level + unsure:
            yield "percentiles", f"P{level} {value.text} is below {limit:g} %, but FR is {rate.text}"


CHECKS: tuple[Callable[[Figure], Iterator[tuple[str, str]]], ...] = (
    whole_failures, area_and_mean, repeated_digits, ordered_percentiles,
)  # fmt: skip


def pools(figures: Iterable[Figure]) -> Iterator[Finding]:
    """A set must be the pool of its parts, weighted by their faces."""
    groups: dict[tuple[object, ...], dict[str, Figure]] = {}
    for figure in figures:
        facts = (figure.facts.get(name, "") for name in ("variant", "normaliser", "protocol", "source", "table"))
        groups.setdefault((figure.method, figure.dataset, figure.threshold, *facts), {})[figure.subset] = figure
    for (_, dataset, *_), group in groups.items():
        for (of, whole), parts in POOLS.items():
            if of != dataset or whole not in group or not all(part in group for part in parts):
                continue
            for metric in POOLED:
                yield from _pooled(group[whole], [group[part] for part in parts], metric)


def _pooled(whole: Figure, parts: list[Figure], metric: str) -> Iterator[Finding]:
    if metric not in whole.values or not all(metric in part.values for part in parts):
        return
    counts = [faces(part) or 0 for part in parts]
    pooled = sum(part.values[metric] * n for part, n in zip(parts, counts, strict=True)) / sum(counts)
    unsure = sum(part.values[metric].half * n for part, n in zip(parts, counts, strict=True)) / sum(counts)
    unsure += whole.values[metric].half + (2 * slack(whole) if metric == "auc" else 0) + 1e-6
    if abs(pooled - whole.values[metric]) > unsure:
        names = " and ".join(f"{part.subset} {part.values[metric].text}" for part in parts)
        text = f"{metric.upper()} {whole.values[metric].text} is not the pool of {names}: {pooled:.2f}"
        yield Finding(whole.where, whole.title, "pool", text)


def lint(figures: Iterable[Figure]) -> list[Finding]:
    """Return all that is wrong with figures: slips, and marks of slips that no check finds."""
    figures = list(figures)
    found = [Finding(f.where, f.title, rule, text) for f in figures for check in CHECKS for rule, text in check(f)]
    found += pools(figures)
    marked = {figure.where: figure for figure in figures if figure.facts.get("slip")}
    found = [replace(finding, known=finding.where in marked) for finding in found]
    blamed = {finding.where for finding in found}
    return found + [
        Finding(where, figure.title, "mark", "is marked as a slip, but no check finds one")
        for where, figure in marked.items()
        if where not in blamed
    ]


def read_table(path: Path) -> list[Figure]:
    """Return the figures of a table.

    Args:
        path: YAML as `published.yaml`; CSV with the columns method, dataset, subset, n, threshold, nme, fr, auc, p90,
            p95, p99, auc_rule, variant, source, of which any may be missing; or records.jsonl of the runner.

    Raises:
        LabError: the file is missing or a line is not as it must be.
    """
    if not path.is_file():
        raise LabError(f"{path}: no such table")
    match path.suffix.lower():
        case ".yaml" | ".yml":
            return [_in_percent(figure) for figure in read_published(path)]
        case ".csv":
            return [_in_percent(figure) for figure in _read_csv(path)]
        case ".jsonl":
            return list(_read_records(path))
    raise LabError(f"{path}: a table must be .yaml, .csv or .jsonl")


def _in_percent(figure: Figure) -> Figure:
    area = figure.values.get("auc")
    if area is None or area > 1 or "." not in area.text:
        return figure
    return replace(figure, values=figure.values | {"auc": area.percent()})


def _read_csv(path: Path) -> Iterator[Figure]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        if "nme" not in (reader.fieldnames or ()):
            raise LabError(f"{path}:1: the header must name the columns, at least nme")
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise LabError(f"{path}:{reader.line_num}: is not CSV: {error}") from None
    for number, row in rows:
        where = f"{path}:{number}"
        texts = {key: (value or "").strip() for key, value in row.items() if key and isinstance(value, str)}
        values = {key: _printed(where, key, texts[key]) for key in ACCURACY if texts.get(key)}
        limit = float(_printed(where, "threshold", texts["threshold"], LEAST)) if texts.get("threshold") else None
        count = int(_printed(where, "n", texts["n"], 1)) if texts.get("n") else None
        facts = {key: texts[key] for key in ("variant", "normaliser", "auc_rule", "source") if texts.get(key)}
        yield Figure(texts.get("method", ""), texts.get("dataset", ""), texts.get("subset") or "full", values,
                     limit, count, facts, (), where)  # fmt: skip


def _printed(where: str, key: str, text: str, least: float = 0.0) -> Printed:
    try:
        number = Printed(text)
    except ValueError:
        raise LabError(f"{where}: {key} must be a number, got {text!r}") from None
    if not least <= number <= LARGEST:
        raise LabError(f"{where}: {key} must lie between {least:g} and {LARGEST:g}, got {text!r}")
    return number


def _read_records(path: Path) -> Iterator[Figure]:
    for number, record in numbered_records(path, Result):
        card, metrics = record.card, record.metrics
        limit, count = card.get("threshold"), card.get("n")
        for prefix in sorted({name.rpartition("/")[0] for name in metrics}):
            names = {f"{prefix}/{key}".lstrip("/"): key for key in ("nme", "fr", "auc")}
            names |= {f"{prefix}/nme_p{q}".lstrip("/"): f"p{q}" for q in (90, 95, 99)}
            values = {key: Printed(f"{metrics[name]:.{DIGITS}f}") for name, key in names.items() if name in metrics}
            facts = {
                "variant": f"{record.recipe}, seed {record.seed}",
                "auc_rule": str(card.get("auc_rule")),
                "evidence": "measured",
            }
            yield Figure(record.method, record.dataset, prefix or "full", values,
                         None if limit is None else float(limit), None if prefix or count is None else int(count),
                         facts, (), f"{path}:{number}")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("table", type=Path, help="figures to check: .yaml as published.yaml, .csv, or records.jsonl")


def main(options: argparse.Namespace) -> None:
    """Print what is wrong with a table; exit code 1 when something is that the table does not mark itself.

    Raises:
        LabError: the table cannot be read.
        SystemExit: something was found.
    """
    figures = read_table(options.table)
    found = lint(figures)
    for finding in found:
        print(finding)
    known = sum(finding.known for finding in found)
    fresh = len(found) - known
    print(f"{options.table}: {len(figures)} rows, {fresh} finding{'' if fresh == 1 else 's'}"
          + (f", {known} known slip{'' if known == 1 else 's'}" if known else ""))  # fmt: skip
    if fresh:
        raise SystemExit(1)
