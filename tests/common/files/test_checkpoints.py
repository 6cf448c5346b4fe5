"""Weights: strict, reported completely, never by running code."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from common.data.crops import CropConfig
from common.errors import LabError
from common.files.checkpoints import load_weights, plain, read_checkpoint, read_state_dict, save_safetensors
from common.files.checksum import tensors_are_sound
from common.methods import METHODS, get_method
from common.packing import Description, describe
from common.prediction.inference import Predictor
from common.task import load_task, make_task
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


def test_one_flipped_bit_of_a_packed_file_is_noticed(tmp_path: Path) -> None:
    """In a tensor, in a setting and in a tensor's name; files without a checksum are read as before."""
    path, state = tmp_path / "w.safetensors", nn.Linear(3, 2).state_dict()
    save_safetensors(state, path, {"crop": "64"})
    sound = path.read_bytes()
    for place in (len(sound) - 1, sound.index(b'"64"') + 1, sound.index(b"bias")):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(LabError, match=r"w.safetensors: checkpoint is damaged \(its SHA-256 differs\); copy"):
            read_checkpoint(path)
    for metadata in ({"crop": "64"}, None):
        save_file(state, path, metadata)
        assert torch.equal(read_state_dict(path)["weight"], state["weight"])


def test_embedded_weights_hold_their_checksum() -> None:
    files = [file for method in METHODS.values() for file in method.weights()]
    assert len(files) == 5 and all(map(tensors_are_sound, files))


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
    for wrong in (
        torch.nan,
        torch.inf,
    ):  # the largest value of maps of NaN is in the last cell: a finite error of 154 %
        with pytest.raises(LabError, match=r"1 hold NaN or infinity \(0.bias\)"):
            load_weights(net, {**good, "0.bias": torch.tensor([1.0, wrong])}, "f.ckpt", ("1.",), ("typo",))
    kept = load_weights(net, good, "f.ckpt", allow_missing=("1.",), drop=("typo",))
    assert sorted(kept) == ["1.bias", "1.weight"] and net.state_dict()["0.bias"].tolist() == [1, 1]


FORMER_TRAINING: dict[str, Any] = {
    "threshold": 8.0, "optimizer": "adamw", "lr": 0.002, "weight_decay": 0.01, "momentum": 0.0, "schedule": "multistep",
    "milestones": (3, 5), "gamma": 0.5, "warmup_steps": 7, "augment": {"blur": 0.25}, "compile_net": False,
    "channels_last": True, "_instantiator": "lightning.pytorch.cli.instantiate_module",
}  # fmt: skip
# Flat settings as the former constructors wrote them, small ones where the size is free.
FORMER: dict[str, dict[str, Any]] = {
    "awing": {
        "scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, "depth": 2, "coord_conv": True,
        "boundary": True, "backbone": "hourglass", "pretrained": False, "loss": "focal", "integral_weight": 0.5,
        "integral_beta": 30.0, "map_weight": 9.0, "decode": "soft", "legacy_border": True, "boundary_shift": 0,
        "official_frame": True,
    },
    "spiga": {
        "scheme": "ibug68", "input_size": 64, "stage": 3, "stage_epochs": (), "stacks": 1, "width": 32, "depth": 2,
        "steps": 2, "graph": "knn", "knn": 5, "last_head": True, "answer": "auto", "round_targets": True,
        "release_crop": False, "coordinate_weight": 3.0, "attention_weight": 40.0, "pose_weight": 2.0,
    },
    "dpr": {
        "scheme": "ibug68", "input_size": 128, "stage": "glsr", "face_size": 64, "part_size": 32,
        "face_strides": (1, 2, 2, 2, 2, 1, 1, 1), "part_strides": [1, 2, 2, 2, 1, 1, 1, 1], "points_in_pixels": False,
        "part_source": "image", "detach_face": True, "theta_gradient": 0.5, "point_gradient": 0.25, "init": "he",
        "rounded": False, "box_grow": 1.1, "context": 1.4, "jitter": {"given": 0.6}, "reinit_target": "box",
        "weighting": "direct", "error": "distance", "hard_share": 1.0, "plain_steps": 5, "interocular": False,
        "reinit_weight": 20.0, "point_noise": 0.01, "reinit_lr": 1.0, "global_lr": 0.2, "teacher_until": 4,
        "local_from": 2, "flip_test": False,
    },
    "musica": {
        "scheme": "ibug68", "input_size": 96, "patches": [30, 36, 45, 48, 54], "iterations": 3, "levels": None,
        "units": 16, "rank": 0, "attention_rank": 0, "hidden_bits": 0, "sampling": "official", "init": "fan_in",
        "detach": True, "dropout": 0.1, "iteration_lr": [3, 2, 1], "hidden_lr": 0.2, "output_lr": 5.0, "loss": "rmse",
        "error_share": 0.1, "ema_decay": 0.99, "origin": "crop", "start_faces": 10, "paper_augment": True,
    },
    "sdu3d": {
        "scheme": "ibug68", "input_size": 64, "topology": "hourglass", "block": "resnet", "depth": 2, "stacks": 1,
        "width": 32, "stride": 4, "inside": "none", "border": "torchvision", "binary": False, "loss": "ce",
        "sigma": 1.5, "peak": 2.0, "quantise": False, "coherent": 0.01, "view_rotation": 20.0, "view_scale": 0.1,
        "view_flip": 0.4, "depth_head": False, "depth_weight": 2.0, "decode": "local_soft",
        "official_frame": False,
    },
}  # fmt: skip


