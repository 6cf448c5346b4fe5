"""Records of a benchmark that never ran: five methods whose errors are known, so that a report of them is known too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.record import Result, Robustness
from benchmarks.record import append_record as append
from common.metrics.functional import auc_exact, failure_rate

MACHINE = {"device": "A made-up processor", "cores": 2, "threads": 2, "torch": "2.15.0", "system": "Linux x86_64",
           "python": "3.11.9", "precision": "float32"}  # fmt: skip
# method -> (title, factor on the faces' difficulty, own scatter, parameters, MACs, milliseconds)
METHODS: dict[str, tuple[str, float, float, float, float, float]] = {
    "spiga": ("SPIGA", 0.80, 0.20, 24.1e6, 18.9e9, 96.0),
    "awing": ("AWing", 0.805, 0.60, 8.2e6, 6.4e9, 41.0),
    "sdu3d": ("Stacked dense U-Nets", 1.0, 0.5, 12.4e6, 9.7e9, 63.5),
    "dpr": ("Deep Progressive Reinitialization", 1.16, 0.4, 5.6e6, 1.9e9, 18.2),
    "musica": ("MuSiCa <with & marks>", 1.42, 0.6, 0.9e6, 0.21e9, 6.4),
}
FACES = 300
THRESHOLD = 10.0
KINDS: dict[str, tuple[str, list[float]]] = {
    "shift": ("share of the box side", [0, 0.05, 0.1, 0.15, 0.2]),
    "scale": ("times the box side", [0.8, 0.9, 1.0, 1.1, 1.25, 1.4]),
    "rotation": ("degrees", [0, 10, 20, 30, 45]),
    "occlusion": ("share of the crop", [0, 0.05, 0.1, 0.2, 0.3]),
    "blur": ("share of the crop side", [0, 0.005, 0.01, 0.02, 0.03]),
    "jpeg": ("quality", [5, 10, 20, 40, 80]),
    "dark": ("share of the light", [0.03, 0.06, 0.12, 0.25, 0.5, 1.0]),
    "small": ("pixels a side", [16, 24, 32, 48, 64]),
}  # fmt: skip


def nmes(method: str, seed: int = 0) -> np.ndarray:
    """Return the errors (FACES,) of a method in percent; the faces' difficulty is the same for all methods."""
    _, factor, scatter, *_ = METHODS[method]
    hard = np.random.default_rng(7).gamma(9.0, 0.5, FACES) + (np.arange(FACES) > FACES - 12) * 6.0
    own = np.random.default_rng([seed, *method.encode()]).normal(0, scatter, FACES)
    return np.asarray(np.clip(factor * hard + own, 0.4, None))


def interval(values: np.ndarray) -> list[float]:
    """Return the normal 95 % interval of a mean, quicker than the bootstrap."""
    half = 1.96 * float(values.std()) / len(values) ** 0.5
    return [max(0.0, float(values.mean()) - half), float(values.mean()) + half]


def card(dataset: str, **changes: Any) -> dict[str, Any]:
    """Return a protocol card."""
    return {
        "protocol": "canonical", "data": dataset, "n": FACES, "landmarks": "ibug68", "normaliser": "corners",
        "threshold": THRESHOLD, "auc_rule": "exact", "failures": "count as failures", "space": "original image pixels",
        "box": "data set's box, longer side times 1.25, crop 128 px", "decode": "soft argmax", "flip": "none",
        "checkpoint": "last epoch",
    } | changes  # fmt: skip


