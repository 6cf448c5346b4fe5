"""Records: one typed form, one writer, one reader; and locks that die with their holder.

Records are JSON lines that survive a kill and are shared by several processes. `Result` is a tested model or scored
predictions, `Robustness` a figure under a perturbation, `Timing` the speed of a network.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from common.errors import LabError
from common.files.validation import complaint

# Titles of methods in records before 0.2.
FORMER_TITLES = {
    "Adaptive Wing": "AWing",
    "Progressive reinitialisation (GLSR)": "DPR (GLSR)",
    "Selective cascade with patch attention (MuSiCa)": "MuSiCa",
}
LARGEST = 1e15  # no figure of a record is larger
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
Scalar = str | bool | Whole | Number | None
Span = Annotated[tuple[Number, Number], Field(strict=False)]  # not strict: JSON has lists only


def slug(text: object) -> str:
    """Return a text as it may stand in the name of a file, a trial or an anchor."""
    return "".join(letter if letter.isalnum() else "-" for letter in str(text).lower())


def _unknown(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_unknown, value))
    return value is None or (isinstance(value, float) and math.isnan(value))


class _Open(BaseModel):
    """Types are not converted; keys that nothing here reads are kept, since records are written anew at times."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


def _measured(value: float | None) -> float | None:
    return None if _unknown(value) else value


Measured = Annotated[Percent | None, BeforeValidator(_measured)]  # NaN, as older files write it, reads as None


class Speed(_Open):
    """Size and speed of a network; what was not measured is None.

    Attributes:
        parameters, macs: of the network, and multiply-adds of one face.
        ms_per_face_b1, ms_per_face_b8, ms_per_face_b64: milliseconds a face in batches of 1, 8 and 64.
        peak_memory_mb: of a forward pass.
        train_step_ms: of one optimiser step.
        machine: what it was measured on.
    """

    parameters: Measured = None
    macs: Measured = None
    ms_per_face_b1: Measured = None
    ms_per_face_b8: Measured = None
    ms_per_face_b64: Measured = None
    peak_memory_mb: Measured = None
    train_step_ms: Measured = None
    machine: dict[str, Scalar] | None = None

    def ms(self, batch: int) -> float | None:
        """Return the milliseconds a face in batches of 1, 8 or 64."""
        return {1: self.ms_per_face_b1, 8: self.ms_per_face_b8, 64: self.ms_per_face_b64}[batch]


class Record(_Open):
    """What all records say.

    Attributes:
        trial: name of what was measured; a later record of the same trial replaces an earlier one.
        method: key of the method, or the name of foreign predictions.
        title: how tables call it; the method's key where it is not stated.
        commit, device, date, torch: where the figures come from.
    """

    trial: str | None = Field(default=None, validation_alias=AliasChoices("trial", "cell"))  # "cell" before 0.2
    method: str
    title: str = ""
    recipe: str | None = None
    commit: str | None = None
    device: str | None = None
    date: str | None = None
    torch: str | None = None

    @model_validator(mode="after")
    def _titled(self) -> Self:
        title = self.title or self.method
        for former, name in FORMER_TITLES.items():
            title = title.replace(former, name)
        object.__setattr__(self, "title", title)
        return self


class Result(Record):
    """A tested model or scored predictions on one data set.

    Attributes:
        dataset: how tables call the data set.
        seed: of the training; None where nothing was trained.
        protocol: name of the protocol.
        card: the protocol card: all that decides the figures besides the points.
        metrics: name ("nme", "large pose/fr") -> percent; a figure that is NaN is left out.
        intervals: name -> ends of the 95 % interval.
        predictions, pictures: file and folder below the records' folder.
        seconds: of the training.
        official: whether the authors' weights gave it.
    """

    dataset: str
    seed: Whole | None = None
    protocol: str | None = None
    card: dict[str, Scalar] = Field(default_factory=dict)
    metrics: dict[str, Percent]
    intervals: dict[str, Span] = Field(default_factory=dict)
    predictions: str | None = None
    pictures: str | None = None
    seconds: Measured = None
    speed: Speed = Field(default_factory=Speed)
    official: bool = False

    @field_validator("metrics", "intervals", mode="before")
    @classmethod
    def _known(cls, found: object) -> object:
        """Leave out what is NaN (null once written)."""
        return {k: v for k, v in found.items() if not _unknown(v)} if isinstance(found, dict) else found

    @field_validator("card", mode="after")
    @classmethod
    def _card(cls, card: dict[str, Scalar]) -> dict[str, Scalar]:
        for name in ("threshold", "n"):
            value = card.get(name)
            if isinstance(value, bool | str) or (value is not None and not 0 < value < math.inf):
                raise ValueError(f"{name} must be a positive number")
        return card


