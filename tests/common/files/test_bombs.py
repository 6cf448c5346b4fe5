"""Small files that claim, or unpack to, gigabytes are refused in one line before memory is taken."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from awing.module import AWingTask
from benchmarks.score.formats import read_faces
from common.data.readers.cofw import COFW
from common.data.readers.crops import PreparedCrops
from common.errors import LabError
from common.files.arrays import read_array, read_arrays, read_numbers, read_weights
from common.files.checkpoints import read_checkpoint
from common.files.recipes import read_recipe
from common.files.validation import parse_json, read_yaml
from common.prediction.inference import load_task
from dpr.convert import read_mean, read_released
from musica.convert import read_mean_shape

MANY = 1 << 27
LITTLE = 64 << 20  # bytes that a refusal may take


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fail where Python or NumPy took more than a little."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LITTLE, peak


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    """Return the head of an .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def packed(path: Path, members: dict[str, bytes], way: int = zipfile.ZIP_DEFLATED, claim: int | None = None) -> Path:
    """Write a zip; `claim` is what its members say of their unpacked size in the directory at the end."""
    with zipfile.ZipFile(path, "w", way) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if claim is not None:
            for info in archive.infolist():
                info.file_size = claim
    return path


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("read", [read_array, read_numbers, read_mean, lambda path: read_mean_shape(path, 68)])
@pytest.mark.parametrize("shape", [(1 << 40, 2), (68, 3), (0, 1 << 62), (-1, 2)])
def test_a_header_that_claims_more_than_there_is(
    shape: tuple[int, ...], read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "mean.npy"
    path.write_bytes(header(shape) + bytes(64))
    with pytest.raises(LabError, match=r"mean.npy: is damaged or no array of plain values \(.*claims the shape"):
        read(path)


def test_arrays_read_back(tmp_path: Path) -> None:
    """All kinds that are saved, by rows and by columns, empty, of words and of another machine's order of bytes."""
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.arange(6).reshape(2, 3)), "c": np.array(3.5),
              "d": np.zeros((0, 4)), "e": np.array(["x", "längs"]), "f": np.arange(3, dtype=">f4"),
              "g": np.array([(1, 2.0)], dtype=[("k", "i4"), ("v", "f8")])}  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
        found = read_arrays(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name
    found["a"][0, 0] = 9  # they can be written
    np.save(tmp_path / "a.npy", arrays["b"])
    assert np.array_equal(read_array(tmp_path / "a.npy"), arrays["b"])
    np.savez(tmp_path / "w.npz", f=arrays["f"])
    assert read_weights(tmp_path / "w.npz")["f"].dtype == np.dtype("=f4")
    with pytest.raises(LabError, match="e holds <U5, not numbers"):
        read_weights(tmp_path / "a.npz")
    for path in (tmp_path / "none.npy", tmp_path / "none.npz"):
        with pytest.raises(LabError, match="is missing"):
            (read_array if path.suffix == ".npy" else read_arrays)(path)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("read", [read_arrays, read_released, lambda path: read_faces(path, "truth")])
def test_an_npz_that_unpacks_to_gigabytes(read: Callable[[Path], Any], tmp_path: Path) -> None:
    path = packed(tmp_path / "p.npz", {"ids.npy": header((MANY,)) + bytes(1 << 16)}, claim=1 << 32)
    with pytest.raises(LabError, match="p.npz: is damaged or no .npz of plain values .*unpack to 4096 MB"):
        read(path)
    packed(path, {"ids.npy": header((1 << 24,)) + bytes(1 << 16)})
    with pytest.raises(LabError, match="claims the shape"):
        read(path)
    packed(path, {"ids.npy": header((8192,)) + bytes(1 << 16)}, zipfile.ZIP_BZIP2)
    with pytest.raises(LabError, match="another way than deflate"):
        read(path)
    np.savez(path, a=np.array([None]))
    with pytest.raises(LabError, match="pickled objects, which are not read"):
        read(path)


@pytest.mark.usefixtures("little_memory")
def test_a_picture_of_prepared_crops_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    table = {"filename": np.array(["a.jpg"]), "landmarks_crop": np.arange(136.0).reshape(1, 68, 2)}
    np.savez(tmp_path / "train.npz", **table)  # type: ignore[arg-type]
    for way in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        packed(tmp_path / "train.zip", {"a.jpg": bytes(1 << 16)}, way, claim=1 << 31)
        with pytest.raises(LabError, match=r"train.zip.*(unpack to 2048 MB|damaged)"):
            PreparedCrops(str(tmp_path))[0]
    packed(tmp_path / "train.zip", {"a.jpg": b"x"})
    for name, array in {"filename": np.array(3), "landmarks_crop": np.zeros((1, 136)), "subset": np.zeros(0, "U1"),
                        "identity": np.array("x")}.items():  # fmt: skip
        np.savez(tmp_path / "train.npz", **{**table, name: array})  # type: ignore[arg-type]
        with pytest.raises(LabError, match=r"train.npz: \w+ is .*, not (numbers|one word a face)"):
            PreparedCrops(str(tmp_path))


@pytest.mark.usefixtures("little_memory")
def test_hdf5_that_fills_in_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "COFW_test_color.mat"
    for large in ("phisT", "bboxesT", "IsT", "chunk", "group", "picture"):
        with h5py.File(path, "w") as file:
            for name, rows in (("phisT", 87), ("bboxesT", 4)):
                count = MANY if name == large else 1
                chunks = (rows, 1 << 24) if large == "chunk" else None
                file.create_dataset(name, (rows, count), "f8", chunks=chunks or ((rows, 64) if count > 1 else None),
                                    maxshape=(rows, None) if chunks else None, fillvalue=1.0)  # fmt: skip
            if large == "group":
                del file["phisT"]
                file.create_group("phisT")
            file.create_dataset("IsT", (1, MANY if large == "IsT" else 1), h5py.ref_dtype,
                                chunks=(1, 64) if large == "IsT" else None)  # fmt: skip
            if large == "picture":
                file["bboxesT"][:] = np.array([[1], [1], [9], [9]])
                picture = file.create_dataset("image", (3, 1 << 16, 1 << 16), "u1", chunks=(3, 64, 64))
                file["IsT"][0, 0] = picture.ref
        with pytest.raises(LabError, match="COFW_test_color.mat: .*cannot be read"):
            COFW(str(tmp_path), "test")[0]


def first_picture(path: Path) -> np.ndarray:
    """Return the first picture of a COFW file."""
    return COFW(str(path.parent), str(path))[0].image


def peak_of(read: Callable[[], object]) -> int:
    """Return the bytes that a call takes at most beyond what there was, in a child, whichever library takes them."""
    import resource  # of POSIX systems

    answer, mine = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with contextlib.suppress(LabError):
            read()
        os.write(mine, b"%d" % (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.close(mine)
    with os.fdopen(answer) as reported:
        return int(reported.read()) << 10


def chunked(path: Path, content: bytes, filters: Sequence[int]) -> Path:
    """Write a test file of COFW whose one picture, of 216 bytes, is a chunk of these bytes."""
    with h5py.File(path, "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((3, 8, 9))
        for kind in filters:
            made.set_filter(kind, 0, (9,) if kind == h5py.h5z.FILTER_DEFLATE else ())
        space = h5py.h5s.create_simple((3, 8, 9))
        picture = h5py.h5d.create(file.id, b"image", h5py.h5t.STD_U8LE, space, made)
        picture.write_direct_chunk((0, 0, 0), content)
        file.create_dataset("IsT", (1, 1), h5py.ref_dtype)[0, 0] = file["image"].ref
        file["phisT"], file["bboxesT"] = np.arange(87.0)[:, None], np.array([[1.0], [1], [5], [5]])
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the system counts memory in another unit")
def test_hdf5_chunks_that_unpack_to_gigabytes(tmp_path: Path) -> None:
    """Two megabytes of a chunk took 530 MB, and were read as a black picture."""
    deflate, packer = h5py.h5z.FILTER_DEFLATE, zlib.compressobj(1)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    for content, filters in ((bomb, [deflate]), (zlib.compress(bomb), [deflate, deflate]),
                             (bytes(216), [h5py.h5z.FILTER_NBIT])):  # fmt: skip
        path = chunked(tmp_path / "c.mat", content, filters)
        with pytest.raises(LabError, match=r"c.mat: a picture .*\((has a chunk that|is packed by another)"):
            COFW(str(tmp_path), str(path))[0]
        assert peak_of(partial(first_picture, path)) < LITTLE
    picture = np.arange(216, dtype=np.uint8)
    for filters in ([deflate], [h5py.h5z.FILTER_SHUFFLE, deflate]):
        path = chunked(tmp_path / "c.mat", zlib.compress(picture.tobytes()), filters)
        assert np.array_equal(COFW(str(tmp_path), str(path))[0].image, picture.reshape(3, 8, 9).T)


def test_hdf5_that_lies_elsewhere(tmp_path: Path) -> None:
    chunked(tmp_path / "other.mat", zlib.compress(bytes(216)), [h5py.h5z.FILTER_DEFLATE])
    path = chunked(tmp_path / "c.mat", zlib.compress(bytes(216)), [h5py.h5z.FILTER_DEFLATE])
    with h5py.File(path, "a") as file:
        del file["phisT"]
        file["phisT"] = h5py.ExternalLink("other.mat", "phisT")
    with pytest.raises(LabError, match=r"c.mat: phisT cannot be read \(lies in another file"):
        COFW(str(tmp_path), str(path))


@pytest.mark.usefixtures("little_memory")
def test_a_checkpoint_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1 << 14)}}, tmp_path / "sound.pt")
    assert read_checkpoint(tmp_path / "sound.pt")["state_dict"]["a"].shape == (1 << 14,)
    with zipfile.ZipFile(tmp_path / "sound.pt") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    path = packed(tmp_path / "bomb.pt", members, claim=1 << 30)
    with pytest.raises(LabError, match="bomb.pt: refused, since it would unpack to .* MB"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ), "unfolds to more than"),
        ("a: &a [*a]", "unfolds to more than"),
        ("a: &a {b: {c: *a}}", "unfolds to more than"),
        ("a: " + "[" * 400, "is not valid YAML"),
        ("a: " + "1" * 5000, "is not valid YAML"),
    ],
)  # fmt: skip
def test_yaml_without_end(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    for read in (read_yaml, read_recipe):
        with pytest.raises(LabError, match=rf"own.yaml:.*{said}"):
            read(path)
    path.write_text("a: &a {b: 1}\nc: *a\nd: [*a, *a]\n")  # aliases as people use them
    assert read_recipe(path)["d"] == [{"b": 1}, {"b": 1}]


def test_json_without_end() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, "1" * 5000):
        with pytest.raises(LabError, match="x.json: is not valid JSON"):
            parse_json(text, "x.json")


