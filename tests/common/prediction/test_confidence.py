"""Expected errors: falling maps, what the embedded weights say of their answers, and the warnings that follow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.methods import METHODS
from common.packing import describe, pack
from common.prediction.confidence import LARGEST_TRUSTED, Confidence, Falling
from common.prediction.detection import Detections
from common.prediction.faces import Face, find_landmarks
from common.prediction.inference import Predictor

EMBEDDED = ("dpr", "awing")


def made_up(faces: int = 200, points: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and errors (N, L) in which a lower score means a larger error, and the last point is the worst."""
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0, 1, (faces, 1)) + rng.uniform(0, 0.2, (faces, points))
    usual = np.linspace(1, 3, points)
    return -hardness, usual * (2 + 5 * hardness**2) * rng.uniform(0.7, 1.3, (faces, points))


def test_a_falling_map_never_rises_and_keeps_the_mean() -> None:
    scores, errors = (values[:, 0] for values in made_up(300))
    found = Falling.fit(scores, errors)
    assert (np.diff(found.errors) <= 0).all() and (np.diff(found.scores) > 0).all()
    assert abs(found(scores).mean() - errors.mean()) < 0.05
    assert found(np.array([-99.0, 99.0])).tolist() == [found.errors[0], found.errors[-1]]


@pytest.mark.parametrize("scores", [[0.5] * 11, [float("nan")] * 40])
def test_too_few_or_broken_errors_are_refused(scores: list[float]) -> None:
    with pytest.raises(LabError, match="finite scores"):
        Falling.fit(np.array(scores), np.array(scores))


def test_expected_errors_follow_faces_and_points() -> None:
    score, errors = made_up()
    found = Confidence.fit(score[:150], errors[:150])
    face, point = found.expected(score[150:])
    assert abs(face.mean() - errors[150:].mean()) < 0.1 * errors.mean()
    assert np.corrcoef(face, errors[150:].mean(axis=1))[0, 1] > 0.9
    np.testing.assert_allclose(point.mean(axis=0), errors[150:].mean(axis=0), rtol=0.1)
    assert np.corrcoef(point.ravel(), errors[150:].ravel())[0, 1] > 0.85
    assert Confidence.read(found.text()) == found


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_weights_say_what_their_scores_mean(name: str, tmp_path: Path) -> None:
    (path,) = METHODS[name].weights()
    found = describe(path)
    assert found.confidence is not None and found.confidence.faces >= 240
    assert len(found.confidence.shares) == 68 and "yunet" in found.box_maps
    assert pack(path, tmp_path / "again.safetensors").confidence == found.confidence
    saved = Predictor.load(path).save_pretrained(tmp_path / "folder")
    assert describe(saved).confidence == found.confidence
    assert describe(saved).box_maps["yunet"] == found.box_maps["yunet"]


def test_broken_maps_are_one_line(tmp_path: Path) -> None:
    from common.files.checkpoints import read_state_dict, save_safetensors
    from common.packing import read_metadata

    (path,) = METHODS["awing"].weights()
    for broken in ("{}", '{"face": {"scores": [0, 1], "errors": [1, 2]}, "point": 3}', "[]"):
        target = tmp_path / "broken.safetensors"
        save_safetensors(read_state_dict(path), target, read_metadata(path) | {"confidence": broken}, overwrite=True)
        with pytest.raises(LabError, match="does not say"):
            describe(target)


def found_in(name: str, image: np.ndarray, box: np.ndarray, five: np.ndarray | None = None) -> Face:
    found = Detections.of(box[None], np.array([0.8]), None if five is None else five[None])
    return find_landmarks(Predictor.from_pretrained(name), image, found, "")[0]


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_face_has_a_score_and_an_expected_error(name: str) -> None:
    """Case B32: the default answer had neither the detector's score nor one of the landmarks'."""
    sample = SyntheticFaces(1, seed=4)[0]
    record = found_in(name, sample.image, sample.box).record()
    assert record["detector_score"] == 0.8 and record["expected_error"] > 0
    assert len(record["point_errors"]) == len(record["score"]) == 68
    json.dumps(record)
    noise = np.random.default_rng(0).integers(0, 256, sample.image.shape, np.uint8)
    nothing = found_in(name, noise, sample.box)
    assert nothing.expected_error is not None and nothing.expected_error > LARGEST_TRUSTED
    assert any(line.startswith("expected error") for line in nothing.warnings)


def test_a_profile_is_warned_of_whatever_the_network_makes_of_it() -> None:
    """Case B37: the detector's five points tell a yaw that a network trained on frontal faces does not answer."""
    frontal = np.array([[70, 80], [130, 80], [100, 115], [75, 145], [125, 145]], float)
    profile = np.array([[78, 80], [98, 80], [60, 112], [75, 145], [92, 145]], float)
    image, box = np.full((256, 256, 3), 127, np.uint8), np.array([40.0, 40, 160, 180])
    words = [[line for line in found_in("awing", image, box, five).warnings if "profile" in line]
             for five in (frontal, profile)]  # fmt: skip
    assert not words[0] and words[1] == ["profile: the far half of the face is hidden"]


def test_without_maps_there_is_no_expected_error() -> None:
    predictor, sample = Predictor.from_pretrained("awing"), SyntheticFaces(1, seed=4)[0]
    predictor.confidence = None
    found = Detections.of(sample.box[None], np.array([np.nan]))
    (face,) = find_landmarks(predictor, sample.image, found, "")
    assert face.expected_error is None and "expected_error" not in face.record()
    assert replace(face, expected_error=3.0, point_errors=np.ones(68)).record()["expected_error"] == 3.0
