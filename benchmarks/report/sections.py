"""The page's further sections as plain data: cost, robustness, confidence, faces, references, reproduction."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel

from benchmarks.published.figures import COST as COSTS
from benchmarks.published.figures import Figure, read_published
from benchmarks.published.ledger import Row, cost_figures, ledger_rows, plain, titles
from benchmarks.report.charts import Axis, Chart, around, both, from_zero, front, ratios
from benchmarks.report.markdown import NONE
from benchmarks.report.model import Comparison, Curve, Entry, Report, disturbances, flickers, risk_curves, signed
from benchmarks.report.tables import (
    COST,
    METHOD,
    Cell,
    Column,
    Plot,
    Table,
    cost_cells,
    measured,
    name_cell,
    quantity,
    ranged,
    words,
)
from common.errors import LabError
from common.files.images import read_image
from common.files.validation import Finite, read_json, validated

QUALITY = 88  # of embedded pictures
HIGHEST = 50.0  # percent, at which charts of errors end
KINDS = {
    "shift": "Box moved", "scale": "Box scaled", "rotation": "Face rotated", "occlusion": "Part covered",
    "blur": "Blurred", "jpeg": "JPEG compression", "dark": "Low light", "small": "Small face",
}  # fmt: skip


def _cost_plot(report: Report, comparison: Comparison, key: str, axis: str, name: str) -> Plot | None:
    entries = [entry for entry in comparison.entries if (getattr(entry.speed, key) or 0) > 0]
    if not entries:
        return None
    costs = [float(getattr(entry.speed, key)) / (1e9 if key == "macs" else 1.0) for entry in entries]
    errors = [entry.metrics["nme"] for entry in entries]
    spans = [v for entry, e in zip(entries, errors, strict=True) for v in entry.intervals.get("nme", (e,))]

    def draw(end: str, width: int) -> Chart:
        chart = Chart(name + end, f"NME against {axis} on {comparison.title}", Axis(axis, *ratios(costs), log=True),
                      Axis("NME, percent", *around(spans)), min(width, 540), 340)  # fmt: skip
        best = front(list(zip(costs, errors, strict=True)))
        chart.steps([cost for cost, _ in best], [error for _, error in best])
        for entry, cost, error in zip(entries, costs, errors, strict=True):
            tip = f"{entry.label}: NME {error:.2f} %, {axis} {cost:.3g}"
            chart.point(report.styles[entry.label], cost, error, entry.intervals.get("nme"), tip)
        return chart

    legend = [
        (entry.label, report.styles[entry.label], f"{cost:.3g}") for entry, cost in zip(entries, costs, strict=True)
    ]
    caption = f"NME against {axis}, logarithmic; lower left is better. The grey line is the Pareto front."
    return Plot(both(draw), caption, legend)


def cost(report: Report) -> list[dict[str, object]]:
    """Return accuracy against cost on each data set, and the records of `python -m benchmarks speed`."""
    axes = (("macs", "multiply-adds, G"), ("ms_per_face_b1", "milliseconds a face, batch 1"))
    parts: list[dict[str, object]] = []
    for number, comparison in enumerate(report.comparisons):
        plots = [_cost_plot(report, comparison, key, axis, f"{key}-{number}") for key, axis in axes]
        if any(plots):
            rows = [[name_cell(report, e), *cost_cells(report, e.speed, e.seconds)] for e in comparison.entries]
            caption = "Size and speed; milliseconds are medians after a warm-up, on the machine named below"
            parts.append({"title": comparison.title, "plots": [plot for plot in plots if plot],
                          "table": measured([METHOD, *COST], rows, caption)})  # fmt: skip
    if report.speeds:
        columns = [METHOD, Column("recipe", numeric=False), Column("device", numeric=False), *COST]
        rows = [[words(r.title), words(r.recipe), words((r.machine or {}).get("device")), *cost_cells(report, r)]
                for r in report.speeds]  # fmt: skip
        caption = "Random weights, timed by python -m benchmarks speed"
        parts.append({"title": "Networks alone", "plots": [], "table": measured(columns, rows, caption)})
    return parts


def robustness(report: Report) -> list[dict[str, object]]:
    """Return small charts of each perturbation, the table of their areas, and flicker."""
    found, trembling = disturbances(report.robustness), flickers(report.robustness)
    parts = []
    for number, name in enumerate(dict.fromkeys([*(d.dataset for d in found), *(d for d, _ in trembling)])):
        chosen = [d for d in found if d.dataset == name]
        labels = sorted({c.label for d in chosen for c in d.curves} | {m for d, m in trembling if d == name})
        plots = []
        for place, d in enumerate(chosen):
            levels = [level for curve in d.curves for level in curve.x]
            low, high = min(levels), max(levels)
            word = KINDS.get(d.kind, d.kind)
            most = from_zero([max(curve.y) for curve in d.curves], HIGHEST)
            chart = Chart(f"robust-{number}-{place}", f"{word}: NME against level",
                          Axis(d.unit, low, high if high > low else low + 1), Axis("NME, percent", *most), 300, 225,
                          read=True)  # fmt: skip
            for curve in d.curves:
                chart.line(curve.label, report.styles[curve.label], curve.x, curve.y, marks=True)
            plots.append(Plot([chart], "", title=word))
        named = [(KINDS.get(d.kind, d.kind).lower(), f"Mean NME over the levels, {d.unit}") for d in chosen]
        columns = [METHOD, *(Column(*pair) for pair in named),
                   Column("flicker", "Jitter of a still face's points under sub-pixel crops, percent")]  # fmt: skip
        rows = [[Cell(label, label, style=report.styles[label]),
                 *(quantity(next((c.area for c in d.curves if c.label == label), None)) for d in chosen),
                 quantity(trembling.get((name, label)), 3)] for label in labels]  # fmt: skip
        counts = sorted({r.n for r in report.robustness if r.dataset == name and r.level is not None and r.n})
        faces = f" of {' or '.join(map(str, counts))} faces" if counts else ""
        caption = f"Mean NME{faces} over each curve's levels, and flicker, percent. Lower is better."
        parts.append({"title": name, "plots": plots, "legend": [(label, report.styles[label], "") for label in labels],
                      "table": measured(columns, rows, caption)})  # fmt: skip
    return parts


def risk(report: Report) -> list[Plot]:
    """Return the risk-coverage curves of the methods that say how sure they are."""
    parts = []
    for number, (name, curves) in enumerate(risk_curves(report.robustness).items()):

        def draw(end: str, width: int, number: int = number, name: str = name, curves: list[Curve] = curves) -> Chart:
            high = from_zero([max(curve.y) for curve in curves], HIGHEST)
            chart = Chart(f"risk-{number}{end}", f"NME of the surest faces against their share, on {name}",
                          Axis("coverage: share of faces kept, surest first", 0, 1), Axis("NME, percent", *high), width,
                          330, read=True)  # fmt: skip
            for curve in curves:
                chart.line(curve.label, report.styles[curve.label], curve.x, curve.y)
            return chart

        legend = [(c.label, report.styles[c.label], "" if c.area is None else f"AURC {c.area:.2f}") for c in curves]
        caption = "A curve that rises to the right belongs to a method that knows which of its predictions are bad."
        parts.append(Plot(both(draw), caption, legend, name))
    return parts


def embed(path: Path) -> str:
    """Return a picture file as a data address, re-encoded; empty when it cannot be read."""
    try:
        image = read_image(path)
    except LabError:
        return ""
    _, data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()


def _strip(folder: Path, kind: str, entry: Entry) -> dict[str, object]:
    """Return the pictures of one kind; of the worst faces the errors are known from the predictions."""
    errors = entry.nmes if len(entry.records) == 1 else None
    paths = sorted(folder.glob(f"{kind}-*.png"))
    worst = [] if errors is None or kind != "worst" else np.sort(errors)[::-1][: len(paths)].tolist()
    pictures = []
    for number, path in enumerate(paths):
        value = f"NME {worst[number]:.1f} %" if number < len(worst) else ""
        alt = f"{kind} face {number + 1} of {entry.label}{value and ', '}{value}"
        if address := embed(path):
            pictures.append({"address": address, "alt": alt, "value": value})
    middle = f", NME {float(np.median(errors)):.2f} %" if kind == "median" and errors is not None else ""
    return {"head": "Worst" if kind == "worst" else f"Around the median{middle}", "pictures": pictures}


def faces(report: Report) -> list[dict[str, object]]:
    """Return the worst and the median faces of each row."""
    parts: list[dict[str, object]] = []
    for comparison in report.comparisons:
        rows = []
        for entry in comparison.entries:
            folder = report.folder / (entry.first.pictures or "")
            strips = [_strip(folder, kind, entry) for kind in ("worst", "median") if entry.first.pictures]
            if any(strip["pictures"] for strip in strips):
                rows.append({"label": entry.label, "style": report.styles[entry.label], "strips": strips})
        if rows:
            parts.append({"title": comparison.title, "rows": rows})
    return parts


class _Reference(BaseModel):
    """A row of helen.json."""

    nme: Finite
    fr8: Finite
    auc8: Finite
    n: int
    interval: tuple[Finite, Finite] | None = None


def references(report: Report) -> Table | None:
    """Return the rows of `python -m benchmarks helen`: our runs beside published predictions and simple baselines."""
    path = report.folder / "helen.json"
    if not path.is_file():
        return None
    found = validated(dict[str, _Reference], read_json(path), str(path), "run `python -m benchmarks helen` again")
    rows = [[words(name), ranged(row.nme, row.interval), quantity(row.fr8, 1), quantity(row.auc8, 1),
             quantity(row.n, 0)] for name, row in found.items()]  # fmt: skip
    columns = [METHOD, *map(Column, ("NME", "FR8", "AUC8", "faces"))]
    caption = "HELEN test faces, percent of the distance of the outer eye corners, 95 % intervals"
    return Table(f"{caption}; from python -m benchmarks helen", columns, rows)


def _remark(figure: Figure) -> str:
    """Return what a reader of a published figure must know."""
    if figure.facts.get("slip"):
        return f"cannot be: {figure.facts['slip']}"
    return f"from memory, check before quoting: {', '.join(figure.remembered)}" if figure.remembered else ""


def _printed(figure: Figure, keys: Sequence[str]) -> list[Cell]:
    return [Cell() if (value := figure.values.get(key)) is None else Cell(value.text, float(value)) for key in keys]


def _place(figure: Figure) -> Cell:
    return words(": ".join(filter(None, (figure.facts.get("source"), figure.facts.get("table")))))


def published_table(names: dict[str, str]) -> Table | None:
    """Return the published figures over full test sets of methods (key -> how tables call it)."""
    rows = []
    for figure in read_published():
        if figure.method in names and figure.subset == "full" and "nme" in figure.values:
            limit = Cell() if figure.threshold is None else Cell(f"{figure.threshold:g} %", figure.threshold)
            facts = (figure.facts.get("variant"), figure.facts.get("normaliser"))
            rows.append([words(names[figure.method]), words(figure.dataset), words(facts[0]),
                         *_printed(figure, ("nme", "fr", "auc")), words(facts[1]), limit, _place(figure),
                         words(_remark(figure), "remark")])  # fmt: skip
    heads = ("method", "data set", "variant", "NME", "FR", "AUC", "normaliser", "threshold", "source", "remark")
    columns = [Column(head, numeric=head in ("NME", "FR", "AUC", "threshold")) for head in heads]
    caption = "NME, FR and AUC in percent over the full test sets; not to be compared across normalisers"
    rows.sort(key=lambda row: (str(row[0].value), str(row[1].value)))
    return measured(columns, rows, caption) if rows else None


def _costs(names: dict[str, str]) -> Table | None:
    """Return sizes and times of the authors' own implementations, each on its own machine."""
    rows = [[words(names[f.method]), words(f.facts.get("protocol")), *_printed(f, COSTS),
             words(f.facts.get("machine")), _place(f)] for f in cost_figures(names)]  # fmt: skip
    heads = ("method", "what", "params, M", "MACs, G", "ms", "frames a second", "machine", "source")
    columns = [Column(head, numeric=2 <= k <= 5) for k, head in enumerate(heads)]
    caption = "Authors' own implementations, as published or measured apart from this benchmark; machines differ"
    return measured(columns, rows, caption) if rows else None


