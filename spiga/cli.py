"""`python -m spiga.cli fit --config spiga/stage1.yaml`, then stage2, then stage3; then validate, test or predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.training.start import start
from spiga.method import METHOD

if TYPE_CHECKING:
    from common.training.cli import LandmarkCLI


def main(args: list[str] | None = None) -> LandmarkCLI:
    """Run a subcommand; `args` replaces the command line in tests."""
    return start(METHOD, args)


if __name__ == "__main__":
    main()
