"""The reproduction table: for each method and test set what its paper prints, what its official weights give under our
metric, and what was trained here (mean and deviation over the seeds, with commit, seeds and device).

Paper: published.yaml. Official weights: its measured entries, and rows of `score --official`. Ours: the runner.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.published.figures import COST, Figure, read_published
from benchmarks.record import Result
from benchmarks.report.model import Entry, Report
from common.methods import METHODS
from common.metrics.protocols import dataset_key

Row = dict[str, Any]
OURS = ("corners", "canonical")  # normaliser by which a published figure may stand beside ours, and our protocol


def titles(report: Report) -> dict[str, str]:
    """Return method -> how tables call it, of the list and of what was recorded."""
    found = {name: method.title for name, method in METHODS.items()}
    for comparison in report.comparisons:
        for entry in comparison.entries:
            if entry.seeds:
                found.setdefault(entry.first.method, entry.first.title)
    return found


def _headline(figures: Iterable[Figure]) -> Figure | None:
    """Return the figure to put forward: no slip; our normaliser first, then the method without a variant."""
    sound = [figure for figure in figures if "nme" in figure.values and not figure.facts.get("slip")]
    if not sound:
        return None
    return min(sound, key=lambda f: (f.facts.get("normaliser") != OURS[0], "variant" in f.facts))


def _paper(figure: Figure | None) -> Row:
    """Return the paper's part of a row."""
    if figure is None:
        return {}
    variant = figure.facts.get("variant", "")
    places = ", ".join(filter(None, (figure.facts.get("source"), figure.facts.get("table"))))
    return {
        "paper": figure.values["nme"].text, "normaliser": figure.facts.get("normaliser", ""), "source": places,
        "remark": "; ".join(filter(None, (variant, "from memory" if "nme" in figure.remembered else ""))),
    }  # fmt: skip


def _ours(entry: Entry) -> Row:
    """Return our part of a row."""
    first = entry.first
    commits = list(dict.fromkeys(r.commit for r in entry.records if r.commit))
    devices = list(dict.fromkeys(r.device for r in entry.records if r.device))
    return {
        "ours": entry.metrics["nme"], "sd": entry.sd, "seeds": entry.seeds, "recipe": first.recipe or "",
        "our normaliser": str(entry.card.get("normaliser") or ""), "commit": ", ".join(commits),
        "device": ", ".join(devices), "date": (first.date or "")[:10],
    }  # fmt: skip


def _official(figures: Iterable[Figure], records: Iterable[Result]) -> float | None:
    """Return the NME of official weights under our metric; a scored file counts before a figure of published.yaml."""
    scored = [record.metrics["nme"] for record in records if record.protocol == OURS[1]]
    known = [float(figure.values["nme"]) for figure in figures
             if figure.facts.get("evidence") == "measured" and figure.facts.get("normaliser") == OURS[0]
             and "nme" in figure.values]  # fmt: skip
    return (scored + known or [None])[0]  # type: ignore[list-item]


def _gap(row: Row) -> float | None:
    """Return our NME minus the paper's where both have one normaliser and stand on one test set."""
    same = row.get("normaliser") and row.get("normaliser") == row.get("our normaliser")
    return row["ours"] - float(row["paper"]) if same and row.get("ours") is not None and row.get("paper") else None


def ledger_rows(report: Report) -> list[Row]:
    """Return the rows, method by method in the order of the list, trained data sets first."""
    figures = [figure for figure in read_published() if figure.dataset and figure.subset == "full"]
    everything = [(comparison.dataset, entry) for comparison in report.comparisons for entry in comparison.entries]
    result: list[Row] = []
    for method, title in titles(report).items():
        own = [(data, entry) for data, entry in everything if entry.first.method == method]
        trained = [(data, entry) for data, entry in own if entry.seeds]
        scored = [(data, r) for data, entry in own for r in entry.records if r.official]
        printed = [figure for figure in figures if figure.method == method]
        names = [data for data, _ in trained] + [data for data, _ in scored] + [figure.dataset for figure in printed]
        keys = {dataset_key(name): name for name in reversed(names)}
        for key in dict.fromkeys(map(dataset_key, names)):
            here = [figure for figure in printed if dataset_key(figure.dataset) == key]
            claims = [figure for figure in here if figure.facts.get("evidence") != "measured"]
            base = {"method": title, "data set": keys[key], **_paper(_headline(claims)),
                    "official": _official(here, [r for data, r in scored if dataset_key(data) == key])}  # fmt: skip
            mine = [_ours(entry) for data, entry in trained if dataset_key(data) == key] or [{}]
            for row in (base | part for part in mine):
                result.append(row | {"gap": _gap(row)})
    return [row for row in result if row.get("paper") or row["official"] is not None or row.get("ours") is not None]


COLUMNS: tuple[tuple[str, str], ...] = (
    ("method", "method"), ("data set", "data set"), ("paper", "paper"), ("normaliser", "paper's normaliser"),
    ("official", "official weights, our metric"), ("ours", "our training"), ("sd", "sd of seeds"),
    ("gap", "difference"),
    ("seeds", "seeds"), ("recipe", "recipe"), ("commit", "commit"), ("device", "device"), ("source", "source"),
    ("remark", "remark"),
)  # fmt: skip


def plain(row: Row, key: str) -> str:
    """Return a cell of the table as text, a dash where there is no figure."""
    value = row.get(key)
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:+.2f}" if key == "gap" else f"{value:.2f}"
    return str(value)


def cost_figures(methods: Iterable[str]) -> list[Figure]:
    """Return the published and separately measured sizes and times of methods, each with its own machine."""
    wanted = set(methods)
    return [figure for figure in read_published() if not figure.dataset and figure.method in wanted
            and any(name in figure.values for name in COST)]  # fmt: skip
