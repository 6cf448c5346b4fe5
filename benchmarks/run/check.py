"""A look at the data before a benchmark: no figure comes from a copy in which the doctor finds a fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.run.plan import Trial
from benchmarks.run.trial import embedded_data, last_checkpoint, recipe_file, settings
from common.data.datamodule import FaceDataModule
from common.data.doctor import diagnose
from common.errors import LabError
from common.evaluation import load_data


def data_sets(trials: Sequence[Trial]) -> list[FaceDataModule]:
    """Return the data of trials, each set, folder and choice of splits once; drawn faces need no look."""
    found: dict[tuple[object, ...], FaceDataModule] = {}
    for trial in trials:
        if trial.embedded:
            data = embedded_data(last_checkpoint(Path(), trial), trial)
        else:
            data = load_data(recipe_file(trial), **settings(trial.args).get("data", {}))
        if data.root is not None:
            found.setdefault((data.dataset, data.root, data.scheme, data.train_split, data.eval_split), data)
    return list(found.values())


def check_data(trials: Sequence[Trial]) -> None:
    """Let the doctor look at the data of trials.

    Raises:
        LabError: it finds a fault; says which, and how all of them are listed.
    """
    for data in data_sets(trials):
        report = diagnose(data)
        faults = [fault for fault in report.faults if fault.fatal]
        if faults:
            kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(fault.kind for fault in faults).items())
            raise LabError(
                f"{data.root}: data set {data.dataset} is not sound: {kinds}, such as: {faults[0].text}; list all by "
                f"python -m common.data doctor {data.dataset} --root {data.root}, mend the copy, or give --unchecked"
            )
