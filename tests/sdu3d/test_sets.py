"""The official sets and the demo's way, without the official files: small records, a detector that is made up."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from benchmarks.studies.sdu3d.evaluate import own_crop
from common.data.crops import CropConfig
from common.data.datamodule import FaceDataModule
from common.data.readers.records import MAGIC
from common.data.readers.w300lp import is_validation
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.geometry import apply_affine
from common.prediction.detection import Detections
from common.task import LandmarkTask
from sdu3d.module import NetworkConfig, SduTask
from sdu3d.network import SduNet
from sdu3d.original import five_points, main, predict_demo

SMALL = NetworkConfig(block="resnet", depth=2, stacks=1, width=32)


def write_records(path: Path, faces: SyntheticFaces) -> None:
    """Write faces as indexed RecordIO, as the format's description has it."""
    data, index = b"", ""
    for key in range(len(faces)):
        face = faces[key]
        labels = face.points[:, ::-1].astype("<f4").tobytes()  # row, column
        picture = cv2.imencode(".png", face.image[..., ::-1])[1].tobytes()
        payload = struct.pack("<IfQQ", 136, 0.0, key, 0) + labels + picture
        index += f"{key}\t{len(data)}\n"
        data += struct.pack("<II", MAGIC, len(payload)) + payload + bytes(-len(payload) % 4)
    path.write_bytes(data)
    path.with_suffix(".idx").write_text(index)


def test_records_are_a_data_set_by_name(tmp_path: Path) -> None:
    faces = SyntheticFaces(3)
    for name in ("train", "300W"):
        write_records(tmp_path / f"{name}.rec", faces)
    data = FaceDataModule("records", str(tmp_path), eval_split="300W", crop=CropConfig(size=32), batch_size=3,
                          num_workers=0)  # fmt: skip
    data.setup("fit")
    assert len(next(iter(data.train_dataloader()))) == 3
    np.testing.assert_allclose(data.faces("test")[1].points, faces[1].points, atol=1e-4)
    with pytest.raises(LabError, match="ibug.rec: record file is missing; --data.train_split"):
        FaceDataModule("records", str(tmp_path)).faces("test")


def test_depth_of_300w_lp_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "300W_LP" / "AFW"
    folder.mkdir(parents=True)
    points = np.random.default_rng(0).uniform(60, 300, (3, 68))
    stems = [f"AFW_{number}_1_0" for number in range(300)]
    for stem in (next(s for s in stems if is_validation(s) is kept) for kept in (False, True)):
        cv2.imwrite(str(folder / f"{stem}.jpg"), np.full((80, 80, 3), 90, np.uint8))
        savemat(folder / f"{stem}.mat", {"pt3d_68": points, "Pose_Para": np.zeros((1, 7))})
    data = FaceDataModule("w300lp_3d", str(tmp_path), crop=CropConfig(size=32), num_workers=0)
    assert data.faces("train")[0].points.shape == data.faces("val")[0].points.shape == (68, 3)


class Found:
    """Finds a face with given five points in a photograph of that size, and a box in the middle of any other."""

    name = "made up"

    def __init__(self, five: np.ndarray, side: int) -> None:
        self.five, self.side = five, side

    def detect(self, image: np.ndarray) -> Detections:
        if len(image) == self.side:
            box = np.array([0.0, 0, 1, 1])
            return Detections.of(np.stack([box, box]), np.array([0.9, 0.5]), np.stack([self.five, self.five + 3]))
        return Detections.of(np.array([[90.0, 60, 290, 310]]), np.array([0.8]))


def test_the_demo_aligns_looks_again_and_brings_points_back() -> None:
    """The same photograph twice as large gives the points twice as far, whatever the network."""
    torch.manual_seed(0)
    net = SduNet(block="resnet", depth=2, stacks=1, width=32).eval()
    face = SyntheticFaces(1)[0]
    five, side = five_points(face.points.astype(float)), len(face.image)
    found = predict_demo(net, face.image, Found(five, side))
    assert len(found) == 2 and found[0].shape == (68, 2)
    turned = np.ascontiguousarray(np.rot90(face.image))  # x, y -> y, side - 1 - x
    turn = np.array([[0.0, 1, 0], [-1, 0, face.image.shape[1] - 1]])
    again = predict_demo(net, turned, Found(apply_affine(turn, five), len(turned)))
    near = np.linalg.norm(again[0] - apply_affine(turn, found[0]), axis=1)
    assert np.median(near) < 3  # the aligned picture is the same but for interpolation
    with pytest.raises(LabError, match="gives no five points"):
        predict_demo(net, face.image, Found(five * np.nan, side))


def test_the_demo_s_command_wants_official_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.safetensors"), str(tmp_path / "a.jpg")]) == 2
    assert "none.safetensors" in capsys.readouterr().err


def test_evaluation_takes_the_run_s_own_crop(tmp_path: Path) -> None:
    task: LandmarkTask = SduTask(input_size=64, net=SMALL)
    crop = {"size": 64, "box_scale": 1.5, "side_rule": "mean", "box": "gt"}
    torch.save({"state_dict": task.state_dict(), "method": "sdu3d", "hyper_parameters": task.settings(),
                "data": {"scheme": "ibug68", "crop": crop}}, tmp_path / "run.ckpt")  # fmt: skip
    found = own_crop(tmp_path / "run.ckpt")
    assert (found.size, found.box_scale, found.side_rule) == (
        64,
        1.5,
        "mean",
    )
    assert own_crop(tmp_path / "run.ckpt", 1.2).box_scale == 1.2
