"""Released files: names, moving averages, shapes, and the start shape."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.data.synthetic.dataset import SyntheticFaces
from common.errors import LabError
from common.files.checkpoints import load_weights, read_state_dict
from common.prediction.inference import Predictor
from musica.convert import AVERAGE, convert_variables, main, name_table, read_variables
from musica.module import MusicaTask, NetworkConfig
from musica.network import CascadeNet
from musica.original import run_official
from tests.conftest import needs_shared
from tests.musica.golden import CONFIGS, keys

POINTS, PATCHES, UNITS = 68, [30, 36, 45, 48, 54], 16


def variables(iterations: int = 2) -> dict[str, np.ndarray]:
    """Return made-up variables of a small network, as a released checkpoint names them."""
    rng = np.random.default_rng(0)
    shapes = {"conv1": (3, 3, 3, 32), "conv2": (3, 3, 32, 32), "attention": (256, 256),
              "hidden": (256 * len(PATCHES) + UNITS, UNITS), "output": (UNITS, 2 * POINTS + 1)}  # fmt: skip
    made: dict[str, np.ndarray] = {}
    for name, ours in name_table(iterations).items():
        layer, kind = ours.split(".")[2:]
        shape = shapes[layer] if kind == "weight" else shapes[layer][-1:]
        for suffix in ("", AVERAGE, "/Adam", "/Adam_1"):
            made[name + suffix] = rng.normal(size=shape).astype(np.float32)
    numbers = {"beta1_power": 0.1, "beta2_power": 0.1, "global_step": 21300.0}
    return made | {name: np.asarray(value, np.float32) for name, value in numbers.items()}


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("config", list(CONFIGS))
def test_names_are_the_released_ones(config: str, shared_dir: Path) -> None:
    assert list(name_table(CONFIGS[config].iterations)) == list(keys(shared_dir, config))


def test_averages_are_taken_and_axes_turned() -> None:
    given = variables()
    state = convert_variables(given)
    np.testing.assert_array_equal(
        state["stages.1.conv1.weight"].numpy(), given["Conv_2/weights" + AVERAGE].transpose(3, 2, 0, 1)
    )
    np.testing.assert_array_equal(state["stages.0.hidden.weight"].numpy(), given["FC_1/weights" + AVERAGE].T)
    np.testing.assert_array_equal(state["stages.1.output.bias"].numpy(), given["FC_5/biases" + AVERAGE])
    plain = {name: value for name, value in given.items() if not name.endswith(AVERAGE)}
    np.testing.assert_array_equal(convert_variables(plain)["stages.0.attention.weight"].numpy(), given["FC/weights"].T)


def test_what_does_not_fit_is_named() -> None:
    given = {k.removesuffix(AVERAGE): v for k, v in variables().items() if k.endswith(AVERAGE)}
    lacking = dict(given)
    del lacking["Conv_3/biases"]
    with pytest.raises(LabError, match="1 missing .Conv_3/biases"):
        convert_variables(lacking)
    with pytest.raises(LabError, match="1 unknown .stray"):
        convert_variables(given | {"stray": np.zeros(3)})
    with pytest.raises(LabError, match="1 of another shape .*FC_3/weights"):
        convert_variables(given | {"FC_3/weights": np.zeros((255, 256), np.float32)})
    with pytest.raises(LabError, match="FC_1/weights"):
        convert_variables({"x": np.zeros(2)})
    half = variables()
    del half["FC/weights" + AVERAGE]
    with pytest.raises(LabError, match="no moving average .FC/weights"):
        convert_variables(half)


def test_file_to_file_and_into_the_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, mean = tmp_path / "model.npz", tmp_path / "out.safetensors", tmp_path / "mean.npy"
    given = variables()
    np.savez(source, **given)  # type: ignore[arg-type]
    start = np.random.default_rng(1).uniform(0, 142, (POINTS, 2)).astype(np.float32)
    np.save(mean, start)
    patches = ["--patches", ",".join(map(str, PATCHES))]
    assert main([str(source), str(target), "--mean_shape", str(mean)]) == 2
    assert "5 patches of 68 landmarks are no known set; give --patches" in capsys.readouterr().err
    assert main([str(source), str(target), "--mean_shape", str(mean), "--patches", "w300_19"]) == 2
    assert "--patches names 19" in capsys.readouterr().err
    assert main([str(source), str(target), "--mean_shape", str(mean), *patches]) == 0
    assert "iterations 2, units 16, sampling official, origin box" in capsys.readouterr().out
    sample = SyntheticFaces(1, scheme="ibug68", seed=3)[0]
    found = Predictor.load(target)(sample.image, sample.box[None])
    net = CascadeNet(68, PATCHES, 2, UNITS, sampling="official").eval()
    net.load_state_dict({**convert_variables(given), "start": torch.from_numpy(start)})
    expected = run_official(net, [sample.image], [sample.box])
    torch.testing.assert_close(found.points, expected.steps[-1])
    assert found.score is not None and torch.equal(found.score[0, :1], -expected.error)
    state = read_state_dict(target)
    task = MusicaTask("ibug68", 228, NetworkConfig(PATCHES, 2, units=UNITS, sampling="official"), origin="box")
    load_weights(task, state, str(target), allow_missing=task.new_parts())
    np.testing.assert_array_equal(task.net.start.numpy(), start)
    hidden = torch.from_numpy(given["FC_4/weights" + AVERAGE].T.copy())
    assert torch.equal(task.net.stage_list[1].hidden.weight, hidden)
    assert main([str(source), str(target), *patches]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([str(source), str(target), "--overwrite", *patches]) == 0
    assert "cannot predict yet: convert it again with --mean_shape" in capsys.readouterr().out
    with pytest.raises(LabError, match="convert it again with --mean_shape"):
        Predictor.load(target)
    assert main([str(source), str(tmp_path / "x.pth")]) == 2
    short = tmp_path / "short.npy"
    np.save(short, start[:5])
    assert main([str(source), str(tmp_path / "y.safetensors"), "--mean_shape", str(short), *patches]) == 2
    assert "(5, 2)" in capsys.readouterr().err and not (tmp_path / "y.safetensors").exists()
    assert main([str(source), str(tmp_path / "y.safetensors"), "--mean_shape", "mean_shape.pkl", *patches]) == 2
    assert "must be an .npy file" in capsys.readouterr().err


def test_checkpoints_go_through_tensorflow_s_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional library is asked by the prefix, whichever file of the checkpoint was named."""
    given, asked = variables(), []
    for ending in (".index", ".meta"):
        (tmp_path / f"model.ckpt-21300{ending}").write_bytes(b"x")

    class Errors:
        OpError = RuntimeError

    def load(prefix: str) -> SimpleNamespace:
        asked.append(prefix)
        if len(asked) > 2:
            raise RuntimeError("checksum does not match\nmore")
        return SimpleNamespace(get_variable_to_shape_map=lambda: dict.fromkeys(given), get_tensor=given.__getitem__)

    fake = SimpleNamespace(train=SimpleNamespace(load_checkpoint=load), errors=Errors)
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    prefix = tmp_path / "model.ckpt-21300"
    for name in (str(prefix), f"{prefix}.index"):
        np.testing.assert_array_equal(read_variables(Path(name))["FC/weights"], given["FC/weights"])
    assert asked == [str(prefix)] * 2
    with pytest.raises(LabError, match="damaged or no checkpoint .checksum does not match"):
        read_variables(prefix)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(LabError, match="needs TensorFlow"):
        read_variables(prefix)
    with pytest.raises(LabError, match="no such checkpoint"):
        read_variables(tmp_path / "other")
    (tmp_path / "pointer.ckpt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(LabError, match="is a Git LFS pointer"):
        read_variables(tmp_path / "pointer.ckpt")


@pytest.mark.slow  # imports TensorFlow
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_real_checkpoints_old_and_new(tmp_path: Path, version: str) -> None:
    """Written by TensorFlow itself in both of its formats; runs where the optional extra is installed."""
    tf = pytest.importorskip("tensorflow", reason="needs the extra 'tensorflow'")
    given, prefix = variables(), tmp_path / "model.ckpt"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [tf.compat.v1.Variable(value, name=name) for name, value in given.items()]
        saver = tf.compat.v1.train.Saver(made, write_version=getattr(tf.compat.v1.train.SaverDef, version))
        session.run(tf.compat.v1.global_variables_initializer())
        saver.save(session, str(prefix), global_step=21300)
    prefix = prefix.with_name("model.ckpt-21300")
    assert prefix.is_file() == (version == "V1")  # the old format is one file, the new one an index and parts
    found = read_variables(prefix)
    assert set(found) == set(given)
    ours, direct = convert_variables(found), convert_variables(given)
    assert all(torch.equal(ours[name], direct[name]) for name in direct)
    for part in prefix.parent.glob("model.ckpt-21300*"):
        part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(LabError, match="damaged"):
        read_variables(prefix)
