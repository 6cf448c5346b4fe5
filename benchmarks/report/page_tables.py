"""Tables of the report's page. They are plain tables; the page's script makes those of class `sort` sort by click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.record import Speed
from benchmarks.report.charts import STYLES, whisker
from benchmarks.report.model import Comparison, Difference, Entry, Report, signed

SHORT = 8  # letters of a head that is not broken
FEW = 5  # columns up to which a table takes no more room than it needs
MISSING = '<span class="none">not measured</span>'


@dataclass(frozen=True)
class Column:
    """A column: its head, what it means (shown on hovering), and whether it holds numbers."""

    head: str
    hint: str = ""
    numeric: bool = True
    group: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: what is shown (HTML), and the value by which its column sorts; None sorts last."""

    html: str
    value: float | str | None = None
    extra: str = ""


def text(value: object) -> Cell:
    """Return a cell of plain text."""
    return Cell(escape(str(value)), str(value))


def quantity(value: float | None, digits: int = 2, unit: float = 1.0, letter: str = "") -> Cell:
    """Return a cell of a number in units of `unit`, or of the words "not measured"."""
    if value is None:
        return Cell(MISSING)
    return Cell(f"{value / unit:.{digits}f}" + (f'<span class="unit"> {letter}</span>' if letter else ""), value)


def span(interval: tuple[float, float] | None, digits: int = 2) -> str:
    """Return an interval for the second line of a cell."""
    return f'<span class="ci">{interval[0]:.{digits}f} – {interval[1]:.{digits}f}</span>' if interval else ""


def signed_span(found: Difference) -> str:
    """Return a difference's interval for the second line of a cell."""
    return f'<span class="ci">{signed(found.low)} to {signed(found.high)}</span>'


def ranged(value: float | None, interval: tuple[float, float] | None, digits: int = 2) -> Cell:
    """Return a cell of a number over its interval."""
    if value is None:
        return Cell(MISSING)
    return Cell(f"{value:.{digits}f}{span(interval, digits)}", value)


def swatch(style: int) -> str:
    """Return the colour mark of a method."""
    return f'<span class="swatch s{style % STYLES}" aria-hidden="true"></span>'


def _head(head: str) -> str:
    """Return a column's head; a short one keeps to one line."""
    return escape(head.replace(" ", "\N{NO-BREAK SPACE}") if len(head) <= SHORT else head)


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], caption: str, sort: bool = True) -> str:
    """Return a table in a frame that scrolls sideways; the first column heads the rows.

    Args:
        columns: heads.
        rows: cells, as many in each row as there are columns.
        caption: what the table is, read out and shown above it (HTML).
        sort: whether the page's script lets its columns sort.
    """
    size = "frame fit" if len(columns) <= FEW else "frame"
    kind = " class=sort" if sort else ""
    heads = "".join(
        f'<th scope="col"{" class=num" if column.numeric else ""}'
        + (f' title="{escape(column.hint)}"' if column.hint else "") + f">{_head(column.head)}</th>"
        for column in columns
    )  # fmt: skip
    lines = []
    for row in rows:
        cells = []
        for number, (column, cell) in enumerate(zip(columns, row, strict=True)):
            value = "" if cell.value is None else f' data-value="{escape(str(cell.value))}"'
            tag = 'th scope="row"' if number == 0 else "td"
            classes = " ".join(filter(None, ("num" if column.numeric else "", cell.extra)))
            cells.append(f'<{tag} class="{classes}"{value}>{cell.html}</{tag[:2]}>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (f'<div class="{size}" tabindex="0" role="region" aria-label="table, scrolls sideways">'
            f'<table{kind}><caption><span>{caption}</span></caption><thead>{_groups(columns)}<tr class="heads">{heads}'
            f"</tr></thead><tbody>{''.join(lines)}</tbody></table></div>")  # fmt: skip


