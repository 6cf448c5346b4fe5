"""Sections of the report's page: each returns HTML, or nothing where its records are missing."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.report.charts import STYLES, Axis, Chart, around, from_zero, front, ratios
from benchmarks.report.markdown import least_of
from benchmarks.report.model import Comparison, Curve, Entry, Report, ced_curves, disturbances, flickers, risk_curves
from benchmarks.report.page_tables import (
    COST,
    MISSING,
    Cell,
    Column,
    comparison_table,
    cost_cells,
    cost_table,
    definitions,
    measured,
    name_cell,
    pair_table,
    quantity,
    ranged,
    subset_table,
    swatch,
    table,
    text,
)

QUALITY = 88  # of embedded pictures
FIELDS = {
    "protocol": "protocol", "data": "data set", "n": "faces", "landmarks": "landmarks", "space": "errors measured in",
    "normaliser": "normaliser", "threshold": "FR and AUC threshold, %", "auc_rule": "AUC rule", "failures": "failures",
    "box": "box", "decode": "decoding", "flip": "flip test", "checkpoint": "checkpoint",
}  # fmt: skip
DISTURBANCES = {
    "shift": "Box moved", "scale": "Box scaled", "rotation": "Face rotated", "occlusion": "Part covered",
    "blur": "Blurred", "jpeg": "JPEG compression", "dark": "Low light", "small": "Small face",
}  # fmt: skip


def anchor(*words: object) -> str:
    """Return an id for a part of the page."""
    return "-".join("".join(c if c.isalnum() else "-" for c in str(word).lower()) for word in words)


def legend(report: Report, rows: Sequence[tuple[str, str]]) -> str:
    """Return a legend of labels with a word on each; the page's script lifts a series when its entry is pointed at."""
    items = "".join(
        f'<li data-for="{report.styles[label]}"><span class="key s{report.styles[label] % STYLES}" aria-hidden="true">'
        f"</span>{escape(label)}" + (f" <b>{escape(value)}</b>" if value else "") + "</li>"
        for label, value in rows
    )
    return f'<ul class="legend">{items}</ul>'


def chart_figure(chart: str, caption: str, before: str = "") -> str:
    """Return a drawing with its legend and caption."""
    kind = "plot keyed" if before else "plot"
    return (
        f'<figure class="{kind}">{before}<div class="canvas">{chart}</div><figcaption>{caption}</figcaption></figure>'
    )


def summary(comparison: Comparison) -> str:
    """Return in a sentence or two who is best and who cannot be told from the best."""
    best = comparison.entries[0]
    found = best.intervals.get("nme")
    span = f" (95 % interval {found[0]:.2f} – {found[1]:.2f})" if found else ""
    parts = [f"Lowest error: <b>{escape(best.label)}</b>, NME {best.metrics['nme']:.2f} %{span}."]
    marks = {entry.label: comparison.against_best(k) for k, entry in enumerate(comparison.entries) if k}
    same = [escape(label) for label, mark in marks.items() if mark == "not separable"]
    if same:
        parts.append(f"On these faces <b>not separable</b> from it: {', '.join(same)}.")
    elif marks and all(mark != "not measured" for mark in marks.values()):
        parts.append("Every other row is separable from it.")
    return f'<p class="lede">{" ".join(parts)}</p>'


def ced_chart(report: Report, comparison: Comparison, name: str) -> str:
    """Return the cumulative error curves of all rows with predictions."""
    entries = [entry for entry in comparison.entries if entry.nmes is not None]
    if not entries:
        return ""
    levels, shares = ced_curves(comparison)
    end = float(levels[-1])
    chart = Chart(name, f"Cumulative error curves on {comparison.title}: share of faces against NME",
                  Axis("NME, percent", 0, end, count=10), Axis("faces, percent", 0, 100), width=760)  # fmt: skip
    chart.rule(comparison.threshold, f"failure above {comparison.threshold:g} %")
    for entry in reversed(entries):
        chart.line(entry.label, report.styles[entry.label], levels.tolist(), shares[entry.label].tolist())
    rows = [(entry.label, f"{entry.metrics['nme']:.2f} %") for entry in entries]
    caption = "Cumulative error: the share of faces whose NME is at most the value on the axis. Higher is better."
    return chart_figure(chart.svg(read=True), caption, legend(report, rows))


