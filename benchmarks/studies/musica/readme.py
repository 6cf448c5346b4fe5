"""The report's figures as Markdown and as a curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.readme import table

Part = dict[str, Any]  # a part of the JSON that `report` writes
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"


def _iterations(content: Part) -> str:
    rows = [
        [str(t), str(patches), f"{macs / 1e6:.1f} M", f"{row['nme']:.2f}",
         f"[{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]", f"{row['fr8']:.1f}"]
        for t, (row, patches, macs) in enumerate(
            zip(content["iterations"], content["patches"], content["costs"], strict=True), 1)
    ]  # fmt: skip
    return table(["iterations", "patches of the last", "multiply-adds", "NME", "95 % interval", "FR8"], rows)


def _way(way: Part, full: Part) -> list[str]:
    """Return a row: what is run, and NME, multiply-adds and milliseconds with their changes from the full cascade."""
    pairs = [(way["nme"], full["nme"], f"{way['nme']:.3f}"),
             (way["macs"], full["macs"], f"{way['macs'] / 1e6:.1f} M"),
             *((ms, full["ms"][batch], f"{ms:.2f}") for batch, ms in way["ms"].items())]  # fmt: skip
    limit = f"policy, limit {100 * way['max_loss']:g} %" if way["exit"] else "none"
    kind = [_kind(way), limit]
    if way is full:
        return kind + [text for _, _, text in pairs]
    digits = [2, *[1] * (len(pairs) - 1)]
    return kind + [
        f"{text} ({100 * (value / base - 1):+.{places}f} %)"
        for (value, base, text), places in zip(pairs, digits, strict=True)
    ]


def _choice(chosen: Part, leaving: list[float], interval: list[float]) -> str:
    """Return where faces leave, the interval of the difference of NME, and what the thresholds' choice expected."""
    copies = f", each with {chosen['copies']} augmented copies" if chosen.get("copies") else ""
    share, (low, high) = ", ".join(f"{100 * s:.0f} %" for s in leaving), interval
    return (
        f"faces leave after iteration 1, 2, ...: {share}; the difference of NME from the full cascade has the 95 % "
        f"interval [{low:+.3f}, {high:+.3f}] (paired); on the {chosen['faces']} faces of {chosen['split']} that chose "
        f"the thresholds{copies}, with a limit of {100 * chosen['max_loss']:g} %, multiply-adds "
        f"{-100 * chosen['macs_saved']:+.1f} %, NME {100 * chosen['nme_loss']:+.2f} %."
    )


def _exit(content: Part) -> str:
    found = content["exit"]
    full, failures = found["ways"][0], found["failures"]
    times = [f"ms a face, batch {batch}" for batch in full["ms"]]
    head = ["layers", "exit", "NME", "mean multiply-adds", *times]
    text = table(head, [_way(way, full) for way in found["ways"]])
    text += "\n\nMilliseconds: medians, the rows in turns of one run."
    policies = [way for way in found["ways"] if way["exit"]]
    for way, chosen, leaving in zip(policies, found["chosen_on"], found["share_leaving"], strict=True):
        text += f"\n\n{_kind(way).capitalize()}: {_choice(chosen, leaving, way['difference_interval'])}"
    return (
        f"{text}\n\n"
        f"With whole layers, a rule that knew each face's true errors would save {100 * found['best_saving']:.1f} % of "
        f"the multiply-adds at {100 * found['max_loss']:g} % loss; no rule can save more. "
        f"Of {failures['bad']} faces with an NME above 8 %, the failure flag finds {failures['both']}; it is raised "
        f"for {failures['flagged']} of {content['faces']} faces."
    )


def _curves(content: Part) -> str:
    shown = "![Exit curve on validation faces](../pictures/musica/exit.png)"
    if len(content["exit"]["chosen_on"]) > 1:
        shown += "\n\n![Exit curve of the smaller version, beside the full cascade](../pictures/musica/exit_small.png)"
    return shown


def _confidence(content: Part) -> str:
    found = content["confidence"]
    rows = [
        [str(t), f"{row['pearson']:.2f}", f"{row['spearman']:.2f}", f"{row['mean_true']:.4f}",
         f"{row['mean_predicted']:.4f}"]
        for t, row in enumerate(found["iterations"], 1)
    ]  # fmt: skip
    first = table(["iteration", "Pearson", "Spearman", "mean true error", "mean predicted error"], rows)
    rows = [[f"{row['coverage']} %", f"{row['nme']:.2f}", f"{row['oracle']:.2f}"] for row in found["coverage"]]
    second = table(["surest faces kept", "NME by predicted error", "NME by true error"], rows)
    return (
        f"{first}\n\n{second}\n\nArea under the risk-coverage curve: {found['aurc']:.2f} "
        f"(by the true error {found['aurc_oracle']:.2f}; a random order gives {found['coverage'][0]['nme']:.2f})."
        "\n\n![Risk and coverage](../pictures/musica/risk.png)"
    )


