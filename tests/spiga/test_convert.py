"""The converter of the four releases: strict, constants compared and dropped, unused shortcuts listed as dropped."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from common.data.synthetic.dataset import SyntheticFaces
from common.errors import LabError
from common.files.checkpoints import read_state_dict
from common.packing import describe
from common.prediction.inference import Predictor
from common.task import make_task
from spiga.cli import main as train
from spiga.convert import SIZES, constants, convert, convert_state_dict, find_scheme, main, our_name
from spiga.mean_face import default_mean_face
from spiga.module import SpigaTask
from spiga.network import SpigaNet
from spiga.original import Face, crop_face
from spiga.schemes import edge_curves
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
    assert "65 entries that no network uses were dropped: visual_cnn." in capsys.readouterr().out
    about = describe(target)
    assert about.method == "spiga" and about.crop.size == 256 and about.crop.box_scale == 1.6 and about.official
    with patch("torch.nn.init.kaiming_uniform_", lambda tensor, *args, **more: tensor):
        predictor = Predictor.load(target)
    # From a uint8 photograph to its pixels, as the official inference class: its image is BGR, its boxes x, y, w, h.
    arrays = golden.arrays(shared_dir)
    bgr = np.round(255 * golden.fill_module(shared_dir).image(21, (3, 300, 400))).astype(np.uint8).transpose(1, 2, 0)
    boxes = arrays["crop_bbox_in"] + np.pad(arrays["crop_bbox_in"][:, :2], ((0, 0), (2, 0)))
    found = predictor(np.ascontiguousarray(bgr[..., ::-1]), boxes)
    np.testing.assert_allclose(found.points, arrays["w68_e2e_landmarks"], atol=5e-3, rtol=0)
    assert found.pose is not None
    np.testing.assert_allclose(found.pose, arrays["w68_e2e_headpose"][:, :3], atol=2e-5, rtol=0)
    task = predictor.task
    assert isinstance(task, SpigaTask)
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
    refused("give an official file", **{"visual_cnn.outs_points.0.0.conv.weight": None})


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
        convert(tmp_path / "none.pt")


BACK = (
    (r"backbone\.stem\.(\d)\.", lambda m: f"visual_cnn.pre.{int(m[1]) + 1}."),
    (r"backbone\.hourglasses\.(\d)\.((?:inner\.)*)", lambda m: f"visual_cnn.hgs.{m[1]}." + "low2." * m[2].count("i")),
    (r"backbone\.tops\.", lambda m: "visual_cnn.hgs_out."),
    (r"backbone\.cores\.", lambda m: "visual_cnn.hgs_core."),
    (r"backbone\.heads\.(\d)\.(points|edges)\.", lambda m: f"visual_cnn.outs_{m[2]}.{m[1]}.0.conv."),
    (r"backbone\.heads\.(\d)\.features\.", lambda m: f"visual_cnn.outs_features.{m[1]}.conv."),
    (r"backbone\.merge_maps\.(\d)\.", lambda m: f"visual_cnn.merge_preds.{m[1]}.conv."),
    (r"backbone\.merge_features\.(\d)\.", lambda m: f"visual_cnn.merge_features.{m[1]}.conv."),
    (r"pose\.", lambda m: "pose_fc."),
    (r"cascade\.(\d)\.window\.", lambda m: f"conv_window.{m[1]}."),
    (r"cascade\.(\d)\.shape\.(layers|norms)\.(\d)\.", lambda m: f"shape_encoder.{m[1]}.encoder.{place(m)}."),
    (r"cascade\.(\d)\.decoder\.(layers|norms)\.(\d)\.", lambda m: f"gcn.{m[1]}.decoder.decoder.{place(m)}."),
    (r"cascade\.(\d\.layers\.\d)\.mlp\.(layers|norms)\.(\d)\.", lambda m: f"{gat(m)}.attention.mlp.{place(m)}."),
    (r"cascade\.(\d\.layers\.\d)\.skip\.", lambda m: f"{gat(m)}.reshape.0."),
    (r"cascade\.(\d\.layers\.\d)\.merge\.", lambda m: f"{gat(m)}.attention.attn.merge."),
    (r"cascade\.(\d\.layers\.\d)\.(query|key|value)\.",
     lambda m: f"{gat(m)}.attention.attn.proj.{('query', 'key', 'value').index(m[2])}."),
)  # fmt: skip


def place(match: re.Match[str]) -> int:
    return 3 * int(match[3]) + (match[2] == "norms")


def gat(match: re.Match[str]) -> str:
    return "gcn." + match[1].replace(".layers.", ".gat.")


def made_up(task: SpigaTask) -> dict[str, Tensor]:
    """Return a task's weights under official names, with the constants of the architecture."""
    state: dict[str, Tensor] = {}
    for key, value in task.net.state_dict().items():
        for pattern, name in BACK:
            if found := re.match(pattern, key):
                state[name(found) + key[found.end() :]] = value
                break
        else:
            assert key == "mean_face"
    return {**state, **constants(task.scheme)}


