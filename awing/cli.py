"""`python -m awing.cli fit --config awing/wflw.yaml`, then validate, test or predict with `--ckpt_path FILE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from awing.method import METHOD
from common.training.start import start

if TYPE_CHECKING:
    from common.training.cli import LandmarkCLI


def main(args: list[str] | None = None) -> LandmarkCLI:
    """Run a subcommand; `args` replaces the command line in tests."""
    return start(METHOD, args)


if __name__ == "__main__":
    main()
