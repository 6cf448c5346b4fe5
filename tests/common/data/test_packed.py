"""Stores and crops: the same figures as from the files, the same bytes however they are made, damage in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from common.data.__main__ import main
from common.data.batching import CroppedFaces
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.data.packed import w300_crops, write
from common.data.packed.chunks import ChunkFiles
from common.data.packed.layout import Packing, raw_picture
from common.data.packed.read import PackedFaces
from common.data.readers.crops import PreparedCrops
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.files.images import write_image
from tests.common.data.test_readers import pts_text
from tests.conftest import SHARED, needs_shared

COUNTS = {"afw": 5, "helen/trainset": 6, "lfpw/trainset": 4, "helen/testset": 4, "lfpw/testset": 3, "ibug": 2}
CROP = CropConfig(size=64, box_scale=1.3)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny 300W: drawn faces somewhere in wider pictures of odd sizes, some of them enlarged."""
    root, faces, index = tmp_path_factory.mktemp("w300"), SyntheticFaces(sum(COUNTS.values()), seed=7), 0
    rng = np.random.default_rng(0)
    for part, count in COUNTS.items():
        for _ in range(count):
            sample, times = faces[index], 1 + index % 4
            image = sample.image.repeat(times, axis=0).repeat(times, axis=1)
            left, top, right, bottom = rng.integers(3, 150, 4).tolist()
            canvas = rng.integers(0, 255, (image.shape[0] + top + bottom, image.shape[1] + left + right, 3), np.uint8)
            canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
            write_image(root / part / f"{100 + index}_1.png", canvas)
            points = (sample.points + 0.5) * times - 0.5 + [left + 1, top + 1]
            (root / part / f"{100 + index}_1.pts").write_text(pts_text(points))
            index += 1
    return root


@pytest.fixture(scope="module")
def store(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store") / "w300"
    assert main(["prepare", "w300", "--root", str(tree), "--out", str(out), "--face", "64", "--workers", "1"]) == 0
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_evaluation_sees_the_pixels_of_the_photographs(tree: Path, store: Path) -> None:
    raw = FaceDataModule("w300", str(tree), crop=CROP, num_workers=0)
    packed = FaceDataModule("store", str(store), crop=CROP, num_workers=0)
    assert len(packed.cropped("test")) == len(raw.cropped("test")) == 9
    assert packed.cropped("test").faces.subset_names == ("common", "challenge")
    for one, other in zip(raw.test_dataloader(), packed.test_dataloader(), strict=True):
        assert one.ids == other.ids and torch.equal(one.subsets, other.subsets)
        assert (one.image.int() - other.image.int()).abs().max() <= 1
        torch.testing.assert_close(one.points, other.points, atol=1e-3, rtol=0)
        shift = torch.linspace(-3, 3, one.points.numel()).view_as(one.points)  # predictions off by some pixels
        nme = [
            (torch.linalg.norm((shift @ batch.to_image[:, :, :2].mT), dim=-1).mean(1) / batch.norm)
            for batch in (one, other)
        ]
        torch.testing.assert_close(nme[0], nme[1], rtol=1e-5, atol=0)


def test_evaluation_splits_of_the_same_faces_share_a_folder(store: Path) -> None:
    about = json.loads((store / "store.json").read_text())
    assert about["splits"]["val"]["folder"] == about["splits"]["test"]["folder"] == "val"
    assert not (store / "test").exists()


def test_training_crops_are_the_faces(tree: Path, store: Path) -> None:
    raw = FaceDataModule("w300", str(tree), crop=CROP, num_workers=0).faces("train")
    packed = PackedFaces(str(store), "train")
    np.testing.assert_array_equal(packed.shapes()[2], packed[2].points)
    first, second = CroppedFaces(raw, CROP), CroppedFaces(packed, CROP)
    assert len(first) == len(second) > 0
    for one, other in ((first[i], second[i]) for i in range(len(first))):
        assert one.id == other.id
        np.testing.assert_allclose(one.points, other.points, atol=1e-3)
        assert np.abs(one.image.astype(float) - other.image).mean() < 12  # resampled and compressed once more


def test_order_and_augmentation_do_not_depend_on_workers_or_a_resume(store: Path) -> None:
    def epoch(workers: int, number: int) -> list[tuple[list[str], torch.Tensor]]:
        config = CropConfig(size=64, box_scale=1.3, rotation=30, scale=0.1, shift=0.1, flip=0.5)
        data = FaceDataModule("store", str(store), crop=config, batch_size=4, num_workers=workers, seed=5)
        loader: Any = data.train_dataloader()
        loader.sampler.set_epoch(number)  # what Lightning does, also after a resume
        return [(batch.ids, batch.image.clone()) for batch in loader]

    alone, several = epoch(0, 3), epoch(2, 3)
    assert [ids for ids, _ in alone] == [ids for ids, _ in several]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(alone, several, strict=True))
    assert [ids for ids, _ in epoch(0, 4)] != [ids for ids, _ in alone]


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "CHUNK", 4)
    args = ["prepare", "w300", "--root", str(tree), "--splits", "train", "--workers"]
    assert main([*args, "2", "--out", str(tmp_path / "whole")]) == 0
    encode, calls = write.encode, list[str]()

    def fails(sample, train, packing):  # type: ignore[no-untyped-def]
        calls.append(sample.id)
        if len(calls) == 10:
            raise LabError("stopped")
        return encode(sample, train, packing)

    monkeypatch.setattr(write, "encode", fails)
    assert main([*args, "1", "--out", str(tmp_path / "stopped")]) == 2
    assert not (tmp_path / "stopped/train/index.json").exists()
    assert main([*args, "1", "--out", str(tmp_path / "stopped")]) == 0
    assert len(calls) == 10 + 15 - 8  # two chunks of four were complete
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


