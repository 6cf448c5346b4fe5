"""Every method's graph gives the network's points, for any batch, and says what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import LabError
from common.export.__main__ import main
from common.export.graph import CropGraph, crops_only
from common.export.method import check_batches, checked_export, checked_part, largest_difference
from common.export.runtime import GraphRunner, OnnxSession, graph_metadata
from common.files.checkpoints import save_safetensors
from common.methods import METHODS
from common.packing import Description
from common.task import LandmarkTask
from common.types import FaceBatch, Prediction
from tests.common.export.small import crop_of, small_task

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "awing": ("awing", {"stacks": 2}),
    "awing, window": ("awing", {"decode": "window", "extra": {"flip_test": True}}),
    "spiga": ("spiga", {}),
    "spiga, sparse": ("spiga", {"graph": {"kind": "anatomical"}}),
    "dpr": ("dpr", {"stage": "glsr"}),
    "musica": ("musica", {"net": {"units": 32}}),
    "musica, box": ("musica", {"origin": "box", "net": {"sampling": "official", "units": 32}}),
    "sdu3d": ("sdu3d", {}),
    "sdu3d, deformable": ("sdu3d", {"net": {"inside": "dcn", "topology": "hourglass"}, "decode": "local_soft"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_points_are_those_of_the_network(variant: str) -> None:
    name, changes = VARIANTS[variant]
    task = small_task(name, **changes)
    content, difference = checked_export(task, crop_of(task))
    assert difference < 0.02
    runner = GraphRunner(OnnxSession(content))
    batch = check_batches(task, crop_of(task), (3,))[0]
    found = runner(batch)
    assert found.points.shape == (3, task.scheme.num_points, 2) and len(found.steps) >= 1
    apart = (found.points[0] - found.points[1]).norm(dim=-1).mean()
    assert apart > max(0.005, 10 * difference)  # it looks at the picture
    with torch.inference_mode():
        wanted = task.predict_batch(batch)
    for field in ("score", "pose", "translation"):
        one, other = getattr(found, field), getattr(wanted, field)
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other.float(), rtol=1e-3, atol=1e-3)


def test_what_onnx_cannot_hold_is_one_line() -> None:
    task = small_task("sdu3d", net={"inside": "stn"})
    with pytest.raises(LabError, match=r"^sdu3d: this network cannot be exported: .*adaptive_avg_pool2d") as caught:
        checked_export(task, crop_of(task))
    assert "\n" not in str(caught.value)


def test_all_methods_are_covered() -> None:
    assert {name for name, _ in VARIANTS.values()} == set(METHODS)


def test_iterations_one_after_the_other_are_the_cascade() -> None:
    """Each iteration's graph takes what the one before returned; a face may leave between them."""
    task = small_task("musica", net={"units": 32})
    image = check_batches(task, crop_of(task), (3,))[0].image
    state: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        steps = task.predict_batch(crops_only(image, None)).steps
    parts = task.export_parts()
    for step, (name, part) in zip(steps, parts.items(), strict=True):
        content, difference = checked_part(name, part)
        assert difference < 0.02
        session = OnnxSession(content)
        given = {"image": image.contiguous().numpy(), **state}
        found = session({key: given[key] for key in session.inputs})
        assert np.abs(found["points"] - step.numpy()).max() < 0.02
        state = {"last_points": found["points"], "last_state": found["state"]}


class Wrong(CropGraph):
    """A graph that is a tenth of a pixel off."""

    def forward(self, image: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        points, *rest = super().forward(image, box)
        return points + 0.1, *rest


def test_a_graph_that_is_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task = small_task("awing")
    monkeypatch.setattr(task, "exportable", lambda: Wrong(task, task.predict_batch))
    with pytest.raises(LabError, match=r"up to 0\.14\d* px off the network's"):
        checked_export(task, crop_of(task))


def test_points_that_are_not_finite_are_refused() -> None:
    task = small_task("awing")

    def broken(batch: FaceBatch) -> Prediction:
        found = task.predict_batch(batch)
        return Prediction(found.points * float("nan"), found.score, None, found.steps)

    batches = check_batches(task, crop_of(task), (1,))
    assert np.isnan(largest_difference([task.predict_batch(batches[0])], broken, batches))  # type: ignore[arg-type]


def saved(task: LandmarkTask, path: Path) -> Path:
    save_safetensors(task.state_dict(), path, Description(task.METHOD, task.settings(), crop_of(task)).metadata())
    return path


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = small_task("musica", net={"units": 32})
    weights, out = saved(task, tmp_path / "small.safetensors"), tmp_path / "sub" / "small.onnx"
    assert main(["--weights", str(weights), "--to", "onnx", "--out", str(out), "--parts"]) == 0
    assert "musica" in capsys.readouterr().out
    assert len(list(out.parent.glob("small.iteration?.onnx"))) == len(task.export_parts())
    about = graph_metadata(out)
    assert about["method"] == "musica" and about["scheme"] == task.scheme.name
    assert about["input_size"] == str(task.input_size) and about["version"]
    assert json.loads(about["crop"])["size"] == task.input_size
    assert "yunet" in json.loads(about["box_maps"])
    assert main(["--weights", str(weights), "--out", str(out)]) == 2  # never replaced in silence
    assert "--overwrite" in capsys.readouterr().err


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = saved(small_task("awing"), tmp_path / "small.safetensors")
    for words, said in (
        (["--weights", str(weights), "--out", str(tmp_path / "a.onnx"), "--parts"], "is no cascade"),
        (["--method", "nobody"], "has no embedded weights"),
        (["--weights", str(tmp_path / "none.safetensors")], "missing"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"<html>")
    with pytest.raises(LabError, match="is no ONNX file|is no export"):
        graph_metadata(path)
