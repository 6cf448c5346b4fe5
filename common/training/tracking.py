"""The W&B logger: offline unless the user is logged in; never asks, never fails a run."""

from __future__ import annotations

import netrc
import os
import sys
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger


def _logged_in() -> bool:
    """Return whether the user has given W&B a key, by its variable or by the netrc file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)


def wandb_logger(folder: Path, method: str, job: str) -> WandbLogger:
    """Return a W&B logger that never asks and never fails the run: offline unless the user is logged in."""
    os.environ.setdefault("WANDB_SILENT", "true")
    # Decided before wandb is imported, which reads its environment once.
    os.environ.setdefault("WANDB_MODE", "online" if _logged_in() else "offline")
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join(folder.parts[-3:])
    settings = wandb.Settings(init_timeout=30)
    offline = os.environ["WANDB_MODE"] == "offline"
    logger = WandbLogger(project="face-alignment-lab", name=name, group=method, job_type=job, save_dir=str(folder),
                         offline=offline, settings=settings)  # fmt: skip
    try:
        logger.experiment  # noqa: B018 - starts the run, so that a failure shows here
    except Exception as error:  # the network's failures have no common class
        print(f"W&B cannot be reached ({type(error).__name__}); this run is tracked offline", file=sys.stderr)
        os.environ["WANDB_MODE"] = "offline"
        logger = WandbLogger(project="face-alignment-lab", name=name, group=method, job_type=job,
                             save_dir=str(folder), offline=True)  # fmt: skip
    return logger
