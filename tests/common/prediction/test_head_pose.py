"""Head pose fitted to landmarks: exact on the mean face, near on drawn heads, absent without a 3D mean face."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.data.synthetic import SyntheticFaces, mean_face
from common.data.synthetic.dataset import MEAN_FACES, average_face
from common.pose import Camera, angles_to_matrix, project
from common.prediction.head_pose import fit_pose, five_points_pose, has_mean_face
from common.schemes import IBUG68, SCHEMES, WFLW98, get_scheme

FACES = 60
ANGLES: list[list[float]] = [[0, 0, 0], [35, -12, 8], [-50, 20, -15], [10, 5, 170], [80, 0, 0]]


def turned(scheme: str, angles: list[list[float]]) -> np.ndarray:
    """Return the mean face's points (N, L, 2) seen from afar under these angles."""
    x, y, z = mean_face(scheme).T
    model = torch.from_numpy(np.column_stack([z, -x, y]))
    pose = torch.tensor([[*three, 3.0, -2.0, 1e6] for three in angles], dtype=torch.float64)
    return project(model, pose, Camera(1e8, (40.0, 30.0))).numpy()


def differences(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the angles in degrees (N,) of the rotations between poses (N, 3): free of a circle's seam."""
    one, two = (angles_to_matrix(torch.tensor(pose, dtype=torch.float64)) for pose in (found, wanted))
    trace = (one.mT @ two).diagonal(dim1=-2, dim2=-1).sum(-1)
    return np.degrees(np.arccos(((trace - 1) / 2).clamp(-1, 1).numpy()))


@pytest.mark.parametrize("scheme", ["ibug68", "wflw98"])
def test_the_mean_face_gets_the_pose_that_it_was_given(scheme: str) -> None:
    found = fit_pose(turned(scheme, ANGLES), get_scheme(scheme))
    assert found is not None
    assert differences(found, np.array(ANGLES, float)).max() < 0.01


@pytest.mark.parametrize("scheme", ["ibug68", "wflw98"])
def test_the_stored_mean_face_is_that_of_the_drawn_heads(scheme: str) -> None:
    """Where heads are meant to change: write `average_face` of both schemes to the file anew."""
    np.testing.assert_allclose(mean_face(scheme), average_face(scheme), atol=1e-9, err_msg=str(MEAN_FACES))


def test_schemes_that_map_to_a_drawn_one_are_fitted_through_it() -> None:
    points = turned("ibug68", ANGLES)
    one, two = fit_pose(points, IBUG68), fit_pose(points, get_scheme("merlrav68"))
    assert one is not None and two is not None
    np.testing.assert_array_equal(one, two)


def test_a_scheme_without_a_3d_mean_face_has_no_pose() -> None:
    known = {name for name, scheme in SCHEMES.items() if has_mean_face(scheme)}
    assert known == {"ibug68", "wflw98", "merlrav68", "lapa106"}
    assert fit_pose(np.zeros((1, 29, 2)), get_scheme("cofw29")) is None


@pytest.mark.parametrize("scheme", [IBUG68.name, WFLW98.name])
def test_drawn_heads_get_their_pose(scheme: str) -> None:
    """Other people, expressions and perspective: the median error over all three angles was 1.9 degrees."""
    faces = SyntheticFaces(FACES, scheme, seed=5, size=64)
    samples = [faces[index] for index in range(FACES)]
    found = fit_pose(np.stack([sample.points for sample in samples]).astype(float), faces.scheme)
    assert found is not None
    errors = np.abs(found - np.stack([sample.pose for sample in samples if sample.pose is not None]))
    assert np.median(errors) < 2.2 and np.median(errors, axis=0).max() < 3.5
    large = np.stack([sample.pose for sample in samples if sample.pose is not None])[:, 0]
    assert (np.sign(found[:, 0]) == np.sign(large))[np.abs(large) > 10].all()


def test_a_detector_s_five_points_tell_a_profile() -> None:
    points = turned("ibug68", [[0, 0, 0], [30, 0, 0], [-75, 0, 10]])
    five = np.stack(
        [points[:, 36:42].mean(1), points[:, 42:48].mean(1), points[:, 30], points[:, 48], points[:, 54]], 1
    )
    found = five_points_pose(np.concatenate([five, np.full((1, 5, 2), np.nan)]))
    np.testing.assert_allclose(found[:3, 0], [0, 30, -75], atol=0.05)
    assert np.isnan(found[3]).all()
