"""The converter of released weights: names, strictness, and what it does with damaged files."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from awing.convert import convert_state_dict, describe, main
from awing.module import AWingTask
from awing.network import AWingNet
from awing.original import crop_window, face_window
from common import predict
from common.data.synthetic.dataset import SyntheticFaces
from common.errors import LabError
from common.files.checkpoints import load_weights, read_state_dict
from common.files.images import write_image
from common.heatmaps import decode_quarter
from common.packing import describe as describe_weights
from common.prediction.inference import Predictor
from tests.awing.test_network import fill_module, golden_weights
from tests.conftest import needs_shared
from tests.reference.awing_weights import official_state_dict


def small() -> AWingNet:
    """Return a network whose every entry differs from the others, so that no two can be swapped unseen."""
    net = AWingNet(68, stacks=2, width=16, depth=2).eval()
    for i, value in enumerate(net.state_dict().values()):
        value.copy_(torch.full_like(value, i + 1) if value.ndim == 0 else torch.rand_like(value) + 0.5)
    return net


@pytest.fixture
def official() -> dict[str, Tensor]:
    return official_state_dict(small().state_dict())


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_round_trip_and_size() -> None:
    state = dict(small().state_dict())
    there = official_state_dict(state)
    assert same(convert_state_dict(there), state)
    assert describe(there) == {"num_points": 68, "stacks": 2, "width": 16, "depth": 2}
    assert torch.equal(there["m1.b2_plus_1.conv2.weight"], state["stacks.1.hourglass.inner.inner.conv2.weight"])
    assert torch.equal(there["m0.b1_2.conv1.weight"], state["stacks.0.hourglass.skip.conv1.weight"])
    assert torch.equal(there["m0.b3_1.conv1.weight"], state["stacks.0.hourglass.inner.up.conv1.weight"])
    assert torch.equal(there["conv4.downsample.2.weight"], state["block3.shortcut.2.weight"])


@needs_shared
@pytest.mark.parametrize(("model", "points"), [("wflw98_4hg", 98), ("lm68_4hg", 68)])
def test_names_and_shapes_are_the_released_ones(shared_dir: Path, model: str, points: int) -> None:
    keys = json.loads((shared_dir / "golden" / "awing" / "keys.json").read_text())[model]["keys"]
    with torch.device("meta"):
        state = AWingNet(points).state_dict()
        released = {key: torch.empty(shape) for key, shape in keys.items()}
    assert {key: list(value.shape) for key, value in official_state_dict(state).items()} == keys
    converted = convert_state_dict(released)
    assert {key: value.shape for key, value in converted.items()} == {key: v.shape for key, v in state.items()}


def test_module_prefix_and_missing_counters(official: dict[str, Tensor]) -> None:
    old = {f"module.{key}": value for key, value in official.items() if not key.endswith("num_batches_tracked")}
    state = convert_state_dict(old)
    AWingNet(68, stacks=2, width=16, depth=2).load_state_dict(state, strict=True)
    assert state["bn.num_batches_tracked"].dtype == torch.int64 and state["bn.num_batches_tracked"] == 0
    assert torch.equal(state["stacks.1.head.bias"], official["l1.bias"])


@pytest.mark.parametrize("key", ["bl0.weight", "m1.b2_1.bn2.running_var", "conv1.conv.bias"])
def test_a_missing_key_is_named(official: dict[str, Tensor], key: str) -> None:
    del official[key]
    with pytest.raises(LabError, match=rf"1 keys missing \({re.escape(key)}\)"):
        convert_state_dict(official)


@pytest.mark.parametrize("key", ["al1.weight", "m0.b4_1.conv1.weight", "conv2.downsample.1.weight", "extra"])
def test_an_unknown_key_is_named(official: dict[str, Tensor], key: str) -> None:
    official[key] = torch.zeros(1)
    with pytest.raises(LabError, match=rf"1 keys unknown \({re.escape(key)}\)"):
        convert_state_dict(official)


def test_another_shape_is_named(official: dict[str, Tensor]) -> None:
    official["l1.bias"] = torch.zeros(7)
    with pytest.raises(LabError, match=r"of another shape \(l1.bias is \(7,\), not \(69,\)\)"):
        convert_state_dict(official)


def test_a_foreign_file_and_doubled_keys(official: dict[str, Tensor]) -> None:
    with pytest.raises(LabError, match="l0.weight"):
        convert_state_dict({"fc.weight": torch.zeros(2, 2)})
    official["module.bn1.bias"] = official["bn1.bias"]
    with pytest.raises(LabError, match="both with and without"):
        convert_state_dict(official)


def test_variants_that_were_never_released_have_no_official_names() -> None:
    with pytest.raises(LabError, match="keys differ"):
        official_state_dict(AWingNet(68, stacks=2, width=16, depth=2, boundary=False, coord_conv=False).state_dict())
    with pytest.raises(LabError, match="no stacks"):
        official_state_dict({})


def test_the_converted_file_starts_the_task(tmp_path: Path) -> None:
    net = AWingNet(98, stacks=2, width=16)
    source, target = tmp_path / "old.pth", tmp_path / "new.safetensors"
    torch.save(official_state_dict(net.state_dict()), source)
    assert main([str(source), str(target)]) == 0
    task = AWingTask(scheme="wflw98", stacks=2, width=16)
    assert load_weights(task, read_state_dict(target), str(target)) == []
    assert same(dict(task.network().state_dict()), dict(net.state_dict()))


def check_prediction(source: Path, net: AWingNet, image: np.ndarray, box: np.ndarray) -> None:
    """Convert an official file, predict a face, and compare with the official crop, network and decoding by parts."""
    target = source.with_suffix(".safetensors")
    assert main([str(source), str(target)]) == 0
    predictor = Predictor.load(target)
    found = predictor(image, box[None])
    # The official maps of points, forwards: image -> frame -> crop.
    center, sides = face_window(box)
    frame, points = crop_window(image, found.points[0].numpy(), center, sides / 250, 450)
    crop, points = crop_window(frame, points, (225, 225), 1.8)
    with torch.inference_mode():
        maps = net.eval()(torch.from_numpy(crop).permute(2, 0, 1)[None])[-1][:, :-1]
    np.testing.assert_allclose(points, decode_quarter(maps)[0].numpy() * 4, atol=1e-6)
    assert found.score is not None and found.score.shape == found.points.shape[:2]


def test_a_converted_file_predicts_through_the_official_crop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, source = small(), tmp_path / "WFLW_4HG.pth"
    torch.save(official_state_dict(net.state_dict()), source)
    image = SyntheticFaces(1, seed=4)[0].image
    check_prediction(source, net, image, np.array([60.0, 50, 200, 230]))
    photo = tmp_path / "photo.png"
    write_image(photo, image)
    command = [str(photo), "--box", "60", "50", "200", "230", "--out", str(tmp_path / "out"), "--weights"]
    assert predict.main([*command, str(source.with_suffix(".safetensors"))]) == 0
    assert predict.main([*command, str(source)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"official weights of awing, not converted yet: python -m awing.convert {source} OUT.safetensors" in error


@needs_shared
@pytest.mark.golden
def test_the_official_network_predicts_a_picture(shared_dir: Path, tmp_path: Path) -> None:
    """Official keys, made-up values; crop, network and decoding are each compared with golden data elsewhere."""
    net = AWingNet(98)
    official = golden_weights(shared_dir, "wflw98_4hg")
    net.load_state_dict(convert_state_dict(official), strict=True)
    torch.save({"state_dict": official}, tmp_path / "WFLW_4HG.pth")
    image = (fill_module(shared_dir).image(21, (3, 600, 800)).transpose(1, 2, 0) * 255).astype(np.uint8)
    with np.load(shared_dir / "golden" / "awing" / "ops.npz", allow_pickle=False) as data:
        box = data["conv0_bbox"].astype(np.float64)
    check_prediction(tmp_path / "WFLW_4HG.pth", net, image, box)


@pytest.mark.parametrize("wrapped", [False, True])
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], wrapped: bool) -> None:
    net = small()
    official = official_state_dict(net.state_dict())
    source, target = tmp_path / "old.pth", tmp_path / "new.safetensors"
    torch.save({"state_dict": official, "epoch": 3} if wrapped else official, source)
    assert main([str(source), str(target)]) == 0
    assert "scheme ibug68, input_size 256, stacks 2" in capsys.readouterr().out
    about = describe_weights(target)
    assert about.method == "awing" and about.official and about.crop.box_scale == pytest.approx(1.344)
    loaded = nn.ModuleDict({"net": AWingNet(68, stacks=2, width=16, depth=2)}).eval()
    assert load_weights(loaded, read_state_dict(target), str(target)) == []
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded["net"](image)[-1], net(image)[-1], rtol=0, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.safetensors", "old.pth"]


def test_an_existing_file_stays_unless_told(
    tmp_path: Path, official: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "old.pth", tmp_path / "new.safetensors"
    torch.save(official, source)
    target.write_bytes(b"precious")
    assert main([str(source), str(target)]) == 2
    assert "--overwrite" in capsys.readouterr().err and target.read_bytes() == b"precious"
    assert main([str(source), str(target), "--overwrite"]) == 0
    assert torch.equal(read_state_dict(target)["net.stacks.0.head.bias"], official["l0.bias"])


class Code:
    """Pickles into a call."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be printed",)


