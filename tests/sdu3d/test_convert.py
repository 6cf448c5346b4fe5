"""Parameter files: real ones, wrong ones, and the way from released names to this project's and back."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.studies.sdu3d.evaluate import load_net
from common.data.synthetic.dataset import SyntheticFaces
from common.errors import LabError
from common.files.checkpoints import load_weights, read_state_dict
from common.geometry import apply_affine
from common.prediction.inference import Predictor
from sdu3d.convert import Size, build, convert_arrays, describe, main, released_names
from sdu3d.convert_mxnet import parse_params, read_params
from sdu3d.module import NetworkConfig, SduTask
from sdu3d.network import SduNet
from sdu3d.original import square_matrix
from tests.conftest import needs_shared
from tests.reference.sdu3d_weights import released_arrays, write_params
from tests.sdu3d.golden import GOLDEN, assert_close, fill, image, parameters, read_json


@needs_shared
@pytest.mark.golden
def test_a_real_file_is_read_and_gives_the_recorded_output() -> None:
    recorded = read_json("tiny.json")
    found = read_params(GOLDEN / "tiny-0000.params")
    assert {name: list(array.shape) for name, array in found.items()} == recorded["arrays"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, fill(name.split(":")[1], array.shape))
    values = {name.split(":")[1]: torch.from_numpy(array) for name, array in found.items()}
    x = torch.from_numpy(255 * image(35, (1, 3, 8, 8))) - 127.5
    x = F.conv2d(x, values["conv0_weight"], padding=1)
    x = F.relu(F.batch_norm(x, values["bn0_moving_mean"], values["bn0_moving_var"], values["bn0_gamma"],
                            values["bn0_beta"], eps=2e-5))  # fmt: skip
    y = F.conv2d(x, values["heatmap_weight"], values["heatmap_bias"])
    assert_close(y.numpy(), np.array(recorded["output"], np.float32))
    assert (GOLDEN / "tiny-0000.params").read_bytes() == write_params(found)


@needs_shared
@pytest.mark.golden
def test_types_and_lists() -> None:
    recorded = read_json("tiny.json")
    found = read_params(GOLDEN / "tiny_dtypes.params")
    assert set(found) == set(recorded["dtypes"])
    for name, array in found.items():
        assert array.dtype == np.dtype(name)
        np.testing.assert_array_equal(array, np.array(recorded["dtypes"][name], name))
    content = parse_params((GOLDEN / "tiny_list.params").read_bytes())
    assert isinstance(content, list)
    for array, expected in zip(content, recorded["list_file"], strict=True):
        np.testing.assert_array_equal(array, np.array(expected))
    with pytest.raises(LabError, match="its 2 arrays have no names"):
        read_params(GOLDEN / "tiny_list.params")


def good() -> bytes:
    return write_params({"arg:a_weight": np.arange(6, dtype=np.float32).reshape(2, 3), "aux:b": np.ones(2, np.float32)})


def patched(place: int, code: str, value: int) -> bytes:
    data = bytearray(good())
    struct.pack_into("<" + code, data, place, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\x12\x01", "byte 0: magic number needs 8 bytes but 2 are left"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"PK\x03\x04" + bytes(60), "starts with .* instead of 0x112: no MXNet parameter file"),
        (patched(16, "Q", 2**60), "claims 1152921504606846976 arrays"),
        (patched(16, "Q", 3), "array 2 of 3|layout|needs|left"),
        (patched(24, "I", 0xABCDEF), "starts with 0xabcdef, which no known layout"),
        (patched(28, "i", 1), "storage type 1; only dense"),
        (patched(32, "I", 4000), "claims 4000 axes"),
        (patched(36, "q", -1), "claims the shape"),
        (patched(36, "q", 2**61), r"of shape \(2305843009213693952, 3\) needs \d+ bytes but \d+ are left"),
        (patched(36, "q", 3), "needs|layout|unknown|left"),
        (patched(60, "i", 9), "unknown type 9"),
        (good()[:70], r"needs 24 bytes but 6 are left; the file is truncated"),
        (good()[:-1], "name 1 needs 5 bytes but 4 are left"),
        (good() + b"\0", "1 bytes are left over"),
    ],
)
def test_a_damaged_file_is_told_with_the_place(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model-0000.params"
    path.write_bytes(data)
    with pytest.raises(LabError, match=message) as raised:
        read_params(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_names_that_lie_are_told() -> None:
    data = good()
    names = data.index(struct.pack("<Q", 2) + struct.pack("<Q", 12))
    with pytest.raises(LabError, match="2 arrays but 1 names|left over"):
        parse_params(data[:names] + struct.pack("<Q", 1) + data[names + 8 : names + 28])
    with pytest.raises(LabError, match="claims .* names"):
        parse_params(data[:names] + struct.pack("<Q", 2**40) + data[names + 8 :])
    with pytest.raises(LabError, match="name 0 is no text"):
        parse_params(data.replace(b"arg:a_weight", b"arg:a_\xff\xfeight"))
    twice = write_params({"arg:a": np.ones(1, np.float32), "arg:b": np.ones(1, np.float32)}).replace(b"arg:b", b"arg:a")
    with pytest.raises(LabError, match="name arg:a is there twice"):
        parse_params(twice)
    with pytest.raises(LabError, match="parameter file is missing"):
        read_params(Path("nowhere.params"))


def test_older_layouts_are_read() -> None:
    tail = struct.pack("<iii", 1, 0, 0) + struct.pack("<2f", 1.5, -2)
    head = struct.pack("<QQQ", 0x112, 0, 1)
    v1 = head + struct.pack("<IIq", 0xF993FAC8, 1, 2) + tail + struct.pack("<Q", 0)
    oldest = head + struct.pack("<II", 1, 2) + tail + struct.pack("<Q", 0)
    scalar = head + struct.pack("<Iii", 0xF993FACA, 0, 0) + struct.pack("<iiif", 1, 0, 0, 7.0) + struct.pack("<Q", 0)
    empty = head + struct.pack("<Iii", 0xF993FACA, 0, -1) + struct.pack("<Q", 0)
    for data in (v1, oldest):
        np.testing.assert_array_equal(parse_params(data)[0], [1.5, -2])  # type: ignore[index]
    assert parse_params(scalar)[0] == np.float32(7)  # type: ignore[index]
    assert parse_params(empty)[0].size == 0  # type: ignore[index]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(good()) - 1), st.integers(0, 255))
def test_any_changed_byte_gives_arrays_or_one_line(place: int, value: int) -> None:
    data = bytearray(good())
    data[place] = value
    try:
        parse_params(bytes(data))
    except LabError as error:
        assert "\n" not in str(error)


SIZES = [
    {"topology": "hourglass", "block": "resnet", "depth": 1, "inside": "none", "stride": 2},
    {"topology": "hourglass", "block": "cab", "depth": 3, "inside": "dcn", "stride": 2},
    {"topology": "hourglass", "block": "hpm", "depth": 2, "inside": "dcn_join", "stride": 4},
    {"topology": "hourglass", "block": "inception", "depth": 2, "inside": "none", "stride": 2},
    {"topology": "sat", "block": "cab", "depth": 2, "inside": "dcn_heads", "stride": 2},
]


@pytest.mark.parametrize("options", SIZES)
def test_there_and_back(options: dict[str, object]) -> None:
    net = SduNet(5, width=32, stacks=2, **options)  # type: ignore[arg-type]
    for value in net.state_dict().values():
        value.copy_(torch.rand_like(value) + 0.5 if value.is_floating_point() else torch.zeros_like(value))
    released = released_arrays(net)
    assert len(released) == len(released_names(net))
    state, size = convert_arrays(released)
    assert size == Size(5, stacks=2, width=32, **options)  # type: ignore[arg-type]
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


def test_the_former_prefix_of_the_grid_is_taken() -> None:
    released = released_arrays(SduNet(5, topology="sat", width=32, depth=2))
    old = {name.replace(":sat", ":sta"): value for name, value in released.items()}
    assert any("sta0_w" in name for name in old)
    assert convert_arrays(old)[1].topology == "sat"


def test_what_does_not_fit_is_named() -> None:
    released = released_arrays(SduNet(5, width=32, depth=2))
    without = {name: value for name, value in released.items() if name != "arg:stack1_ll_bn_gamma"}
    with pytest.raises(LabError, match="1 arrays missing .stack1_ll_bn_gamma"):
        convert_arrays(without)
    with pytest.raises(LabError, match="1 arrays unknown .stack1_extra"):
        convert_arrays({**released, "arg:stack1_extra": np.zeros(1, np.float32)})
    with pytest.raises(LabError, match="1 arrays of another shape .bn0_beta is"):
        convert_arrays({**released, "arg:bn0_beta": np.zeros(7, np.float32)})
    with pytest.raises(LabError, match="should be stored as aux"):
        convert_arrays({n.replace("aux:bn0_moving_var", "arg:bn0_moving_var"): v for n, v in released.items()})
    with pytest.raises(LabError, match="neither arg: nor aux:"):
        convert_arrays({"opt:x": np.zeros(1)})
    with pytest.raises(LabError, match="give an official file of this method"):
        describe({"fc1_weight": np.zeros((2, 2))})


def check_prediction(target: Path, net: SduNet, image: np.ndarray, box: np.ndarray) -> None:
    """Compare the prediction of a converted file with the official crop, network and decoding, part by part."""
    found = Predictor.load(target)(image, box[None])
    matrix = square_matrix(box)
    crop = cv2.warpAffine(image, matrix, (128, 128), flags=cv2.INTER_LINEAR)
    with torch.inference_mode():
        maps = net.eval()(torch.from_numpy(crop).permute(2, 0, 1)[None]).heatmaps[-1][0].numpy()
    enlarged = [cv2.resize(plane, (128, 128), interpolation=cv2.INTER_LINEAR).argmax() for plane in maps]
    whole = np.stack([np.mod(enlarged, 128), np.floor_divide(enlarged, 128)], 1)
    np.testing.assert_allclose(apply_affine(matrix, found.points[0].numpy()), whole, atol=1e-5)
    assert found.score is not None and found.score.shape == (1, 68) and found.score.min() >= 0


@needs_shared
@pytest.mark.golden
def test_the_official_network_predicts_a_picture(tmp_path: Path) -> None:
    """Official names, made-up values; crop, network and decoding are each compared with golden data elsewhere."""
    keys = json.loads((GOLDEN / "hg2d3-cab" / "keys.json").read_text())
    values = parameters(keys["params"], keys["scale"])
    source, target = tmp_path / "model-0000.params", tmp_path / "out.safetensors"
    source.write_bytes(write_params(values))
    assert main([str(source), str(target)]) == 0
    state, size = convert_arrays(values)
    net = build(size)
    net.load_state_dict(state)
    picture = (255 * image(31, (3, 384, 384))).astype(np.uint8).transpose(1, 2, 0).copy()
    box = np.array(read_json("helpers.json")["transform2_bbox"]["bbox"], np.float64)[:4]
    check_prediction(target, net, picture, box)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(2)
    net = SduNet(68, width=32, depth=2)
    source, target = tmp_path / "model-0000.params", tmp_path / "out.safetensors"
    source.write_bytes(write_params(released_arrays(net)))
    assert main([str(source), str(target)]) == 0
    assert "hourglass" in capsys.readouterr().out
    task = SduTask(input_size=64, net=NetworkConfig(width=32, depth=2), official_frame=True)
    load_weights(task, read_state_dict(target), str(target))
    x = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        expected = net.eval()(x).heatmaps[-1]
        assert torch.equal(task.eval()(x).heatmaps[-1], expected)
        assert torch.equal(load_net(target)(x).heatmaps[-1], expected)
    sample = SyntheticFaces(1, scheme="ibug68", seed=3)[0]
    check_prediction(target, net, sample.image, np.asarray(sample.box, np.float64))
    with pytest.raises(LabError, match=f"official weights of sdu3d.*python -m sdu3d.convert {source} OUT"):
        Predictor.load(source)
    assert main([str(source), str(target)]) == 2 and "exists already" in capsys.readouterr().err
    assert main([str(source), str(tmp_path / "out.bin")]) == 2
    source.write_bytes(source.read_bytes()[:-100])
    assert main([str(source), str(target), "--overwrite"]) == 2
    assert "truncated" in capsys.readouterr().err
