"""Trains, tests and times methods; one JSON line per finished cell, so that a stopped benchmark goes on."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.registry import METHODS, Method
from benchmarks.speed import measure
from benchmarks.tables import comparison
from common.errors import LabError
from common.plotting import write_ced

ROOT = Path(__file__).resolve().parents[1]
THRESHOLD = 10.0


def commit() -> str:
    """Return the commit that figures belong to, or "unknown" outside a checkout."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the finished cells; a line that was cut short by a kill is dropped."""
    records = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def run_cell(name: str, method: Method, recipe: str, folder: Path) -> dict[str, Any]:
    """Train a method with a recipe, test the last checkpoint, time its network; return the record."""
    main, run = method.main(), folder / name
    common = ["--config", str(ROOT / recipe), "--run", str(run)]
    start = time.perf_counter()
    last = run / "checkpoints" / "last.ckpt"
    resume = ["--ckpt_path", str(last)] if last.is_file() else []
    print(f"[{name}] training with {recipe}" + (" (resumed)" if resume else ""), flush=True)
    main(["fit", *common, *resume])
    trained = time.perf_counter() - start
    tested = main(["test", *common, "--ckpt_path", str(last), "--track", "false"])
    metrics = {key.removeprefix("test/"): float(value) for key, value in tested.trainer.callback_metrics.items()}
    write_ced(folder / "ced.png", {method.title: tested.model.test_per_image["nme"]}, THRESHOLD)
    print(f"[{name}] timing", flush=True)
    return {
        "method": name, "title": method.title, "recipe": recipe, "metrics": metrics, "seconds": trained,
        "speed": measure(tested.model.network(), tested.model.input_size), "commit": commit(), "seed": 0,
        "protocol": "canonical", "torch": torch.__version__,
    }  # fmt: skip


def run(config: Path, fresh: bool = False) -> str:
    """Run the benchmark of a configuration and return its table.

    Raises:
        LabError: the configuration is missing or names an unknown method or recipe.
    """
    if not config.is_file():
        raise LabError(f"{config}: no such benchmark configuration")
    plan = yaml.safe_load(config.read_text())
    folder = Path(plan["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "records.jsonl"
    if fresh:
        path.unlink(missing_ok=True)
    records = read_records(path)
    names = list(METHODS) if plan["methods"] == "all" else plan["methods"]
    for name in names:
        if name not in METHODS or plan["recipe"] not in METHODS[name].recipes:
            raise LabError(f"{config}: no method {name} with a recipe {plan['recipe']}; known: {', '.join(METHODS)}")
        recipe = METHODS[name].recipes[plan["recipe"]]
        if any(r["method"] == name and r["recipe"] == recipe for r in records):
            print(f"[{name}] finished before; --fresh repeats it", flush=True)
            continue
        if fresh:
            for old in (folder / name / "checkpoints").glob("*.ckpt"):
                old.unlink()
        record = run_cell(name, METHODS[name], recipe, folder)
        records.append(record)
        # Written whole: a line that a kill cut short must not swallow the next one.
        path.write_text("".join(json.dumps(finished) + "\n" for finished in records))
    table = comparison([r for r in records if r["method"] in names])
    (folder / "table.md").write_text(table + "\n")
    print(f"\nSynthetic faces, NME by the outer eye corners, FR and AUC at {THRESHOLD:g} %, all in percent\n{table}")
    return table