@pytest.mark.parametrize("kind", ["code", "old_code", "truncated", "empty", "absent", "foreign", "own", "other_suffix"])
def test_bad_files_are_told_and_nothing_is_written(
    tmp_path: Path, official: dict[str, Tensor], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    source, target = tmp_path / "old.pth", tmp_path / "new.safetensors"
    torch.save({**official, "code": Code()} if kind == "code" else official, source)
    if kind == "old_code":
        source.write_bytes(pickle.dumps(Code()))
    elif kind in ("truncated", "empty"):
        content = source.read_bytes()
        source.write_bytes(content[: len(content) // 2] if kind == "truncated" else b"")
    elif kind == "absent":
        source.unlink()
    elif kind == "foreign":
        torch.save({"fc.weight": torch.zeros(2)}, source)
    elif kind == "own":
        torch.save({"method": "spiga", "state_dict": official}, source)
    elif kind == "other_suffix":
        target = tmp_path / "new.pth"
    before = sorted(tmp_path.iterdir())
    assert main([str(source), str(target)]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and told.err.count("\n") == 1
    assert (target.name if kind == "other_suffix" else source.name) in told.err
    assert "never be printed" not in told.out
    assert kind != "own" or "is a checkpoint of this project's method spiga, no official file" in told.err
    assert sorted(tmp_path.iterdir()) == before
