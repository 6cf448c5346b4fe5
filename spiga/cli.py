"""`python -m spiga.cli fit --config spiga/stage1.yaml`, then stage2, then stage3; then validate, test or predict."""

from __future__ import annotations

from lightning.pytorch.cli import ArgsType

from common.training.cli import LandmarkCLI, run_cli
from spiga.module import SpigaTask


def main(args: ArgsType = None) -> LandmarkCLI:
    """Run a subcommand; `args` stands for the command line in tests."""
    return run_cli(SpigaTask, args)


if __name__ == "__main__":
    main()
