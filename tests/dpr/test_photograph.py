"""Faces of photographs: regions and graphs give the points of the network on the whole picture."""

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
from common.export.runtime import OnnxSession
from common.export.work import session_net
from common.schemes import IBUG68
from dpr.network import DPRNet
from dpr.parts import neutral_face
from dpr.photograph import find, photograph_parts, region_sample
from dpr.transform import sample as sample_whole
from tests.dpr.golden import shake

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
    """Two faces of one picture in one call: regions as the whole picture, graphs as networks."""
    net = lively(**more)
    sample = SyntheticFaces(1, seed=4)[0]
    boxes = torch.from_numpy(np.stack([sample.box, sample.box + [6, -4, 10, 3]]).astype(np.float64))
    pixels = torch.from_numpy(sample.image).permute(2, 0, 1)[None].expand(2, -1, -1, -1)
    graphs = {}
    for name, part in photograph_parts(net, local=True).items():
        content = to_onnx(part.net, list(part.examples.values()), list(part.examples), part.outputs)
        graphs[name] = session_net(OnnxSession(content), part.outputs)
    with torch.inference_mode():
        wanted = net(pixels, boxes)
        for nets in (None, graphs):
            found = find(net, sample.image, boxes, nets=nets)
            assert (found.points - wanted.points).abs().max() < 0.01
        assert (wanted.points - wanted.global_points).abs().max() > 0.5  # the local stage did something
        without = find(net, sample.image, boxes, local=False, nets=graphs)
        assert (without.points - wanted.global_points).abs().max() < 0.01
    assert "global_regress" not in net.__dict__ and net.sampler is sample_whole  # the network is as it was


@pytest.mark.parametrize("shift", [(0.0, 0.0), (-150.0, 30.0), (0.0, 1e4), (float("nan"), 0.0)])
def test_regions_are_cuts_of_the_whole_picture(shift: tuple[float, float]) -> None:
    """Inside, across the border, far outside, and nowhere."""
    image = torch.randint(0, 256, (2, 3, 120, 160), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    turned = torch.tensor([[[0.8, -0.4, 5.0], [0.3, 0.9, -8.0]], [[1.7, 0.1, -60.0], [-0.2, 1.5, -20.0]]]).double()
    turned[:, :, 2] += torch.tensor(shift)
    wanted, found = sample_whole(image.float(), turned, 64), region_sample(image, turned, 64)
    assert found.shape == (2, 3, 64, 64)
    if np.isfinite(shift[0]):
        assert (found - wanted).abs().max() < 0.02  # grey levels


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
