"""`python -m sdu3d.cli fit --config sdu3d/hg2d3-cab.yaml`, then validate, test or predict with `--ckpt_path FILE`."""

from __future__ import annotations

from lightning.pytorch.cli import ArgsType

from common.training.cli import LandmarkCLI, run_cli
from sdu3d.module import SduTask


def main(args: ArgsType = None) -> LandmarkCLI:
    """Run a subcommand; `args` stands for the command line in tests."""
    return run_cli(SduTask, args)


if __name__ == "__main__":
    main()
