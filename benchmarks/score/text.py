"""Figures as text, and what `python -m benchmarks score` prints: tables of figures, protocol cards, comparisons."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.readme import table
from common.metrics.functional import NORMALISERS
from common.metrics.protocols import PROTOCOLS, Figures, Plain
from common.metrics.stats import Paired, least_difference

NONE = "-"  # a figure that was not measured
CORRELATIONS = (0.7, 0.9)  # between the errors of two methods on the same faces, as they are found in practice
Scores = Mapping[str, Mapping[str, Figures | str]]
REFERENCE = "canonical"
NO_AREA, NO_RATE = ("sdu", "hrnet", "mmpose"), ("sdu", "mmpose")  # evaluators that do not compute the figure


def figure(value: float | None, digits: int = 2) -> str:
    """Return a number for a table, or a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def interval(found: tuple[float, float] | None, digits: int = 2) -> str:
    """Return an interval for a table, or a dash where there is none."""
    return NONE if found is None else f"[{found[0]:.{digits}f}, {found[1]:.{digits}f}]"


def count(value: float | None, unit: float, letter: str, digits: int = 2) -> str:
    """Return a large number in thousands, millions (M) or billions (G), or a dash where there is none."""
    return NONE if value is None else f"{value / unit:.{digits}f} {letter}"


def least_text(nmes: np.ndarray, level: float = 95.0) -> str:
    """Return in a sentence what difference of NME these faces can show, empty for a single face."""
    nmes = nmes[np.isfinite(nmes)]
    if len(nmes) < 2:
        return ""
    alone = least_difference(nmes, level=level)
    low, high = (least_difference(nmes, rho, level) for rho in CORRELATIONS)
    return (
        f"Smallest difference in NME that is significant on these {len(nmes)} faces ({level:g} %): {alone:.3f} against "
        f"a published figure; {high:.3f} to {low:.3f} between methods scored on the same faces, whose errors correlate "
        f"by {CORRELATIONS[1]:g} to {CORRELATIONS[0]:g}."
    )


def figures_text(
    found: Figures, card: Mapping[str, Plain], spans: Mapping[str, Mapping[str, tuple[float, float]]],
    level: float, digits: int,
) -> str:  # fmt: skip
    """Return figures of one protocol with their card, intervals and what the set can show."""
    limit = f"{found['threshold']:g}"
    head = ["set", "faces", "NME", f"{level:g} %", f"FR{limit}", f"{level:g} %", f"AUC{limit}", f"{level:g} %", "P90",
            "P95", "P99"]  # fmt: skip
    sets = {"": dict(found)} | dict(found["subset"])
    rows = []
    for name, values in sets.items():
        cells = [name or "all", str(values["n"])]
        for key in ("nme", "fr", "auc"):
            cells += [f"{values[key]:.{digits}f}", interval(spans.get(name, {}).get(key), digits)]
        rows.append([*cells, *(f"{values[f'nme_p{q}']:.{digits}f}" for q in (90, 95, 99))])
    parts = [table(head, rows)]
    if found["missing"]:
        parts.append(
            f"{found['missing']} of {found['n']} faces have no prediction; NME and percentiles are of the others."
        )
    if found["share"]:
        shares = ", ".join(f"{value:.{digits}f} % of the faces at or below {key:g} %"
                           for key, value in found["share"].items())  # fmt: skip
        parts.append(f"Reported beside it: {shares}.")
    if card["auc_rule"] != "exact":
        parts.append("Intervals are of the exact area and rate, beside the protocol's own rule for the figures.")
    if (text := least_text(np.asarray(found["per_image"]), level)) != "":
        parts.append(text)
    lines = "\n".join(f"- {key}: {value:g}" if isinstance(value, float) else f"- {key}: {value}"
                      for key, value in card.items() if value not in ("", None))  # fmt: skip
    return "\n\n".join([*parts, f"Protocol card\n\n{lines}"])


def protocols_text(scores: Scores, digits: int) -> str:
    """Return one model's figures by every protocol with its own measure, and their distance from canonical."""
    base = scores[REFERENCE][""]
    rows = []
    for name, row in scores.items():
        found = row[""]
        if isinstance(found, str):
            rows.append([name, *(NONE,) * 7, found])
            continue
        apart = NONE if isinstance(base, str) else f"{found['nme'] - base['nme']:+.{digits}f}"
        rate = NONE if name in NO_RATE else f"{found['fr']:.{digits}f}"
        area = NONE if name in NO_AREA else f"{found['auc']:.{digits}f}"
        rows.append([name, found["norm"], f"{found['threshold']:g}", str(found["n"]), f"{found['nme']:.{digits}f}",
                     apart, rate, area, PROTOCOLS[name].auc_rule if name not in NO_AREA else NONE])  # fmt: skip
    head = ("protocol", "normaliser", "threshold", "faces", "NME", "beside canonical", "FR", "AUC", "AUC rule")
    note = ("Rows have different protocol cards and must not be compared with one another: only the arithmetic differs "
            "here, while box, decoding and flip test stay those of the predictions.")  # fmt: skip
    return f"{table(head, rows)}\n\n{note}"


def matrix_text(scores: Scores, digits: int) -> str:
    """Return the NME by every protocol's way of counting and every normaliser."""
    rows, reasons = [], []
    for name, row in scores.items():
        cells = []
        for norm in NORMALISERS:
            found = row[norm]
            if isinstance(found, str):
                cells.append(NONE)
                reasons.append(found)
            else:
                cells.append(f"{found['nme']:.{digits}f}")
        rows.append([name, *cells])
    text = f"NME by every normaliser\n\n{table(('protocol', *NORMALISERS), rows)}"
    return text + "".join(f"\n\n{NONE}: {reason}" for reason in dict.fromkeys(reasons))


def compared_text(found: Mapping[str, Paired], first: str, second: str, level: float, digits: int) -> str:
    """Return the paired comparison of two methods."""
    rows = []
    for key, pair in found.items():
        better = pair.difference < 0 if key != "auc" else pair.difference > 0
        verdict = f"{first if better else second} is better" if pair.separable else pair.verdict
        together = NONE if np.isnan(pair.correlation) else f"{pair.correlation:.2f}"
        rows.append([key.upper(), f"{pair.difference:+.{digits}f}", interval((pair.low, pair.high), digits), together,
                     str(pair.n), verdict])  # fmt: skip
    head = ("figure", "difference", f"{level:g} %", "correlation", "faces", "verdict")
    return f"{first} minus {second}, paired by face\n\n{table(head, rows)}"
