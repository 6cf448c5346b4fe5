"""Faces from a store are the faces that were drawn."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.data.store import FACES, IMAGES, StoredFaces, build, digest
from common.data.synthetic import SyntheticFaces
from common.errors import LabError


@pytest.mark.parametrize("workers", [0, 2])
def test_stored_faces_equal_the_drawn_ones(tmp_path: Path, workers: int) -> None:
    drawn = SyntheticFaces(5, scheme="ibug68", seed=4)
    stored = build(drawn, tmp_path / "store", workers)
    assert len(stored) == 5 and stored.scheme is drawn.scheme and stored.subset_names == drawn.subset_names
    for twin in (stored, copy.deepcopy(stored)):  # a worker gets its copy by the same protocol
        for index in range(5):
            one, other = drawn[index], twin[index]
            for name in ("image", "points", "visible", "box", "pose"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert (one.id, one.subsets) == (other.id, other.subsets)
    np.testing.assert_array_equal(stored.points3d(1), drawn.points3d(1))
    np.testing.assert_array_equal(stored.shapes()[3], drawn[3].points)


def test_a_store_is_written_once(tmp_path: Path) -> None:
    drawn = SyntheticFaces(2, scheme="ibug68")
    build(drawn, tmp_path / "store")
    when = (tmp_path / "store" / IMAGES).stat().st_mtime_ns
    build(drawn, tmp_path / "store")
    assert (tmp_path / "store" / IMAGES).stat().st_mtime_ns == when
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_failure_leaves_nothing_half_written(tmp_path: Path) -> None:
    class Broken(SyntheticFaces):
        def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
            if index == 1:
                raise RuntimeError("no ink")
            return super().__getitem__(index)

    with pytest.raises(RuntimeError, match="no ink"):
        build(Broken(3, scheme="ibug68"), tmp_path / "store")
    assert not list(tmp_path.iterdir())


def test_damaged_or_foreign_stores_are_told(tmp_path: Path) -> None:
    drawn = SyntheticFaces(2, scheme="ibug68")
    build(drawn, tmp_path / "store")
    with pytest.raises(LabError, match="holds 2 faces, not 3"):
        StoredFaces(tmp_path / "store", SyntheticFaces(3, scheme="ibug68"))
    sound = dict(np.load(tmp_path / "store" / FACES))
    box = sound["box"]
    for wrong in ({"box": box[:, :3]}, {"pose": sound["pose"][:1]}, {"more": box}, {"points": box[:1]}, {"id": box}):
        np.savez(tmp_path / "store" / FACES, **{**sound, **wrong})
        with pytest.raises(LabError, match="damaged; remove the folder"):
            StoredFaces(tmp_path / "store", drawn)
    np.savez(tmp_path / "store" / FACES, **sound)
    np.save(tmp_path / "store" / IMAGES, np.zeros(2))
    with pytest.raises(LabError, match="damaged; remove the folder"):
        StoredFaces(tmp_path / "store", drawn)
    (tmp_path / "store" / IMAGES).write_bytes(b"\x93NUMPY")
    with pytest.raises(LabError, match="damaged; remove the folder"):
        StoredFaces(tmp_path / "store", drawn)


def test_digest_follows_settings() -> None:
    assert digest({"seed": 0, "version": 1}) != digest({"seed": 1, "version": 1})
    assert digest({"seed": 0, "version": 1}) == digest({"version": 1, "seed": 0})


def test_data_module_uses_the_store(tmp_path: Path) -> None:
    data = FaceDataModule(synthetic=SyntheticConfig(4, 2, store=str(tmp_path)), num_workers=0)
    data.setup("fit")
    assert isinstance(data.cropped("train").faces, StoredFaces)
    plain = FaceDataModule(synthetic=SyntheticConfig(4, 2), num_workers=0)
    np.testing.assert_array_equal(data.cropped("val")[1].image, plain.cropped("val")[1].image)