SMALL: dict[str, Any] = {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, "depth": 2}
CROP = json.dumps({"size": 64})


def small_file(path: Path, **changes: Any) -> Path:
    """Write the weights of a small network whose settings say something else."""
    settings = {**SMALL, **changes}
    save_file(AWingTask(**SMALL).state_dict(), path,
              {"method": "awing", "hyper_parameters": json.dumps(settings), "crop": CROP})  # fmt: skip
    return path


@pytest.mark.parametrize(
    "changes",
    [{"width": 1 << 20}, {"width": 4096, "stacks": 64}, {"stacks": 1 << 30}, {"width": 3}, {"stacks": 0}, {"depth": -1},
     {"width": -16}, {"threshold": 0}],
)  # fmt: skip
def test_settings_that_do_not_belong_to_the_weights(changes: dict[str, Any], tmp_path: Path) -> None:
    """The network was made first, of any size, and only then were the shapes compared."""
    with pytest.raises(
        LabError, match=r"w.safetensors: (model\.\w+ must be in|its settings make no network|weights do not fit)"
    ):
        load_task(small_file(tmp_path / "w.safetensors", **changes))


def test_reading_weights_never_goes_online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose settings said `pretrained: true` fetched the encoder's first weights, to overwrite them."""
    import timm

    from awing import backbones

    real, asked = timm.create_model, []

    def offline(name: str, pretrained: bool = False, **options: Any) -> Any:
        asked.append(pretrained)
        return real(name, pretrained=False, **options)

    monkeypatch.setattr(backbones.timm, "create_model", offline)
    settings = {**SMALL, "backbone": "mobilenetv3_small_050"}
    task = AWingTask(**settings, pretrained=True)
    state = {"state_dict": task.state_dict(), "method": "awing", "hyper_parameters": {**settings, "pretrained": True}}
    torch.save(state, tmp_path / "w.ckpt")
    assert torch.equal(next(load_task(tmp_path / "w.ckpt").parameters()), next(task.parameters()))
    assert asked == [True, False]
