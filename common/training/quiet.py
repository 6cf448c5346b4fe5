"""What the libraries say at every start and nobody can act on is not shown; what went wrong still is."""

from __future__ import annotations

import logging
import warnings

# Said by a library of itself, of hardware that is not there, or of what is meant here.
NOISE = (
    r".*LightningCLI's args parameter.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*does not have many workers.*",
    r".*isinstance.treespec, LeafSpec.*",
    r".*`torch.jit.script` is deprecated.*",
    r".*NumPy array is not writable.*",
    r".*module\(s\) in eval mode.*",
    r".*could not find the monitored key in the returned metrics.*",
    r".*GPU available but not used.*",
    r".*smaller than the logging interval.*",
    r".*your dataloader is not resumable.*",  # ours is: common/data/position.py and sampler.py
    r"[\s\S]*(was|parameter was) deprecated in v4\.",  # jsonargparse, of what lightning calls
    r"[\s\S]*JsonargparseDeprecationWarning",
)
RANK_ZERO = "utilities.rank_zero"
LOGGERS = ("lightning.fabric.utilities.seed", f"lightning.pytorch.{RANK_ZERO}", f"lightning.fabric.{RANK_ZERO}")


def quiet() -> None:
    """Hide the noise of the libraries in this process."""
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
