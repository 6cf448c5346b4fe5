"""Folding for inference, the depth report and the ablation runner."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.studies.sdu3d import ablation, depth, poses
from benchmarks.studies.sdu3d.depth import cell, side_view, summary
from benchmarks.studies.sdu3d.fuse import fused
from common.errors import LabError
from common.schemes import IBUG68
from common.task import make_task
from sdu3d.module import SduTask
from sdu3d.network import SduNet
from tests.common.evaluations import evaluation
from tests.conftest import SHARED, needs_shared


@pytest.mark.parametrize(
    "options",
    [
        {"topology": "sat_gate", "block": "cab"},
        {"block": "resnet", "inside": "dcn", "border": "torchvision"},
        {"block": "hpm"},
        {"block": "inception"},
    ],
)
def test_folded_networks_give_the_same_maps(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    net = SduNet(5, width=32, depth=2, **options)
    for name, value in net.named_buffers():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
        assert name
    x = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with pytest.raises(LabError, match="evaluation mode"):
        fused(net)
    net.eval()
    folded = fused(net)
    with torch.inference_mode():
        expected, found = net(x).heatmaps[-1], folded(x).heatmaps[-1]
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)

    def norms(which: torch.nn.Module) -> int:
        return sum(isinstance(m, torch.nn.BatchNorm2d) for m in which.modules())

    assert norms(folded) < norms(net)


def test_depth_figures_and_views() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 100, (3, 68, 3))
    true[..., 2] -= true[..., 2].mean(1, keepdims=True)
    root = np.sqrt(np.prod(np.ptp(true[..., :2], axis=1), axis=-1))
    pred = true + np.array([0.0, 0.0, 1.0]) * root[:, None, None] * 0.02
    report = summary(pred, true, np.array([0.0, 40.0, -50.0]), np.zeros(68))
    assert report["x"] == report["y"] == 0 and report["z"] == pytest.approx(2.0)
    assert report["nme_3d"] == pytest.approx(2.0) and report["nme_2d"] == 0
    assert report["z_of_the_mean_face"] == pytest.approx(report["z_of_a_flat_face"])
    assert report["z_beyond_30_degrees"] == pytest.approx(2.0)
    np.testing.assert_array_equal(side_view(np.array([[1.0, 2.0, 3.0]])), [[-3.0, 2.0]])
    picture = cell(pred[0], true[0])
    assert picture.shape == (depth.CELL, 2 * depth.CELL, 3) and picture.std() > 5


def save(path: Path, epoch: int = 0, **options: Any) -> Path:
    task = make_task(SduTask, {"input_size": 64, "width": 32, "depth": 1, "stacks": 1, "stride": 4, **options}, "test")
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": task.settings(), "method": "sdu3d",
                "epoch": epoch, "data": {"crop": {"size": 64}}}, path)  # fmt: skip
    return path


def test_depth_report_of_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(depth, "mean_depth", lambda: np.zeros(IBUG68.num_points))
    path = save(tmp_path / "deep.ckpt", depth_head=True)
    assert depth.main([str(path), "--count", "2", "--picture", str(tmp_path / "faces.png")]) == 0
    report = json.loads(capsys.readouterr().out)
    # A head that has learnt nothing answers a flat face.
    assert report["faces"] == 2 and report["z"] == pytest.approx(report["z_of_a_flat_face"], rel=1e-3)
    assert (tmp_path / "faces.png").is_file()
    assert depth.main([str(save(tmp_path / "flat.ckpt"))]) == 2
    assert "has no depth head" in capsys.readouterr().err


def test_mean_depth_has_the_nose_in_front() -> None:
    z = depth.mean_depth(4)
    assert z.shape == (68,) and z[30] > z[0] and abs(z.mean()) < 1e-6


def test_ablation_trains_what_is_missing_and_scores_what_is_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    calls: list[list[str]] = []
    first, others = "none", len(ablation.CHOICES) - 1

    def train(arguments: list[str]) -> None:
        calls.append(arguments)
        folder = Path(arguments[arguments.index("--run") + 1]) / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / "last.ckpt", epoch=1 if "--ckpt_path" in arguments else 0)

    monkeypatch.setattr(ablation, "train", train)
    monkeypatch.setattr(ablation, "PreparedCrops", lambda *_: None)
    monkeypatch.setattr(ablation, "evaluate", lambda *_: evaluation(np.array([4.0, 6.0]), {}))
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--epochs", "2"]
    assert ablation.main([*arguments, "--only", first]) == 0  # cut off after one epoch of two: not scored
    assert len(calls) == 1 and json.loads((tmp_path / "out" / "report.json").read_text()) == {}
    assert ablation.main([*arguments, "--only", first]) == 0
    shown = re.sub(" +", " ", capsys.readouterr().out)
    assert "--ckpt_path" in calls[1] and f"| {first} | 5.00 |" in shown
    assert ablation.main(arguments) == 0 and len(calls) == 2 + others
    assert any(list(ablation.CHOICES["spatial transformer inside"]) == call[-2:] for call in calls)
    assert ablation.main(arguments) == 0 and len(calls) == 2 + 2 * others  # the rest goes on, too, then is complete
    assert ablation.main(arguments) == 0 and len(calls) == 2 + 2 * others
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report) == set(ablation.CHOICES) and report[first]["nme"] == 5.0 and report[first]["parameters"] > 0


def test_scores_by_yaw() -> None:
    values, yaw = np.array([1.0, 2.0, 3.0, 6.0]), np.array([10.0, -20.0, 45.0, -80.0])
    found = poses.by_yaw(values, yaw)
    assert found == {"pooled": 3.0, "yaw_0_30": 1.5, "yaw_30_60": 3.0, "yaw_60_90": 6.0, "balanced": 3.5}
    assert "balanced" not in poses.by_yaw(values[:2], yaw[:2])
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 100, (4, 68, 3))
    root = np.sqrt(np.prod(np.ptp(true[..., :2], axis=1), axis=-1))
    pred = true + np.array([0.03, 0.0, 0.04]) * root[:, None, None]
    pose = np.stack([yaw, np.zeros(4), np.zeros(4)], axis=1)
    known = replace(evaluation(np.zeros(4), {}), points=pred, truth=true, pose=pose)
    report = poses.score(known)
    assert [report[name]["pooled"] for name in ("plane", "z", "space")] == pytest.approx([3.0, 4.0, 5.0])
    assert list(poses.score(replace(known, points=pred[..., :2], truth=true[..., :2]))) == ["plane"]
    with pytest.raises(LabError, match="has no head pose"):
        poses.score(replace(known, pose=np.full((4, 3), np.nan)))


@needs_shared
@pytest.mark.parametrize("depth", [False, True])
def test_genuine_files_of_aflw2000_are_scored(depth: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "any.ckpt", depth_head=depth)
    folder = str(SHARED / "data" / "samples" / "aflw2000")
    assert poses.main([str(path), "--aflw2000", folder]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["faces"] == 8 and set(report) == {"faces", "plane", *(("z", "space") if depth else ())}
    assert report["plane"]["pooled"] > 0 and "yaw_0_30" in report["plane"]
    assert poses.main([str(path), "--aflw2000", str(tmp_path)]) == 2
    assert "no .mat file" in capsys.readouterr().err
