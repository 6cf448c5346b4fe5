"""`python -m benchmarks.studies.peers`: the parts of the comparison with public tools."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies import mesh, peers
from common.errors import LabError
from common.prediction.detection import Detections

FAKE = """
from types import SimpleNamespace as Some

class FaceMesh:
    def __init__(self, **options):
        assert options == {"static_image_mode": True, "max_num_faces": 1, "refine_landmarks": True}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def process(self, image):
        points = [Some(x=k / 478, y=0.5, z=float(image[0, 0, 0])) for k in range(478)]
        return Some(multi_face_landmarks=[Some(landmark=points)] if image.any() else None)

solutions = Some(face_mesh=Some(FaceMesh=FaceMesh))
"""


def test_pictures_go_to_another_python_and_meshes_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mediapipe.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run = peers.Mesh(sys.executable)
    image = np.full((20, 478, 3), 3, np.uint8)
    points, seconds = run(image[:, ::-1])
    np.testing.assert_allclose(points[:, 0], np.arange(478) - 0.5, atol=1e-4)
    np.testing.assert_allclose(points[0, 1:], [9.5, 3 * 478])
    assert 0 <= seconds < 1 and np.isnan(run(np.zeros_like(image))[0]).all()
    run.close()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "none"))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "mediapipe.py").write_text("raise SystemExit(3)")
    with pytest.raises(LabError, match="is mediapipe 0.10.21 installed"):
        peers.Mesh(sys.executable)(image)


def test_a_linear_map_is_found_again_wherever_the_face_is() -> None:
    rng = np.random.default_rng(0)
    meshes = rng.normal(size=(400, mesh.POINTS, 1)) * 0.1 + rng.normal(size=(1, mesh.POINTS, 3))
    meshes[:, peers.RIGHT, 0] = meshes[:, peers.LEFT, 0] + 4
    chosen = rng.integers(0, mesh.POINTS, (68, 3))
    truth = meshes[:, chosen, :2].mean(axis=2)
    fitted = peers.ridge_maps(list(meshes[:300]), list(truth[:300]))[0]
    turn = 7 * np.array([[0.8, -0.6], [0.6, 0.8]])
    for points, wanted in zip(meshes[300:], truth[300:], strict=True):
        moved = np.column_stack([points[:, :2] @ turn.T + [90, 40], 7 * points[:, 2:]])
        plain, found = fitted(points), fitted(moved)
        np.testing.assert_allclose(found, plain @ turn.T + [90, 40], atol=1e-6)
        assert np.abs(plain - wanted).mean() < 0.2 * np.abs(wanted - truth.mean(axis=0)).mean() + 0.05


def test_the_detected_face_that_is_meant_is_placed_and_a_missed_one_is_not() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 90, 90]], float)

    def place(image: np.ndarray, found: Detections) -> np.ndarray:
        return np.tile(found.boxes[0, :2], (68, 1))

    found = peers.by_detector(
        lambda image: Detections.of(boxes, np.array([0.9, 0.7])), place, np.zeros((99, 99, 3), np.uint8),
        np.array([52, 52, 92, 92]),
    )  # fmt: skip
    assert (found.points == 50).all() and found.finding >= 0 and found.placing >= 0
    missed = peers.by_detector(
        lambda image: Detections.of(boxes[:1], np.ones(1)), place, np.zeros((99, 99, 3), np.uint8),
        np.array([52, 52, 92, 92]),
    )  # fmt: skip
    assert np.isnan(missed.points).all()
    given = [peers.TimedPoints(np.tile(np.arange(68.0)[:, None], (1, 2)), 0.001, 0.002), missed]
    truth = np.tile(np.arange(68.0)[None, :, None], (2, 1, 2)) + [1.0, 0.0]
    cells, values, both = peers.line("tool", given, truth)
    assert cells[4] == "1" and len(values) == 1 and values[0] == pytest.approx(100 / np.hypot(9, 9))
    assert both == pytest.approx(1.5, abs=0.2)
