"""All documents from the records in runs/benchmark: `python -m benchmarks report`.

Beside the records: table.md, table.tex, ledger.json and report.html, one page that needs no network. With --documents
also the generated parts of BENCHMARKS.md and README.md, between marks; what is outside the marks is kept. A
document that shows figures of which the folder has no records is not overwritten, so that a fresh copy with synthetic
records alone cannot drop the figures of photographs.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.provenance import ROOT
from benchmarks.published.ledger import COLUMNS, cost_figures, ledger_rows, plain, titles
from benchmarks.readme import split_at_marks, table
from benchmarks.report.markdown import NONE, count, described, figure, latex
from benchmarks.report.model import Report, disturbances, flickers, read_report, risk_curves
from benchmarks.report.page import page
from benchmarks.report.record_sections import record_sections
from common.errors import LabError

FOLDER = Path("runs/benchmark")
DOCUMENTS = BENCHMARKS, README = "BENCHMARKS.md", "README.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
SHOWS = "<!-- shows: {} -->"  # what the generated part of a document holds, so that none of it is lost unseen
TITLE = (
    "# Benchmarks\n\nWritten by `python -m benchmarks report --documents` from the records of the scripts named here, "
    "except for what is outside the marks. Ratios are of one run on one machine.\n"
)


def _robustness(report: Report) -> str:
    """Return the areas under the robustness curves and the flicker as one table."""
    found = disturbances(report.robustness)
    trembling = flickers(report.robustness)
    kinds = list(dict.fromkeys(disturbance.kind for disturbance in found))
    areas = {(d.dataset, curve.label, d.kind): curve.area for d in found for curve in d.curves}
    pairs = list(dict.fromkeys([*((d, label) for d, label, _ in areas), *trembling]))
    sure = {
        (data, curve.label): curve.area for data, curves in risk_curves(report.robustness).items() for curve in curves
    }
    faces = {(r.dataset, r.title): str(r.n or NONE) for r in report.robustness if r.level is not None}
    rows = []
    for data, label in pairs:
        values = [faces.get((data, label), NONE)]
        values += [figure(areas.get((data, label, kind))) for kind in kinds]
        values += [figure(trembling.get((data, label)), 3), figure(sure.get((data, label)))]
        rows.append([label, data, *values])
    body = table(["method", "data", "faces", *kinds, "flicker", "AURC"], rows)
    return (
        "## Robustness (`python -m benchmarks robustness`)\n\nMean NME over the levels of each perturbation, flicker "
        "of a still face under sub-pixel crops, and the area under the risk-coverage curve of methods that say how "
        f"sure they are; percent.\n\n{body}\n"
    )


def _ledger(report: Report) -> str:
    """Return the reproduction table: paper, official weights, our training; columns without any figure are left out."""
    rows = ledger_rows(report)
    shown = [(key, head) for key, head in COLUMNS if any(plain(row, key) != NONE for row in rows)]
    body = table([head for _, head in shown], [[plain(row, key) for key, _ in shown] for row in rows])
    return (
        "## Reproduction\n\nNME in percent, over full test sets: as the paper prints it, of the official weights under "
        "our canonical protocol, and of our trainings. The difference is ours minus the paper's, where both use the "
        f"same normaliser.\n\n{body}\n"
    )


def _speeds(report: Report) -> str:
    """Return the records of `python -m benchmarks speed`, each with its machine."""
    rows = []
    for record in report.speeds:
        card = record.machine or {}
        place = f"{card.get('device', 'not stated')}, {card.get('threads', '?')} threads"
        rows.append([record.title, record.recipe or "", place, count(record.parameters, 1e6, "M"),
                     count(record.macs, 1e9, "G"), *(figure(record.ms(size)) for size in (1, 8, 64)),
                     figure(record.train_step_ms, 0), figure(record.peak_memory_mb, 0)])  # fmt: skip
    head = ("method", "recipe", "machine", "parameters", "MACs", "ms/face b1", "ms/face b8", "ms/face b64",
            "training step, ms", "memory, MB")  # fmt: skip
    return f"## Networks alone (`python -m benchmarks speed`)\n\nRandom weights, medians.\n\n{table(head, rows)}\n"


def _costs(report: Report) -> str:
    """Return sizes and times of the authors' own implementations, empty where none is known."""
    names = titles(report)
    rows = [[names[f.method], f.facts.get("protocol", ""),
             *(value.text if (value := f.values.get(key)) is not None else NONE
               for key in ("params", "macs", "ms", "fps")), f.facts.get("machine", ""),
             ", ".join(filter(None, (f.facts.get("source"), f.facts.get("table"))))]
            for f in cost_figures(names)]  # fmt: skip
    head = ("method", "what", "parameters, M", "MACs, G", "ms", "frames a second", "machine", "source")
    return (
        "## Reference implementations\n\nThe authors' own, as published or measured apart from this benchmark, each on "
        f"the machine named; not to be compared across machines.\n\n{table(head, rows)}\n"
        if rows
        else ""
    )


def parts(folder: Path, report: Report) -> dict[str, str]:
    """Return what BENCHMARKS.md shows: name -> section; what was not measured is not mentioned."""
    found: dict[str, str] = {}
    for comparison in report.comparisons:
        found[comparison.dataset] = found.get(comparison.dataset, "") + described(comparison) + "\n\n"
    if found:
        first = next(iter(found))
        found[first] = f"## Methods (`python -m benchmarks run`)\n\n{found[first]}"
        found["ledger"] = _ledger(report)
    if report.robustness:
        found |= {f"robustness on {name}": "" for name in dict.fromkeys(r.dataset for r in report.robustness)}
        found["robustness"] = _robustness(report)
    if report.speeds:
        found["speed"] = _speeds(report)
    found |= record_sections(folder)
    if report.comparisons or report.speeds:
        found["reference implementations"] = _costs(report)
    return found


