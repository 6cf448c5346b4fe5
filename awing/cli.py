"""`python -m awing.cli fit --config awing/wflw.yaml`, then validate, test or predict with `--ckpt_path FILE`."""

from __future__ import annotations

from lightning.pytorch.cli import ArgsType

from awing.module import AWingTask
from common.training.cli import LandmarkCLI, run_cli


def main(args: ArgsType = None) -> LandmarkCLI:
    """Run a subcommand; `args` stands for the command line in tests."""
    return run_cli(AWingTask, args)


if __name__ == "__main__":
    main()
