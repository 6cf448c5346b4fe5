"""Weights: strict, told completely, never by running code."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.checkpoints import load_weights, read_checkpoint, read_state_dict, save_safetensors, upgrade
from common.errors import LabError
from common.packing import describe
from tests.conftest import needs_shared


class Trap:
    """Would leave a file behind if its pickle were executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_round_trip_is_atomic_and_never_overwrites(tmp_path: Path) -> None:
    net, path = nn.Linear(3, 2), tmp_path / "w.safetensors"
    save_safetensors(net.state_dict(), path, {"points": "68"})
    assert torch.equal(read_state_dict(path)["weight"], net.weight)
    with pytest.raises(LabError, match="exists already"):
        save_safetensors(net.state_dict(), path)
    with pytest.raises(LabError, match="no such folder"):
        save_safetensors(net.state_dict(), tmp_path / "no" / "w.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("name", ["w.ckpt", "w.safetensors"])
def test_truncated_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("ckpt"):
        torch.save({"state_dict": nn.Linear(50, 50).state_dict()}, path)
    else:
        save_safetensors(nn.Linear(50, 50).state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(LabError, match="truncated or damaged|damaged or no checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "was_run"
    if legacy:
        path.write_bytes(pickle.dumps({"w": Trap(mark)}))
    else:
        torch.save({"w": Trap(mark)}, path)
    with pytest.raises(LabError, match="would run code"):
        read_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 232589\n", "is a Git LFS pointer"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("w.pth", b"\n<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>", "is a web page"),
        ("w.safetensors", b"<html>Sign in</html>", "is a web page"),
        ("w.ckpt", b"", "is empty"),
        ("w.pth", b"\x02\0\0\0\0\0\0\0{}", "holds safetensors data; rename it to w.safetensors"),
        ("w.safetensors", b"PK\x03\x04 and so on", "was written by torch.save; rename it to w.pth"),
        ("w.pth", b"\0" * 900, "damaged"),
        ("w.pth", b"no pickle at all\n" * 60, "damaged"),
    ],
)
def test_a_file_that_holds_no_weights_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    for read in (read_checkpoint, describe):
        with pytest.raises(LabError, match=message) as raised:
            read(tmp_path / name)
        assert "\n" not in str(raised.value) and "weights_only" not in str(raised.value)


def test_numpy_scalars_are_data_and_other_names_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    values = {"best": np.float64(4.4), "epoch": np.int64(3), "half": np.float16(1), "done": np.bool_(True)}
    torch.save(values, path)
    assert read_checkpoint(path) == values
    torch.save({"args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(LabError, match=r"would run code when read \(argparse.Namespace\)"):
        read_checkpoint(path)


@needs_shared
def test_the_cases_of_others(shared_dir: Path) -> None:
    folder = shared_dir / "cases" / "predict"
    for name, message in (("lfs_pointer", "LFS"), ("quota_page", "web page"), ("safetensors_renamed", "rename it to")):
        with pytest.raises(LabError, match=message):
            read_checkpoint(folder / f"{name}.pth")
    assert read_checkpoint(folder / "numpy_scalar.pth")["best_nme"] == pytest.approx(4.4)


def test_missing_file_and_foreign_content(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="missing"):
        read_checkpoint(tmp_path / "none.ckpt")
    torch.save({"a": 3}, tmp_path / "a.pth")
    with pytest.raises(LabError, match="entry a is a int"):
        read_state_dict(tmp_path / "a.pth")


def test_load_is_strict_and_reports_everything() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(3), "typo": torch.ones(1)}
    report = r"2 keys missing \(1.bias, 1.weight\).*1 keys unknown \(typo\).*0.bias is \(3,\)"
    with pytest.raises(LabError, match=report):
        load_weights(net, state, "f.ckpt")
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    good = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2), "typo": torch.ones(1)}
    kept = load_weights(net, good, "f.ckpt", allow_missing=("1.",), drop=("typo",))
    assert sorted(kept) == ["1.bias", "1.weight"] and net.state_dict()["0.bias"].tolist() == [1, 1]


def test_options_that_are_no_more_are_dropped_where_they_changed_nothing(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": {"rank": 3, "hidden_bits": 0}}, path)
    assert read_checkpoint(path)["hyper_parameters"] == {"rank": 3}
    assert upgrade({"rank": 3}, path) == {"rank": 3}
    torch.save({"state_dict": {}, "hyper_parameters": {"hidden_bits": 8}}, path)
    with pytest.raises(LabError, match="old.ckpt: was made with hidden_bits 8, which is no longer supported"):
        read_checkpoint(path)
