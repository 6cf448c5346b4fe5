"""Released files: old pickles of CUDA tensors with a prefix, read without running code, into a file that predicts."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from common import predict
from common.data.synthetic.dataset import SyntheticFaces
from common.errors import LabError
from common.packing import describe
from common.prediction.inference import Predictor
from dpr.convert import backbone_names, main, read_released
from dpr.module import DprTask
from dpr.options import NetworkConfig
from dpr.original import official_sample
from tests.conftest import needs_shared
from tests.dpr import golden as golden_data
from tests.dpr.golden import TRAINED, arrays, official_net, picture, surrogate


def save_as_released(state: dict[str, torch.Tensor], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file as the release's are: no zip, storages that say they lie on a GPU, keys with `module.`."""
    content = {"epoch": 3, "state_dict": {f"module.{key.removeprefix('module.')}": v for key, v in state.items()}}
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(content, path, _use_new_zipfile_serialization=False)
    assert b"cuda:0" in path.read_bytes() and not path.read_bytes().startswith(b"PK")


@needs_shared
@pytest.mark.golden
def test_released_files_become_weights_that_give_the_official_landmarks(
    shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, golden = shared_dir / "golden/dpr", arrays(shared_dir)
    files = []
    for kind in TRAINED[:2]:
        files.append(tmp_path / f"98_points_{kind}.pth.tar")
        save_as_released(read_released(folder / f"98_points_{kind}.npz"), files[-1], monkeypatch)
    target = tmp_path / "gsr.safetensors"
    assert main([*map(str, files), str(folder / "mean_98_face.npy"), str(target)]) == 0
    about = describe(target)
    assert about.hyper_parameters["stage"] == "gsr" and about.official
    predictor = Predictor.load(target)
    for row, name in enumerate(golden["names"][:2]):
        found = predictor(picture(shared_dir, name), golden["rect"][row][None]).points[0].numpy()
        assert np.abs(found - golden["gsr_pts"][row]).max() < 0.02  # whole GSR by OpenCV's warp
    # The command for photographs, with the box file beside the sample.
    samples = [str(folder / "samples" / str(name)) for name in golden["names"][:1]]
    assert predict.main([*samples, "--weights", str(target), "--out", str(tmp_path / "drawn")]) == 0
    assert len(list((tmp_path / "drawn").glob("*.landmarks.*"))) == 1
    assert main([*map(str, files), str(folder / "mean_98_face.npy"), str(target)]) == 2
    assert "exists already" in capsys.readouterr().err


@needs_shared
@pytest.mark.golden
def test_all_four_networks_in_any_order(shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shared_dir / "golden/dpr"
    stand_in = tmp_path / "98_points_local_regress.pth.tar"
    state = surrogate(shared_dir)
    monkeypatch.setattr(golden_data, "surrogate", lambda shared: state)  # not made twice
    save_as_released(state, stand_in, monkeypatch)
    sources = [stand_in, *(folder / f"98_points_{kind}.npz" for kind in reversed(TRAINED)),
               folder / "mean_98_face.npy"]  # fmt: skip
    assert main([*map(str, sources), str(tmp_path / "glsr.safetensors")]) == 0
    predictor, golden = Predictor.load(tmp_path / "glsr.safetensors"), arrays(shared_dir)
    task = predictor.task
    name, box = golden["names"][0], golden["rect"][0]
    found = predictor(picture(shared_dir, name), box[None])
    assert np.abs(found.steps[0][0].numpy() - golden["gsr_pts"][0]).max() < 0.02
    # The surrogate magnifies the last bit of the first network's output (6e-8) to 0.16 px, so the local stage is
    # compared from the official map on: 0.1 px, as the golden README allows.
    assert isinstance(task, DprTask)
    net = copy.copy(task.net)
    net.sampler = official_sample
    for row in range(len(golden["names"])):
        image = torch.from_numpy(picture(shared_dir, golden["names"][row])).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            box_of, map_of = (torch.from_numpy(golden[key][row][None]) for key in ("rect", "T"))
            stages, face = net.global_stage(image, box_of, map_of)
            net.locate_parts(stages)
            net.refine(stages, face, image)
        assert np.abs(stages.points[0].numpy() - golden["fill_glsr_pts"][row]).max() < 0.1
    wanted = official_net(shared_dir).state_dict()
    state = task.network().state_dict()
    assert set(state) == set(wanted) and all(torch.equal(state[key], wanted[key]) for key in wanted)


def made_up(net: torch.nn.Module, table: dict[str, str]) -> dict[str, torch.Tensor]:
    """Return a network's weights under official prefixes, for BGR pictures; the table goes from ours to theirs."""
    state = {}
    for key, value in net.state_dict().items():
        ours = next((prefix for prefix in sorted(table, key=len, reverse=True) if key.startswith(prefix)), "")
        turned = value.flip(1) if key in ("localization.0.weight", "backbone.stem.0.weight") else value
        state[table.get(ours, "") + key.removeprefix(ours)] = turned
    return state


def test_made_up_files_predict_through_the_official_crop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    task = DprTask("ibug68", net=NetworkConfig(rounded=True))
    files = [tmp_path / f"68_points_{kind}.pth.tar" for kind in TRAINED[:2]]
    save_as_released(made_up(task.net.global_reinit, {"head.": "fc_loc."}), files[0], monkeypatch)
    table = {ours: theirs for theirs, ours in backbone_names("features.").items()} | {"head.": "pts_net."}
    save_as_released(made_up(task.net.global_regress, table), files[1], monkeypatch)
    mean, target = tmp_path / "mean_68_face.npy", tmp_path / "gsr.safetensors"
    np.save(mean, task.net.mean_face.numpy().ravel())
    assert main([*map(str, files), str(mean), str(target)]) == 0
    sample = SyntheticFaces(1, scheme="ibug68", seed=3)[0]
    predictor = Predictor.load(target)
    found = predictor(sample.image, sample.box[None]).points[0]
    # Sampled by PyTorch and rounded to 8 bits, the crops differ by a grey level here and there.
    exact = task.eval().predict_image(sample.image, sample.box[None]).points[0]
    assert (found - exact).abs().max() < 0.1
    for path in files:
        with pytest.raises(LabError, match=f"official weights of dpr.*python -m dpr.convert {path} "):
            Predictor.load(path)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("none.pth.tar", None, "missing"),
        ("torn.pth.tar", b"\x80\x02\x8a", "damaged"),
        ("torn.npz", b"no zip", "damaged or no .npz"),
        ("other.pth.tar", {"conv.weight": torch.zeros(1)}, "none of this method's networks"),
        ("single.pth.tar", {"fc_loc.2.weight": torch.zeros(6, 32)}, "no mean face"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, name: str, content: object, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    assert main([str(path), str(tmp_path / "out.safetensors")]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


class Command:
    """What a hostile file holds: reading it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


def test_a_pickle_cannot_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(
        {"state_dict": Command(tmp_path / "made")}, tmp_path / "bad.pth.tar", _use_new_zipfile_serialization=False
    )
    np.save(tmp_path / "mean.npy", np.array([Command(tmp_path / "made")], dtype=object))
    for name, text in (("bad.pth.tar", "would run code"), ("mean.npy", "no array of plain")):
        assert main([str(tmp_path / name), str(tmp_path / "out.safetensors")]) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
