"""Tables from records, as Markdown and LaTeX; no figure is ever typed."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.readme import table
from benchmarks.report.model import SAME, Comparison, Entry
from benchmarks.score.text import NONE, count, figure, interval, least_text

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "<": "$<$", ">": "$>$",
}  # fmt: skip


def sizes(entry: Entry) -> list[str]:
    """Return parameters, MACs and milliseconds per face of a row, dashes where they were not measured."""
    speed = entry.speed
    times = (figure(speed.ms(batch), 1) for batch in (1, 8))
    return [count(speed.parameters, 1e6, "M"), count(speed.macs, 1e9, "G"), *times]


def seeds_sd(entry: Entry) -> str:
    """Return the deviation of a row's NME over its seeds with their number, a dash for one seed."""
    return NONE if entry.sd is None else f"{figure(entry.sd)} ({len(entry.records)})"


def describe(comparison: Comparison) -> str:
    """Return in one line what the figures of a comparison are."""
    card = comparison.card
    parts = [f"NME by {card['normaliser']}" if "normaliser" in card else "NME", "percent"]
    if "threshold" in card:
        parts.insert(1, f"FR and AUC at {comparison.threshold:g} %")
    if "n" in card:
        parts.append(f"{card['n']} faces")
    if "protocol" in card:
        parts.append(f"protocol {card['protocol']}")
    return f"{comparison.title}: {', '.join(parts)}"


def least_of(comparison: Comparison) -> str:
    """Return what difference the faces of a comparison can show, by the spread of its best row with predictions."""
    known = [entry.nmes for entry in comparison.entries if entry.nmes is not None]
    return least_text(known[0]) if known else ""


def _rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return one row per method and subset."""
    rows = []
    for number, entry in enumerate(comparison.entries):
        for subset in ["", *entry.subsets]:
            key = f"{subset}/" if subset else ""
            figures = [figure(entry.metrics.get(f"{key}{name}")) for name in ("fr", "auc")]
            mark = "" if subset else comparison.against_best(number)
            spread = NONE if subset else seeds_sd(entry)
            rows.append((entry.label, subset or "all", figure(entry.metrics.get(f"{key}nme")),
                         interval(entry.intervals.get(f"{key}nme")), spread, mark, *figures,
                         *(sizes(entry) if not subset else ("",) * 4)))  # fmt: skip
    return rows


HEADER = ("method", "subset", "NME", "95 % interval", "sd (seeds)", "vs. best", "FR", "AUC", "parameters", "MACs",
          "ms/face b1", "ms/face b8")  # fmt: skip


def _without_empty(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Leave out the columns in which nothing was measured, and the subset column where there are no subsets."""
    silent = {"", NONE, "best", "not measured", "all"}
    kept = [k for k, name in enumerate(header) if name == "method" or any(row[k] not in silent for row in rows)]
    return [header[k] for k in kept], [[row[k] for k in kept] for row in rows]


def plain_rows(comparison: Comparison) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows of a comparison as numbers, None where nothing was measured."""
    columns = ["method", "nme", "nme_low", "nme_high", "vs_best", "fr", "auc", "parameters", "macs", "ms_per_face_b1",
               "ms_per_face_b8"]  # fmt: skip
    rows = []
    for number, entry in enumerate(comparison.entries):
        low, high = entry.intervals.get("nme", (None, None))
        figures = [entry.metrics["nme"], low, high, comparison.against_best(number)]
        figures += [entry.metrics.get("fr"), entry.metrics.get("auc")]
        rows.append([entry.label, *figures, *(getattr(entry.speed, name) for name in columns[7:])])
    return columns, rows


def _subsets(comparison: Comparison) -> str:
    """Return the NME of each row on each subset with its interval, empty where there are no subsets."""
    names = list(dict.fromkeys(name for entry in comparison.entries for name in entry.subsets))
    rows = []
    for entry in comparison.entries:
        cells = [entry.label]
        for name in names:
            span = entry.intervals.get(f"{name}/nme")
            value = figure(entry.metrics.get(f"{name}/nme"))
            cells.append(value if span is None else f"{value} {interval(span)}")
        rows.append(cells)
    return table(["NME on subsets", *names], rows) if names else ""


def described(comparison: Comparison, subsets: bool = True, times: bool = True) -> str:
    """Return a comparison as Markdown with what its figures are, what its faces can show and in what its rows differ.

    Args:
        comparison: rows that may share columns.
        subsets: add the NME on each subset.
        times: add the milliseconds a face, which may be of several machines.
    """
    width = len(HEADER) if times else len(HEADER) - 2
    rows = [row[:width] for row in _rows(comparison) if row[1] == "all"]
    text = f"{describe(comparison)}.\n\n{table(*_without_empty(HEADER[:width], rows))}"
    if subsets and (parts := _subsets(comparison)):
        text += f"\n\n{parts}"
    if least := least_of(comparison):
        text += f"\n\n{least}"
    if comparison.differing:
        text += f"\n\nRows differ in {', '.join(comparison.differing)}; the report has the protocol cards."
    return text


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(LATEX_SPECIAL.get(letter, letter) for letter in text)


def _latex_row(comparison: Comparison, number: int) -> str:
    entry = comparison.entries[number]
    nme = figure(entry.metrics["nme"])
    if number == 0:
        nme = rf"\textbf{{{nme}}}"
    elif comparison.against_best(number) == SAME:
        nme += r"$^{\dagger}$"
    cells = [escape_latex(entry.label), nme, interval(entry.intervals.get("nme"))]
    cells += [figure(entry.metrics.get(name)) for name in ("fr", "auc")]
    return " & ".join([*cells, *sizes(entry)]) + r" \\"


def latex(comparisons: Sequence[Comparison]) -> str:
    """Return the comparisons as LaTeX tables (package booktabs)."""
    parts = ["% Written by `python -m benchmarks report`; needs \\usepackage{booktabs}."]
    for number, comparison in enumerate(comparisons):
        threshold = f"{comparison.threshold:g}"
        caption = escape_latex(f"{describe(comparison)}. 95 % bootstrap intervals over faces.")
        parts.append("\n".join((
            r"\begin{table}", r"\centering", rf"\caption{{{caption} $^{{\dagger}}$: {SAME} from the best.}}",
            rf"\label{{tab:benchmark-{number + 1}}}", r"\begin{tabular}{lrcrrrrrr}", r"\toprule",
            rf"method & NME & interval & FR$_{{{threshold}}}$ & AUC$_{{{threshold}}}$ & parameters & MACs & ms b1 "
            r"& ms b8 \\", r"\midrule",
            *(_latex_row(comparison, row) for row in range(len(comparison.entries))),
            r"\bottomrule", r"\end{tabular}", r"\end{table}",
        )))  # fmt: skip
    return "\n\n".join(parts) + "\n"
