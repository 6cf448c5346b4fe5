"""Tables and results of the page as plain data: `templates/` turns it into HTML, and escapes every text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.record import Speed
from benchmarks.report.charts import Axis, Chart, both, whisker
from benchmarks.report.markdown import SAME, least_of
from benchmarks.report.model import Comparison, Difference, Entry, Interval, Report, ced_curves, signed

HOPELESS = 50.0  # percent of failures from which the least error is no praise
FIELDS = {
    "protocol": "protocol", "data": "data set", "n": "faces", "landmarks": "landmarks", "space": "errors measured in",
    "normaliser": "normaliser", "threshold": "FR and AUC threshold, %", "auc_rule": "AUC rule", "failures": "failures",
    "box": "box", "decode": "decoding", "flip": "flip test", "checkpoint": "checkpoint",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what is shown; "" with no value: not measured.
        value: by which the column sorts; None sorts last.
        below: small second line.
        kind: class in the style sheet.
        style: number of the series whose mark stands before the text.
        spark: path and place of a small interval.
        label: a name between text and second line.
    """

    text: str = ""
    value: float | str | None = None
    below: str = ""
    kind: str = ""
    style: int | None = None
    spark: tuple[str, float] | None = None


@dataclass(frozen=True)
class Column:
    """A column: its head, what it means (shown on hovering), and whether it holds numbers."""

    head: str
    hint: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table; its first column heads the rows."""

    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    sort: bool = True


@dataclass(frozen=True)
class Plot:
    """A chart at two widths, with its legend: (label, style, word)."""

    charts: list[Chart]
    caption: str
    legend: list[tuple[str, int, str]] = field(default_factory=list)
    title: str = ""


METHOD = Column("method", numeric=False)
COST = [
    Column("params", "Parameters of the network, millions"),
    Column("MACs", "Multiply-adds of convolutions and matrix products for one face"),
    Column("ms b1", "Milliseconds a face, one at a time; median after a warm-up"),
    Column("ms b8", "Milliseconds a face in a batch of 8"),
    Column("ms b64", "Milliseconds a face in a batch of 64"),
    Column("memory", "Peak memory of a forward pass"),
    Column("training step", "Milliseconds of one optimiser step"),
    Column("training", "Minutes of the whole training"),
]
HEADLINE = 3  # of them stand beside the accuracy


def words(value: object, kind: str = "") -> Cell:
    """Return a cell of plain text."""
    return Cell(str(value), str(value), kind=kind) if value not in (None, "") else Cell()


def quantity(value: float | None, digits: int = 2, unit: float = 1.0, letter: str = "") -> Cell:
    """Return a cell of a number in units of `unit`."""
    return Cell() if value is None else Cell(f"{value / unit:.{digits}f}{letter and ' '}{letter}", value)


def ranged(value: float | None, interval: Interval | None, digits: int = 2) -> Cell:
    """Return a cell of a number over its interval."""
    below = f"{interval[0]:.{digits}f} – {interval[1]:.{digits}f}" if interval else ""
    return Cell() if value is None else Cell(f"{value:.{digits}f}", value, below)


def _span(found: Difference) -> str:
    return f"{signed(found.low)} to {signed(found.high)}"


def measured(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], caption: str, sort: bool = True) -> Table:
    """Return a table without the columns in which no row has a value."""
    kept = [k for k in range(len(columns)) if k == 0 or any(row[k].value is not None for row in rows)]
    return Table(caption, [columns[k] for k in kept], [[row[k] for k in kept] for row in rows], sort)


def name_cell(report: Report, entry: Entry) -> Cell:
    seeds = f"{len(entry.records)} seeds" if len(entry.records) > 1 else ""
    return Cell(entry.label, entry.label, seeds, style=report.styles[entry.label])


def _against_best(comparison: Comparison, row: int) -> Cell:
    if row == 0:
        hopeless = comparison.entries[0].metrics.get("fr", 0.0) >= HOPELESS
        return Cell("best", -1.0, kind="" if hopeless else "best")
    found = comparison.differences.get((row, 0))
    if found is None:
        return Cell()
    return Cell(comparison.against_best(row), found.mean, _span(found), "" if found.separable else "same")


def cost_cells(report: Report, speed: Speed, seconds: float | None = None) -> list[Cell]:
    """Return size and speed in the order of COST; a letter names the machine where there are several."""
    letter = report.machine_of(speed.machine)
    return [quantity(speed.parameters, 2, 1e6, "M"), quantity(speed.macs, 2, 1e9, "G"),
            *(quantity(speed.ms(batch), 1, 1.0, letter) for batch in (1, 8, 64)),
            quantity(speed.peak_memory_mb, 0, 1.0, "MB"), quantity(speed.train_step_ms, 0, 1.0, "ms"),
            quantity(seconds, 1, 60.0, "min")]  # fmt: skip


def _results(report: Report, comparison: Comparison) -> Table:
    """Return the comparison of one data set: accuracy and cost of each row."""
    limit, card = f"{comparison.threshold:g}", comparison.card
    spans = [value for entry in comparison.entries for value in entry.intervals.get("nme", (entry.metrics["nme"],))]
    rows = []
    for number, entry in enumerate(comparison.entries):
        nme, found = entry.metrics["nme"], entry.intervals.get("nme")
        drawn = Cell("", nme, style=report.styles[entry.label], spark=whisker(nme, found, min(spans), max(spans)))
        rows.append([
            name_cell(report, entry), ranged(nme, found), drawn if found else Cell(), _against_best(comparison, number),
            ranged(entry.metrics.get("fr"), entry.intervals.get("fr"), 1),
            ranged(entry.metrics.get("auc"), entry.intervals.get("auc"), 1), quantity(entry.metrics.get("nme_p95")),
            quantity(entry.sd), *cost_cells(report, entry.speed)[:HEADLINE],
        ])  # fmt: skip
    columns = [
        METHOD, Column("NME", "Normalised mean error over all test faces, with its 95 % bootstrap interval"),
        Column("interval", "NME and its interval, all rows on one scale", False),
        Column("vs. best", "NME minus the best row's on the same faces, with its paired 95 % interval"),
        Column(f"FR{limit}", f"Share of faces with an NME above {limit} %"),
        Column(f"AUC{limit}", f"Area under the cumulative error curve up to {limit} %"),
        Column("P95", "NME that 95 % of the faces do not exceed"),
        Column("sd of seeds", "Standard deviation of the NME over trainings with different seeds"), *COST[:HEADLINE],
    ]  # fmt: skip
    facts = [f"{card['n']} faces" if "n" in card else "",
             f"normalised by {card['normaliser']}" if "normaliser" in card else "",
             f"protocol {card['protocol']}" if "protocol" in card else ""]  # fmt: skip
    caption = (f"{', '.join(filter(None, facts))}. 95 % bootstrap intervals over faces; FR and AUC at {limit} %. "
               "Lower is better, except for AUC.")  # fmt: skip
    return measured(columns, rows, caption)


def _ced(report: Report, comparison: Comparison, name: str) -> Plot | None:
    """Return the cumulative error curves of all rows with predictions."""
    entries = [entry for entry in comparison.entries if entry.nmes is not None]
    if not entries:
        return None
    levels, shares = ced_curves(comparison)

    def draw(end: str, width: int) -> Chart:
        chart = Chart(name + end, f"Cumulative error curves on {comparison.title}: share of faces against NME",
                      Axis("NME, percent", 0, float(levels[-1])), Axis("faces, percent", 0, 100), width,
                      read=True)  # fmt: skip
        chart.rules.append((comparison.threshold, f"failure above {comparison.threshold:g} %"))
        for entry in reversed(entries):
            chart.line(entry.label, report.styles[entry.label], levels.tolist(), shares[entry.label].tolist())
        return chart

    rows = [(entry.label, report.styles[entry.label], f"{entry.metrics['nme']:.2f} %") for entry in entries]
    caption = "Cumulative error: the share of faces whose NME is at most the value on the axis. Higher is better."
    return Plot(both(draw), caption, rows)


def _pairs(report: Report, comparison: Comparison) -> Table | None:
    """Return the row's NME minus the column's, None without comparable pairs."""
    if not comparison.differences:
        return None
    rows = []
    for i, entry in enumerate(comparison.entries):
        cells = [Cell(entry.label, entry.label, style=report.styles[entry.label])]
        for j in range(len(comparison.entries)):
            found = comparison.differences.get((i, j))
            if i == j:
                cells.append(Cell("·", 0.0))
            elif found is None:
                cells.append(Cell())
            else:
                kind = ("better" if found.mean < 0 else "worse") if found.separable else ""
                cells.append(Cell(signed(found.mean), found.mean, _span(found), kind))
        rows.append(cells)
    columns = [Column("row minus column", numeric=False), *(Column(entry.label) for entry in comparison.entries)]
    caption = (
        "Differences of NME on the same faces, percentage points, with paired 95 % intervals; coloured: significant"
    )
    return Table(caption, columns, rows, sort=False)


def _subsets(report: Report, comparison: Comparison) -> Table | None:
    """Return the NME of each row on each subset, None where there are no subsets."""
    names = list(dict.fromkeys(name for entry in comparison.entries for name in entry.subsets))
    rows = [[name_cell(report, entry), *(ranged(entry.metrics.get(f"{name}/nme"), entry.intervals.get(f"{name}/nme"))
                                     for name in names)] for entry in comparison.entries]  # fmt: skip
    columns = [METHOD, *map(Column, names)]
    return Table("NME on each subset, percent, with 95 % intervals", columns, rows) if names else None


def _cards(report: Report, comparison: Comparison) -> Table:
    """Return what differs between the rows, and where each figure comes from."""
    own = [Column(FIELDS.get(name, name), numeric=False) for name in comparison.differing]
    facts = ("recipe", "seeds", "commit", "device", "torch", "date")
    rows = []
    for entry in comparison.entries:
        first = entry.first
        known = (first.recipe, ", ".join(map(str, entry.seeds)), first.commit, first.device, first.torch,
                 (first.date or "")[:16].replace("T", " "))  # fmt: skip
        rows.append([name_cell(report, entry), *(words(entry.card.get(n, "not stated")) for n in comparison.differing),
                     *map(words, known)])  # fmt: skip
    caption = "What differs, and where each figure comes from" if own else "Where each figure comes from"
    return Table(caption, [METHOD, *own, *(Column(fact, numeric=False) for fact in facts)], rows)


def dataset(report: Report, comparison: Comparison, number: int) -> dict[str, object]:
    """Return the section of one comparison."""
    marks = {entry.label: comparison.against_best(k) for k, entry in enumerate(comparison.entries) if k}
    names = [*FIELDS, *(name for name in comparison.card if name not in FIELDS)]
    return {
        "title": f"Results: {comparison.title}", "best": comparison.entries[0],
        "same": [label for label, mark in marks.items() if mark == SAME],
        "apart": bool(marks) and not {SAME, "not measured"} & set(marks.values()),
        "table": _results(report, comparison), "least": least_of(comparison),
        "differing": [FIELDS.get(name, name) for name in comparison.differing],
        "ced": _ced(report, comparison, f"ced-{number}"), "pairs": _pairs(report, comparison),
        "subsets": _subsets(report, comparison), "cards": _cards(report, comparison),
        "shared": [(FIELDS.get(n, n), comparison.card[n]) for n in names if n in comparison.card],
    }  # fmt: skip