def test_a_small_file_predicts_through_the_official_crop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"stacks": 2, "width": 32, "steps": 1}
    for key, value in sizes.items():
        monkeypatch.setitem(SIZES, key, value)
    task = make_task(SpigaTask, {"scheme": "ibug68", "last_head": False, **sizes}, "test")
    source, target, face = tmp_path / "spiga_300wpublic.pt", tmp_path / "ours.safetensors", tmp_path / "face.npy"
    torch.save(made_up(task), source)
    np.save(face, default_mean_face(task.scheme).numpy())
    sample = SyntheticFaces(1, scheme="ibug68", seed=3)[0]
    # Without the face that the weights were trained with, nothing is predicted in silence.
    assert main([str(source), str(target)]) == 0
    assert "cannot predict yet: convert it again with --mean_face mean_face_3D_68.txt" in capsys.readouterr().out
    with pytest.raises(LabError, match="--mean_face mean_face_3D_68.txt"):
        Predictor.load(target)
    assert main([str(source), str(target), "--mean_face", str(face), "--overwrite"]) == 0
    found = Predictor.load(target)(sample.image, sample.box[None])
    x0, y0, x1, y1 = np.asarray(sample.box, np.float64).tolist()
    box = np.array([x0, y0, x1 - x0, y1 - y0])
    crop = crop_face(Face(sample.image, np.zeros((1, 2)), box))
    state, _ = convert_state_dict(torch.load(source, weights_only=True))
    task.net.load_state_dict({**state, "mean_face": torch.from_numpy(np.load(face)).float()})
    with torch.inference_mode():
        share, pose = task.eval().net(torch.from_numpy(crop.image).permute(2, 0, 1)[None])
    expected = (256 * share[0].double().numpy() - crop.box[:2]) / crop.box[2:] * box[2:] + box[:2]
    np.testing.assert_allclose(found.points[0], expected, atol=1e-4)
    assert found.pose is not None and len(found.steps) == 2
    torch.testing.assert_close(found.pose, pose[:, :3])
    with pytest.raises(LabError, match=f"official weights of spiga.*python -m spiga.convert {source}"):
        Predictor.load(source)


def narrow_official(shared_dir: Path) -> dict[str, Tensor]:
    """Return random weights under the official names, of a network as the official one, with SIZES's width."""
    scheme, about = golden.SCHEMES["w68"], golden.describe(shared_dir, "w68")
    torch.manual_seed(3)
    net = SpigaNet(68, edge_curves(scheme), scheme.singles, torch.zeros(68, 3), None, 256, **SIZES)
    ours, fixed = net.state_dict(), constants(scheme)
    state = {}
    for key, shape in about["keys"].items():
        value = ours.get(our_name(key) or "")  # None: a shortcut that no network uses
        value = torch.zeros(1) if value is None else value.reshape(value.shape + (1,) * (len(shape) - value.ndim))
        state[key] = fixed[key].contiguous() if key in fixed else value
    return state


@needs_shared
def test_a_training_goes_on_from_converted_official_weights(shared_dir: Path, tmp_path: Path) -> None:
    """As the README says: stage 3 of any recipe, with --init_from the converted file."""
    source, target = tmp_path / "official.pt", tmp_path / "ours.safetensors"
    face = shared_dir / "golden/spiga/mean_face_3d_68.npy"
    with patch.dict(SIZES, width=32):
        torch.save(narrow_official(shared_dir), source)
        assert main([str(source), str(target), "--mean_face", str(face)]) == 0
    run = train([
        "fit", "--config", "spiga/stage3.yaml", "--init_from", str(target), "--run", str(tmp_path / "run"),
        "--model.width", "32", "--data.dataset", "synthetic", "--data.scheme", "ibug68", "--data.num_workers", "0",
        "--data.batch_size", "1", "--data.eval_batch_size", "1", "--data.synthetic.train_count", "2",
        "--data.synthetic.val_count", "1", "--trainer.max_epochs", "1", "--trainer.num_sanity_val_steps", "0",
        "--model.train.lr", "1e-4", "--track", "false", "--trainer.accelerator", "cpu",
        "--trainer.enable_progress_bar", "false",
    ])  # fmt: skip
    assert run.trainer.global_step == 2
    given, trained = read_state_dict(target), run.model.state_dict()
    np.testing.assert_array_equal(trained["net.mean_face"], np.load(face).astype(np.float32))
    moved = 0.0
    for key, value in given.items():
        if key.startswith("net.cascade."):
            if value.is_floating_point() and "running" not in key:
                change = float((trained[key] - value).abs().max())
                assert change <= 2.5e-4, f"{key}: two steps of Adam move no weight by more than twice the rate"
                moved = max(moved, change)
        else:
            assert torch.equal(trained[key], value), f"{key} is frozen in stage 3"
    assert moved > 0