def cards(report: Report, comparison: Comparison) -> str:
    """Return the protocol cards: what all rows share, what differs, and where each figure comes from."""
    names = [*FIELDS, *(name for name in comparison.card if name not in FIELDS)]
    shared = [(FIELDS.get(name, name), comparison.card[name]) for name in names if name in comparison.card]
    parts = [f'<div class="card"><h3>The same for every row</h3>{definitions(shared)}</div>']
    columns = [
        Column("method", numeric=False),
        *(Column(FIELDS.get(k, k), numeric=False) for k in comparison.differing),
    ]
    columns += [Column(k, numeric=False) for k in ("recipe", "seeds", "commit", "device", "torch", "date")]
    rows = []
    for entry in comparison.entries:
        own = [text(entry.card.get(name, "not stated")) for name in comparison.differing]
        facts = [entry.first.recipe, entry.first.commit, entry.first.device, entry.first.torch]
        recipe, commit, device, torch = (text(v) if v else Cell(MISSING) for v in facts)
        day = entry.first.date or ""
        date = Cell(escape(day[:16].replace("T", " ")), day) if day else Cell(MISSING)
        seeds = ", ".join(map(str, entry.seeds))
        rows.append([name_cell(report, entry.label), *own, recipe, text(seeds) if seeds else Cell(MISSING), commit,
                     device, torch, date])  # fmt: skip
    word = "What differs, and where each figure comes from" if comparison.differing else "Where each figure comes from"
    parts.append(table(columns, rows, word))
    return f'<details class="cards"><summary>Protocol cards</summary>{"".join(parts)}</details>'


def dataset(report: Report, comparison: Comparison, number: int) -> str:
    """Return the section of one comparison."""
    threshold = f"{comparison.threshold:g}"
    card = comparison.card
    facts = ", ".join(filter(None, (
        f"{card['n']} faces" if "n" in card else "",
        f"normalised by {card['normaliser']}" if "normaliser" in card else "",
        f"protocol {card['protocol']}" if "protocol" in card else "")))  # fmt: skip
    caption = (f"{escape(facts)}. 95 % bootstrap intervals over faces; FR and AUC at {threshold} %. Lower is better, "
               "but for AUC.")  # fmt: skip
    marked = [FIELDS.get(name, name) for name in comparison.differing]
    note = (f'<p class="marked"><b>Not all cards are equal:</b> the rows differ in {escape(", ".join(marked))}; '
            "see the protocol cards below.</p>" if marked else "")  # fmt: skip
    pairs = pair_table(comparison)
    least = least_of(comparison)
    return (
        summary(comparison)
        + comparison_table(report, comparison, caption)
        + note
        + (f'<p class="about">{escape(least)}</p>' if least else "")
        + ced_chart(report, comparison, f"ced-{number}")
        + (f"<h3>Who can be told from whom</h3>{pairs}" if pairs else "")
        + (f"<h3>Subsets</h3>{found}" if (found := subset_table(report, comparison)) else "")
        + cards(report, comparison)
    )


def _cost_chart(report: Report, comparison: Comparison, key: str, axis: str, name: str) -> str:
    entries = [entry for entry in comparison.entries if (getattr(entry.speed, key) or 0) > 0]
    if not entries:
        return ""
    costs = [float(getattr(entry.speed, key)) / (1e9 if key == "macs" else 1.0) for entry in entries]
    errors = [entry.metrics["nme"] for entry in entries]
    spans = [v for entry, e in zip(entries, errors, strict=True) for v in entry.intervals.get("nme", (e,))]
    chart = Chart(name, f"NME against {axis} on {comparison.title}", Axis(axis, *ratios(costs), log=True),
                  Axis("NME, percent", *around(spans)), width=540, height=360)  # fmt: skip
    best = front(list(zip(costs, errors, strict=True)))
    chart.steps([cost for cost, _ in best], [error for _, error in best])
    for entry, cost, error in zip(entries, costs, errors, strict=True):
        tip = f"{entry.label}: NME {error:.2f} %, {axis} {cost:.3g}"
        chart.point(report.styles[entry.label], cost, error, entry.intervals.get("nme"), tip)
    chart.name_points([(entry.label, report.styles[entry.label], cost, error)
                       for entry, cost, error in zip(entries, costs, errors, strict=True)])  # fmt: skip
    return chart_figure(chart.svg(), f"NME against {escape(axis)}, logarithmic; lower left is better. The thin line "
                        "joins what nothing cheaper matches.")  # fmt: skip