def find(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = tree[name]
    return tree


@pytest.mark.parametrize("method", sorted(FORMER))
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_file_of_the_former_constructor_loads(tmp_path: Path, method: str, suffix: str) -> None:
    """Every former setting arrives at its present place, and the weights are the file's."""
    kind, former = get_method(method).task_class(), FORMER[method] | FORMER_TRAINING
    if method == "sdu3d":
        former["optimizer"] = "nadam"
    state = make_task(kind, former, "test").state_dict()
    path = tmp_path / f"former{suffix}"
    if suffix == ".ckpt":
        torch.save({"state_dict": state, "hyper_parameters": former, "method": method}, path)
        task = load_task(kind, path)
    else:
        hyper = {key: plain(value) for key, value in former.items() if key != "_instantiator"}
        save_safetensors(state, path, Description(method, hyper, CropConfig(size=former["input_size"])).metadata())
        task = Predictor.load(path).task  # type: ignore[assignment]
    found = task.settings()
    for key, value in former.items():
        if key in kind.REMOVED or key == "_instantiator":
            continue
        got, given = find(found, kind.MOVED.get(key, key)), plain(value)
        if isinstance(given, dict):  # what was left out has its default
            got = {name: got[name] for name in given}
        assert got == given, key
    for name, value in task.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert make_task(kind, found, "again").settings() == found
    torch.save(found, tmp_path / "settings.pt")
    assert torch.load(tmp_path / "settings.pt", weights_only=True) == found


def test_a_former_average_is_what_predicts_and_what_a_resume_goes_on_with(tmp_path: Path) -> None:
    kind = get_method("musica").task_class()
    former = FORMER["musica"] | FORMER_TRAINING
    state = make_task(kind, former, "test").state_dict()
    mean = {f"ema.{key}": value + 1 if value.is_floating_point() else value for key, value in state.items()}
    for steps, moved in ((0, 0.0), (12, 1.0)):
        path = tmp_path / f"after{steps}.ckpt"
        whole = {**state, **{key: value for key, value in mean.items() if key.startswith("ema.net.")},
                 "ema.steps": torch.tensor(steps)}  # fmt: skip
        torch.save({"state_dict": whole, "hyper_parameters": former, "method": "musica"}, path)
        task = load_task(kind, path)
        for name, value in task.net.state_dict().items():  # type: ignore[union-attr,operator]
            assert torch.equal(value, state[f"net.{name}"] + moved if value.is_floating_point() else value), name
    content = read_checkpoint(path)
    assert int(content["averaging_state"]["n_averaged"]) == 13
    assert torch.equal(content["current_model_state"]["net.start"], state["net.start"])


def test_a_removed_option_that_changed_something_is_refused() -> None:
    with pytest.raises(LabError, match="f.ckpt: was made with hidden_bits 8, which musica no longer has"):
        make_task(get_method("musica").task_class(), FORMER["musica"] | {"hidden_bits": 8}, "f.ckpt")


def test_unknown_and_wrong_settings_are_one_line() -> None:
    kind = get_method("awing").task_class()
    for wrong, text in (
        ({"shake": 1, "spin": 2}, "was made with shake, spin, which awing does not know"),
        ({"decode": "best"}, "decode: must be one of argmax, quarter, window, soft, got best"),
        ({"train": {"lr": "fast"}}, "train.lr"),
        ({"train": {"speed": 1}}, "speed"),
    ):
        with pytest.raises(LabError, match=text) as error:
            make_task(kind, {"scheme": "ibug68", "input_size": 64, "stacks": 1, "width": 16, **wrong}, "f.ckpt")
        assert str(error.value).startswith("f.ckpt: ") and "\n" not in str(error.value)
