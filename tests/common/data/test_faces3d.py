"""Readers of 300W-LP and AFLW2000-3D on genuine files, and 3D landmarks of any data set behind the crop."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.data.options import SyntheticConfig
from common.data.readers.aflw2000 import AFLW2000, YAW_BINS, yaw_subset
from common.data.readers.w300lp import W300LP, balanced_mean, is_validation, photo_of
from common.data.synthetic import SyntheticFaces
from common.data.wrappers import WithDepth, centre_depth
from common.errors import LabError
from common.geometry import apply_affine
from tests.conftest import SHARED, needs_shared

SAMPLES = SHARED / "data" / "samples"
POINTS = np.random.default_rng(2).uniform(40, 400, (3, 68))


def write_face(folder: Path, stem: str, **arrays: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{stem}.jpg"), np.full((450, 450, 3), 90, np.uint8))
    pose = np.array([[0.1, -0.7, 0.2, 0, 0, 0, 1e-3]])
    savemat(folder / f"{stem}.mat", {"Pose_Para": pose, **arrays})


@needs_shared
def test_aflw2000_reads_genuine_files_as_the_published_table_has_them() -> None:
    faces = AFLW2000(str(SAMPLES / "aflw2000"), dims=3)
    folder = SHARED / "data/annotations/aflw2000_3ddfa"
    table = np.load(folder / "AFLW2000-3D.pts68.npy", allow_pickle=False)
    rows = json.loads((folder / "row_of_sample_images.json").read_text())
    assert len(faces) == len(rows) == 8
    for index in range(len(faces)):
        sample = faces[index]
        expected = table[rows[Path(sample.id).stem]].T
        np.testing.assert_allclose(sample.points[:, :2], expected[:, :2] - 1, atol=1e-4)
        np.testing.assert_allclose(sample.points, centre_depth(expected) - [1, 1, 0], atol=1e-3)
        assert sample.image.shape == (450, 450, 3) and abs(sample.points[:, 2].mean()) < 1e-3
        assert sample.pose is not None and sample.subsets == (yaw_subset(sample.pose[0]),)


@needs_shared
def test_poses_have_the_sign_of_the_project() -> None:
    """A face turned to the image's right has a positive yaw and its nose right of the eyes' middle, as in all sets."""
    real, drawn = AFLW2000(str(SAMPLES / "aflw2000"), 3), SyntheticFaces(24)
    samples = [real[i] for i in range(len(real))] + [drawn[i] for i in range(len(drawn))]
    turned = 0
    for sample in samples:
        assert sample.pose is not None
        if abs(sample.pose[0]) > 17:
            nose = sample.points[30, 0] - sample.points[[36, 45], 0].mean()
            assert np.sign(nose) == np.sign(sample.pose[0]), sample.id
            turned += 1
    assert turned >= 4


@needs_shared
def test_depth_of_every_set_points_to_the_viewer() -> None:
    for faces in (AFLW2000(str(SAMPLES / "aflw2000"), 3), WithDepth(SyntheticFaces(8))):
        for index in range(len(faces)):
            z = faces[index].points[:, 2]
            assert z[30] > z[[0, 16]].mean()  # the tip of the nose before the ears


@needs_shared
def test_300w_lp_reads_a_genuine_file() -> None:
    faces = W300LP(str(SAMPLES / "300wlp"), "all")
    assert len(faces) == 1
    sample = faces[0]
    assert sample.id == "IBUG/IBUG_image_008_1_0.jpg" and sample.image.shape == (450, 450, 3)
    np.testing.assert_allclose(sample.points[0], [135.7025093, 239.11450708], atol=1e-4)
    assert sample.pose is not None and sample.pose[0] == pytest.approx(44.0, abs=0.05)
    assert sample.subsets == ("yaw_30_60",)
    with pytest.raises(LabError, match="pt3d_68 is missing, so the face has no depth"):
        W300LP(str(SAMPLES / "300wlp"), "all", dims=3)[0]


def test_turns_of_a_photograph_stay_together(tmp_path: Path) -> None:
    assert photo_of("IBUG_image_008_1_0") == "IBUG_image_008_1"
    assert len({is_validation(f"AFW_134212_1_{turn}") for turn in range(18)}) == 1
    for number in range(40):
        write_face(tmp_path / "300W_LP" / "AFW", f"AFW_{number}_1_0", pt2d=POINTS[:2])
    write_face(tmp_path / "300W_LP" / "AFW_Flip", "AFW_1_1_0", pt2d=POINTS[:2])
    train, val = W300LP(str(tmp_path), "train"), W300LP(str(tmp_path), "val")
    assert len(train) + len(val) == 40
    assert not {photo_of(p.stem) for p in train.files} & {photo_of(p.stem) for p in val.files}
    assert len(W300LP(str(tmp_path), "all", flipped=True)) == 41
    np.testing.assert_allclose(train[0].points, POINTS[:2].T - 1, atol=1e-4)
    assert train[0].pose is not None and train[0].pose[0] == pytest.approx(np.degrees(0.7), abs=1e-3)


def test_faults_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "AFLW2000"
    with pytest.raises(LabError, match="no such folder"):
        AFLW2000(str(tmp_path / "none"))
    folder.mkdir()
    with pytest.raises(LabError, match="no .mat file"):
        AFLW2000(str(tmp_path))
    for arrays, message in (
        ({}, "array pt3d_68 is missing"),
        ({"pt3d_68": POINTS[:2]}, r"shape \(2, 68\), expected \(3, landmarks\)"),
        ({"pt3d_68": POINTS[:, :21]}, "21 landmarks, but scheme ibug68 has 68"),
        ({"pt3d_68": np.where(POINTS > 300, np.nan, POINTS)}, "is not finite"),
        ({"pt3d_68": POINTS, "Pose_Para": np.zeros((1, 3))}, "is not seven finite numbers"),
    ):
        write_face(folder, "image00001", **arrays)
        with pytest.raises(LabError, match=message):
            AFLW2000(str(tmp_path))[0]
    data = (folder / "image00001.mat").read_bytes()
    (folder / "image00001.mat").write_bytes(data[: len(data) // 3])
    with pytest.raises(LabError, match="damaged or no MATLAB 5 file"):
        AFLW2000(str(tmp_path))[0]
    write_face(folder, "image00001", pt3d_68=POINTS)
    (folder / "image00001.jpg").unlink()
    with pytest.raises(LabError, match="image is missing"):
        AFLW2000(str(tmp_path))[0]
    with pytest.raises(LabError, match="2 or 3 coordinates"):
        AFLW2000(str(tmp_path), 4)
    with pytest.raises(LabError, match="none of AFW, HELEN"):
        W300LP(str(tmp_path))
    with pytest.raises(LabError, match="splits train, val and all"):
        W300LP(str(tmp_path), "test")
    with pytest.raises(LabError, match="is a test set"):
        FaceDataModule("aflw2000", root=str(tmp_path)).setup("fit")


def test_bins_cover_all_angles_and_count_once_each() -> None:
    assert [yaw_subset(v) for v in (0.0, -29.9, 30.0, -60.0, 95.0)] == [
        "yaw_0_30", "yaw_0_30", "yaw_30_60", "yaw_60_90", "yaw_60_90"
    ]  # fmt: skip
    assert balanced_mean(dict(zip(YAW_BINS, (1.0, 2.0, 6.0), strict=True))) == pytest.approx(3.0)
    assert np.isnan(balanced_mean({"yaw_0_30": 1.0}))


def test_depth_goes_through_crop_mirror_and_back() -> None:
    faces = WithDepth(SyntheticFaces(4, seed=3))
    assert faces.name == "synthetic-3d"
    plain = CroppedFaces(faces, CropConfig(size=64))
    batch = Collate(faces.subset_names)([plain[i] for i in range(4)])
    assert batch.points.shape == (4, 68, 3)
    torch.testing.assert_close(apply_affine(batch.to_image, batch.points), batch.image_points, atol=2e-3, rtol=1e-4)
    scale = batch.to_image[:, 0, 0]
    torch.testing.assert_close(batch.points[..., 2] * scale[:, None], batch.image_points[..., 2], atol=1e-3, rtol=1e-4)
    mirrored = CroppedFaces(faces, CropConfig(size=64, flip=1.0), seed=1)[0]
    order = list(faces.scheme.mirror)
    np.testing.assert_allclose(mirrored.points[:, 2], plain[0].points[order, 2], atol=1e-4)


def test_the_data_module_offers_depth() -> None:
    data = FaceDataModule("synthetic3d", synthetic=SyntheticConfig(4, 2), crop=CropConfig(size=32), batch_size=2,
                          eval_batch_size=2, num_workers=0)  # fmt: skip
    data.setup("fit")
    assert next(iter(data.val_dataloader())).points.shape == (2, 68, 3)
