"""Disturbances that do what they say, curves and confidence by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from benchmarks.measure.robustness import (
    LEVELS,
    PICTURE_KINDS,
    RECORD,
    curve_area,
    disturb_box,
    disturbed,
    errors,
    flicker,
    is_done,
    read_settings,
    risk_coverage,
    stream,
    weights_time,
)
from benchmarks.record import Robustness, append_record
from benchmarks.run.plan import Trial
from benchmarks.run.trial import last_checkpoint
from common.data.crops import CropConfig, crop_sample
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.task import LandmarkTask
from common.types import FaceBatch, Prediction

CONFIG = CropConfig(size=64, box_scale=1.4)


class Still(LandmarkTask):
    """Answers the truth moved by a fixed number of crop pixels, or points fixed to the crop."""

    def __init__(self, move: float = 0.0, fixed: bool = False) -> None:
        super().__init__("ibug68", 64)
        self.move, self.fixed = move, fixed

    def network(self) -> nn.Module:
        return self

    def predict_batch(self, batch: FaceBatch) -> Prediction:
        points = batch.points + torch.tensor([self.move, 0.0])
        if self.fixed:
            points = torch.full_like(batch.points, 31.5)
        score: Tensor = -batch.points.mean(-1)
        return Prediction(points=points, score=score)


@pytest.fixture(scope="module")
def faces() -> SyntheticFaces:
    return SyntheticFaces(4, scheme="ibug68", seed=2)


def test_boxes_move_by_the_level(faces: SyntheticFaces) -> None:
    sample = faces[0]
    side = (sample.box[2:] - sample.box[:2]).max()
    moved = disturb_box(sample, "shift", 0.2, stream(0, 0, "shift")).box
    center = (moved[:2] + moved[2:] - sample.box[:2] - sample.box[2:]) / 2
    assert np.linalg.norm(center) == pytest.approx(0.2 * side, rel=1e-4)
    grown = disturb_box(sample, "scale", 1.4, stream(0, 0, "scale")).box
    np.testing.assert_allclose(grown[2:] - grown[:2], 1.4 * (sample.box[2:] - sample.box[:2]), rtol=1e-5)


@pytest.mark.parametrize("kind", ["shift", "scale", "rotation", *PICTURE_KINDS])
def test_disturbances_are_repeatable_and_keep_the_truth(faces: SyntheticFaces, kind: str) -> None:
    """Points mapped back to the image are those of the annotation whatever the disturbance."""
    level = {"shift": 0.1, "scale": 1.2, "rotation": 30, "jpeg": 10, "small": 16}.get(kind, 0.1)
    task = Still()
    first, second = (
        disturbed(faces[1], task, CONFIG, faces.subset_names, kind, level, stream(0, 1, kind)) for _ in range(2)
    )
    plain = crop_sample(faces[1], task.scheme, CONFIG, faces.subset_names)
    np.testing.assert_array_equal(first.image, second.image)
    assert (first.image != plain.image).any()
    found = errors(task, [first], faces.subset_names, 4)
    assert found.nme[0] < 1e-3
    np.testing.assert_allclose(found.points[0], faces[1].points[:, :2], atol=2e-3)


def test_rotation_turns_by_the_level(faces: SyntheticFaces) -> None:
    task = Still()
    plain = crop_sample(faces[0], task.scheme, CONFIG)
    turned = disturbed(faces[0], task, CONFIG, (), "rotation", 30.0, stream(0, 0, "rotation"))

    def angle(points: np.ndarray) -> float:
        left, right = task.scheme.corners
        return float(np.degrees(np.arctan2(*(points[right] - points[left])[::-1])))

    assert abs(angle(turned.points) - angle(plain.points)) == pytest.approx(30, abs=1e-2)


def test_occlusion_covers_its_share() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    for level in (0.05, 0.3):
        covered = (PICTURE_KINDS["occlusion"](image, level, stream(0, 0, "occlusion")) != 255).any(-1).mean()
        assert covered == pytest.approx(level, abs=0.03)


def test_light_and_size_fall() -> None:
    image = np.full((64, 64, 3), 200, np.uint8)
    assert PICTURE_KINDS["dark"](image, 0.1, stream(0, 0, "dark")).mean() == pytest.approx(20, abs=1)
    stripes = np.tile(np.array([0, 255], np.uint8), 32)[None, :, None].repeat(64, 0).repeat(3, 2)
    assert PICTURE_KINDS["small"](stripes, 16, stream(0, 0, "small")).std() < 1


def test_error_is_in_percent_of_the_eyes(faces: SyntheticFaces) -> None:
    face = crop_sample(faces[0], Still().scheme, CONFIG)
    found = errors(Still(move=2.0), [face], (), 4).nme[0]
    pixels = 2.0 * np.linalg.norm(face.to_image[:, 0])
    assert found == pytest.approx(100 * pixels / face.norm, rel=1e-4)


def test_risk_coverage_by_hand() -> None:
    nmes = np.array([1.0, 3.0, 2.0, 6.0])
    sure = risk_coverage(nmes, -nmes)
    assert sure["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert sure["nme"] == pytest.approx([1, 1.5, 2, 3]) and sure["aurc"] == pytest.approx(7.5 / 4)
    assert risk_coverage(nmes, nmes)["aurc"] > sure["aurc"]


def test_area_is_the_mean_height() -> None:
    assert curve_area([2, 0, 1], [3.0, 1.0, 2.0]) == pytest.approx(2.0)
    assert curve_area([0, 1, 3], [0.0, 2.0, 2.0]) == pytest.approx((1 + 4) / 3)


def test_flicker_is_nought_for_the_truth_and_half_a_pixel_for_the_crop(faces: SyntheticFaces) -> None:
    samples = [faces[0], faces[1]]
    still = flicker(Still(), samples, CONFIG, (), 8, 32, 0)
    assert still.max() < 1e-3
    fixed = flicker(Still(fixed=True), samples, CONFIG, (), 64, 32, 0)
    face = crop_sample(samples[0], Still().scheme, CONFIG)
    pixel = np.linalg.norm(face.to_image[:, 0])
    # Uniform moves within +- half a pixel: variance 1 / 12 on each axis.
    assert fixed[0] == pytest.approx(100 * pixel * np.sqrt(1 / 6) / face.norm, rel=0.15)


def test_what_was_examined_is_not_repeated(tmp_path: Path) -> None:
    """The last record of a trial tells whether its present weights were examined, and on how many faces."""
    trial = Trial("awing", "synthetic", "smoke", 0, ("awing/smoke.yaml",))
    path = last_checkpoint(tmp_path, trial)
    path.parent.mkdir(parents=True)
    path.touch()
    assert not is_done(tmp_path, trial, 8)
    seen = Robustness(trial=f"{trial.name}/flicker", method="awing", dataset="synthetic", kind="flicker", asked=8,
                      weights=weights_time(tmp_path, trial))  # fmt: skip
    append_record(tmp_path / RECORD, seen)
    assert is_done(tmp_path, trial, 8) and not is_done(tmp_path, trial, None)
    os.utime(path, (1e9, 1e9))
    assert not is_done(tmp_path, trial, 8), "trained anew"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("[", "is not valid YAML"),
        ("seed: x", "seed"),
        ("kinds: {shift: {unit: a, levels: [0, -1]}}", r"kinds.shift.levels must be in \[0, 10\], got -1"),
        ("kinds: {small: {unit: a, levels: [16, 0]}}", r"kinds.small.levels must be in \[1, 4096\], got 0"),
        ("kinds: {blur: {unit: a, levels: [0.1, 0.1]}}", "are all the same"),
        ("kinds: {blur: {unit: a, levels: [.nan, 0.1]}}", "finite"),
        ("kinds: {fog: {unit: a, levels: [0, 1]}}", "fog"),
        ("flicker: {faces: 0, crops: 8}", "faces"),
    ],
)
def test_a_wrong_file_of_levels_is_one_line(change: str, said: str, tmp_path: Path) -> None:
    assert read_settings(LEVELS).batch_size == 32
    path = tmp_path / "levels.yaml"
    sound = yaml.safe_load(LEVELS.read_text())
    path.write_text(change if change == "[" else yaml.safe_dump({**sound, **yaml.safe_load(change)}))
    with pytest.raises(LabError, match=said) as told:
        read_settings(path)
    assert str(told.value).startswith(str(path))
