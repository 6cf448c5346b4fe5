"""Checks of prepared crops that need their table: pictures that no row names, and two frames that must agree."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from common.data.doctor.checks import SHIFTED, Fault
from common.errors import LabError
from common.files.arrays import DAMAGED, NUMBERS, read_arrays


def crops_table(root: Path, split: str) -> list[Fault]:
    """Return what is wrong between `SPLIT.npz` and `SPLIT.zip`; nothing where the reader refuses them anyway."""
    table, archive = root / f"{split}.npz", root / f"{split}.zip"
    try:
        arrays = read_arrays(table)
        with zipfile.ZipFile(archive) as members:
            images = [info.filename for info in members.infolist() if not info.is_dir()]
    except (LabError, OSError, *DAMAGED):
        return []
    faults = []
    unnamed = sorted(set(images) - set(map(str, arrays.get("filename", ()))))
    if unnamed:
        text = f"{archive}: {len(unnamed)} pictures are in no row of {table.name}, first {unnamed[0]}"
        faults.append(Fault("counts", f"{text}; was the first row of a list lost as a header?"))
    keys = ("landmarks_crop", "landmarks_image", "crop_x0_y0_side")
    if all(key in arrays for key in keys) and "crop_size" in arrays:
        wrong = [key for key in (*keys, "crop_size") if arrays[key].dtype.kind not in NUMBERS]
        inside, outside, square = (arrays[key] for key in keys)
        if wrong or outside.shape != inside.shape or square.shape != (len(inside), 3) or arrays["crop_size"].size != 1:
            return [*faults, Fault("index base", f"{table}: {', '.join(keys)} and crop_size do not fit one another")]
        scale = arrays["crop_size"].item() / square[:, None, 2:].astype(np.float64)
        gap = inside - ((outside - square[:, None, :2] + 0.5) * scale - 0.5)
        apart = np.median(gap / scale, axis=(0, 1))
        if np.abs(apart).max() > SHIFTED:
            text = f"{table}: landmarks_crop and landmarks_image differ by {apart[0]:+.2f}, {apart[1]:+.2f} pixels"
            faults.append(Fault("index base", f"{text} of the photograph: coordinates counted from 0 and 1 were mixed"))
    return faults
