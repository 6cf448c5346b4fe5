"""Faces listed in a JSON file: `SPLIT.json` beside `db_info.json` and the photographs.

`SPLIT.json` is a list of samples: "imgpath" below the folder, "bbox" x, y, width, height, "ids" and "landmarks" of the
annotated points, "visible" 1 or 0 for each, and perhaps "headpose", whose first three numbers are yaw, pitch and roll.
`db_info.json` says in which order the points come ("ldm_ids"), and which rows belong to a subset ("test_subsets").
Coordinates are 0-based image pixels.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from common.data.base import FaceDataset, check_box, check_points, check_root
from common.errors import LabError
from common.geometry import tight_box
from common.images import read_image
from common.schemes import get_scheme
from common.types import FaceSample

NORMS = ("corners", "box")
FIELDS = ("imgpath", "bbox", "ids", "landmarks", "visible")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise LabError(f"{path}: missing; a split is SPLIT.json beside db_info.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise LabError(f"{path}{line}: is not valid JSON") from None


class JsonFaces(FaceDataset):
    """Faces of a JSON list. Points that a sample does not name lie at 0 and count for nothing.

    Args:
        root: folder of the two files and the photographs.
        split: name of the list, such as train or test.
        scheme: landmark scheme; `ldm_ids` are its points in order.
        norm: what errors are divided by: corners (distance of the outer eye corners; both must be annotated) or box
            (root of the area of the annotated points' tight box).

    Raises:
        LabError: a file is missing or damaged, or a sample is wrong (told with its number).
    """

    def __init__(self, root: str, split: str, scheme: str = "ibug68", norm: str = "corners") -> None:
        self.root, self.scheme, self.norm = check_root(root, "json"), get_scheme(scheme), norm
        if norm not in NORMS:
            raise LabError(f"--data.norm must be one of {', '.join(NORMS)}, got {norm}")
        self.name, path = f"{self.root.name}/{split}", self.root / f"{split}.json"
        about, samples = _read(self.root / "db_info.json"), _read(path)
        try:
            order = {int(name): row for row, name in enumerate(about["ldm_ids"])}
            subsets = {str(k): {int(i) for i in v} for k, v in dict(about.get("test_subsets") or {}).items()}
        except (KeyError, TypeError, ValueError):
            raise LabError(f"{self.root / 'db_info.json'}: has no ldm_ids, or wrong test_subsets") from None
        if len(order) != self.scheme.num_points or not isinstance(samples, list):
            raise LabError(f"{path}: needs a list of faces of {self.scheme.num_points} points; db_info.json names "
                           f"{len(order)}")  # fmt: skip
        if split != "test":
            subsets = {}
        self.subset_names = tuple(subsets)
        self.rows = [self._sample(value, order, f"{path}: face {n}") for n, value in enumerate(samples)]
        self.member_of = [tuple(k for k, rows in subsets.items() if n in rows) for n in range(len(samples))]

    def _sample(self, value: Any, order: dict[int, int], where: str) -> dict[str, Any]:
        """Return a checked sample as arrays in the scheme's order."""
        absent = [name for name in FIELDS if not isinstance(value, dict) or name not in value]
        if absent:
            raise LabError(f"{where}: {', '.join(absent)} missing")
        count = self.scheme.num_points
        points, known, seen = np.zeros((count, 2)), np.zeros(count, bool), np.zeros(count, bool)
        try:
            rows = [order[int(name)] for name in value["ids"]]
            given = np.asarray(value["landmarks"], np.float64).reshape(len(rows), 2)
            points[rows], known[rows] = given, True
            seen[rows] = np.asarray(value["visible"], np.float64) > 0
            x, y, width, height = (float(number) for number in value["bbox"])
            pose = None if value.get("headpose") is None else np.asarray(value["headpose"][:3], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise LabError(f"{where}: {type(error).__name__} in ids, landmarks, visible, bbox or headpose") from None
        checked = check_points(points, self.scheme, where)
        if not known.any():
            raise LabError(f"{where}: no landmark is annotated; remove this face")
        return {"image": str(value["imgpath"]), "points": checked, "annotated": known, "visible": seen, "pose": pose,
                "box": check_box(np.array([x, y, x + width, y + height]), where),
                "norm": self._norm(checked, known, where)}  # fmt: skip

    def _norm(self, points: np.ndarray, known: np.ndarray, where: str) -> float:
        if self.norm == "box":
            x0, y0, x1, y1 = tight_box(points[known]).tolist()
            norm = math.sqrt((x1 - x0) * (y1 - y0))
        else:
            left, right = self.scheme.corners
            norm = math.dist(points[left].tolist(), points[right].tolist()) if known[left] and known[right] else 0.0
        if not norm > 0:
            raise LabError(f"{where}: its normaliser ({self.norm}) is 0 or not annotated; try --data.norm box")
        return norm

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> FaceSample:
        row = self.rows[index]
        return FaceSample(
            image=read_image(self.root / row["image"]),
            points=row["points"],
            visible=row["visible"],
            box=row["box"],
            pose=row["pose"],
            subsets=self.member_of[index],
            id=f"{index:05d}/{row['image']}",  # a photograph may hold several faces
            annotated=row["annotated"],
            norm=row["norm"],
        )
