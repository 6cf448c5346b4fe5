"""Runs a plan: cell after cell, each once, whoever does it; a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.record import Result, append_record, claim, read_records
from benchmarks.report.markdown import described
from benchmarks.report.model import compare
from benchmarks.run.plan import Cell, Plan
from benchmarks.run.trial import evaluate_cell, last_checkpoint, run_children, stage_folder, train, trained_seconds
from common.errors import LabError

WAIT = 3.0  # seconds between looks at cells that other processes hold


def records_path(plan: Plan) -> Path:
    """Return the file of a plan's records."""
    return plan.folder / "records.jsonl"


def pending(plan: Plan, cells: list[Cell]) -> list[Cell]:
    """Return the cells without a record."""
    done = {record.trial for record in read_records(records_path(plan), Result)}
    return [cell for cell in cells if cell.name not in done]


def time_left(plan: Plan, remaining: list[Cell], spent: dict[str, float]) -> str:
    """Return a word on the time that the remaining cells may take, from what finished cells took.

    A method's own earlier cell is the best guess for another of its cells; else the mean of all.
    """
    records = read_records(records_path(plan), Result)
    known = {record.method: record.seconds for record in records if record.seconds} | spent
    if not remaining or not known:
        return ""
    mean = sum(known.values()) / len(known)
    seconds = sum(known.get(cell.method, mean) for cell in remaining)
    return f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left"


def forget(plan: Plan, cells: list[Cell]) -> None:
    """Make cells be done again: their checkpoints and marks go, and their records are set aside, not deleted."""
    path = records_path(plan)
    names = {cell.name for cell in cells}
    kept = [record for record in read_records(path, Result) if record.trial not in names]
    if path.is_file():
        path.replace(path.with_suffix(f".{int(time.time())}.jsonl"))
        for record in kept:
            append_record(path, record)
    for cell in cells:
        for stage in range(len(cell.stages)):
            run = stage_folder(plan.folder, cell, stage)
            if run.is_symlink():
                run.unlink()  # a run that was taken from elsewhere is not ours to delete
                continue
            for old in (*run.glob("checkpoints/*.ckpt"), run / "finished"):
                old.unlink(missing_ok=True)


def _share(plan: Plan, cells: list[Cell], work: Callable[[Cell, int], None]) -> None:
    """Do all cells together with whatever other processes run the same plan."""
    spent: dict[str, float] = {}
    while todo := pending(plan, cells):
        busy = True
        for cell in todo:
            with claim(plan.folder / "locks" / f"{cell.name.replace('/', '_')}.lock") as lock:
                # Looked at again under the lock: the other process may have finished it meanwhile.
                if lock is None or not pending(plan, [cell]):
                    continue
                busy = False
                start = time.perf_counter()
                number = len(cells) - len(pending(plan, cells)) + 1
                print(f"[{number}/{len(cells)}] {cell.name}", flush=True)
                work(cell, lock)
                spent[cell.method] = time.perf_counter() - start
                left = time_left(plan, pending(plan, cells), spent)
                print(f"[{number}/{len(cells)}] {cell.name}: {spent[cell.method]:.0f} s{left}", flush=True)
        if busy and pending(plan, cells):
            time.sleep(WAIT)  # another process holds what is left


def run(plan: Plan, fresh: bool = False, workers: int = 1) -> str:
    """Train and evaluate all cells of a plan that have no record; return and print the comparison.

    With several workers the trainings come first, side by side; tests and timings run alone in any case.

    Raises:
        LabError: the plan names what is not there, or a training failed.
    """
    cells = plan.cells()
    if not cells:
        raise LabError(f"{plan.source}: nothing to do; every job was left out")
    if fresh:
        forget(plan, cells)
    if workers > 1 and len(pending(plan, cells)) > 1:
        train_together(plan, workers)

    def work(cell: Cell, lock: int) -> None:
        train(plan.folder, cell, lock)
        append_record(records_path(plan), evaluate_cell(plan.folder, cell, trained_seconds(plan.folder, cell)))

    _share(plan, cells, work)
    return write_tables(plan, cells)


def train_only(plan: Plan) -> None:
    """Train all cells that are not trained, without a test."""
    cells = plan.cells()
    for cell in cells:
        with claim(plan.folder / "locks" / f"{cell.name.replace('/', '_')}.lock") as lock:
            if lock is None:
                print(f"[{cell.name}] another process does it", flush=True)
                continue
            train(plan.folder, cell, lock)
        taken = {other.name: trained_seconds(plan.folder, other) for other in cells}
        spent = {other.method: taken[other.name] for other in cells if taken[other.name]}
        left = time_left(plan, [other for other in cells if not taken[other.name]], spent)
        print(f"[{cell.name}] trained in {taken[cell.name]:.0f} s{left}", flush=True)


def train_together(plan: Plan, workers: int) -> None:
    """Train the cells of a plan in several processes side by side, each with its share of the cores.

    One thread a process does more in all than several threads that wait for each other, and small networks do not
    fill the cores. What fails here is trained again, and told of, by who comes next.
    """
    methods, datasets = plan.methods, [job.dataset for job in plan.jobs]
    command = [sys.executable, "-m", "benchmarks", "train", "--config", str(plan.source),
               "--methods", *methods, "--datasets", *dict.fromkeys(datasets)]  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    run_children([command] * workers, threads=max(1, cores // workers))


def evaluate_only(plan: Plan, timing: bool = True) -> str:
    """Test the checkpoints that are there and record them anew; return the comparison.

    Raises:
        LabError: no cell of the plan has a checkpoint.
    """
    cells = plan.cells()
    trained = [cell for cell in cells if last_checkpoint(plan.folder, cell).is_file()]
    if not trained:
        raise LabError(f"{plan.source}: no trial is trained yet; run `python -m benchmarks train` first")
    before = {record.trial: record.seconds for record in read_records(records_path(plan), Result)}
    for cell in trained:
        seconds = trained_seconds(plan.folder, cell) or before.get(cell.name) or 0.0
        append_record(records_path(plan), evaluate_cell(plan.folder, cell, seconds, timing))
    return write_tables(plan, trained)


def write_tables(plan: Plan, cells: list[Cell]) -> str:
    """Print the comparison of finished cells and write it to table.md, table.txt; return it."""
    names = {cell.name for cell in cells}
    parts = []
    records = [record for record in read_records(records_path(plan), Result) if record.trial in names]
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        rows = [record for record in records if record.dataset == dataset]
        if rows:
            parts += [described(found, subsets=False) for found in compare(rows)]
    text = "\n\n".join(parts)
    for name in ("table.md", "table.txt"):
        (plan.folder / name).write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\nwritten to {plan.folder / 'table.md'}", flush=True)
    return text
