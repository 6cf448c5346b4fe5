"""The curves of a run in one CSV file, which a resumed run goes on with."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from pathlib import Path

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from common.files.whole import write_whole


class CurveFile(Logger):
    """Writes what is logged to a CSV file, whole at every time; one that cannot be written does not end the run.

    Lightning's own begins a new file at every start, and adds columns by writing the file in place.

    Args:
        path: the file.
        steps: optimiser steps that the resumed checkpoint holds; rows of later steps are made again. 0 begins anew.
    """

    def __init__(self, path: Path, steps: int = 0) -> None:
        super().__init__()
        self.path = path
        self._rows: list[dict[str, object]] = []
        self._told = self._changed = False
        if steps and path.is_file():
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    self._rows = [row for row in csv.DictReader(file, strict=True) if int(row["step"]) < steps]
            except (OSError, ValueError, KeyError, TypeError, csv.Error):
                aside = path.with_suffix(".damaged")
                with contextlib.suppress(OSError):
                    path.replace(aside)
                print(
                    f"{path}: the curve is damaged; it is kept as {aside.name}, and a new one begins", file=sys.stderr
                )

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def version(self) -> str:
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """Do nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._rows.append({**metrics, "step": step or 0})
        self._changed = True

    @rank_zero_only
    def save(self) -> None:
        if not self._changed:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, sorted({key for row in self._rows for key in row}), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        try:
            write_whole(self.path, text.getvalue().encode())
            self._changed = False
        except OSError as error:
            if not self._told:
                print(f"{self.path}: the curve cannot be written ({error.strerror}); training goes on", file=sys.stderr)
            self._told = True

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