def _groups(columns: Sequence[Column]) -> str:
    """Return the row of group heads above the heads, empty where there are not at least two groups."""
    if len({column.group for column in columns if column.group}) < 2:
        return ""
    spans: list[tuple[str, int]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    cells = "".join(f'<th colspan="{span}" scope="colgroup">{escape(group)}</th>' if group else f'<td colspan="{span}">'
                    "</td>" for group, span in spans)  # fmt: skip
    return f'<tr class="groups">{cells}</tr>'


def name_cell(report: Report, label: str) -> Cell:
    """Return the cell that names a method with its colour."""
    return Cell(f"{swatch(report.styles[label])}<span>{escape(label)}</span>", label, "method")


def method_cell(report: Report, entry: Entry) -> Cell:
    """Return the cell that names a row."""
    seeds = f"{len(entry.records)} seeds" if len(entry.records) > 1 else ""
    below = f'<span class="ci">{seeds}</span>' if seeds else ""
    return Cell(f"{swatch(report.styles[entry.label])}<span>{escape(entry.label)}{below}</span>", entry.label, "method")


def mark_cell(comparison: Comparison, row: int) -> Cell:
    """Return the cell that says how a row stands beside the best."""
    mark = comparison.against_best(row)
    if mark == "best":
        return Cell('<span class="mark best">best</span>', -1.0)
    found = comparison.differences.get((row, 0))
    if found is None:
        return Cell(MISSING)
    shown = escape(mark) if found.separable else '<span class="mark same">not separable</span>'
    return Cell(f"{shown}{signed_span(found)}", found.mean)


def _accuracy(threshold: float) -> list[Column]:
    group = "Accuracy, percent"
    return [
        Column("NME", "Normalised mean error over all test faces, with its 95 % bootstrap interval", group=group),
        Column("interval", "NME and its interval, all rows on one scale", False, group),
        Column("vs best", "NME minus the best row's on the same faces, with its paired 95 % interval",
               group=group),
        Column(f"FR{threshold:g}", f"Share of faces with an NME above {threshold:g} %", group=group),
        Column(f"AUC{threshold:g}", f"Area under the cumulative error curve up to {threshold:g} %", group=group),
        Column("P95", "NME that 95 % of the faces do not exceed", group=group),
        Column("sd of seeds", "Standard deviation of the NME over trainings with different seeds", group=group),
    ]  # fmt: skip


COST = [
    Column("params", "Parameters of the network", group="Cost"),
    Column("MACs", "Multiply-adds of convolutions and matrix products for one face", group="Cost"),
    Column("ms b1", "Milliseconds a face, one at a time; median after a warm-up", group="Cost"),
    Column("ms b8", "Milliseconds a face in a batch of 8", group="Cost"),
    Column("ms b64", "Milliseconds a face in a batch of 64", group="Cost"),
    Column("memory", "Peak memory of a forward pass", group="Cost"),
    Column("training step", "Milliseconds of one optimiser step", group="Cost"),
    Column("training", "Minutes of the whole training", group="Cost"),
]

HEADLINE = 3  # of them stand beside the accuracy


def cost_cells(report: Report, speed: Speed, seconds: float | None = None) -> list[Cell]:
    """Return the cells of size and speed in the order of COST; a letter names the machine where there are several."""
    letter = report.machine_of(speed.machine)
    times = [quantity(speed.ms(batch), 1, 1.0, letter) for batch in (1, 8, 64)]
    return [quantity(speed.parameters, 2, 1e6, "M"), quantity(speed.macs, 2, 1e9, "G"), *times,
            quantity(speed.peak_memory_mb, 0, 1.0, "MB"),
            quantity(speed.train_step_ms, 0, 1.0, "ms"), quantity(seconds, 1, 60.0, "min")]  # fmt: skip


def measured(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> tuple[list[Column], list[list[Cell]]]:
    """Leave out the columns in which no row has a value."""
    kept = [k for k in range(len(columns)) if k == 0 or any(row[k].value is not None for row in rows)]
    return [columns[k] for k in kept], [[row[k] for k in kept] for row in rows]


def comparison_table(report: Report, comparison: Comparison, caption: str) -> str:
    """Return the comparison of one data set: accuracy and cost of each method."""
    spans = [value for entry in comparison.entries for value in entry.intervals.get("nme", (entry.metrics["nme"],))]
    low, high = min(spans), max(spans)
    rows = []
    for number, entry in enumerate(comparison.entries):
        nme, found = entry.metrics["nme"], entry.intervals.get("nme")
        drawing = Cell(whisker(nme, found, low, high, report.styles[entry.label]), nme if found else None, "spark")
        rows.append([
            method_cell(report, entry), ranged(nme, found), drawing, mark_cell(comparison, number),
            ranged(entry.metrics.get("fr"), entry.intervals.get("fr"), 1),
            ranged(entry.metrics.get("auc"), entry.intervals.get("auc"), 1), quantity(entry.metrics.get("nme_p95")),
            quantity(entry.sd), *cost_cells(report, entry.speed)[:HEADLINE],
        ])  # fmt: skip
    columns = [Column("method", numeric=False), *_accuracy(comparison.threshold), *COST[:HEADLINE]]
    return table(*measured(columns, rows), caption)


def cost_table(report: Report, comparison: Comparison) -> str:
    """Return size, speed and training time of each method, empty where nothing was measured."""
    columns, rows = measured([Column("method", numeric=False), *COST],
                             [[method_cell(report, entry), *cost_cells(report, entry.speed, entry.seconds)]
                              for entry in comparison.entries])  # fmt: skip
    caption = "Size and speed; milliseconds are medians after a warm-up, on the machine named below"
    return table(columns, rows, caption) if len(columns) > 1 else ""


def subset_table(report: Report, comparison: Comparison) -> str:
    """Return the NME of each method on each subset, empty where there are no subsets."""
    names = list(dict.fromkeys(name for entry in comparison.entries for name in entry.subsets))
    if not names:
        return ""
    rows = [[method_cell(report, entry), *(ranged(entry.metrics.get(f"{name}/nme"), entry.intervals.get(f"{name}/nme"))
                                           for name in names)] for entry in comparison.entries]  # fmt: skip
    columns = [Column("method", numeric=False), *(Column(name) for name in names)]
    return table(columns, rows, "NME on each subset, percent, with 95 % intervals")


def pair_table(comparison: Comparison) -> str:
    """Return who can be told from whom: the row's NME minus the column's, empty without comparable pairs."""
    if not comparison.differences:
        return ""
    columns = [Column("row minus column", numeric=False), *(Column(entry.label) for entry in comparison.entries)]
    rows = []
    for i, entry in enumerate(comparison.entries):
        cells = [text(entry.label)]
        for j in range(len(comparison.entries)):
            found = comparison.differences.get((i, j))
            if i == j:
                cells.append(Cell('<span class="none" aria-label="same row">·</span>'))
            elif found is None:
                cells.append(Cell(MISSING))
            else:
                kind = ("better" if found.mean < 0 else "worse") if found.separable else "same"
                word = "" if found.separable else '<span class="word">not separable</span>'
                cells.append(Cell(f"{signed(found.mean)}{word}{signed_span(found)}", found.mean, kind))
        rows.append(cells)
    return table(columns, rows, "Differences of NME on the same faces, percentage points, with paired 95 % intervals",
                 sort=False)  # fmt: skip


def definitions(items: Sequence[tuple[str, object]]) -> str:
    """Return a list of names and values."""
    shown = [(name, f"{value:g}" if isinstance(value, float) else str(value)) for name, value in items]
    return "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in shown) + "</dl>"
