"""`python -m common.data doctor`: what is wrong with a copy of a data set, all of it in one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.data.doctor.examine import SPLITS, Report, check_manifest, examine
from common.data.doctor.tables import crops_table

if TYPE_CHECKING:
    from common.data.datamodule import FaceDataModule

__all__ = ["Report", "diagnose", "examine"]


def diagnose(
    data: FaceDataModule,
    splits: Sequence[str] = SPLITS,
    workers: int | None = None,
    quiet: bool = False,
    manifest: Path | None = None,
) -> Report:
    """Examine the data set of a data module.

    Args:
        data: names the set, its folder and its splits.
        splits: which of train, val and test to look at.
        workers: processes that read pictures; None for one a core.
        quiet: print no progress.
        manifest: file of SHA-256 sums, which is compared where it is there, else written.

    Raises:
        LabError: the root is no folder, or a line of the manifest is wrong.
    """
    report = examine(data.dataset, data.faces, splits, workers, quiet)
    if data.root is None:
        return report
    root = Path(data.root)
    if data.dataset == "crops":
        report.faults += [fault for split in splits for fault in crops_table(root, split)]
    if manifest is not None:
        line, faults = check_manifest(root, manifest)
        report.lines.append(line)
        report.faults += faults
    return report