def _reproduced(row: Row, styles: dict[str, int]) -> list[Cell]:
    """Return a row of the reproduction table: what is small stands below what it belongs to."""
    ours, sd = row.get("ours"), row.get("sd")
    return [
        Cell(row["method"], row["method"], style=styles.get(row["method"])), words(row["data set"]),
        Cell(row["paper"], float(row["paper"]), row.get("normaliser", "")) if row.get("paper") else Cell(),
        quantity(row["official"]), Cell() if ours is None else Cell(f"{ours:.2f}", ours, f"sd {sd:.2f}" if sd else ""),
        Cell() if row["gap"] is None else Cell(signed(row["gap"]), row["gap"]),
    ]  # fmt: skip


def reproduction(report: Report) -> dict[str, object] | None:
    """Return paper, official weights and our training side by side, None where nothing was trained or scored."""
    if not report.comparisons:
        return None
    names, rows = titles(report), ledger_rows(report)
    here = [row for row in rows if row.get("ours") is not None or row["official"] is not None]
    columns = [
        METHOD, Column("data set", numeric=False), Column("paper", "As printed, with its normaliser"),
        Column("official weights", "NME of the authors' weights or predictions by our canonical protocol"),
        Column("our training", "Mean NME of our trainings over their seeds, canonical protocol"),
        Column("difference", "Ours minus the paper's, where both use the same normaliser"),
    ]  # fmt: skip
    facts = ("method", "data set", "seeds", "recipe", "commit", "device", "source", "remark")
    caption = "NME in percent; a difference is shown only where both figures use the same normaliser"
    origin = [[words("" if (text := plain(row, key)) == NONE else text) for key in facts] for row in here]
    return {
        "table": measured(columns, [_reproduced(row, report.styles) for row in here], caption) if here else None,
        "origin": measured([Column(fact, numeric=False) for fact in facts], origin, "Where these figures come from"),
        "published": published_table(names), "costs": _costs(names),
    }  # fmt: skip


def facts(report: Report) -> list[str]:
    """Return the line below the title: what was run, when, where."""
    records = [record for comparison in report.comparisons for entry in comparison.entries for record in entry.records]
    if not records:
        return []

    def plural(number: int, word: str) -> str:
        return f"{number} {word}{'s' if number != 1 else ''}"

    trained = sum(record.seed is not None for record in records)
    methods, sets = ({getattr(record, name) for record in records} for name in ("method", "dataset"))
    parts = [f"{plural(len(methods), 'method')} on {plural(len(sets), 'data set')}"]
    parts += [plural(trained, "training")] * bool(trained)
    parts += [plural(len(records) - trained, "scored file")] * (len(records) > trained)
    dates = sorted(record.date[:10] for record in records if record.date)
    if dates:
        parts.append(dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}")
    commits = list(dict.fromkeys(record.commit for record in records if record.commit))
    if commits:
        parts.append(f"{'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}")
    return [*parts, *dict.fromkeys(record.device for record in records if record.device)]
