"""One file a genuine annotation format, and the table of them by the names that `--data.dataset` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from common.data.base import FaceDataset
from common.data.packed.read import PackedFaces
from common.data.readers.aflw19 import AFLW
from common.data.readers.aflw2000 import AFLW2000
from common.data.readers.coco import CocoFaces
from common.data.readers.cofw import COFW
from common.data.readers.cofw68 import COFW68
from common.data.readers.crops import PreparedCrops
from common.data.readers.json_faces import JsonFaces
from common.data.readers.lapa import LaPa
from common.data.readers.menpo import Menpo
from common.data.readers.merlrav import MerlRav
from common.data.readers.own_faces import OwnFaces
from common.data.readers.records import RecordFaces
from common.data.readers.w300 import W300
from common.data.readers.w300lp import W300LP
from common.data.readers.w300vw import W300VW
from common.data.readers.wflw import WFLW
from common.data.readers.youtube_faces import YouTubeFaces
from common.errors import LabError


class Wanted(NamedTuple):
    """What a data module asks a reader for: its split (train, val or test), and the user's choices."""

    split: str
    scheme: str
    norm: str
    train_split: str | None = None
    eval_split: str | None = None

    def own(self, train: str, other: str) -> str:
        """Return the data set's own name of the split: the user's, or one of these defaults."""
        return self.train_split or train if self.split == "train" else self.eval_split or other


def _aflw2000(root: str, wanted: Wanted, dims: int = 2) -> FaceDataset:
    if wanted.split == "train":
        raise LabError("aflw2000 is a test set; train on w300lp and give --data.dataset aflw2000 to test")
    return AFLW2000(root, dims)


def _cofw68(root: str, wanted: Wanted) -> FaceDataset:
    if wanted.split == "train":
        raise LabError("cofw68 is a test set; train on w300 and give --data.dataset cofw68 to test")
    return COFW68(root)


# Sets without a validation part validate on their test list; a recipe names another by eval_split.
READERS: dict[str, Callable[[str, Wanted], FaceDataset]] = {
    "crops": lambda root, wanted: PreparedCrops(root, wanted.split, wanted.scheme),
    "wflw": lambda root, wanted: WFLW(root, wanted.own("train", "test")),
    "w300": lambda root, wanted: W300(root, wanted.own("train", "full")),
    "cofw": lambda root, wanted: COFW(root, wanted.own("train", "test")),
    "cofw68": _cofw68,
    "aflw": lambda root, wanted: AFLW(root, wanted.own("train", "test")),
    "merlrav": lambda root, wanted: MerlRav(root, wanted.own("train", "test")),
    "w300vw": lambda root, wanted: W300VW(root, wanted.own("train", "test")),
    "menpo": lambda root, wanted: Menpo(root, wanted.own("train", "val")),
    "lapa": lambda root, wanted: LaPa(root, wanted.own("train", wanted.split)),
    "youtube_faces": lambda root, wanted: YouTubeFaces(root, wanted.own("train", wanted.split)),
    "coco": lambda root, wanted: CocoFaces(root, wanted.own("train", "test"), wanted.scheme, wanted.norm),
    "json": lambda root, wanted: JsonFaces(root, wanted.own("train", "test"), wanted.scheme, wanted.norm),
    "csv": lambda root, wanted: OwnFaces(root, wanted.split, wanted.scheme, wanted.norm),
    "w300lp": lambda root, wanted: W300LP(root, wanted.own("train", "val")),
    "w300lp_3d": lambda root, wanted: W300LP(root, wanted.own("train", "val"), dims=3),
    "aflw2000": _aflw2000,
    "aflw2000_3d": lambda root, wanted: _aflw2000(root, wanted, 3),
    "records": lambda root, wanted: RecordFaces(root, wanted.own("train", "ibug")),
    "store": lambda root, wanted: PackedFaces(root, wanted.split),
}
