"""Groups of the data module's options, and where former names of its options are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.errors import SEEDS, LabError, check_ranges

MOST_OFTEN = 100  # times that a face is seen in an epoch
APART = 1_000_000  # faces between the splits of a synthetic set, which never share one
# Former name of an option of `data` -> its present place.
MOVED = {
    "train_count": "synthetic.train_count",
    "val_count": "synthetic.val_count",
    "test_count": "synthetic.test_count",
    "synthetic_seed": "synthetic.seed",
    "store": "synthetic.store",
    "crop.box": "box",
}


@dataclass(frozen=True)
class SyntheticConfig:
    """The faces that this project draws.

    Attributes:
        train_count: training faces.
        val_count: validation faces.
        test_count: test faces.
        seed: of the set.
        store: folder in which they are kept once drawn, for later epochs and runs; None draws them anew each time.
    """

    train_count: int = 2000
    val_count: int = 200
    test_count: int = 200
    seed: int = 0
    store: str | None = None

    def __post_init__(self) -> None:
        count = f"[1, {APART}]"
        check_ranges("data.synthetic", self, train_count=count, val_count=count, test_count=count, seed=SEEDS)


@dataclass(frozen=True)
class Source:
    """A data set whose training faces are mixed in.

    Attributes:
        dataset: as --data.dataset takes it.
        root: its folder.
        weight: how often each face is seen in an epoch: 2 is twice, 0.5 every second epoch.
        scheme: its landmark scheme, from which a map to --data.scheme is known; None where it has that one.
        points: names of the points of --data.scheme that are trained, and of curves for all their points; empty: all.
        norm: as --data.norm.
        train_split: as --data.train_split.
    """

    dataset: str
    root: str | None = None
    weight: float = 1.0
    scheme: str | None = None
    points: list[str] = field(default_factory=list)
    norm: str = "corners"
    train_split: str | None = None


@dataclass(frozen=True)
class MixConfig:
    """What the data set gives, and what else training sees.

    Attributes:
        scheme: the data set's landmark scheme in all splits, from which a map to --data.scheme is known; None where it
            has that one.
        points: names of its points that are trained, as of a source; validation and test look at all.
        weight: how often each of its training faces is seen in an epoch.
        sources: further data sets, for training alone.
    """

    scheme: str | None = None
    points: list[str] = field(default_factory=list)
    weight: float = 1.0
    sources: list[Source] = field(default_factory=list)

    def __post_init__(self) -> None:
        for weight in (self.weight, *(source.weight for source in self.sources)):
            if not 0 < weight <= MOST_OFTEN:
                raise LabError(f"--data.mix: weight must be above 0 and at most {MOST_OFTEN}, got {weight}")


def upgrade(content: Mapping[str, object]) -> dict[str, Any]:
    """Return the options of `data` of a configuration file, with those that have moved in their present place.

    A present name wins over a former one. What is no option at all is left for the parser to refuse.
    """
    found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    for former, place in MOVED.items():
        group, _, name = former.rpartition(".")
        inside = found.get(group) if group else found
        if not isinstance(inside, dict) or name not in inside:
            continue
        value = inside.pop(name)
        group, _, name = place.rpartition(".")
        target = found.setdefault(group, {}) if group else found
        if isinstance(target, dict):
            target.setdefault(name, value)
    return found