def test_another_packing_does_not_mix(tree: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["prepare", "w300", "--root", str(tree), "--out", str(store), "--workers", "1"]
    assert main(args) == 2 and "another set or packing; remove it" in capsys.readouterr().err
    with pytest.raises(LabError, match="keeps 2 times the box of a face, but the crop takes 2.5"):
        FaceDataModule("store", str(store), crop=CropConfig(64, 2.5), num_workers=0).cropped("val")


def test_chunks_are_read_as_litdata_reads_them(store: Path) -> None:
    from litdata import StreamingDataset

    folder = store / "train"
    sizes = {
        chunk["filename"]: chunk["chunk_size"] for chunk in json.loads((folder / "index.json").read_text())["chunks"]
    }
    own, other = ChunkFiles(folder, sizes), StreamingDataset(str(folder), shuffle=False)
    assert len(own) == len(other) == 15
    for row in (14, 0, 7):
        mine, theirs = own[row], other[row]
        assert {name: bytes(value) for name, value in mine.items()} == {
            name: bytes(value) for name, value in theirs.items()
        }


@contextmanager
def object_store(folder: Path) -> Iterator[list[tuple[str, str]]]:
    """Stand in for an object store that holds a folder as its bucket; yield what is asked of it: path and range."""
    asked: list[tuple[str, str]] = []

    class Answer(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path, part = self.path.partition("?")[0].removeprefix("/bucket/"), self.headers.get("Range", "")
            asked.append((path, part))
            there = (folder / path).is_file()
            data = (folder / path).read_bytes() if there else b""
            low, _, high = part.removeprefix("bytes=").partition("-")
            sent = data[int(low) : int(high) + 1] if part else data
            self.send_response(206 if part else 200 if there else 404)
            self.send_header("Content-Length", str(len(sent)))
            if part:
                self.send_header("Content-Range", f"{part.replace('=', ' ')}/{len(data)}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(sent)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_port}"
    try:
        yield asked
    finally:
        del os.environ["AWS_ENDPOINT_URL"]
        server.shutdown()


def test_an_object_store_s_faces_are_fetched_by_their_ranges(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from litdata.streaming import downloader

    monkeypatch.setattr(downloader, "_OBSTORE_AVAILABLE", False)  # it takes no address without encryption
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "none")
    with object_store(store) as asked:
        near, far = PackedFaces(str(store), "train"), PackedFaces("s3://bucket", "train")
        for row in (14, 0):
            one, other = near[row], far[row]
            assert one.id == other.id and np.array_equal(one.image, other.image)
        np.testing.assert_array_equal(near.shapes(), far.shapes())
        parts = [part for path, part in asked if path == "train/chunk-0-0.bin"]
        size = (store / "train/chunk-0-0.bin").stat().st_size
        lengths = [int(high) - int(low) + 1 for low, high in (part.removeprefix("bytes=").split("-") for part in parts)]
        assert len(parts) == 4 and sum(lengths) < size / 4  # its place, then the face
        with pytest.raises(LabError, match="s3://bucket/none/store.json: cannot be fetched .*404"):
            PackedFaces("s3://bucket/none", "train")


def test_the_default_crop_of_training_faces_has_the_photographs_pixels(tree: Path, tmp_path: Path) -> None:
    """It was resampled twice, and most of a store's time went there."""
    args = ["prepare", "w300", "--root", str(tree), "--splits", "train", "--workers", "1", "--out"]
    assert main([*args, str(tmp_path / "raw")]) == 0
    plain = CropConfig()
    raw = CroppedFaces(FaceDataModule("w300", str(tree), num_workers=0).faces("train"), plain)
    faces = PackedFaces(str(tmp_path / "raw"), "train")
    packed, exact = CroppedFaces(faces, plain), 0
    for row in range(len(raw)):
        one, other = raw[row], packed[row]
        np.testing.assert_allclose(one.points, other.points, atol=1e-3)
        if np.allclose(other.matrix[:, :2], np.eye(2), atol=1e-6):  # others are smaller than the crop
            exact += 1
            np.testing.assert_allclose(other.matrix[:, 2], other.matrix[:, 2].round(), atol=1e-4)
            assert np.abs(one.image.astype(int) - other.image).max() <= 1
    assert exact >= 8
    whole = faces[0].image
    store_json = json.loads((tmp_path / "raw/store.json").read_text())
    assert store_json["splits"]["train"]["raw"] and whole.shape[0] == whole.shape[1] <= 512
    data = np.array(whole.shape[:2], np.int32).tobytes() + whole.tobytes()
    np.testing.assert_array_equal(raw_picture(data, "here"), whole)
    for damaged in (data[:-1], data[:5], b"\0" * 8):
        with pytest.raises(LabError, match="here: .* are not a picture of .* pixels"):
            raw_picture(damaged, "here")
    with pytest.raises(LabError, match="at most 1024 without --jpeg"):
        Packing(size=2000)


def test_a_store_of_jpeg_is_read_also_in_the_former_format(tree: Path, store: Path, tmp_path: Path) -> None:
    former = tmp_path / "former"
    args = ["prepare", "w300", "--root", str(tree), "--splits", "train", "--workers", "1", "--jpeg", "--size", "1200"]
    assert main([*args, "--out", str(former)]) == 0
    whole = PackedFaces(str(former), "train")[3].image
    about = json.loads((former / "store.json").read_text())
    for split in about["splits"].values():
        assert not split.pop("raw")
    (former / "store.json").write_text(json.dumps(about | {"format": 1}))
    one, other = PackedFaces(str(former), "train")[3], PackedFaces(str(store), "train")[3]
    assert one.id == other.id and np.array_equal(one.image, whole)
    assert 0 < np.abs(one.image.astype(float) - other.image).mean() < 6  # compressed
    size, raw = ((folder / "train/chunk-0-0.bin").stat().st_size for folder in (former, store))
    assert 4 * size < raw


def test_damage_is_one_line(store: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no such folder"):
        FaceDataModule("store", str(tmp_path / "none"), num_workers=0).faces("train")
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    index = copy / "train/index.json"
    written = json.loads(index.read_text())
    written["config"]["data_format"] = ["pickle", "bytes", "bytes"]
    index.write_text(json.dumps(written))
    with pytest.raises(LabError, match="not 15 faces; prepare it anew"):
        PackedFaces(str(copy), "train")[0]
    (copy / "val/chunk-0-0.bin").write_bytes(b"\0" * 500)
    with pytest.raises(LabError, match="face 3"):
        PackedFaces(str(copy), "val")[3]
    for length in (5, 60, 3000):  # of a chunk that is cut short
        (copy / "val/chunk-0-0.bin").write_bytes((store / "val/chunk-0-0.bin").read_bytes()[:length])
        with pytest.raises(LabError, match="face 3: cannot be read .* copy the store again"):
            PackedFaces(str(copy), "val")[3]
    (copy / "store.json").write_text("{}")
    with pytest.raises(LabError, match="store.json"):
        PackedFaces(str(copy), "val")


def test_crops_of_the_helen_recipes(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = tmp_path / "split.yaml"
    split.write_text("train:\n  afw: 100_1 101_1\n  helen_train: 105_1 106_1\nval:\n  afw: '103_1'\n")
    monkeypatch.setattr(w300_crops, "SPLIT", split)
    args = ["prepare", "w300", "--root", str(tree), "--format", "crops", "--out"]
    for out in ("one", "two"):
        assert main([*args, str(tmp_path / out)]) == 0
    assert content(tmp_path / "one").keys() == content(tmp_path / "two").keys()
    data = FaceDataModule("crops", str(tmp_path / "one"), num_workers=0)
    assert [len(data.faces(name)) for name in ("train", "val", "test")] == [4, 1, 4]
    face = data.faces("train")[3]
    assert face.id == "helen_train/106_1.jpg" and face.image.shape == (320, 320, 3) and face.subsets == ("helen_train",)
    low, high = face.points.min(0), face.points.max(0)
    assert (high - low).max() == pytest.approx(320 / 1.875, rel=0.01)
    np.testing.assert_allclose((low + high) / 2, 159.5, atol=3)
    assert main(["doctor", "crops", "--root", str(tmp_path / "one"), "--splits", "test", "--workers", "1"]) == 0


def test_the_split_of_the_helen_recipes_is_whole() -> None:
    names = w300_crops.read_yaml_as(w300_crops.Names, w300_crops.SPLIT)
    counts = {part: {key: text.split() for key, text in getattr(names, part).items()} for part in ("train", "val")}
    assert [sum(map(len, counts[part].values())) for part in ("train", "val")] == [1007, 126]
    photos = [{name.rpartition("_")[0] for found in counts[part].values() for name in found} for part in counts]
    assert not photos[0] & photos[1]


@needs_shared
def test_crops_equal_those_of_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The genuine photographs give the genuine crops, byte for byte."""
    samples = SHARED / "data/samples/300w"
    genuine = PreparedCrops(str(SHARED / "data/crops_300w"), "train")
    files = {path.stem for path in (samples / "helen/trainset").glob("*.pts")}
    names = [name for name in files if f"helen_train/{name}.jpg" in genuine.files]
    split = tmp_path / "split.yaml"
    split.write_text(f"train:\n  helen_train: {' '.join(names)}\nval:\n  helen_train: '{names[0]}'\n")
    monkeypatch.setattr(w300_crops, "SPLIT", split)
    w300_crops.write_crops(str(samples), tmp_path / "out")
    made = PreparedCrops(str(tmp_path / "out"), "train")
    assert len(made) > 5
    for row, name in enumerate(made.files):
        assert made.read(name) == genuine.read(name)
        np.testing.assert_allclose(made.points[row], genuine.points[genuine.files.index(name)], atol=1e-3)


def test_a_packing_must_be_possible() -> None:
    with pytest.raises(LabError, match="packing.room must be in"):
        Packing(room=0.5)
