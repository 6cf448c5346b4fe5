"""`python -m dpr.cli fit --config dpr/gsr.yaml`, then validate, test or predict with `--ckpt_path FILE`."""

from __future__ import annotations

from lightning.pytorch.cli import ArgsType

from common.training.cli import LandmarkCLI, run_cli
from dpr.module import DprTask


def main(args: ArgsType = None) -> LandmarkCLI:
    """Run a subcommand; `args` stands for the command line in tests."""
    return run_cli(DprTask, args)


if __name__ == "__main__":
    main()
