"""The one evaluation path: precision, points that are not annotated, splits, predictors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.measure import robustness
from benchmarks.score import cross_dataset
from common.data.batching import CroppedFaces
from common.data.crops import CropConfig, crop_sample
from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.errors import LabError
from common.evaluation import Evaluation, batches, evaluate, evaluate_batches, load_data
from common.metrics.landmark import FaceCollector
from common.prediction.inference import Predictor
from tests.common.evaluations import HIDDEN, HalfAnnotated, Truth

CROP = CropConfig(size=64, box_scale=1.4)


@pytest.fixture(scope="module")
def faces() -> HalfAnnotated:
    return HalfAnnotated(5, scheme="ibug68", seed=2)


def by_task(task: Truth, faces: HalfAnnotated) -> np.ndarray:
    return evaluate(task, CroppedFaces(faces, CROP), batch_size=2).nme


def by_predictor(task: Truth, faces: HalfAnnotated) -> np.ndarray:
    return evaluate(Predictor(task, CROP), faces).nme


def by_test_step(task: Truth, faces: HalfAnnotated) -> np.ndarray:
    for index, batch in enumerate(batches(CroppedFaces(faces, CROP), size=2)):
        task.test_step(batch, index)
    return task.faces.result().nme


def by_steps(task: Truth, faces: HalfAnnotated) -> np.ndarray:
    return evaluate(task, CroppedFaces(faces, CROP)).step_nme[:, 0]


def by_robustness(task: Truth, faces: HalfAnnotated) -> np.ndarray:
    cropped = [crop_sample(faces[row], faces.scheme, CROP) for row in range(len(faces))]
    return robustness.errors(task, cropped, (), 4).nme


def by_cross_dataset(task: Truth, faces: HalfAnnotated) -> np.ndarray:
    found = cross_dataset.make_task(Predictor(task, CROP), faces, "synthetic", None).evaluate("canonical")
    return np.asarray(found["per_image"])


CONSUMERS = [by_task, by_predictor, by_test_step, by_steps, by_robustness, by_cross_dataset]


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_points_without_annotation_never_count(
    faces: HalfAnnotated, consumer: Callable[[Truth, HalfAnnotated], np.ndarray]
) -> None:
    """Their places are garbage, and the prediction differs from them by thousands of pixels."""
    found = consumer(Truth(), faces)
    assert found.shape == (5,) and found.max() < 1e-3
    moved = consumer(Truth(move=1.0), faces)
    assert moved.min() > 1 and moved.max() < 10


def test_points_without_annotation_do_not_make_a_normaliser(faces: HalfAnnotated) -> None:
    found = evaluate(Truth(), CroppedFaces(faces, CROP))
    known = found.truth[:, HIDDEN.stop :]
    side = np.sqrt(np.prod(np.ptp(known, axis=1), axis=-1))
    points = found.truth + [1.0, 0.0]
    np.testing.assert_allclose(found.errors(points, "lnd_bbox"), 100 / side, rtol=1e-9)


def test_a_normaliser_of_points_without_annotation_is_refused(faces: HalfAnnotated) -> None:
    class NoCorners(HalfAnnotated):
        def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
            sample = super().__getitem__(index)
            assert sample.annotated is not None
            sample.annotated[36] = False
            return sample

    found = evaluate(Truth(), CroppedFaces(NoCorners(2, scheme="ibug68"), CROP))
    with pytest.raises(LabError, match="outer eye corners"):
        _ = found.nme


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coordinates_are_exact_in_half_precision(faces: HalfAnnotated, dtype: torch.dtype) -> None:
    """A network that returns the truth has no error, whatever the trainer's precision."""
    task = Truth()
    batch = next(batches(CroppedFaces(faces, CROP)))
    with torch.autocast("cpu", dtype=dtype):
        task.test_step(batch, 0)
        found = task.predict_step(batch, 0)["points"]
    assert task.faces.result().nme.max() < 1e-3
    np.testing.assert_allclose(found[:, HIDDEN.stop :], batch.image_points[:, HIDDEN.stop :], atol=1e-3)


def test_faces_come_in_order_without_augmentation_from_every_split() -> None:
    crop = CropConfig(size=64, rotation=40, shift=0.2)
    data = FaceDataModule(crop=crop, synthetic=SyntheticConfig(5, 3), num_workers=0, scheme="ibug68")
    first, second = (torch.cat([batch.to_image for batch in batches(data, "train", 2)]) for _ in range(2))
    assert torch.equal(first, second) and first.shape[0] == 5
    assert first[:, 0, 1].abs().max() == 0, "nothing is turned"
    rows = torch.cat([batch.rows for batch in batches(data, "val", 2) if batch.rows is not None])
    assert rows.tolist() == [0, 1, 2]
    assert len(evaluate(Truth(), data, "val", count=2)) == 2
    with pytest.raises(LabError, match="split must be one of"):
        next(batches(data, "all"))


def test_a_predictor_brings_its_own_crop() -> None:
    data = FaceDataModule(
        crop=CropConfig(size=32), synthetic=SyntheticConfig(test_count=2), num_workers=0, scheme="ibug68"
    )
    found = evaluate(Predictor(Truth(), CROP), data)
    assert found.nme.max() < 1e-3
    with pytest.raises(LabError, match="at 32 px"):
        evaluate(Truth(), data)
    with pytest.raises(LabError, match="needs faces with their crop"):
        evaluate(Truth(), data.cropped("test").faces)


def test_what_is_evaluated_is_saved(faces: HalfAnnotated, tmp_path: Path) -> None:
    found: Evaluation = evaluate(Truth(move=1.0), CroppedFaces(faces, CROP))
    found.save(tmp_path / "run" / "test_predictions.npz")
    with np.load(tmp_path / "run" / "test_predictions.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["nme"], found.nme)
        assert saved["ids"].tolist() == list(found.ids) and saved["points"].dtype == np.float32


def test_nothing_to_evaluate_and_wrong_configurations_are_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no face to evaluate"):
        evaluate_batches(Truth(), [])
    assert len(FaceCollector(Truth().scheme)._parts) == 0
    with pytest.raises(LabError, match="no such configuration"):
        load_data(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("model: {}\n")
    with pytest.raises(LabError, match="names no data"):
        load_data(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("data: {scheme: ibug68, crop: {size: 96}}\n")
    with pytest.raises(LabError, match="crops of 96 px"):
        load_data(tmp_path / "config.yaml", task=Truth())
    assert load_data(tmp_path / "config.yaml", task=Truth(), crop={"size": 64}).crop.size == 64
    with pytest.raises(LabError, match="colour"):
        load_data(tmp_path / "config.yaml", colour="red")
