"""Weights of a former stage: recipes name them by `runs/METHOD/DATA/STAGE`; they follow the run's data and folder."""

from __future__ import annotations

from pathlib import Path

HOME = "runs"


def follow(source: str, folder: Path, written_for: str | None, dataset: str, moved: bool) -> str:
    """Return where a recipe's former weights lie for this run.

    Args:
        source: path in the recipe; only runs/METHOD/DATA/STAGE/checkpoints/FILE is followed.
        folder: of this run.
        written_for: data set of the recipe; a source of other data (synthetic faces, say) stays.
        dataset: of this run.
        moved: whether the user chose the run's folder; stages then lie side by side.
    """
    parts = Path(source).parts
    if len(parts) != 6 or parts[0] != HOME or parts[4] != "checkpoints":
        return source
    home, method, data, stage, *file = parts
    beside = folder.parent.joinpath(stage, *file)
    if moved and data == written_for and beside.is_file():
        return str(beside)
    return str(Path(home, method, dataset if data == written_for else data, stage, *file))


def found_elsewhere(source: str) -> list[Path]:
    """Return weights of the same stage that were trained on other data."""
    parts = Path(source).parts
    if len(parts) != 6 or parts[0] != HOME:
        return []
    return sorted(Path(HOME).glob(f"{parts[1]}/*/{parts[3]}/{parts[4]}/{parts[5]}"))


def lacking(source: str, package: Path, typed: str) -> str:
    """Return what to say of weights to start from that are missing.

    Args:
        source: where they should be.
        package: folder of the method, in which recipes are called as their runs.
        typed: options of data that were typed, for the command that makes the weights.
    """
    others, stage = found_elsewhere(source), Path(source).parent.parent.name
    more = "check the path, or train it first"
    if others:
        more = f"{others[0]} is there, of other data: give it by --init_from"
    elif (package / f"{stage}.yaml").is_file():
        more = f"run this first: python -m {package.name}.cli fit --config {package.name}/{stage}.yaml{typed}"
    return f"{source}: weights to start from are missing; {more}"
