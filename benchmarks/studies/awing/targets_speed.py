"""Speed of drawing targets in batches against one face at a time, on the CPU.

    python -m benchmarks.studies.awing.targets_speed --threads 2

Three ways to heatmaps and boundary of 98-point faces are timed: `AWingTargets.heatmaps` on the whole batch as training
calls it, the exact path of `awing.boundary` with one Gaussian patch per landmark, and a drawing of the lines through a
matplotlib figure per face, the tool that the official code draws with (this is not that code). The first two are what
this project offers; the third says what drawing with a plotting library costs.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.interpolate import splev, splprep

from awing import native
from awing.boundary import exact_boundary
from awing.curves import Polylines, boundary_lines
from awing.targets import RADIUS, SIGMA, AWingTargets
from benchmarks.measure.timing import ROUNDS, median_ms
from common.schemes import get_scheme

SCHEME = "wflw98"
MAP, STRIDE = 64, 4
OUT = Path("runs") / "benchmark" / "boundary_speed.json"


def synthetic_faces(count: int, seed: int = 0) -> np.ndarray:
    """Return landmarks (count, 98, 2) in crop pixels whose lines are smooth arcs, as those of faces are."""
    rng = np.random.default_rng(seed)
    scheme = get_scheme(SCHEME)
    points = np.tile(rng.uniform(90, 166, (count, 1, 2)), (1, scheme.num_points, 1))
    for curve in scheme.curves:
        t = np.linspace(0, 1, len(curve.points))[None, :, None]
        start, span = rng.uniform(40, 140, (count, 1, 2)), rng.uniform(20, 70, (count, 1, 2))
        bend = rng.uniform(-20, 20, (count, 1, 2))
        points[:, list(curve.points)] = start + span * t + bend * np.sin(np.pi * t)
    return points


def single_heatmaps(points: np.ndarray) -> np.ndarray:
    """Draw one face's Gaussians (L, MAP, MAP), landmark by landmark."""
    span = np.arange(-RADIUS, RADIUS + 1)
    patch = np.exp(-(span[:, None] ** 2 + span[None] ** 2) / (2 * SIGMA**2))
    maps = np.zeros((len(points), MAP, MAP), np.float32)
    for canvas, (x, y) in zip(maps, points // STRIDE, strict=True):
        left, top = int(x) - RADIUS, int(y) - RADIUS
        x0, x1, y0, y1 = max(left, 0), min(left + len(span), MAP), max(top, 0), min(top + len(span), MAP)
        if x0 < x1 and y0 < y1:
            canvas[y0:y1, x0:x1] = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    return maps


def plotted_boundary(points: np.ndarray, lines: Polylines) -> np.ndarray:
    """Draw one face's boundary into one matplotlib figure, then take the distance transform."""
    cells = np.floor(points / STRIDE)
    figure = Figure(figsize=(1, 1), dpi=MAP)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-0.5, MAP - 0.5), ylim=(MAP - 0.5, -0.5))
    for line in lines:
        kept = cells[list(line)]
        kept = kept[np.concatenate([[True], (np.diff(kept, axis=0) != 0).any(1)])]
        if len(kept) == 1:
            kept = np.concatenate([kept, kept + 0.001])
        knots, _ = splprep(kept.T, s=0, k=min(4, len(kept)) - 1)
        axes.plot(*splev(np.arange(100) / 100, knots), "k,")
    canvas.draw()
    drawn = (np.asarray(canvas.buffer_rgba())[..., 0] > 127).astype(np.uint8)
    distance = cv2.distanceTransform(drawn, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.where(distance < 3, np.exp(-(distance**2) / 2), 0.0)


def measure(batch: int, threads: int, rounds: int) -> dict[str, Any]:
    """Return the record of one measurement."""
    torch.set_num_threads(threads)
    faces = synthetic_faces(batch)
    points = torch.from_numpy(faces).float()
    lines = boundary_lines(get_scheme(SCHEME))
    targets = AWingTargets(SCHEME, MAP, STRIDE)
    assert targets.boundary is not None
    boundary = targets.boundary
    few = faces[:4]
    calls = {
        "batched": lambda: targets.heatmaps(points, reuse=True),
        "batched_fresh_memory": lambda: targets.heatmaps(points),
        "batched_boundary": lambda: boundary(points),
        "exact": lambda: [(single_heatmaps(f), exact_boundary(f, lines)) for f in faces],
        "exact_boundary": lambda: [exact_boundary(f, lines) for f in faces],
        "matplotlib": lambda: [(single_heatmaps(f), plotted_boundary(f, lines)) for f in few],
    }
    times = median_ms(calls, rounds)
    times["matplotlib"] *= batch / len(few)
    exact = np.stack([exact_boundary(f, lines) for f in faces])
    drawn = targets.heatmaps(points, reuse=True)[:, -1].numpy()
    differing = float(((drawn * 255).round() != exact).mean() * 100)
    ratios = {f"{k}_over_batched": times[k] / times["batched"] for k in ("exact", "matplotlib")}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "scheme": SCHEME, "batch": batch, "threads": threads,
        "torch": torch.__version__, "compiled": native.available, "times": times,
        "differing_pixels_percent": differing,
        "boundary_ratio": times["exact_boundary"] / times["batched_boundary"], **ratios,
    }  # fmt: skip


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time batched targets against targets drawn face by face.")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(args)
    record = measure(options.batch, options.threads, options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    times = record["times"]
    print(
        f"batch {options.batch}, {options.threads} threads: batched {times['batched']:.1f} ms; face by face "
        f"{times['exact']:.1f} ms ({record['exact_over_batched']:.1f}x), through matplotlib "
        f"{times['matplotlib']:.0f} ms ({record['matplotlib_over_batched']:.0f}x); "
        f"{record['differing_pixels_percent']:.2f} % of the boundary's pixels differ from the exact path"
    )


if __name__ == "__main__":
    main()