def record(folder: Path, method: str, dataset: str = "synthetic", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a finished cell and write its predictions."""
    title, _, _, parameters, macs, milliseconds = METHODS[method]
    errors = nmes(method, seed)
    large = np.arange(FACES) % 3 == 0
    run = Path(method) / dataset / "smoke" / str(seed)
    (folder / run).mkdir(parents=True, exist_ok=True)
    ids = np.array([f"face-{k:04d}" for k in range(FACES)])
    np.savez_compressed(folder / run / "test_predictions.npz", ids=ids[::-1], nme=errors[::-1],
                        points=np.zeros((FACES, 68, 2), np.float32), **{"subset/large pose": large[::-1]})  # fmt: skip
    metrics: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    for prefix, values in (("", errors), ("large pose/", errors[large])):
        metrics |= {f"{prefix}nme": float(values.mean()), f"{prefix}fr": failure_rate(values, THRESHOLD),
                    f"{prefix}auc": auc_exact(values, THRESHOLD)}  # fmt: skip
        intervals[f"{prefix}nme"] = interval(values)
        intervals[f"{prefix}fr"] = interval(100.0 * (values > THRESHOLD))
        intervals[f"{prefix}auc"] = interval(100 * np.clip(1 - values / THRESHOLD, 0, None))
    metrics |= {f"nme_p{q}": float(np.percentile(errors, q)) for q in (90, 95, 99)}
    speed = {"parameters": parameters, "macs": macs, "ms_per_face_b1": milliseconds, "machine": MACHINE,
             "ms_per_face_b8": 0.7 * milliseconds, "peak_memory_mb": 12 * milliseconds ** 0.5,
             "train_step_ms": 24 * milliseconds}  # fmt: skip
    return {
        "cell": f"{method}/{dataset}/smoke/{seed}", "method": method, "title": title, "dataset": dataset,
        "recipe": f"{method}/smoke.yaml", "seed": seed, "protocol": "canonical", "card": card(dataset),
        "metrics": metrics, "intervals": intervals, "predictions": str(run / "test_predictions.npz"),
        "pictures": f"faces/{method}", "seconds": 11 * milliseconds, "speed": speed, "commit": "a93c5e1",
        "device": MACHINE["device"], "date": "2026-11-21T09:40:00+00:00", "torch": "2.15.0",
    } | changes  # fmt: skip


def append_record(path: Path, content: dict[str, Any]) -> None:
    """Add a record in its former form, of the kind that the file's name says."""
    kind = Robustness if path.name == "robustness.jsonl" else Result
    append(path, kind.model_validate(content))


def write_pictures(folder: Path, method: str, side: int = 96) -> None:
    """Write four worst and four median pictures of a drawn face."""
    for kind in ("worst", "median"):
        for k in range(4):
            picture = np.full((side, side, 3), (206, 190 - 12 * k, 176), np.uint8)
            cv2.ellipse(picture, (side // 2, side // 2), (side // 3, side * 2 // 5), 4 * k, 0, 360, (120, 160, 214), -1)
            shift = 7 if kind == "worst" else 1
            for x, y in ((0.38, 0.42), (0.62, 0.42), (0.5, 0.56), (0.42, 0.7), (0.58, 0.7)):
                cv2.circle(picture, (int(x * side), int(y * side)), 2, (90, 230, 60), -1)
                cv2.circle(picture, (int(x * side) + shift, int(y * side) + shift - 2 * k), 2, (40, 80, 255), -1)
            path = folder / "faces" / method / f"{kind}-{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)


def write_robustness(folder: Path, dataset: str = "synthetic") -> None:
    """Write curves of every kind, the confidence of two methods, and flicker."""
    path = folder / "robustness.jsonl"
    for number, method in enumerate(METHODS):
        base = {"method": method, "title": METHODS[method][0], "dataset": dataset, "seed": 0, "n": FACES}
        plain = float(nmes(method).mean())
        for kind, (unit, levels) in KINDS.items():
            still = levels[-1] if kind in ("jpeg", "dark", "small") else 1.0 if kind == "scale" else 0.0
            spread = max(abs(level - still) for level in levels)
            values = [plain * (1 + (0.4 + 0.2 * number) * (abs(level - still) / spread) ** 2) for level in levels]
            for level, value in zip(levels, values, strict=True):
                append_record(path, base | {"cell": f"{method}/{kind}/{level:g}", "kind": kind, "level": level,
                                            "unit": unit, "nme": value, "fr": value})  # fmt: skip
            append_record(path, base | {"cell": f"{method}/{kind}/area", "kind": f"{kind}_area",
                                        "nme": float(np.mean(values))})  # fmt: skip
        append_record(path, base | {"cell": f"{method}/flicker", "kind": "flicker", "nme": 0.1 + 0.05 * number})
        if method in ("musica", "awing"):
            risk = np.sort(nmes(method)).cumsum() / np.arange(1, FACES + 1)
            shown = np.linspace(5, FACES - 1, 40).astype(int)
            curve = {
                "coverage": ((shown + 1) / FACES).tolist(),
                "nme": risk[shown].tolist(),
                "aurc": float(risk.mean()),
            }
            append_record(path, base | {"cell": f"{method}/risk", "kind": "risk_coverage"} | curve)


def write_benchmark(folder: Path) -> Path:
    """Write the records of a whole benchmark: synthetic faces with one seed, HELEN with two; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for method in METHODS:
        append_record(folder / "records.jsonl", record(folder, method))
        write_pictures(folder, method)
    for method in ("spiga", "awing", "musica"):
        for seed in (0, 1):
            box = "detector's box, side times 1.2, crop 256 px" if method == "spiga" else card("helen")["box"]
            changes = {"card": card("helen", box=box), "speed": {}, "pictures": "faces/none"}
            append_record(folder / "records.jsonl", record(folder, method, "helen", seed, **changes))
    write_robustness(folder)
    helen = {
        "mean face in the landmark box": {"nme": 17.61, "interval": [16.6, 18.7], "fr8": 88.8, "auc8": 1.9, "n": 330}
    }
    (folder / "helen.json").write_text(json.dumps(helen))
    return folder
