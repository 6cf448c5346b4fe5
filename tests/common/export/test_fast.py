"""The graph takes the network's place where it is equal and faster, and only there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.export import fast, work
from common.export.fast import FastPath
from common.export.method import check_batches, checked_export
from common.export.runtime import OpenVinoSession, Precision, openvino_core
from common.export.work import CropWork, PhotographWork
from common.files.images import write_image
from common.prediction.inference import Predictor
from common.task import LandmarkTask
from common.types import FaceBatch
from tests.common.export.small import crop_of, small_task
from tests.common.export.test_method import Wrong

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def exported() -> tuple[LandmarkTask, bytes]:
    task = small_task("awing")
    return task, checked_export(task, crop_of(task))[0]


@pytest.fixture
def made(
    exported: tuple[LandmarkTask, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[LandmarkTask, list[int]]:
    """Return a task and the list of exports, each of which takes no time; the cache is empty."""
    task, content = exported
    monkeypatch.setenv("FACE_ALIGNMENT_CACHE", str(tmp_path))
    built: list[int] = []

    def export(*_: Any) -> bytes:
        built.append(1)
        return content

    monkeypatch.setattr(work, "export_task", export)
    return task, built


def faces(task: LandmarkTask) -> FaceBatch:
    return check_batches(task, crop_of(task), (2,))[0]


@torch.inference_mode()
def apart(task: LandmarkTask, path: FastPath[FaceBatch]) -> float:
    batch = faces(task)
    return float((path(batch).points - task.predict_batch(batch).points).norm(dim=-1).max())


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_named_backend_gives_the_same_and_is_built_once(made: tuple[LandmarkTask, list[int]], backend: Any) -> None:
    task, built = made
    for _ in range(2):
        path = FastPath(CropWork(task, crop_of(task)), backend)
        assert path.runner is not None and apart(task, path) < 0.02
    assert len(built) == 1
    assert path.choice is not None and set(path.choice.milliseconds) == {"eager", "onnx", "openvino"}


def test_a_broken_cache_is_rebuilt(made: tuple[LandmarkTask, list[int]], tmp_path: Path) -> None:
    task, built = made
    FastPath(CropWork(task, crop_of(task)), "onnx")
    (file,) = tmp_path.glob("graphs/*.onnx")
    for broken in (file, file.with_suffix(".json")):
        broken.write_bytes(broken.read_bytes()[:-40])
        before = len(built)
        assert apart(task, FastPath(CropWork(task, crop_of(task)), "onnx")) < 0.02
        assert len(built) == before + 1


def test_auto_waits_until_building_pays(made: tuple[LandmarkTask, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    task, built = made
    monkeypatch.setattr(fast, "timed", lambda calls: {name: float(name == "eager") for name in calls})
    path = FastPath(CropWork(task, crop_of(task)), "auto")
    assert apart(task, path) == 0 and not built
    path.spent = fast.PATIENCE + 1
    assert apart(task, path) == 0 and not built, "a slow network's build takes as long as these faces, and is not begun"
    path.faces = fast.BUILD_FACES
    assert apart(task, path) == 0  # the last that is waited for
    assert apart(task, path) < 0.02 and path.runner is not None and len(built) == 1
    again = FastPath(CropWork(task, crop_of(task)), "auto")  # the next process finds it at once
    assert apart(task, again) < 0.02 and again.runner is not None and len(built) == 1


def test_a_slower_graph_is_left_alone(made: tuple[LandmarkTask, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    task, _ = made
    monkeypatch.setattr(fast, "timed", lambda calls: {name: float(name != "eager") for name in calls})
    path = FastPath(CropWork(task, crop_of(task)), "auto")
    path.prepare()
    assert path.runner is None and path.choice is not None and path.choice.backend == "eager"
    assert apart(task, path) == 0


def test_a_graph_that_is_off_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = small_task("awing")
    monkeypatch.setenv("FACE_ALIGNMENT_CACHE", str(tmp_path))
    monkeypatch.setattr(task, "exportable", lambda: Wrong(task, task.predict_batch))
    path = FastPath(CropWork(task, crop_of(task)), "auto")
    path.prepare()
    assert path.runner is None and apart(task, path) == 0
    assert path.choice is not None and min(path.choice.difference.values()) > 0.1
    with pytest.raises(LabError, match=r"backend onnx: its points are 0\.14"):
        FastPath(CropWork(task, crop_of(task)), "onnx")


def test_other_weights_are_another_graph(made: tuple[LandmarkTask, list[int]]) -> None:
    task, built = made
    path = FastPath(CropWork(task, crop_of(task)), "onnx")
    with torch.no_grad():
        next(task.parameters()).add_(0.0)
        path(faces(task))
        assert len(built) == 1  # changed in place, but to the same values
        next(task.parameters()).mul_(1.001)
        assert fast.graph_key(CropWork(task, crop_of(task))) not in str(list(fast.cache_folder().glob("graphs/*")))
        next(task.parameters()).div_(1.001)


@pytest.mark.parametrize(
    ("backend", "precision", "said"),
    [
        ("tensorrt", "float32", "backend must be one of auto, eager, onnx, openvino"),
        ("auto", "float16", "precision must be one of float32, bf16"),
        ("onnx", "bf16", "precision bf16 needs OpenVINO"),
    ],
)
def test_mistakes_are_one_line(
    exported: tuple[LandmarkTask, bytes], backend: Any, precision: Precision, said: str
) -> None:
    with pytest.raises(LabError, match=said):
        FastPath(CropWork(exported[0], crop_of(exported[0])), backend, precision)


def test_bf16_needs_a_processor_that_has_it(exported: tuple[LandmarkTask, bytes]) -> None:
    if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert OpenVinoSession(exported[1], precision="bf16").inputs == ("image",)
    else:
        with pytest.raises(LabError, match="this processor has no bf16"):
            OpenVinoSession(exported[1], precision="bf16")


@pytest.mark.parametrize("backend", ["onnx", "openvino", "auto"])
def test_an_exported_file_predicts_as_its_weights(
    exported: tuple[LandmarkTask, bytes], tmp_path: Path, backend: Any
) -> None:
    task, content = exported
    (tmp_path / "face.onnx").write_bytes(content)
    sample = SyntheticFaces(1, seed=2)[0]
    found = Predictor.load(tmp_path / "face.onnx", backend=backend)
    wanted = Predictor(task, crop_of(task), backend="eager")(sample.image, sample.box[None])
    points = found(sample.image, sample.box[None]).points
    assert (points - wanted.points).norm(dim=-1).max() < 0.05
    with pytest.raises(LabError, match="holds no weights"):
        found.save_pretrained(tmp_path / "saved")
    with pytest.raises((NotImplementedError, RuntimeError)):  # its task has nothing to predict with
        found.task.predict_batch(found.batch(sample.image, sample.box[None]))


def test_the_page_s_lines_run(
    exported: tuple[LandmarkTask, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ten lines of docs/export.md, which need onnxruntime alone."""
    task, content = exported
    (tmp_path / "face.onnx").write_bytes(content)
    batch = faces(task)
    write_image(tmp_path / "crop.png", batch.image[0].permute(1, 2, 0).contiguous().numpy())
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(encoding="utf-8"), re.S)
    assert "import common" not in lines and "from common" not in lines
    names: dict[str, Any] = {}
    exec(lines, names)  # noqa: S102 - the page is the project's own
    with torch.inference_mode():
        wanted = task.predict_batch(batch).points[0].numpy()
    assert np.abs(names["points"] - wanted).max() < 0.02


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "official", "settings"),
    [
        ("dpr", False, {"stage": "glsr"}),
        ("awing", True, {"input_size": 256}),  # of the official crops
        pytest.param("dpr", True, {"stage": "glsr"}, marks=SLOW),
        pytest.param("sdu3d", True, {"input_size": 128}, marks=SLOW),
        pytest.param("spiga", True, {"input_size": 256, "depth": 4}, marks=SLOW),
    ],
)
@torch.inference_mode()
def test_photographs_are_looked_at_by_graphs_too(
    name: str, official: bool, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sees whole photographs, DPR and official weights, runs its networks as graphs."""
    monkeypatch.setenv("FACE_ALIGNMENT_CACHE", str(tmp_path))
    task = small_task(name, **settings)
    found = Predictor(task, crop_of(task), official, backend="onnx")
    assert isinstance(found.work, PhotographWork)
    case = found.work.cases((2,))[0]
    points, wanted = found(case.image, case.boxes), found.work.by_network(case)
    assert len(points.steps) == len(wanted.steps) > 0 and (points.points - wanted.points).norm(dim=-1).max() < 0.05
    assert (points.points[0] - points.points[1]).norm(dim=-1).mean() > 0.1  # another box, another answer
    again = Predictor(task, crop_of(task), official, backend="auto")  # from the cache, where it is faster
    assert (again(case.image, case.boxes).points - wanted.points).norm(dim=-1).max() < 0.05
    assert again.fast.choice is not None and set(again.fast.choice.difference) == {"onnx", "openvino"}
