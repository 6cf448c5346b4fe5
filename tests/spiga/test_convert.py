"""The converter of the four releases: strict, constants compared and dropped, unused shortcuts listed as dropped."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from common.checkpoints import load_weights, read_state_dict
from common.errors import LabError
from common.packing import describe
from spiga.convert import constants, convert_file, convert_state_dict, find_scheme, main, our_name
from spiga.module import SpigaTask
from tests.conftest import needs_shared
from tests.spiga import golden

NAMES = {"spiga_wflw": "w98", "spiga_300wpublic": "w68", "spiga_300wprivate": "w68", "spiga_merlrav": "w68"}
pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def official(shared_dir: Path) -> dict[str, Tensor]:
    return golden.weights(shared_dir, "w68")


@needs_shared
def test_a_released_file_becomes_weights_that_say_what_they_are(
    official: dict[str, Tensor], shared_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "spiga_300wpublic.pt", tmp_path / "ours.safetensors"
    torch.save({f"module.{key}": value for key, value in official.items()}, source)
    face = shared_dir / "golden/spiga/mean_face_3d_68.npy"
    assert main([str(source), str(target), "--mean_face", str(face)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("dropped, never used: visual_cnn.") for line in lines) == 65
    assert lines[-1].endswith("65 unused shortcuts dropped, with a mean face")
    about = describe(target)
    assert about.method == "spiga" and about.crop.size == 256 and about.crop.box_scale == 1.6
    with patch("torch.nn.init.kaiming_uniform_", lambda tensor, *args, **more: tensor):
        task = SpigaTask(**about.hyper_parameters)
    load_weights(task, read_state_dict(target), str(target))
    np.testing.assert_array_equal(task.net.mean_face, np.load(face).astype(np.float32))
    torch.testing.assert_close(task.net.pose.weight, official["pose_fc.weight"], atol=0, rtol=0)
    # Heads of consecutive channels: released channel 4 d + h is ours h * C / 4 + d.
    released = official["gcn.0.gat.1.attention.attn.proj.0.weight"][:, :, 0]
    ours = task.net.cascade[0].layers[1].query.weight  # type: ignore[union-attr, index]
    assert torch.equal(ours[64 + 5], released[4 * 5 + 1])
    assert main([str(source), str(target)]) == 2 and "exists already" in capsys.readouterr().err
    assert main([str(source), str(tmp_path / "ours.pt")]) == 2


@needs_shared
def test_anything_that_does_not_fit_is_told(official: dict[str, Tensor]) -> None:
    key = "gcn.2.decoder.decoder.12.bias"

    def refused(message: str, **changes: Tensor | None) -> None:
        changed = {**official, **changes}
        with pytest.raises(LabError, match=message):
            convert_state_dict({k: v for k, v in changed.items() if v is not None})

    refused(r"1 keys missing \(cascade.2.decoder.layers.4.bias\)", **{key: None})
    refused(r"1 keys unknown \(visual_cnn.outs_points.3.0.conv.weight\)",
            **{"visual_cnn.outs_points.3.0.conv.weight": torch.zeros(68, 256, 1, 1)})  # fmt: skip
    refused(r"1 shapes differ \(cascade.2.decoder.layers.4.bias is \(3,\), not \(2,\)\)", **{key: torch.zeros(3)})
    refused("constant theta_S.1 is missing", **{"theta_S.1": None})
    refused("give a released file", **{"visual_cnn.outs_points.0.0.conv.weight": None})


@needs_shared
def test_every_constant_is_compared(official: dict[str, Tensor]) -> None:
    fixed = constants(golden.SCHEMES["w68"])
    assert len(fixed) == 8
    for key, value in fixed.items():
        other = ~value if value.dtype == torch.bool else value + 1e-3
        with pytest.raises(LabError, match=rf"constant {key} has other values"):
            convert_state_dict({**official, key: other})


@needs_shared
@pytest.mark.parametrize("release", NAMES)
def test_all_keys_of_the_four_releases_have_a_name(release: str, shared_dir: Path) -> None:
    """The releases are two architectures; MERL-RAV has the points, edges and constants of 300W."""
    about = golden.describe(shared_dir, NAMES[release])
    keys = [key for key in about["keys"] if key not in about["constant"]]
    names = [our_name(key) for key in keys]
    assert len(keys) == 1920 and None not in names and len(set(names)) == len(names)
    head = torch.zeros(about["keys"]["visual_cnn.outs_points.0.0.conv.weight"])
    points = about["num_landmarks"]
    assert find_scheme({"visual_cnn.outs_points.0.0.conv.weight": head}).num_points == points


def test_unknown_keys_have_no_name(tmp_path: Path) -> None:
    assert our_name("backbone.conv1.weight") is None
    with pytest.raises(LabError, match="missing"):
        convert_file(tmp_path / "none.pt", tmp_path / "out.safetensors")
