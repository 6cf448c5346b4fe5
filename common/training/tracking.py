"""Weights & Biases: online where wandb knows a key and its server answers, else offline; never asks."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import WandbLogger

if TYPE_CHECKING:
    import wandb

PROJECT = "face-alignment-lab"
PATIENCE = 5.0  # seconds that the server has to answer at all
START = 20  # seconds that wandb has to start a run
OFFLINE = ("offline", "dryrun")


def has_key() -> bool:
    """Return whether wandb finds a key for its server: in the environment, its settings or a netrc file."""
    import wandb

    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.errors.Error:  # a key that is none; the run says why it is offline
        return False


def answers(address: str, seconds: float = PATIENCE) -> bool:
    """Return whether a server answers at all, be it with an error."""
    try:
        with urllib.request.urlopen(address, timeout=seconds):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def chosen_mode() -> tuple[str, str]:
    """Return wandb's mode for this run, and why it is offline where the user did not say so."""
    os.environ.setdefault("WANDB_SILENT", "true")  # the one line below says all; read at the first call
    import wandb

    asked = os.environ.get("WANDB_MODE")
    if asked and asked != "online":
        return asked, ""
    if not has_key():
        return "offline", "not logged in"
    address = str(wandb.setup().settings.base_url)
    if not answers(address):
        return "offline", f"{address} does not answer"
    return "online", ""


def trial_folder(folder: Path) -> Path:
    """Return the run's folder; of a trial that an agent of a W&B sweep started, the one named by its id therein."""
    sweep, trial = (os.environ.get(f"WANDB_{name}_ID") for name in ("SWEEP", "RUN"))
    return folder / trial if sweep and trial else folder


def id_file(folder: Path) -> Path:
    """Return where a run's folder keeps the id of its W&B run."""
    return folder / "wandb" / "training-id"


def training_id(folder: Path) -> str | None:
    """Return the id of the W&B run of the training in a folder."""
    path = id_file(folder)
    return path.read_text(encoding="utf-8").strip() or None if path.is_file() else None


def open_run(
    folder: Path, method: str, job: str, config: Mapping[str, object] | None = None, resume: bool = False
) -> wandb.Run:
    """Start a W&B run, and say in one line where it is.

    Args:
        folder: of the run; W&B's files go to its `wandb`.
        method: group of the run.
        job: fit, test or report.
        config: what is shown as the run's configuration.
        resume: go on with the run of the training in the folder.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    former = training_id(folder) if resume else None
    begin = partial(
        wandb.init,
        project=os.environ.get("WANDB_PROJECT") or PROJECT,
        name=os.environ.get("WANDB_NAME") or "-".join(folder.parts[-3:]),
        group=os.environ.get("WANDB_RUN_GROUP") or method,
        job_type=job,
        dir=str(folder),
        config=dict(config or {}),
        id=former,
        settings=wandb.Settings(silent=True, init_timeout=START),
    )
    if wandb.run is not None:  # of the stage before
        wandb.run.finish()
    mode, reason = chosen_mode()
    try:
        run = begin(mode=mode, resume="allow" if former else None)  # type: ignore[arg-type]
    except Exception as error:  # the network's failures have no common class
        reason = f"its server refuses the run ({' '.join(str(error).split())[:80]})"
        run = begin(mode="offline")
    if job == "fit" and run.id:
        id_file(folder).parent.mkdir(parents=True, exist_ok=True)
        id_file(folder).write_text(f"{run.id}\n", encoding="utf-8")
    print(line_of(run, reason, bool(former)), file=sys.stderr)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    run.define_metric("val/nme", summary="min", step_metric="trainer/global_step", step_sync=True)
    return run


def line_of(run: wandb.Run, reason: str, again: bool) -> str:
    """Return the line that says where a run is tracked."""
    if not run.settings.mode or run.settings.mode == "disabled":
        return "W&B: off, as WANDB_MODE says"
    if run.settings.mode not in OFFLINE:
        return f"W&B: online, {run.url}"
    place = Path(run.dir).parent
    why = f" ({reason})" if reason else ""
    return f"W&B: offline{why}, in {place}; upload it with: wandb sync {'--append ' if again else ''}{place}"


def wandb_logger(
    folder: Path, method: str, job: str, upload: bool = False, config: Mapping[str, object] | None = None,
    resume: bool = False,
) -> WandbLogger:  # fmt: skip
    """Return a logger of a new W&B run, see `open_run`; with `upload` checkpoints become its artifacts."""
    return WandbLogger(experiment=open_run(folder, method, job, config, resume), log_model=upload)


def close(loggers: Sequence[object], summary: Mapping[str, object]) -> None:
    """Write the results to the summary of W&B runs and end them."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(dict(summary))
            logger.experiment.finish()
