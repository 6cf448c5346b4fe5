"""The exported networks give the points of the network itself."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.studies.dpr import speed
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.export.graph import to_onnx
from common.schemes import IBUG68
from dpr.fast import FastDpr
from dpr.network import DPRNet
from dpr.parts import neutral_face
from tests.conftest import needs_shared
from tests.dpr.golden import arrays, official_net, picture, shake

STRIDES: dict[str, Any] = {"face_strides": (1, 2, 2, 2, 2, 1, 1, 1), "part_strides": (1, 2, 2, 2, 1, 1, 1, 1)}


def lively(**more: Any) -> DPRNet:
    """Return a small network that answers something else for every face."""
    torch.manual_seed(0)
    net = DPRNet(
        IBUG68, torch.from_numpy(neutral_face(IBUG68)) / 3 + 0.5, face_size=64, part_size=32, **STRIDES, **more
    )
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
            module.momentum = None
    with torch.no_grad():
        net.train()(torch.randint(0, 256, (4, 3, 96, 96)).float())  # running statistics of usual size
        for layer in (net.global_reinit.head[-1], net.global_regress.head[-1]):
            shake(layer, 0.02)
        assert net.local_reinit is not None and net.local_regress is not None
        net.start_local()
        for layer in net.local_regress.last:
            shake(layer, 0.2)
    return net.eval()


@pytest.mark.parametrize("more", [{"part_source": "face"}, {"part_source": "image"}])
def test_points_are_those_of_the_network(more: dict[str, Any]) -> None:
    """Two faces of one picture in one call; crops of whole grey levels on both sides."""
    net = lively(**more)
    net.rounded = True
    sample = SyntheticFaces(1, seed=4)[0]
    boxes = np.stack([sample.box, sample.box + [6, -4, 10, 3]]).astype(np.float64)
    pixels = torch.from_numpy(sample.image).permute(2, 0, 1)[None].expand(2, -1, -1, -1)
    with torch.inference_mode():
        stages = net(pixels, torch.from_numpy(boxes))
    ours = FastDpr(net)(sample.image, boxes)
    assert ours.shape == (2, 68, 2) and ours.dtype == np.float64
    assert np.abs(ours - stages.points.numpy()).max() < 0.05
    assert np.abs(stages.points - stages.global_points).max() > 0.5  # the local stage did something
    without = FastDpr(net, local=False)(sample.image, boxes)
    assert np.abs(without - stages.global_points.numpy()).max() < 0.05
    assert np.abs(FastDpr(net)(sample.image, boxes[1:]) - ours[1:]).max() < 1e-3  # alone as among others


def test_shares_of_a_batch_are_what_each_face_gets_alone() -> None:
    """Five faces on two threads: shares of three and two, in the order of the boxes."""
    net, sample = lively(), SyntheticFaces(1, seed=4)[0]
    boxes = sample.box + np.arange(5)[:, None] * np.array([[4.0, -3.0, 5.0, 2.0]])
    fast = FastDpr(net, threads=2)
    found = fast(sample.image, boxes)
    alone = np.concatenate([fast(sample.image, box[None]) for box in boxes])
    assert np.abs(found - alone).max() < 1e-3
    assert np.abs(np.diff(found, axis=0)).max(axis=(1, 2)).min() > 0.5  # another box, another answer


@needs_shared
@pytest.mark.golden
def test_released_weights(shared_dir: Path) -> None:
    """The README's tolerance for whole pictures, 0.05 px with the release's 8-bit crops."""
    golden = arrays(shared_dir)
    fast = FastDpr(official_net(shared_dir), local=False)
    for index, name in enumerate(golden["names"]):
        points = fast(picture(shared_dir, name), golden["rect"][index : index + 1])
        assert np.abs(points[0] - golden["gsr_pts"][index]).max() < 0.05


def test_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError("none", name=name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(LabError, match=r"onnxruntime: is not installed; pip install"):
        to_onnx(torch.nn.Identity(), (torch.zeros(1),), ("x",))


def test_speed_writes_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "BATCH", 2)
    record = tmp_path / "speed.json"
    assert speed.main(["--points", "68", "--threads", "1", "--rounds", "1", "--record", str(record)]) == 0
    content = json.loads(record.read_text())
    for name in ("gsr", "glsr"):
        row = content[name]
        assert row["ratio"] == pytest.approx(row["released_ms"] / row["fast_ms"])
        assert row["ratio_batch"] == pytest.approx(row["released_ms"] / row["fast_batch_ms"])
    assert content["glsr"]["released_ms"] > content["gsr"]["released_ms"]