def cost(report: Report) -> str:
    """Return accuracy against cost on each data set, and the records of `python -m benchmarks speed`."""
    parts = []
    for number, comparison in enumerate(report.comparisons):
        axes = (("macs", "multiply-adds, G"), ("ms_per_face_b1", "milliseconds a face, batch 1"))
        found = [_cost_chart(report, comparison, key, axis, f"{key}-{number}") for key, axis in axes]
        if any(found):
            parts.append(f'<h3>{escape(comparison.title)}</h3><div class="pair">{"".join(found)}</div>'
                         + cost_table(report, comparison))  # fmt: skip
    if report.speeds:
        columns = [
            Column("method", numeric=False),
            Column("recipe", numeric=False),
            Column("device", numeric=False),
            *COST,
        ]
        rows = []
        for record in report.speeds:
            machine = (record.machine or {}).get("device")
            rows.append([text(record.title), text(record.recipe or ""),
                         text(machine) if machine else Cell(MISSING), *cost_cells(report, record)])  # fmt: skip
        parts.append("<h3>Networks alone</h3>" + table(*measured(columns, rows), "Random weights, timed by "
                                                       "<code>python -m benchmarks speed</code>"))  # fmt: skip
    return "".join(parts)


def _curve_chart(report: Report, curves: Sequence[Curve], x: Axis, name: str, title: str, read: bool) -> str:
    highest = [max(curve.y) for curve in curves]
    chart = Chart(name, title, x, Axis("NME, percent", *from_zero(highest), count=4), 300, 215, 46, 44, 10, 12)
    for curve in curves:
        chart.line(curve.label, report.styles[curve.label], curve.x, curve.y, marks=not read)
    return chart.svg(read=True)


def robustness(report: Report) -> str:
    """Return small charts of each disturbance, the table of their areas, and flicker."""
    found = disturbances(report.robustness)
    trembling = flickers(report.robustness)
    parts = []
    for number, dataset_name in enumerate(dict.fromkeys([*(d.dataset for d in found), *(d for d, _ in trembling)])):
        chosen = [d for d in found if d.dataset == dataset_name]
        labels = sorted(
            {curve.label for d in chosen for curve in d.curves} | {m for d, m in trembling if d == dataset_name}
        )
        charts = []
        for disturbance in chosen:
            levels = [level for curve in disturbance.curves for level in curve.x]
            word = DISTURBANCES.get(disturbance.kind, disturbance.kind)
            low, high = min(levels), max(levels)
            axis = Axis(disturbance.unit, low, high if high > low else low + 1, count=5)
            name = f"robust-{number}-{disturbance.kind}"
            charts.append(f'<figure class="small"><h4>{escape(word)}</h4><div class="canvas">'
                          f"{_curve_chart(report, disturbance.curves, axis, name, f'{word}: NME against level', False)}"
                          "</div></figure>")  # fmt: skip
        columns = [Column("method", numeric=False)]
        columns += [
            Column(DISTURBANCES.get(d.kind, d.kind).lower(), f"Mean NME over the levels, {d.unit}") for d in chosen
        ]
        columns += [Column("flicker", "Tremble of a still face's points under sub-pixel crops, percent")]
        rows = []
        for label in labels:
            areas = [next((c.area for c in d.curves if c.label == label), None) for d in chosen]
            trembles = quantity(trembling.get((dataset_name, label)), 3)
            rows.append([name_cell(report, label), *map(quantity, areas), trembles])
        here = [r for r in report.robustness if r.dataset == dataset_name and r.level is not None]
        counts = sorted({r.n for r in here if r.n})
        told = f", {' or '.join(map(str, counts))} faces" if counts else ""
        caption = f"Mean NME over each curve's levels{told}, and flicker, percent. Lower is better."
        parts.append(f"<h3>{escape(dataset_name)}</h3><div>{legend(report, [(label, '') for label in labels])}"
                     f'<div class="multiples">{"".join(charts)}</div></div>')  # fmt: skip
        parts.append(table(*measured(columns, rows), caption))
    return "".join(parts)


