"""From a data set's name to the batches of training, validation, test and prediction."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader

from common.data.base import FaceDataset, begin_worker, check_norm, check_root
from common.data.batching import Collate, CroppedFaces
from common.data.boxes import KINDS, BoxedFaces, check_choice, with_boxes
from common.data.crops import CropConfig, CroppedFace
from common.data.options import APART, MixConfig, Source, SyntheticConfig
from common.data.packed.read import PackedFaces
from common.data.readers import READERS, Wanted
from common.data.sampler import EpochSampler
from common.data.store import build, digest
from common.data.synthetic import VERSION, SyntheticFaces
from common.data.wrappers import ByBox, CachedFaces, MappedFaces, MaskedFaces, Mixture, WithDepth, chosen_points
from common.errors import SEEDS, LabError, check_ranges
from common.schemes import MAPS, LandmarkScheme, get_scheme
from common.types import FaceBatch

VAL_OFFSET, TEST_OFFSET = APART, 2 * APART
SYNTHETIC, SYNTHETIC3D = "synthetic", "synthetic3d"
DATASETS = (SYNTHETIC, SYNTHETIC3D, *READERS)


class FaceDataModule(L.LightningDataModule):
    """Batches of one data set.

    Args:
        dataset: one of DATASETS; those ending in 3d have depth.
        root: folder of the data set; not needed for synthetic faces.
        scheme: landmark scheme: a name, or the YAML file of one of your own (docs/your_landmarks.md).
        crop: crop and augmentation of training; validation and test use the same crop without augmentation.
        batch_size: faces a training batch.
        eval_batch_size: faces a batch otherwise.
        num_workers: loader processes; 0 loads in the main process.
        seed: seed of the order and the augmentation of training.
        eval_split: split for validation and test where the data set has several (w300: full, common, challenge,
            private).
        train_split: split for training where the data set has several (w300: train, or public for the private test).
        norm: corners for the data set's own normaliser, in general the distance of the outer eye corners, or box for
            the root of the landmark box's area.
        cache: keep decoded samples in memory (needs H * W * 3 bytes a face and worker).
        synthetic: the faces of data sets synthetic and synthetic3d.
        box: which box a face is cropped by, in all splits: dataset, the set's own; gt, the landmarks' tight box;
            detector, a face detector's (detector:dlib, detector:MODEL.onnx to choose it); or file:PATH, those of a CSV
            id,x0,y0,x1,y1 or of a folder of .pts files. `crop.box_scale` times its side is the crop's.
        mix: the set's own scheme where it is mapped, the points that count in training, and further data sets.
    """

    def __init__(
        self,
        dataset: str = "synthetic",
        root: str | None = None,
        scheme: str = "ibug68",
        crop: CropConfig = CropConfig(),  # noqa: B008 - frozen
        batch_size: int = 16,
        eval_batch_size: int = 16,
        num_workers: int = 2,
        seed: int = 0,
        eval_split: str | None = None,
        cache: bool = False,
        train_split: str | None = None,
        norm: str = "corners",
        synthetic: SyntheticConfig = SyntheticConfig(),  # noqa: B008 - frozen
        box: str = "dataset",
        mix: MixConfig = MixConfig(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        if dataset not in DATASETS:
            raise LabError(f"--data.dataset must be one of {', '.join(DATASETS)}, got {dataset}")
        check_norm(norm)
        self.landmarks = get_scheme(scheme)
        self.dataset, self.root, self.scheme, self.crop = dataset, root, self.landmarks.word, crop
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.seed, self.eval_split, self.train_split = seed, eval_split, train_split
        self.cache, self.norm, self.synthetic, self.box = cache, norm, synthetic, box
        self.mix = mix
        check_choice(box)
        check_ranges("data", self, batch_size="[1, 65536]", eval_batch_size="[1, 65536]", num_workers="[0, 256]",
                     seed=SEEDS)  # fmt: skip
        self._sets: dict[str, CroppedFaces] = {}
        self._done = (0, 0)  # the epoch to begin with and how many of its faces are trained on

    def faces(self, split: str) -> FaceDataset:
        """Return the data set of a split (train, val, test) as its reader gives it."""
        return self._read(split, self._own())

    def _own(self) -> Source:
        """Return the module's own data set."""
        mix = self.mix
        return Source(self.dataset, self.root, mix.weight, mix.scheme, mix.points, self.norm, self.train_split)

    def _read(self, split: str, source: Source) -> FaceDataset:
        if source.dataset == SYNTHETIC:
            return self._drawn(split, source)
        if source.dataset == SYNTHETIC3D:
            return WithDepth(self._drawn(split, source))
        remote = source.dataset == "store" and "://" in (source.root or "")
        root = str(source.root if remote else check_root(source.root, source.dataset))
        scheme = get_scheme(source.scheme).word if source.scheme else self.scheme
        wanted = Wanted(split, scheme, source.norm, source.train_split, self.eval_split)
        found = READERS[source.dataset](root, wanted)
        # Lists of faces check the normaliser of each face when they are read.
        return ByBox(found) if source.norm == "box" and source.dataset not in ("json", "csv", "coco") else found

    def _drawn(self, split: str, source: Source) -> FaceDataset:
        own, scheme = self.synthetic, source.scheme or self.scheme
        count = {"train": own.train_count, "val": own.val_count, "test": own.test_count}[split]
        offset = {"train": 0, "val": VAL_OFFSET, "test": TEST_OFFSET}[split]
        faces = SyntheticFaces(count, scheme=scheme, seed=own.seed, offset=offset)
        if own.store is None:
            return faces
        content = {"count": count, "scheme": scheme, "seed": own.seed, "offset": offset}
        name = f"synthetic-{scheme}-{split}-{count}-{digest({**content, 'version': VERSION})}"
        return build(faces, Path(own.store) / name, self.num_workers)

    def _opened(self, split: str, source: Source) -> FaceDataset:
        """Return the faces of a split of a set, of which there are some, in the module's scheme and with its boxes."""
        faces = self._read(split, source)
        if source.scheme:
            _check_scheme(faces, get_scheme(source.scheme), source.dataset)
            faces = MappedFaces(faces, self.landmarks)
        _check_scheme(faces, self.landmarks, source.dataset)
        if len(faces) == 0:
            raise LabError(f"data set {source.dataset}, split {split}: no face in {source.root}")
        if isinstance(faces, PackedFaces):
            faces.check_room(self.crop.box_scale)
        faces = with_boxes(faces, self.box, self.num_workers)
        if split == "train" and source.points:
            faces = MaskedFaces(faces, chosen_points(source.points, self.landmarks))
        return CachedFaces(faces) if self.cache else faces

    def cropped(self, split: str) -> CroppedFaces:
        """Return the data set of a split (train, val, test) cropped; made once.

        Raises:
            LabError: the data set's scheme is not `scheme`, or it holds no face.
        """
        if split not in self._sets:
            train = split == "train"
            faces = self._opened(split, self._own())
            if train and (self.mix.sources or self.mix.weight != 1):
                others = [(self._opened(split, source), source.weight) for source in self.mix.sources]
                faces = Mixture([(faces, self.mix.weight), *others])
            self._sets[split] = CroppedFaces(
                faces, self.crop if train else self.crop.still(), self.seed if train else None
            )
        return self._sets[split]

    def map_words(self) -> str:
        """Return how the set's points were mapped, with the map's own error, for protocol cards; nothing if not."""
        return get_scheme(self.mix.scheme).map_to(self.landmarks).words() if self.mix.scheme else ""

    def crop_words(self, split: str = "test") -> str:
        """Return how the faces of a split are cropped, in the words of protocol cards."""
        faces = self.cropped(split).faces
        faces = faces.faces if isinstance(faces, CachedFaces) else faces
        return self.crop.description(faces.words if isinstance(faces, BoxedFaces) else KINDS["dataset"])

    def setup(self, stage: str) -> None:
        """Open the splits that the stage needs, so that bad input shows before training begins."""
        self._done = (0, 0)
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
        for split in needed[stage]:
            self.cropped(split)

    def train_batch(self) -> int:
        """Return the faces of a training batch, on each device."""
        return min(self.batch_size, self.cropped("train").faces.per_epoch())

    def go_on_at(self, epoch: int, faces: int) -> None:
        """Let training go on with an epoch, after its first `faces` faces."""
        self._done = (epoch, faces)

    def train_dataloader(self) -> DataLoader[CroppedFace]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[CroppedFace]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[CroppedFace]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[CroppedFace]:
        return self._loader("test")

    def _loader(self, split: str) -> DataLoader[CroppedFace]:
        cropped, train = self.cropped(split), split == "train"
        return DataLoader(
            cropped,
            batch_size=self.train_batch() if train else self.eval_batch_size,
            sampler=EpochSampler(cropped, self.seed, self._done) if train else None,
            drop_last=train,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=begin_worker,
            collate_fn=Collate(cropped.faces.subset_names),
        )

    def transfer_batch_to_device(self, batch: FaceBatch, device: torch.device, dataloader_idx: int) -> FaceBatch:
        return batch.to(device, non_blocking=True)


def _check_scheme(faces: FaceDataset, wanted: LandmarkScheme, dataset: str) -> None:
    own = faces.scheme
    if own.num_points != wanted.num_points or own.text != wanted.text:
        more = f"; map them by --data.mix.scheme {own.name}" if (own.name, wanted.name) in MAPS else ""
        raise LabError(f"data set {dataset} has {own.num_points} landmarks ({own.name}), but --data.scheme is "
                       f"{wanted.name}{more}")  # fmt: skip
