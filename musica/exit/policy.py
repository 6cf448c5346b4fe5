"""When a face leaves the cascade: thresholds of the predicted error, and their file."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from common.errors import LabError
from common.files.validation import read_json, validated

Choice = dict[str, Any]  # what thresholds rest on, see `musica.choose_exit`
METHOD = "musica"


def _number(value: float) -> float:
    if math.isnan(value):
        raise ValueError("must be a number")
    return value


Threshold = Annotated[float, AfterValidator(_number)]  # infinite: every face leaves, or none is flagged


@dataclass(frozen=True)
class ExitPolicy:
    """When a face leaves the cascade and when it is reported as failed.

    Thresholds are in the unit of the predicted error (the landmark loss), not an NME.

    Attributes:
        exit_below: for each iteration but the last, a face whose predicted error is below it leaves.
        fail_above: a face whose last predicted error is above it is flagged.
        iterations: of the cascade that the thresholds were chosen for.
        scheme: its landmark scheme.
        chosen_on: what the choice rests on (data, faces, NME, multiply-adds), for the reader.
        ranks: of the cascade's hidden layers and attention; 0 for whole ones.
    """

    exit_below: tuple[float, ...]
    fail_above: float
    iterations: int
    scheme: str
    chosen_on: Choice = field(default_factory=dict)
    ranks: tuple[int, int] = (0, 0)

    def write(self, path: Path) -> None:
        """Write the policy as JSON, whole or not at all."""
        text = json.dumps({"method": METHOD, **asdict(self)}, indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, path)


class _File(BaseModel):
    """What a policy's file holds; further keys are for the reader."""

    model_config = ConfigDict(strict=True)

    method: str
    exit_below: list[Threshold]
    fail_above: Threshold
    iterations: int
    scheme: str
    chosen_on: Choice = {}
    ranks: tuple[int, int] = Field(default=(0, 0), strict=False)  # not strict: JSON has lists only


def read_policy(path: Path | str, iterations: int, scheme: str, ranks: tuple[int, int] = (0, 0)) -> ExitPolicy:
    """Return a policy that fits a cascade.

    Raises:
        LabError: the file is missing or no policy, or was made for another cascade.
    """
    path = Path(path)
    hint = "make it with `python -m musica.choose_exit`"
    content = validated(_File, read_json(path, hint), str(path), hint)
    if content.method != METHOD:
        raise LabError(f"{path}: is a policy of method {content.method}, not of {METHOD}")
    policy = ExitPolicy(tuple(content.exit_below), content.fail_above, content.iterations, content.scheme,
                        content.chosen_on, content.ranks)  # fmt: skip
    if policy.iterations != iterations or len(policy.exit_below) != iterations - 1 or policy.scheme != scheme:
        raise LabError(
            f"{path}: was made for {policy.iterations} iterations and scheme {policy.scheme}, but the cascade has "
            f"{iterations} and {scheme}; make one for it with `python -m musica.choose_exit`"
        )
    if policy.ranks != ranks:
        raise LabError(
            f"{path}: was made for a cascade with ranks {policy.ranks} of hidden layers and attention (0: whole), but "
            f"this one has {ranks}; make one for it with `python -m musica.choose_exit`"
        )
    return policy
