"""What a benchmark does: which methods with which recipes on which data, for which seeds. Read from YAML.

folder: runs/benchmark      # records, runs and tables
methods: all                # or a list of names of methods
jobs:
  - dataset: synthetic      # how tables call it
    recipe: smoke           # key in the method's recipes; embedded: nothing is trained, the weights that come with it
    seeds: [0]
    root: null              # folder of the data set, passed as --data.root
    optional: false         # true: leave the job out, with a word, when the folder is missing
    args: []                # further arguments of every training and test
    methods: null           # those of the plan's methods that it is for; null: all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from common.errors import LabError
from common.files.validation import Strict, read_yaml_as
from common.methods import METHODS

EMBEDDED = "embedded"  # recipe of a job that tests the weights that come with the methods


class Job(Strict):
    """One data set with one recipe name, for every method and seed of the plan."""

    dataset: str
    recipe: str
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = [0]
    root: str | None = None
    optional: bool = False
    args: list[str] = []
    methods: list[str] | None = None


@dataclass(frozen=True)
class Trial:
    """One training with its test: the unit that is done once and recorded in one line."""

    method: str
    dataset: str
    recipe: str
    seed: int
    stages: tuple[str, ...]
    args: tuple[str, ...] = ()

    @property
    def embedded(self) -> bool:
        """Whether the weights that come with the method are tested, without a training."""
        return self.recipe == EMBEDDED

    @property
    def name(self) -> str:
        """Key of its record, and folder of its run below the plan's folder."""
        return f"{self.method}/{self.dataset}/{self.recipe}/{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A benchmark.

    Attributes:
        folder: where everything is written.
        methods: names of installed methods.
        jobs: data sets and recipes.
        source: the file it was read from.
    """

    folder: Path
    methods: tuple[str, ...]
    jobs: tuple[Job, ...]
    source: Path = field(default=Path())

    def trials(self) -> list[Trial]:
        """Return all trials, in the order in which they are done.

        A method without the recipe of an optional job is left out, with a word on the screen.

        Raises:
            LabError: a method lacks the recipe, or the folder of a job that is not optional is missing.
        """
        trials = []
        for job in self.jobs:
            if job.root is not None and not Path(job.root).is_dir():
                if not job.optional:
                    raise LabError(f"{self.source}: {job.root}: no such folder (root of job {job.dataset})")
                print(f"[{job.dataset}] left out: {job.root}: no such folder", flush=True)
                continue
            root = () if job.root is None else ("--data.root", job.root)
            for name in (name for name in self.methods if job.methods is None or name in job.methods):
                if (stages := self._stages(job, name)) is not None:
                    trials += [Trial(name, job.dataset, job.recipe, seed, stages, (*root, *job.args))
                               for seed in job.seeds]  # fmt: skip
        return trials

    def _stages(self, job: Job, name: str) -> tuple[str, ...] | None:
        """Return the recipes of a method's stages, none for embedded weights; None where the job leaves it out."""
        if job.recipe == EMBEDDED:
            if METHODS[name].weights():
                return ()
            print(f"[{job.dataset}] {name} left out: no weights come with it", flush=True)
            return None
        if job.recipe in METHODS[name].recipes:
            return METHODS[name].stages(job.recipe)
        if not job.optional:
            known = ", ".join(METHODS[name].recipes)
            raise LabError(f"{self.source}: method {name} has no recipe {job.recipe}; it has {known}")
        print(f"[{job.dataset}] {name} left out: it has no recipe {job.recipe}", flush=True)
        return None


class _File(Strict):
    """What a plan's file holds."""

    folder: str
    methods: Literal["all"] | list[str]
    jobs: Annotated[list[Job], Field(min_length=1)]


def read_plan(path: Path) -> Plan:
    """Return the plan in a YAML file.

    Raises:
        LabError: the file is missing or no YAML, a key is unknown, missing or of another type, a method is not known.
    """
    content = read_yaml_as(_File, path)
    methods = list(METHODS) if content.methods == "all" else content.methods
    named = [*methods, *(name for job in content.jobs for name in job.methods or ())]
    unknown = [name for name in named if name not in METHODS]
    if unknown:
        raise LabError(f"{path}: no method {unknown[0]}; known: {', '.join(METHODS)}")
    for job in content.jobs:
        # A misspelt recipe would leave the job out, method by method.
        if job.recipe != EMBEDDED and not any(job.recipe in METHODS[name].recipes for name in job.methods or METHODS):
            raise LabError(f"{path}: job {job.dataset}: no method has a recipe {job.recipe}")
    return Plan(Path(content.folder), tuple(methods), tuple(content.jobs), path)


def restrict(plan: Plan, methods: Sequence[str] | None, datasets: Sequence[str] | None) -> Plan:
    """Return the plan with the named methods and data sets only; None for all.

    Raises:
        LabError: a name that the plan does not have.
    """
    have = {"method": plan.methods, "data set": tuple(job.dataset for job in plan.jobs)}
    for kind, wanted in (("method", methods), ("data set", datasets)):
        for name in wanted or ():
            if name not in have[kind]:
                raise LabError(f"{plan.source}: has no {kind} {name}; it has {', '.join(have[kind])}")
    return Plan(
        plan.folder,
        tuple(name for name in plan.methods if not methods or name in methods),
        tuple(job for job in plan.jobs if not datasets or job.dataset in datasets),
        plan.source,
    )
