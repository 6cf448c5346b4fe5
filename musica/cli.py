"""`python -m musica.cli fit --config musica/wflw.yaml`, then validate, test or predict with `--ckpt_path FILE`."""

from __future__ import annotations

from lightning.pytorch.cli import ArgsType

from common.training.cli import LandmarkCLI, run_cli
from musica.module import MusicaTask


def main(args: ArgsType = None) -> LandmarkCLI:
    """Run a subcommand; `args` stands for the command line in tests."""
    return run_cli(MusicaTask, args)


if __name__ == "__main__":
    main()
