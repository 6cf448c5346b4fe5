"""`python -m benchmarks import`: runs that were trained apart become trials of a plan, by links; nothing is copied.

    python -m benchmarks import awing runs/awing/helen --config benchmarks/faces.yaml
    python -m benchmarks import spiga RUN1 RUN2 RUN3 --config benchmarks/faces.yaml        one folder a stage
    python -m benchmarks evaluate --config benchmarks/faces.yaml --methods awing spiga      tests and records them

The run must have been trained by the plan's recipe: the test builds the network from it and takes the run's last
checkpoint, whose epoch the protocol card states where training had stopped early.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.run.plan import Plan, Trial, read_plan, restrict
from benchmarks.run.trial import stage_folder
from common.errors import LabError

LAST = Path("checkpoints") / "last.ckpt"


def choose(plan: Plan, method: str, dataset: str | None, seed: int) -> Trial:
    """Return the one trial of a plan that is meant.

    Raises:
        LabError: the plan has none, or several.
    """
    trials = [
        trial for trial in restrict(plan, [method], [dataset] if dataset else None).trials() if trial.seed == seed
    ]
    if len(trials) != 1:
        names = ", ".join(trial.name for trial in trials) or "none"
        raise LabError(f"{plan.source}: --dataset and --seed must name one trial of {method}; they name {names}")
    return trials[0]


def import_runs(folder: Path, trial: Trial, runs: list[Path]) -> list[Path]:
    """Link each stage of a trial to a run; return the links.

    Raises:
        LabError: the number of runs is not that of the stages, a run has no last checkpoint, or the trial has a run.
    """
    if len(runs) != len(trial.stages):
        raise LabError(
            f"{trial.name}: has {len(trial.stages)} stage(s) ({', '.join(trial.stages)}), got {len(runs)} runs"
        )
    links = [stage_folder(folder, trial, stage) for stage in range(len(runs))]
    for run, link in zip(runs, links, strict=True):
        if not (run / LAST).is_file():
            raise LabError(f"{run / LAST}: checkpoint is missing; a run's folder is wanted")
        if not link.is_symlink() and (link / LAST).is_file():
            raise LabError(f"{link}: the trial was trained here; train it anew with --fresh, or take another folder")
    for run, link in zip(runs, links, strict=True):
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        elif link.is_dir():
            link.rename(link.with_name(f"{link.name}.before"))
        link.symlink_to(run.resolve(), target_is_directory=True)
    return links


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("method", help="name of an installed method")
    parser.add_argument("runs", nargs="+", type=Path, help="folder of the run, or one for each stage of the recipe")
    parser.add_argument("--config", type=Path, default=Path("benchmarks/faces.yaml"), help="the plan")
    parser.add_argument("--dataset", help="of the plan, where it has several")
    parser.add_argument("--seed", type=int, default=0)


def main(options: argparse.Namespace) -> None:
    """Link a run into a plan's folder.

    Raises:
        LabError: the plan has no such trial, or the runs do not fit.
    """
    plan = read_plan(options.config)
    trial = choose(plan, options.method, options.dataset, options.seed)
    for link in import_runs(plan.folder, trial, options.runs):
        print(f"{link} -> {link.resolve()}")
    print(f"`python -m benchmarks evaluate --config {options.config} --methods {trial.method}` tests and records it")