class Robustness(Record):
    """A figure under one perturbation, a risk-coverage curve, or the jitter of a still face.

    Attributes:
        dataset: how tables call the data set.
        kind: of the perturbation; "..._area" for the mean height of its curve, "risk_coverage", "flicker".
        level, unit: how strong it was.
        nme: percent; a list along `coverage` for a risk-coverage curve.
        fr: percent.
        coverage: shares of faces kept.
        aurc: area under the risk-coverage curve.
        seed: of the training.
        n: faces.
        asked: the `--faces` of the command, None for all.
        weights: when the weights were written, in seconds.
    """

    dataset: str
    kind: str
    level: Number | None = None
    unit: str = ""
    nme: Measured | list[Percent] = None
    fr: Measured = None
    coverage: list[Number] | None = None
    aurc: Measured = None
    seed: Whole | None = None
    n: Annotated[int, Field(gt=0, le=LARGEST)] | None = None
    asked: Whole | None = None
    weights: Whole | None = None

    @model_validator(mode="after")
    def _curve(self) -> Self:
        lists = (self.nme, self.coverage) if self.kind == "risk_coverage" else ()
        if lists and not all(isinstance(values, list) and values for values in lists):
            raise ValueError("nme and coverage of a risk-coverage curve must be lists")
        if lists and len(self.curve[0]) != len(self.curve[1]):
            raise ValueError("nme and coverage must have one length")
        if not lists and isinstance(self.nme, list):
            raise ValueError("nme must be a number")
        return self

    @property
    def curve(self) -> tuple[list[float], list[float]]:
        """Coverage and NME of a risk-coverage curve."""
        return self.coverage or [], self.nme if isinstance(self.nme, list) else []

    @property
    def value(self) -> float | None:
        """The NME of all other kinds."""
        return None if isinstance(self.nme, list) else self.nme


class Timing(Record, Speed):
    """A network with random weights on one device."""

    pixels: Whole | None = None


Kind = TypeVar("Kind", bound=Record)


def numbered_records(path: Path, kind: type[Kind]) -> Iterator[tuple[int, Kind]]:
    """Yield each line's number and record; a line that a kill cut short is no JSON and is passed over.

    Raises:
        LabError: a line is not a record; names file, line and key.
    """
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.is_file() else [], 1):
        if not line.strip():
            continue
        try:
            yield number, kind.model_validate_json(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise LabError(f"{path}:{number}: is not UTF-8 text") from None
        except ValidationError as error:
            if error.errors()[0]["type"] != "json_invalid":
                raise LabError(f"{path}:{number}: is no record: {complaint(error)}") from None


def read_records(path: Path, kind: type[Kind]) -> list[Kind]:
    """Return the records of a file, the last one of each trial.

    Raises:
        LabError: as `numbered_records`.
    """
    found: dict[str | int, Kind] = {}
    for number, record in numbered_records(path, kind):
        found[number if record.trial is None else record.trial] = record
    return list(found.values())


def append_record(path: Path, record: Record) -> None:
    """Add one line and bring it to the disk; a cut line before it is closed first, so that it swallows nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = record.model_dump_json(exclude_none=True).encode()
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def claim(path: Path) -> Iterator[int | None]:
    """Hold a lock file while the body runs; gives its descriptor, or None when another process holds it.

    The kernel lets go of the lock when the last process that has the descriptor ends, however it ends. Child
    processes that are given the descriptor (`pass_fds`) therefore keep the cell claimed when their parent is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