def _sampling(content: Part) -> str:
    rows = [[row["trained"], row["run"], *(f"{value:.2f}" for value in row["nme"])] for row in content["sampling"]]
    count = len(content["iterations"])
    return table(["trained with", "run with", *(f"NME, iteration {t + 1}" for t in range(count))], rows)


def _regions(content: Part) -> str:
    regions = content["attention"]["regions"]
    count = len(content["iterations"])
    rows = [
        [
            region,
            *(
                f"{value:.2f}" if value is not None else "-"
                for kind in (0, 1)
                for value in (pair[kind] if pair else None for pair in values)
            ),
        ]  # fmt: skip
        for region, values in regions.items()
    ]
    head = ["region", *(f"attention {t + 1}" for t in range(count)), *(f"signal {t + 1}" for t in range(count))]
    return table(head, rows)


def _kind(row: Part) -> str:
    """Return what is done to a network's layers."""
    attention = f", attention {row['attention_rank']}" if row.get("attention_rank") else ""
    return f"rank {row['rank']}{attention}" if row["rank"] else "whole"


def _size(row: Part) -> list[str]:
    return [_kind(row), f"{row['parameters']:,.0f}", f"{row['mbytes']:.1f}", f"{row['macs'] / 1e6:.2f} M"]


SIZE_HEAD = ["layers", "parameters", "MB", "multiply-adds"]


def _small(content: Part) -> str:
    rows = [[*_size(row), f"{row['nme']:.3f}"] for row in content["small"]]
    return table([*SIZE_HEAD, "NME"], rows)


def _speed(content: Part) -> str:
    rows = [
        [*_size(row), f"{row['reading_ms']:.2f}", f"{row['pyramid_ms']:.2f}", f"{row['cascade_ms']:.2f}",
         f"{row['ratio']:.2f}", f"{row['ratio_whole']:.2f}"]
        for row in content["speed"]
    ]  # fmt: skip
    head = [*SIZE_HEAD, "ms: reading its weights", "pyramid", "cascade", "cascade / reading its weights",
            "cascade / reading the whole layers' weights"]  # fmt: skip
    return table(head, rows)


def render(content: Part) -> str:
    """Return the section of figures of docs/studies/musica.md."""
    size = (
        f"{content['faces']} faces of {content['split']}, {content['points']} points; "
        f"{content['parameters']:,} parameters, {content['macs'] / 1e6:.2f} M multiply-adds; NME in percent of the "
        "outer eye corners' distance."
    )
    return (
        f"{size}\n\n### Iterations\n\n{_iterations(content)}\n\n### Early exit\n\n{_exit(content)}\n\n"
        f"{_curves(content)}\n\n"
        f"### Predicted error as confidence\n\n{_confidence(content)}\n\n"
        f"### Patch sampling\n\nFaces of {content['sampling_split']}.\n\n{_sampling(content)}\n\n"
        f"### Smaller layers\n\nFaces of {content['sampling_split']}; by `musica/compress.py`, not trained.\n\n"
        f"{_small(content)}\n\n"
        f"### Speed of the official size\n\n98 points, 49 patches, 3 iterations, one face, threads: "
        f"{content['threads']}; medians, caches emptied before each measurement.\n\n{_speed(content)}\n\n"
        "### Where it looks\n\nMean gate of a region's patches, and mean gated feature (what reaches the hidden "
        f"layer), both over the mean of all patches of the iteration.\n\n{_regions(content)}\n\n"
        "![Patches of each iteration on drawn faces, red: most attention](../pictures/musica/attention.png)"
    )


def write_risk_curve(path: Path, nme: np.ndarray, predicted: np.ndarray) -> None:
    """Write NME of the kept faces against coverage, ordered by predicted and by true error."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    counts = np.arange(1, len(nme) + 1)
    for name, order in (
        ("by predicted error", np.argsort(predicted, kind="stable")),
        ("by true error", np.argsort(nme)),
    ):
        axes.plot(100 * counts / len(nme), np.cumsum(nme[order]) / counts, label=name)
    axes.axhline(nme.mean(), color="gray", lw=0.8, label="random order")
    axes.set(xlabel="faces kept, percent", ylabel="NME of the kept, percent", xlim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
