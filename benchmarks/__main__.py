"""`python -m benchmarks COMMAND`: comparisons whose figures go into the documents."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from common.errors import USER_ERROR, LabError

# Commands that bring their own options: name -> (module, what it does).
MODULES = {
    "score": ("benchmarks.score.score", "score anyone's predictions under any protocol"),
    "import": ("benchmarks.run.import_run", "take a run that was trained apart as a trial of a plan"),
    "cross": ("benchmarks.score.cross_dataset", "score a trained model on a data set that it was not trained on"),
    "speed": ("benchmarks.measure.speed", "parameters, multiply-adds, time and memory of the networks"),
    "paths": ("benchmarks.measure.paths", "the default path of a method on a CPU beside its network"),
    "robustness": ("benchmarks.measure.robustness", "wrong boxes, bad pictures, confidence and flicker"),
    "confidence": ("benchmarks.measure.confidence", "errors from a detector's boxes; fit what a method's scores mean"),
    "report": (
        "benchmarks.report.build",
        "write tables and report.html from the records; --documents: BENCHMARKS.md and README too",
    ),
    "lint": ("benchmarks.published.lint", "check a table of published figures against arithmetic"),
    "helen": ("benchmarks.studies.helen", "score a run on the 330 HELEN test faces beside the references"),
}
FORMER = {"adopt": "import"}  # names of commands before 0.2
# Commands on a plan: train, test, time.
PLANS = {
    "run": "train, evaluate and compare the trials of a plan that have no record",
    "train": "train the trials of a plan",
    "evaluate": "test the trained trials of a plan again",
}


def positive(text: str) -> int:
    """Return a whole number from 1 on; an argument's type."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def parser(command_name: str = "") -> argparse.ArgumentParser:
    """Return the command line's parser; a command's own module is imported only where it is the one that is run."""
    result = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = result.add_subparsers(dest="command", required=True)
    for name, text in PLANS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", type=Path, default=Path("benchmarks/smoke.yaml"), help="the plan")
        command.add_argument("--methods", nargs="+", help="of the plan; default all")
        command.add_argument("--datasets", nargs="+", help="of the plan; default all")
        if name != "train":
            command.add_argument("--no-timing", action="store_true",
                                 help="measure no milliseconds: for a machine that does other work")  # fmt: skip
        if name == "run":
            command.add_argument("--fresh", action="store_true", help="repeat finished trials")
            command.add_argument("--workers", type=positive, default=1, help="trainings side by side; default 1")
            command.add_argument("--unchecked", action="store_true", help="leave out the doctor's look at the data")
    for name, (module, text) in MODULES.items():
        command = commands.add_parser(name, help=text)
        if name == command_name:
            importlib.import_module(module).add_arguments(command)
    return result


def run(options: argparse.Namespace) -> None:
    """Do what the command line says.

    Raises:
        LabError: a user's mistake.
    """
    if options.command in MODULES:
        importlib.import_module(MODULES[options.command][0]).main(options)
        return
    from benchmarks.run import plan, runner

    chosen = plan.restrict(plan.read_plan(options.config), options.methods, options.datasets)
    if options.command == "train":
        runner.train_only(chosen)
    elif options.command == "evaluate":
        runner.evaluate_only(chosen, not options.no_timing)
    else:
        runner.run(chosen, options.fresh, options.workers, options.unchecked, not options.no_timing)


def main(args: list[str] | None = None) -> None:
    """Run a command; a user's mistake is printed as one line, exit code 2."""
    try:
        words = sys.argv[1:] if args is None else list(args)
        words[:1] = [FORMER.get(word, word) for word in words[:1]]
        run(parser(words[0] if words else "").parse_args(words))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None


if __name__ == "__main__":
    main()