def risk(report: Report) -> str:
    """Return the risk-coverage curves of the methods that say how sure they are."""
    parts = []
    for number, (name, curves) in enumerate(risk_curves(report.robustness).items()):
        high = max(max(curve.y) for curve in curves) * 1.12
        chart = Chart(f"risk-{number}", f"NME of the surest faces against their share, on {name}",
                      Axis("coverage: share of faces kept, surest first", 0, 1, count=5),
                      Axis("NME, percent", 0, high), width=760, height=330)  # fmt: skip
        for curve in curves:
            chart.line(curve.label, report.styles[curve.label], curve.x, curve.y)
        rows = [(c.label, "" if c.area is None else f"AURC {c.area:.2f}") for c in curves]
        caption = "A curve that rises to the right belongs to a method that knows which of its answers are bad."
        parts.append(f"<h3>{escape(name)}</h3>" + chart_figure(chart.svg(read=True), caption, legend(report, rows)))
    return "".join(parts)


def embed(path: Path) -> str:
    """Return a picture file as a data address, re-encoded; empty when it cannot be read."""
    image = cv2.imread(str(path))
    if image is None:
        return ""
    _, data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()


def _strip(folder: Path, kind: str, label: str, errors: np.ndarray | None) -> str:
    """Return the pictures of one kind; of the worst faces the errors are known from the predictions."""
    paths = sorted(folder.glob(f"{kind}-*.png"))
    worst = [] if errors is None or kind != "worst" else np.sort(errors)[::-1][: len(paths)].tolist()
    items = []
    for number, path in enumerate(paths):
        if not (address := embed(path)):
            continue
        value = f"NME {worst[number]:.1f} %" if number < len(worst) else ""
        alt = f"{kind} face {number + 1} of {label}{', ' + value if value else ''}"
        items.append(f'<li><img src="{address}" alt="{escape(alt)}" width="192" height="192">'
                     + (f"<span>{value}</span>" if value else "") + "</li>")  # fmt: skip
    head = "Worst" if kind == "worst" else "Around the median"
    if kind == "median" and errors is not None:
        head += f", NME {float(np.median(errors)):.2f} %"
    return f"<div><h5>{head}</h5><ul>{''.join(items)}</ul></div>" if items else ""


def _faces_of(report: Report, entry: Entry) -> str:
    if not entry.first.pictures:
        return ""
    folder = report.folder / entry.first.pictures
    single = entry.nmes if len(entry.records) == 1 else None
    strips = "".join(_strip(folder, kind, entry.label, single) for kind in ("worst", "median"))
    head = f"<h4>{swatch(report.styles[entry.label])}{escape(entry.label)}</h4>"
    return f'<div class="faces">{head}<div class="strips">{strips}</div></div>' if strips else ""


def faces(report: Report) -> str:
    """Return the worst and the median faces of each row."""
    parts = []
    for comparison in report.comparisons:
        found = "".join(_faces_of(report, entry) for entry in comparison.entries)
        if found:
            parts.append(f"<h3>{escape(comparison.title)}</h3>{found}")
    key = ('<p class="key-line"><span class="key truth"></span>annotation <span class="key guess"></span>prediction. '
           "Faces of the first seed.</p>")  # fmt: skip
    return key + "".join(parts) if parts else ""


def references(report: Report) -> str:
    """Return the rows of `python -m benchmarks helen`: our runs beside published predictions and simple baselines."""
    path = report.folder / "helen.json"
    if not path.is_file():
        return ""
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    columns = [Column("method", numeric=False), Column("NME"), Column("FR8"), Column("AUC8"), Column("faces")]
    rows = [[text(name), ranged(value["nme"], tuple(value["interval"]) if "interval" in value else None),
             quantity(value["fr8"], 1), quantity(value["auc8"], 1), quantity(value["n"], 0)]
            for name, value in found.items()]  # fmt: skip
    return table(columns, rows, "HELEN test faces, percent of the distance of the outer eye corners, 95 % intervals; "
                 "from <code>python -m benchmarks helen</code>")  # fmt: skip


def machines(report: Report) -> str:
    """Return the cards of the machines on which networks were timed."""
    parts = []
    for machine in report.machines:
        head = f"Machine {machine.letter}" if len(report.machines) > 1 else "Machine"
        items = [*machine.card.items(), ("timed here", ", ".join(machine.methods))]
        parts.append(f'<div class="card"><h3>{head}</h3>{definitions(items)}</div>')
    return f'<div class="pair">{"".join(parts)}</div>' if parts else ""
