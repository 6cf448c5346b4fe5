"""`python -m musica.cli fit --config musica/wflw.yaml`, then validate, test or predict with `--ckpt_path FILE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.training.start import start
from musica.method import METHOD

if TYPE_CHECKING:
    from common.training.cli import LandmarkCLI


def main(args: list[str] | None = None) -> LandmarkCLI:
    """Run a subcommand; `args` replaces the command line in tests."""
    return start(METHOD, args)


if __name__ == "__main__":
    main()
