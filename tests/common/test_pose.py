"""Angles, projection and POSIT: against golden arrays, and against what must hold for any pose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.pose import Camera, angles_to_matrix, matrix_to_angles, posit, project
from tests.conftest import needs_shared

# Points of the golden file's two faces that count, in the file's row order.
USED = {
    68: (17, 19, 21, 22, 24, 26, 36, 39, 42, 45, 31, 30, 35, 48, 54, 51, 57, 8),
    98: (33, 35, 37, 42, 44, 46, 60, 64, 62, 66, 68, 72, 70, 74, 55, 54, 59, 76, 82, 79, 85, 16),
}
CAMERA256, CAMERA64 = Camera.of_size(256), Camera.of_size(64)


@pytest.fixture(scope="module")
def arrays(shared_dir: Path) -> dict[str, np.ndarray]:
    folder = shared_dir / "golden" / "spiga"
    with np.load(folder / "golden.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file.files if name.startswith(("posit", "rot_", "clip"))}
    for count in USED:
        found[f"face{count}"] = np.load(folder / f"mean_face_3d_{count}.npy", allow_pickle=False)
    return found


def mask_of(count: int, mask: np.ndarray) -> Tensor:
    used = np.zeros(count)
    used[list(USED[count])] = 1
    return torch.from_numpy(mask * used)


def close(ours: Tensor, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=tolerance)


@needs_shared
def test_golden_angles(arrays: dict[str, np.ndarray]) -> None:
    given = torch.from_numpy(arrays["rot_euler_in"])
    before = given.clone()
    matrix = angles_to_matrix(given)
    assert torch.equal(given, before)  # the argument is not changed
    close(matrix, arrays["rot_matrix"], 1e-12)
    close(angles_to_matrix(given.float()), arrays["rot_matrix_torch"], 1e-6)
    close(matrix_to_angles(matrix), arrays["rot_euler_back"], 1e-9)
    # What the recorded routine leaves in its argument (ours leaves it alone): the angles in its own frame.
    shifted = torch.stack([90 - given[:, 0], -given[:, 1], -given[:, 2] - 90], 1)
    close(shifted, arrays["rot_euler_after_inplace"], 1e-6)


@needs_shared
@pytest.mark.parametrize("size, camera", [(256, CAMERA256), (64, CAMERA64)])
def test_golden_posit(arrays: dict[str, np.ndarray], size: int, camera: Camera) -> None:
    model, mask = torch.from_numpy(arrays["face68"]), mask_of(68, arrays[f"posit_mask{size}"])
    pose, known = posit(torch.from_numpy(arrays[f"posit_landmarks{size}"]), model, mask, camera)
    assert known.all()
    close(pose, arrays[f"posit_pose{size}"], 1e-9)
    if size == 256:
        close(pose, arrays["posit_annotated_headpose"], 1e-9)
        close(project(model, pose, camera) / 256, arrays["posit_model3d_proj256"], 1e-9)


@needs_shared
def test_golden_posit_of_98_points(arrays: dict[str, np.ndarray]) -> None:
    model, mask = torch.from_numpy(arrays["face98"]), mask_of(98, np.ones(98))
    np.testing.assert_array_equal(mask.numpy(), arrays["posit98_mask"])
    points = torch.from_numpy(arrays["posit98_landmarks"])
    true = torch.from_numpy(arrays["posit98_pose_true"])
    close(project(model, true, CAMERA256), arrays["posit98_landmarks"], 1e-9)
    pose, _ = posit(points, model, mask[None].expand(len(points), -1), CAMERA256)
    close(pose, arrays["posit98_pose"], 1e-9)
    assert (pose - true)[:, :3].abs().max() < 0.01 and (pose - true)[:, 3:].abs().max() < 1e-3


def cloud() -> Tensor:
    points = torch.rand(12, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    return points


def test_angles_round_trip_and_orthogonal() -> None:
    generator = torch.Generator().manual_seed(0)
    angles = (torch.rand(200, 3, generator=generator, dtype=torch.float64) * 2 - 1) * torch.tensor([170.0, 85.0, 80.0])
    matrix = angles_to_matrix(angles)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.transpose(1, 2), eye.expand(200, 3, 3), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(200, dtype=torch.float64))
    torch.testing.assert_close(matrix_to_angles(matrix), angles, atol=1e-9, rtol=0)


@pytest.mark.parametrize("pitch", [90.0, -90.0])
def test_looking_straight_up_or_down_keeps_the_rotation(pitch: float) -> None:
    matrix = angles_to_matrix(torch.tensor([[30.0, pitch, 10.0]], dtype=torch.float64))
    again = matrix_to_angles(matrix)
    assert again[0, 1] == pytest.approx(pitch, abs=1e-6) and again[0, 2] == -90
    torch.testing.assert_close(angles_to_matrix(again), matrix, atol=1e-6, rtol=0)


def test_signs_of_the_angles() -> None:
    """A nose in front of the face moves to the image's right, up, and the head turns clockwise."""
    nose, right = torch.tensor([0.5, 0.0, 0.0]), torch.tensor([0.0, -0.5, 0.0])  # towards the viewer; image right
    model = torch.stack([nose, right])

    def shown(*angles: float) -> Tensor:
        return project(model, torch.tensor([[*angles, 0.0, 0.0, 3.0]]), Camera.of_size(1.0))[0] - 0.5

    assert shown(0, 0, 0)[0].abs().max() < 1e-6 and shown(0, 0, 0)[1, 0] > 0.1
    assert shown(20, 0, 0)[0, 0] > 0.01
    assert shown(0, 20, 0)[0, 1] < -0.01
    assert shown(0, 0, 20)[1, 1] > 0.01


