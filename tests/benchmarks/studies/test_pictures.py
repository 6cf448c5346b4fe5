"""Pictures with landmarks and boxes beside them, in the layouts of DPR's demo and of MuSiCa's archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies.pictures import main, read_truth
from common.data.readers._pts import read_pts
from common.data.synthetic import SyntheticFaces
from common.errors import LabError
from common.files.images import read_image, write_image
from common.methods import METHODS
from common.prediction.inference import Predictor
from common.schemes import IBUG68


def pts(points: np.ndarray) -> str:
    rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points.tolist())
    return f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n"


@pytest.fixture
def faces(tmp_path: Path) -> SyntheticFaces:
    """Three faces in FOLDER/pictures, their boxes in FOLDER/boxes; the first has DPR's files, the others MuSiCa's."""
    found = SyntheticFaces(3, scheme="ibug68", seed=3)
    for part in ("pictures/sub", "boxes/sub"):
        (tmp_path / part).mkdir(parents=True)
    for index in range(3):
        sample, name = found[index], f"sub/{index}"
        picture = tmp_path / "pictures" / f"{name}.png"
        write_image(picture, sample.image)
        x0, y0, x1, y1 = sample.box.tolist()
        if index == 0:
            picture.with_suffix(".rct").write_text(f"{x0} {y0} {x1} {y1}")
            picture.with_suffix(".txt").write_text("68\n" + "\n".join(f"{x} {y}" for x, y in sample.points.tolist()))
        else:
            picture.with_suffix(".pts").write_text(pts(sample.points + 1))
        corners = np.array([[x0, y0], [x0, y1], [x1, y1], [x1, y0]])
        (tmp_path / "boxes" / f"{name}.pts").write_text(pts(corners + 1))
    return found


def test_errors_are_printed_and_what_was_found_is_written(
    faces: SyntheticFaces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = METHODS["sdu3d"].folder / "weights/helen_ema.safetensors", tmp_path / "out"
    (tmp_path / "list.txt").write_text("2.pts\n0\n")
    command = [str(weights), str(tmp_path / "pictures"), "--out", str(out)]
    assert main([*command, "--boxes", str(tmp_path / "boxes"), "--list", str(tmp_path / "list.txt")]) == 0
    printed = capsys.readouterr().out.splitlines()
    predictor, errors = Predictor.load(weights), []
    for index in (2, 0):
        sample = faces[index]
        found = predictor(sample.image, np.round(sample.box.astype(float) + 1, 3) - 1).points[0].numpy()
        np.testing.assert_allclose(read_pts(out / f"{index}.pts", 68) - 1, found, atol=0.01)
        assert read_image(out / f"{index}.landmarks.png").shape == sample.image.shape
        eyes = np.linalg.norm(sample.points[36] - sample.points[45])
        errors.append(100 * np.linalg.norm(found - sample.points, axis=1).mean() / eyes)
    assert printed[:2] == [f"{name}.png: {error:.2f} %" for name, error in zip((2, 0), errors, strict=True)]
    assert printed[2].startswith(f"mean of 2: {np.mean(errors):.2f} % ({np.mean(errors) / 100:.4f})")
    assert main(command) == 2, "the others have no .rct"
    (tmp_path / "list.txt").write_text("7\n")
    assert main([*command, "--list", str(tmp_path / "list.txt")]) == 2
    assert "are not in" in capsys.readouterr().err


def test_truth_of_both_layouts(faces: SyntheticFaces, tmp_path: Path) -> None:
    for index in (0, 1):
        picture = tmp_path / f"pictures/sub/{index}.png"
        np.testing.assert_allclose(read_truth(picture, IBUG68), faces[index].points, atol=1e-3)
    picture = tmp_path / "pictures/sub/0.png"
    for wrong in ("67\n" + "1 2\n" * 67, "68\n" + "1 2\n" * 67, "68\n" + "1 x\n" * 68):
        picture.with_suffix(".txt").write_text(wrong)
        with pytest.raises(LabError, match="expected 68 on the first line"):
            read_truth(picture, IBUG68)
