"""`python -m benchmarks run | helen | report`: comparisons whose figures go into the documents."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.errors import LabError


def main(args: list[str] | None = None) -> None:
    """Run a subcommand; a user's mistake is printed as one line, exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and compare the registered methods")
    run.add_argument("--config", type=Path, default=Path("benchmarks/smoke.yaml"))
    run.add_argument("--fresh", action="store_true", help="repeat finished cells")
    helen = commands.add_parser("helen", help="score a run's test predictions on the 330 HELEN test faces")
    helen.add_argument("--predictions", type=Path, required=True, help="test_predictions.npz of a run")
    helen.add_argument("--shared", type=Path, default=Path("../shared"), help="folder of the reference data")
    helen.add_argument("--synthetic", type=Path, help="test_predictions.npz of a run trained on synthetic faces only")
    commands.add_parser("report", help="write BENCHMARKS.md from the records")
    options = parser.parse_args(args)
    try:
        if options.command == "run":
            from benchmarks.runner import run as run_benchmark

            run_benchmark(options.config, options.fresh)
        elif options.command == "report":
            from benchmarks.report import write

            write()
        else:
            from benchmarks.helen import report

            report(options.predictions, options.shared, options.synthetic)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