def test_posit_finds_the_pose_of_far_faces_and_skips_masked_points() -> None:
    model = cloud()
    pose = torch.tensor([[20.0, -10, 15, 0.1, -0.05, 9], [-30, 12, -5, 0, 0.2, 12]], dtype=torch.float64)
    points = project(model, pose, CAMERA256)
    mask = torch.ones(2, 12)
    mask[0, :3] = 0
    points[0, :3] = torch.nan  # what does not count may be anything
    found, known = posit(points, model, mask, CAMERA256, tolerance=1e-12)
    assert known.all()
    torch.testing.assert_close(found, pose, atol=1e-4, rtol=0)


def test_posit_says_when_there_are_too_few_points() -> None:
    model, mask = cloud(), torch.ones(2, 12)
    mask[1, 3:] = 0
    pose = torch.tensor([[5.0, 5, 5, 0, 0, 5]] * 2, dtype=torch.float64)
    found, known = posit(project(model, pose, CAMERA256), model, mask, CAMERA256)
    assert known.tolist() == [True, False]
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[1], torch.tensor([90.0, 0, -90, 0, 0, 0], dtype=torch.float64))


def test_a_batch_gives_what_its_faces_give_alone() -> None:
    model = cloud()
    poses = torch.tensor([[5.0, 5, 5, 0, 0, 3], [60, 20, 0, 0.1, 0, 2.5], [0, 0, 0, 0, 0, 40]], dtype=torch.float64)
    points, mask = project(model, poses, CAMERA64).round(), torch.ones(3, 12)
    together, _ = posit(points, model, mask, CAMERA64)
    for k in range(3):
        alone, _ = posit(points[k : k + 1], model, mask[:1], CAMERA64)
        torch.testing.assert_close(alone[0], together[k], atol=1e-9, rtol=0)


def test_min_depth_keeps_points_behind_the_camera_finite_with_gradient() -> None:
    pose = torch.tensor([[0.0, 0, 0, 0, 0, 0]], requires_grad=True)
    points = project(cloud().float(), pose, CAMERA64, min_depth=0.5)
    points.sum().backward()
    assert torch.isfinite(points).all() and pose.grad is not None and torch.isfinite(pose.grad).all()
