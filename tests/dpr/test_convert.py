"""Released files: old pickles of CUDA tensors with a prefix, read without running code, into a file that predicts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from common import predict
from common.inference import Predictor
from common.packing import describe
from dpr.convert import convert_files, main, read_released
from tests.conftest import needs_shared
from tests.dpr import golden as golden_data
from tests.dpr.golden import TRAINED, arrays, official_net, picture, surrogate


def save_as_released(state: dict[str, torch.Tensor], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file as the release's are: no zip, storages that say they lie on a GPU, keys with `module.`."""
    content = {"epoch": 3, "state_dict": {f"module.{key.removeprefix('module.')}": v for key, v in state.items()}}
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(content, path, _use_new_zipfile_serialization=False)
    assert b"cuda:0" in path.read_bytes() and not path.read_bytes().startswith(b"PK")


@needs_shared
@pytest.mark.golden
def test_released_files_become_weights_that_give_the_official_landmarks(
    shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, golden = shared_dir / "golden/dpr", arrays(shared_dir)
    files = []
    for kind in TRAINED[:2]:
        files.append(tmp_path / f"98_points_{kind}.pth.tar")
        save_as_released(read_released(folder / f"98_points_{kind}.npz"), files[-1], monkeypatch)
    target = tmp_path / "gsr.safetensors"
    assert main([*map(str, files), str(folder / "mean_98_face.npy"), str(target)]) == 0
    assert describe(target).hyper_parameters["stage"] == "gsr"
    predictor = Predictor.load(target)
    for row, name in enumerate(golden["names"][:2]):
        found = predictor(picture(shared_dir, name), golden["rect"][row][None]).points[0].numpy()
        assert np.abs(found - golden["gsr_pts"][row]).max() < 0.05
    # The command for photographs, with the box file beside the sample.
    samples = [str(folder / "samples" / str(name)) for name in golden["names"][:1]]
    assert predict.main([*samples, "--weights", str(target), "--out", str(tmp_path / "drawn")]) == 0
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 1
    assert main([*map(str, files), str(folder / "mean_98_face.npy"), str(target)]) == 2
    assert "exists already" in capsys.readouterr().err


@needs_shared
@pytest.mark.golden
def test_all_four_networks_in_any_order(shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shared_dir / "golden/dpr"
    stand_in = tmp_path / "98_points_local_regress.pth.tar"
    state = surrogate(shared_dir)
    monkeypatch.setattr(golden_data, "surrogate", lambda shared: state)  # not made twice
    save_as_released(state, stand_in, monkeypatch)
    sources = [stand_in, *(folder / f"98_points_{kind}.npz" for kind in reversed(TRAINED)),
               folder / "mean_98_face.npy"]  # fmt: skip
    convert_files(sources, tmp_path / "glsr.safetensors")
    task = Predictor.load(tmp_path / "glsr.safetensors").task
    wanted = official_net(shared_dir).state_dict()
    found = task.network().state_dict()
    assert set(found) == set(wanted) and all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("none.pth.tar", None, "missing"),
        ("torn.pth.tar", b"\x80\x02\x8a", "damaged"),
        ("torn.npz", b"no zip", "missing, damaged"),
        ("other.pth.tar", {"conv.weight": torch.zeros(1)}, "none of this method's networks"),
        ("single.pth.tar", {"fc_loc.2.weight": torch.zeros(6, 32)}, "no mean face"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, name: str, content: object, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    assert main([str(path), str(tmp_path / "out.safetensors")]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


class Command:
    """What a hostile file holds: reading it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


def test_a_pickle_cannot_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(
        {"state_dict": Command(tmp_path / "made")}, tmp_path / "bad.pth.tar", _use_new_zipfile_serialization=False
    )
    np.save(tmp_path / "mean.npy", np.array([Command(tmp_path / "made")], dtype=object))
    for name, text in (("bad.pth.tar", "would run code"), ("mean.npy", "no plain array")):
        assert main([str(tmp_path / name), str(tmp_path / "out.safetensors")]) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
