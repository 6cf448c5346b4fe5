"""The nine golden networks: every recorded array, parameter counts, decoded points; and the network's options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sdu3d.convert import build, convert_arrays, released_names
from sdu3d.convert_mxnet import params_bytes
from sdu3d.decode import decode_released
from sdu3d.network import INSIDE, SduNet, count_running
from tests.conftest import needs_shared
from tests.sdu3d.golden import arrays, assert_close, image, parameters, read_json

PUBLISHED = {  # megabytes in the published table
    "hg2d4-resnet": 26, "hg2d3-hpm": 38, "hg2d4-cab": 46, "sat2d3-cab": 40, "hg2d3-cab": 37,
}  # fmt: skip
OTHERS = ("hg2d3-inception", "sat2d3-cab-gate", "sat2d3-cab-dcn3", "hg2d3-cab-dcn3")
HEADS = ("heatmap", "out3")  # arrays that are recorded with all channels


def keep(module: nn.Module, store: dict[str, Tensor], name: str) -> None:
    module.register_forward_hook(lambda _, __, output: store.__setitem__(name, output))


def golden_net(name: str) -> tuple[SduNet, dict[str, object]]:
    """Return the network of a golden folder with its values, and its description."""
    keys = read_json(f"{name}/keys.json")
    state, size = convert_arrays(parameters(keys["params"], keys["scale"]))
    if keys["config"]["net_sat"] == 2:  # the weights cannot tell
        size = replace(size, topology="sat_gate")
    net = build(size)
    net.load_state_dict(state)
    return net.eval(), keys


def compare(recorded: dict[str, np.ndarray], name: str, tensor: Tensor) -> None:
    """Compare the faces that were run with the recorded ones; the tolerance follows the recorded maximum."""
    values, faces = tensor.numpy(), len(tensor)
    assert values.shape[1:] == tuple(recorded[f"{name}_shape"])[1:]
    part = values[:, :, 1::8, 2::8] if any(word in name for word in HEADS) else values[:, ::16, 3::8, 5::8]
    assert_close(part, recorded[f"{name}_sub"][:faces])
    wide = values.astype(np.float64)
    assert_close(wide.sum((2, 3)), recorded[f"{name}_sum"][:faces])
    assert_close(np.abs(wide).sum((2, 3)), recorded[f"{name}_abs"][:faces])


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("name", [*PUBLISHED, *OTHERS])
def test_network_gives_the_recorded_maps_and_points_of_one_face(name: str) -> None:
    """Half of each record: what makes this half right makes the other right, at half of the time."""
    check_golden(name, 1)


@needs_shared
@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("name", [*PUBLISHED, *OTHERS])
def test_network_gives_the_recorded_maps_and_points_of_both_faces(name: str) -> None:
    check_golden(name, 2)


def check_golden(name: str, faces: int) -> None:
    torch.set_num_threads(1)
    net, keys = golden_net(name)
    recorded = arrays(f"{name}/golden.npz")
    found: dict[str, Tensor] = {}
    for label, path in {"stem": "res2", "ll0": "stack0_ll", "ll1": "stack1_ll", "heatmap0": "heatmap0",
                        "heatmap": "heatmap"}.items():  # fmt: skip
        keep(net.get_submodule(path), found, label)
    for path in ("stack0_out3", "stack1_out3"):
        if path + "_sub" in recorded:
            keep(net.get_submodule(path), found, path)
    with torch.inference_mode():
        maps = net(255 * torch.from_numpy(image(7, (2, 3, 128, 128)))[:faces]).heatmaps
    compared = {key for label in found for key in (f"{label}_{end}" for end in ("sub", "sum", "abs", "shape"))}
    for label, tensor in found.items():
        compare(recorded, label, tensor)
    last = found["heatmap"]
    assert torch.equal(maps[-1], found.get("stack1_out3", last))  # the trained map is the refined one
    assert_close(last[0, [0, 30, 36, 67]].numpy(), recorded["heatmap_full"])
    points = (decode_released(last) * 2 - 0.5).round().numpy()
    flat = last.flatten(2).argmax(-1)
    for face in range(faces):
        clear = recorded[f"margin_{face}"] > 1e-4 * np.abs(last.numpy()).max()
        assert clear.sum() > 60
        np.testing.assert_array_equal(points[face][clear], recorded[f"landmarks_{face}"][clear])
        cells = np.stack([flat[face] % 64, flat[face] // 64], 1)
        assert (cells == recorded[f"argmax64_{face}"]).all(1).mean() > 0.98
        compared |= {f"landmarks_{face}", f"margin_{face}", f"argmax64_{face}"}
    rest = set(recorded) - compared - {"heatmap_full"}
    assert rest == (set() if faces == 2 else {"landmarks_1", "margin_1", "argmax64_1"})


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("name", [*PUBLISHED, *OTHERS])
def test_counts_names_and_file_size_are_the_released_ones(name: str) -> None:
    keys = read_json(f"{name}/keys.json")
    config = keys["config"]
    with torch.device("meta"):
        net = SduNet(
            68,
            topology={0: "hourglass", 1: "sat", 2: "sat_gate"}[config["net_sat"]],
            block=config["net_block"],
            depth=config["net_n"],
            stacks=config["net_stacks"],
            inside={0: "none", 3: "dcn"}[config["net_dcn"]],
        )
    assert sum(p.numel() for p in net.parameters()) == keys["arg_total"]
    assert count_running(net) == keys["aux_total"]
    state = net.state_dict()
    shapes = {released: list(state[key].shape) for released, key in released_names(net).items()}
    assert shapes == {entry[0]: entry[1] for entry in keys["params"]}
    size = params_bytes([(f"{kind}:{entry}", shape) for entry, shape, kind in keys["params"]])
    assert size == keys["params_file_bytes"]
    if name in PUBLISHED:
        assert size // 10**6 == PUBLISHED[name]


def small(**options: object) -> SduNet:
    return SduNet(5, **{"width": 32, "depth": 2, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("topology", ["hourglass", "sat", "sat_gate"])
def test_every_transformer_fits_every_topology(inside: str, topology: str) -> None:
    net = small(inside=inside, topology=topology, border="torchvision", depth_head=True)
    maps, depth = net(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    assert [m.shape for m in maps] == [(2, 5, 16, 16)] * 2
    assert depth is not None and depth.shape == (2, 5, 16, 16)
    (sum(m.square().mean() for m in maps) + (depth - 1).square().mean()).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_four_pixels_a_cell_and_other_sizes() -> None:
    assert small(stride=4)(torch.zeros(1, 3, 64, 64)).heatmaps[0].shape == (1, 5, 16, 16)
    assert small(stacks=1)(torch.zeros(1, 3, 48, 32)).heatmaps[0].shape == (1, 5, 24, 16)


@pytest.mark.parametrize("block", ["cab", "resnet"])
def test_a_strided_stem_and_growth_keep_the_maps_size(block: str) -> None:
    net = small(stride=4, stem="strided", growth=16, block=block)
    assert [maps.shape for maps in net(torch.zeros(1, 3, 64, 64)).heatmaps] == [(1, 5, 16, 16)] * 2
    widths = {m.weight.shape[0] for m in net.stack0_hg.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert {32 + 16, 32 + 2 * 16} & widths and not widths & {32 + 3 * 16}


@pytest.mark.parametrize(
    "wrong", [{"topology": "ring"}, {"block": "vgg"}, {"inside": "yes"}, {"border": "none"}, {"stride": 3},
              {"width": 20}, {"depth": 0}, {"stacks": 0}, {"stem": "none"}, {"stem": "strided"}, {"growth": 4},
              {"growth": 8, "topology": "sat"}],
)  # fmt: skip
def test_wrong_choices_are_told(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        small(**wrong)


def test_a_transformer_that_has_learnt_nothing_changes_nothing() -> None:
    """At its start the spatial transformer is the identity, and a deformable join samples on the grid."""
    torch.manual_seed(1)
    net = small(inside="stn").eval()
    x = torch.rand(1, 32, 16, 16)
    warped, pose = net.stack0_stn(x)
    torch.testing.assert_close(warped, x)
    torch.testing.assert_close(net.stack0_stn.back(warped, pose), x)