def render(folder: Path, report: Report | None = None) -> str:
    """Return the generated part of BENCHMARKS.md for the records that are there."""
    found = parts(folder, report or read_report(folder))
    return "\n".join(text.strip() + "\n" for text in found.values() if text).strip()


def shown_data(report: Report) -> str | None:
    """Return the data set of the README's table: the first with photographs, else the first, None without records."""
    names = [comparison.dataset for comparison in report.comparisons]
    return next((name for name in names if not name.startswith("synthetic")), names[0] if names else None)


def results(report: Report) -> str:
    """Return the README's results: the table of one data set, or what to run where there are no records."""
    shown = shown_data(report)
    if shown is None:
        return (
            "No results yet: `make benchmark` trains and compares the methods, and `python -m benchmarks report "
            "--documents` fills this section."
        )
    tables = [described(found, subsets=False, times=False) for found in report.comparisons if found.dataset == shown]
    return (
        "\n\n".join(tables)
        + "\n\nFrom `python -m benchmarks run` and `python -m benchmarks report`; intervals are 95 % "
        "bootstrap intervals over faces. Times, subsets and other data sets are in [the full report](BENCHMARKS.md)."
    )


def fill(document: Path, body: str, shown: list[str], drop: bool = False) -> str:
    """Return a document with a new generated part between its marks.

    Args:
        document: the file; its text outside the marks is kept.
        body: the generated part.
        shown: what it shows.
        drop: allow it to show less than before.

    Raises:
        LabError: a mark is missing, they stand in the wrong order, or the document shows what the new part does not.
    """
    head, old, tail = split_at_marks(document, BEGIN, END)
    before = re.search(re.escape(SHOWS).replace(r"\{\}", "(.*)"), old)
    lost = [name for name in (before[1].split(", ") if before and before[1] else []) if name not in shown]
    if lost and not drop:
        raise LabError(f"{document}: shows {', '.join(lost)}, of which there are no records here; make them first, or "
                       "say --drop to lose the figures")  # fmt: skip
    return f"{head}{BEGIN}\n{SHOWS.format(', '.join(shown))}\n{body}\n{END}{tail}"


def fill_documents(
    documents: Path, folder: Path, report: Report, drop: bool = False, names: Sequence[str] = DOCUMENTS
) -> dict[Path, str]:
    """Return the new texts of BENCHMARKS.md and README.md; none is written, so that all or none change.

    Args:
        documents: the folder that they are in.
        folder: of the records.
        report: what the records say.
        drop: let them show less than before.
        names: of the two, those that are wanted.

    Raises:
        LabError: a document lacks its marks, or shows figures without records.
    """
    found = {}
    if BENCHMARKS in names:
        path = documents / BENCHMARKS
        if not path.is_file():
            path.write_text(f"{TITLE}\n{BEGIN}\n{END}\n", encoding="utf-8")
        found[path] = fill(path, render(folder, report), list(parts(folder, report)), drop)
    if README in names:
        path, shown = documents / README, shown_data(report)
        found[path] = fill(path, results(report), [shown] if shown else [], drop)
    return found


def write(
    folder: Path = FOLDER, documents: Path | None = None, drop: bool = False, names: Sequence[str] = DOCUMENTS
) -> list[Path]:
    """Write all documents and return their paths.

    Args:
        folder: where the records are; the page and the tables go there.
        documents: where BENCHMARKS.md and README.md are; None leaves them alone.
        drop: let these show less than before.
        names: those of the two that are wanted.

    Raises:
        LabError: the folder is missing, or a document lacks its marks or shows figures without records.
    """
    if not folder.is_dir():
        raise LabError(f"{folder}: no such folder of records; run `make benchmark` first")
    report = read_report(folder)
    contents = {folder / "report.html": page(report)}
    if report.comparisons:
        contents[folder / "table.md"] = "\n\n".join(map(described, report.comparisons)) + "\n"
        contents[folder / "table.tex"] = latex(report.comparisons)
        contents[folder / "ledger.json"] = json.dumps(ledger_rows(report), indent=1) + "\n"
    if documents is not None:
        contents |= fill_documents(documents, folder, report, drop, names)
    for path, content in contents.items():
        path.write_text(content, encoding="utf-8")
    return list(contents)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the records are")
    parser.add_argument("--documents", nargs="*", choices=DOCUMENTS, metavar="NAME",
                        help="write the generated parts of BENCHMARKS.md and README.md too, or of one")  # fmt: skip
    parser.add_argument("--drop", action="store_true", help="let the documents lose figures that have no records here")
    parser.add_argument("--track", action=argparse.BooleanOptionalAction, default=True,
                        help="log the report to W&B (offline unless you are logged in)")  # fmt: skip


def main(options: argparse.Namespace) -> None:
    """Write the documents, name them, and log them to W&B."""
    documents = None if options.documents is None else ROOT
    for path in write(options.folder, documents, options.drop, options.documents or DOCUMENTS):
        print(f"wrote {path}")
    if options.track:
        from benchmarks.report.wandb_log import to_wandb

        to_wandb(options.folder)
