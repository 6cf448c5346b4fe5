"""From a data set's name to the batches of training, validation, test and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from common.data.base import FaceDataset, check_norm, check_root, one_thread
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig, CroppedFace
from common.data.packed.read import PackedFaces
from common.data.readers import READERS, Wanted
from common.data.sampler import EpochSampler
from common.data.store import build, digest
from common.data.synthetic import VERSION, SyntheticFaces
from common.data.wrappers import ByBox, CachedFaces, WithDepth
from common.errors import LabError
from common.schemes import get_scheme
from common.types import FaceBatch

VAL_OFFSET, TEST_OFFSET = 1_000_000, 2_000_000  # synthetic faces of the three splits never share an index


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
        train_count: synthetic training faces.
        val_count: synthetic validation faces.
        test_count: synthetic test faces.
        synthetic_seed: seed of the synthetic set.
        seed: seed of the order and the augmentation of training.
        eval_split: split for validation and test where the data set has several (w300: full, common, challenge,
            private).
        train_split: split for training where the data set has several (w300: train, or public for the private test).
        norm: corners for the data set's own normaliser, in general the distance of the outer eye corners, or box for
            the root of the landmark box's area.
        cache: keep decoded samples in memory (needs H * W * 3 bytes a face and worker).
        store: folder in which synthetic faces are kept once drawn, for later epochs and runs; None draws them anew
            each time.
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
        train_count: int = 2000,
        val_count: int = 200,
        test_count: int = 200,
        synthetic_seed: int = 0,
        seed: int = 0,
        eval_split: str | None = None,
        cache: bool = False,
        store: str | None = None,
        train_split: str | None = None,
        norm: str = "corners",
    ) -> None:
        super().__init__()
        if dataset not in DATASETS:
            raise LabError(f"--data.dataset must be one of {', '.join(DATASETS)}, got {dataset}")
        if batch_size < 1 or eval_batch_size < 1 or num_workers < 0:
            raise LabError(f"batch sizes must be positive and num_workers not negative, got {batch_size}, "
                           f"{eval_batch_size}, {num_workers}")  # fmt: skip
        check_norm(norm)
        self.landmarks = get_scheme(scheme)
        self.dataset, self.root, self.scheme, self.crop = dataset, root, self.landmarks.word, crop
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.train_count, self.val_count, self.test_count = train_count, val_count, test_count
        self.synthetic_seed, self.seed, self.eval_split, self.cache = synthetic_seed, seed, eval_split, cache
        self.store, self.train_split, self.norm = store, train_split, norm
        self._sets: dict[str, CroppedFaces] = {}
        self._done = (0, 0)  # an epoch and how many of its faces are trained on

    def faces(self, split: str) -> FaceDataset:
        """Return the data set of a split (train, val, test) as its reader gives it."""
        if self.dataset == SYNTHETIC:
            return self._drawn(split)
        if self.dataset == SYNTHETIC3D:
            return WithDepth(self._drawn(split))
        remote = self.dataset == "store" and "://" in (self.root or "")
        root = str(self.root if remote else check_root(self.root, self.dataset))
        found = READERS[self.dataset](root, Wanted(split, self.scheme, self.norm, self.train_split, self.eval_split))
        # Lists of faces check the normaliser of each face when they are read.
        return ByBox(found) if self.norm == "box" and self.dataset not in ("json", "csv", "coco") else found

    def _drawn(self, split: str) -> FaceDataset:
        count = {"train": self.train_count, "val": self.val_count, "test": self.test_count}[split]
        offset = {"train": 0, "val": VAL_OFFSET, "test": TEST_OFFSET}[split]
        faces = SyntheticFaces(count, scheme=self.scheme, seed=self.synthetic_seed, offset=offset)
        if self.store is None:
            return faces
        content = {"count": count, "scheme": self.scheme, "seed": self.synthetic_seed, "offset": offset}
        name = f"synthetic-{self.scheme}-{split}-{count}-{digest({**content, 'version': VERSION})}"
        return build(faces, Path(self.store) / name, self.num_workers)

    def cropped(self, split: str) -> CroppedFaces:
        """Return the data set of a split (train, val, test) behind its crop; made once.

        Raises:
            LabError: the data set's scheme is not `scheme`, or it holds no face.
        """
        if split not in self._sets:
            faces = self.faces(split)
            if faces.scheme.num_points != self.landmarks.num_points or faces.scheme.text != self.landmarks.text:
                raise LabError(
                    f"data set {self.dataset} has {faces.scheme.num_points} landmarks ({faces.scheme.name}), "
                    f"but --data.scheme is {self.landmarks.name}"
                )
            if len(faces) == 0:
                raise LabError(f"data set {self.dataset}, split {split}: no face in {self.root}")
            if isinstance(faces, PackedFaces):
                faces.check_room(self.crop.box_scale)
            train = split == "train"
            if self.cache:
                faces = CachedFaces(faces)
            self._sets[split] = CroppedFaces(
                faces, self.crop if train else self.crop.still(), self.seed if train else None
            )
        return self._sets[split]

    def setup(self, stage: str) -> None:
        """Open the splits that the stage needs, so that bad input shows before training begins."""
        self._done = (0, 0)
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
        for split in needed[stage]:
            self.cropped(split)

    def train_batch(self) -> int:
        """Return the faces of a training batch, on each device."""
        return min(self.batch_size, len(self.cropped("train")))

    def go_on_at(self, epoch: int, faces: int) -> None:
        """Let training go on in the middle of an epoch, after its first `faces` faces."""
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
            worker_init_fn=one_thread,
            collate_fn=Collate(cropped.faces.subset_names),
        )

    def transfer_batch_to_device(self, batch: FaceBatch, device: Any, dataloader_idx: int) -> FaceBatch:
        return batch.to(device, non_blocking=True)
