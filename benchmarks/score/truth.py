"""The true points of a data set, as its reader gives them: nobody need write them to a file first."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np

from benchmarks.score.formats import Faces
from common.data.datamodule import FaceDataModule
from common.data.readers import READERS
from common.errors import LabError
from common.types import FaceSample


def _known(sample: FaceSample) -> np.ndarray:
    """Return the points (L, 2) of a face, NaN where one is not annotated."""
    points = sample.points[:, :2].astype(np.float64)
    return points if sample.annotated is None else np.where(sample.annotated[:, None], points, np.nan)


def read_truth(options: Namespace, scheme: str) -> Faces:
    """Return the test faces of --truth-dataset.

    Raises:
        LabError: the data set cannot be read, or is of another scheme.
    """
    if options.truth_dataset not in READERS:
        raise LabError(f"--truth-dataset must be one of {', '.join(READERS)}, got {options.truth_dataset}")
    data = FaceDataModule(options.truth_dataset, options.root, scheme, eval_split=options.eval_split)
    faces = data.cropped("test").faces
    samples = [faces[index] for index in range(len(faces))]
    boxes = np.array([sample.box for sample in samples], dtype=np.float64)
    subsets = {name: np.array([name in sample.subsets for sample in samples]) for name in faces.subset_names}
    return Faces(
        Path(options.truth_dataset),
        [sample.id for sample in samples],
        np.stack([_known(sample) for sample in samples]),
        np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
        np.array([sample.visible for sample in samples], dtype=np.float64),
        {name: rows for name, rows in subsets.items() if rows.any()},
    )
