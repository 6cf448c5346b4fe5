"""Runs a plan: trial after trial, each once, whoever does it; a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.record import Result, append_record, claim, read_records
from benchmarks.report.markdown import described
from benchmarks.report.model import compare
from benchmarks.run.check import check_data
from benchmarks.run.plan import Plan, Trial
from benchmarks.run.trial import evaluate_cell, last_checkpoint, run_children, stage_folder, train, trained_seconds
from common.errors import LabError

WAIT = 3.0  # seconds between looks at trials that other processes hold


def records_path(plan: Plan) -> Path:
    """Return the file of a plan's records."""
    return plan.folder / "records.jsonl"


def pending(plan: Plan, trials: list[Trial]) -> list[Trial]:
    """Return the trials without a record."""
    done = {record.trial for record in read_records(records_path(plan), Result)}
    return [trial for trial in trials if trial.name not in done]


def time_left(plan: Plan, remaining: list[Trial], spent: dict[str, float]) -> str:
    """Return a word on the time that the remaining trials may take, from what finished trials took.

    A method's own earlier trial is the best guess for another of its trials; else the mean of all.
    """
    records = read_records(records_path(plan), Result)
    known = {record.method: record.seconds for record in records if record.seconds} | spent
    if not remaining or not known:
        return ""
    mean = sum(known.values()) / len(known)
    seconds = sum(known.get(trial.method, mean) for trial in remaining)
    return f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left"


def forget(plan: Plan, trials: list[Trial]) -> None:
    """Make trials be done again: their checkpoints and marks go, and their records are set aside, not deleted."""
    path = records_path(plan)
    names = {trial.name for trial in trials}
    kept = [record for record in read_records(path, Result) if record.trial not in names]
    if path.is_file():
        path.replace(path.with_suffix(f".{int(time.time())}.jsonl"))
        for record in kept:
            append_record(path, record)
    for trial in trials:
        for stage in range(len(trial.stages)):
            run = stage_folder(plan.folder, trial, stage)
            if run.is_symlink():
                run.unlink()  # a run that was taken from elsewhere is not ours to delete
                continue
            for old in (*run.glob("checkpoints/*.ckpt"), run / "finished"):
                old.unlink(missing_ok=True)


def _share(plan: Plan, trials: list[Trial], work: Callable[[Trial, int], None]) -> None:
    """Do all trials together with whatever other processes run the same plan."""
    spent: dict[str, float] = {}
    while todo := pending(plan, trials):
        busy = True
        for trial in todo:
            with claim(plan.folder / "locks" / f"{trial.name.replace('/', '_')}.lock") as lock:
                # Looked at again under the lock: the other process may have finished it meanwhile.
                if lock is None or not pending(plan, [trial]):
                    continue
                busy = False
                start = time.perf_counter()
                number = len(trials) - len(pending(plan, trials)) + 1
                print(f"[{number}/{len(trials)}] {trial.name}", flush=True)
                work(trial, lock)
                spent[trial.method] = time.perf_counter() - start
                left = time_left(plan, pending(plan, trials), spent)
                print(f"[{number}/{len(trials)}] {trial.name}: {spent[trial.method]:.0f} s{left}", flush=True)
        if busy and pending(plan, trials):
            time.sleep(WAIT)  # another process holds what is left


def run(plan: Plan, fresh: bool = False, workers: int = 1, unchecked: bool = False, timing: bool = True) -> str:
    """Train and evaluate all trials of a plan that have no record; return and print the comparison.

    With several workers the trainings come first, side by side; tests and timings run alone in any case.

    Args:
        plan: what is done.
        fresh: repeat finished trials.
        workers: trainings side by side.
        unchecked: leave out the doctor's look at the data of trials that are to be done.

    Raises:
        LabError: the plan names what is not there, its data are not sound, or a training failed.
    """
    trials = plan.trials()
    if not trials:
        raise LabError(f"{plan.source}: nothing to do; every job was left out")
    if not unchecked:
        check_data(trials if fresh else pending(plan, trials))
    if fresh:
        forget(plan, trials)
    if workers > 1 and len(pending(plan, trials)) > 1:
        train_together(plan, workers)

    def work(trial: Trial, lock: int) -> None:
        train(plan.folder, trial, lock)
        seconds = trained_seconds(plan.folder, trial)
        append_record(records_path(plan), evaluate_cell(plan.folder, trial, seconds, timing))

    _share(plan, trials, work)
    return write_tables(plan, trials)


def train_only(plan: Plan) -> None:
    """Train all trials that are not trained, without a test."""
    trials = plan.trials()
    for trial in trials:
        with claim(plan.folder / "locks" / f"{trial.name.replace('/', '_')}.lock") as lock:
            if lock is None:
                print(f"[{trial.name}] another process does it", flush=True)
                continue
            train(plan.folder, trial, lock)
        taken = {other.name: trained_seconds(plan.folder, other) for other in trials}
        spent = {other.method: taken[other.name] for other in trials if taken[other.name]}
        left = time_left(plan, [other for other in trials if not taken[other.name]], spent)
        print(f"[{trial.name}] trained in {taken[trial.name]:.0f} s{left}", flush=True)


def train_together(plan: Plan, workers: int) -> None:
    """Train the trials of a plan in several processes side by side, each with its share of the cores.

    One thread a process does more in all than several threads that wait for each other, and small networks do not
    fill the cores. What fails here is trained again, and reported, by who comes next.
    """
    methods, datasets = plan.methods, [job.dataset for job in plan.jobs]
    command = [sys.executable, "-m", "benchmarks", "train", "--config", str(plan.source),
               "--methods", *methods, "--datasets", *dict.fromkeys(datasets)]  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    run_children([command] * workers, threads=max(1, cores // workers))


def evaluate_only(plan: Plan, timing: bool = True) -> str:
    """Test the checkpoints that are there and record them anew; return the comparison.

    Raises:
        LabError: no trial of the plan has a checkpoint.
    """
    trials = plan.trials()
    trained = [trial for trial in trials if last_checkpoint(plan.folder, trial).is_file()]
    if not trained:
        raise LabError(f"{plan.source}: no trial is trained yet; run `python -m benchmarks train` first")
    before = {record.trial: record.seconds for record in read_records(records_path(plan), Result)}
    for trial in trained:
        seconds = trained_seconds(plan.folder, trial) or before.get(trial.name) or 0.0
        append_record(records_path(plan), evaluate_cell(plan.folder, trial, seconds, timing))
    return write_tables(plan, trained)


def write_tables(plan: Plan, trials: list[Trial]) -> str:
    """Print the comparison of finished trials and write it to table.md, table.txt; return it."""
    names = {trial.name for trial in trials}
    parts = []
    records = [record for record in read_records(records_path(plan), Result) if record.trial in names]
    for dataset in dict.fromkeys(trial.dataset for trial in trials):
        rows = [record for record in records if record.dataset == dataset]
        if rows:
            parts += [described(found, subsets=False) for found in compare(rows, plan.folder)]
    text = "\n\n".join(parts)
    for name in ("table.md", "table.txt"):
        (plan.folder / name).write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\nwritten to {plan.folder / 'table.md'}", flush=True)
    return text
