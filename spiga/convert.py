"""Turn the official weights of this method into this project's names and file format.

python -m spiga.convert spiga_wflw.pt spiga_wflw.safetensors --mean_face mean_face_3D_98.txt

The four official models (spiga_wflw, spiga_300wpublic, spiga_300wprivate, spiga_merlrav) are flat files of 1928
entries. Eight are constants of the architecture: they are compared, then dropped. Unused shortcut convolutions are
dropped and listed. The mean face is no part of the weights' file: it is given next to it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from common.data.crops import CropConfig
from common.errors import LabError, command
from common.files.checkpoints import listed
from common.files.converting import (
    PARALLEL,
    Converted,
    OfficialFiles,
    check_target,
    conclude,
    converter_parser,
    read_official,
)
from common.schemes import IBUG68, WFLW98, LandmarkScheme
from spiga.mean_face import read_mean_face
from spiga.network import HEADS, SAMPLES, STRIDE, WINDOW, SpigaNet
from spiga.schemes import edge_curves


class Sizes(TypedDict):
    """Size of a network, as `SpigaNet` takes it."""

    stacks: int
    width: int
    depth: int
    steps: int


TASK_PREFIX = "net."  # where SpigaTask holds its network
MEAN_FACE = "mean_face"
SCHEMES = {98: WFLW98, 68: IBUG68}
CROP = CropConfig(size=256, box_scale=1.6)
SIZES: Sizes = {"stacks": 4, "width": 256, "depth": 4, "steps": 3}
CONSTANT_TOLERANCE = 1e-6
FILES = OfficialFiles(
    method="spiga",
    keys=(r"visual_cnn\.outs_points\.0\.0\.conv\.weight",),
    usage="OUT.safetensors --mean_face mean_face_3D_POINTS.txt",
    origin="spiga_wflw.pt, spiga_300wpublic.pt, spiga_300wprivate.pt and spiga_merlrav.pt, linked in the README of "
    "andresprados/SPIGA on GitHub; the mean faces are in its folder spiga/data/models3D",
)
PARTS = {"proj.0": "query", "proj.1": "key", "proj.2": "value", "merge": "merge"}

Rule = tuple[str, Callable[[re.Match[str]], str]]


def _sequence(prefix: str, match: re.Match[str]) -> str:
    """Return ours for entry n of an official list of linear, norm, ReLU, linear, norm, ReLU, ..., linear."""
    index = int(match["n"])
    return f"{prefix}.{'layers' if index % 3 == 0 else 'norms'}.{index // 3}."


RULES: tuple[Rule, ...] = (
    (r"visual_cnn\.pre\.(\d)\.", lambda m: f"backbone.stem.{int(m[1]) - 1}."),
    (r"visual_cnn\.hgs\.(\d)\.((?:low2\.)*)", lambda m: f"backbone.hourglasses.{m[1]}.{'inner.' * m[2].count('low2')}"),
    (r"visual_cnn\.hgs_out\.", lambda m: "backbone.tops."),
    (r"visual_cnn\.hgs_core\.", lambda m: "backbone.cores."),
    (r"visual_cnn\.outs_(points|edges)\.(\d)\.0\.conv\.", lambda m: f"backbone.heads.{m[2]}.{m[1]}."),
    (r"visual_cnn\.outs_features\.(\d)\.conv\.", lambda m: f"backbone.heads.{m[1]}.features."),
    (r"visual_cnn\.merge_preds\.(\d)\.conv\.", lambda m: f"backbone.merge_maps.{m[1]}."),
    (r"visual_cnn\.merge_features\.(\d)\.conv\.", lambda m: f"backbone.merge_features.{m[1]}."),
    (r"pose_fc\.", lambda m: "pose."),
    (r"conv_window\.(\d)\.", lambda m: f"cascade.{m[1]}.window."),
    (r"shape_encoder\.(?P<t>\d)\.encoder\.(?P<n>\d)\.", lambda m: _sequence(f"cascade.{m['t']}.shape", m)),
    (r"gcn\.(?P<t>\d)\.decoder\.decoder\.(?P<n>\d+)\.", lambda m: _sequence(f"cascade.{m['t']}.decoder", m)),
    (r"gcn\.(\d)\.gat\.(\d)\.reshape\.0\.", lambda m: f"cascade.{m[1]}.layers.{m[2]}.skip."),
    (r"gcn\.(?P<t>\d)\.gat\.(?P<s>\d)\.attention\.mlp\.(?P<n>\d)\.",
     lambda m: _sequence(f"cascade.{m['t']}.layers.{m['s']}.mlp", m)),
    (r"gcn\.(\d)\.gat\.(\d)\.attention\.attn\.(merge|proj\.[012])\.",
     lambda m: f"cascade.{m[1]}.layers.{m[2]}.{PARTS[m[3]]}."),
)  # fmt: skip
INSIDE = ((re.compile(r"\b(conv[123])\.conv\."), r"\1."), (re.compile(r"\bskip_layer\.conv\."), "skip."),
          (re.compile(r"\bpool1\."), "pool."), (re.compile(r"\bup2\.deconv\."), "up2."),
          (re.compile(r"\bup2\.bn\."), "bn."))  # fmt: skip


def our_name(key: str) -> str | None:
    """Return our name of an official key, None where no rule knows it."""
    for pattern, make in RULES:
        found = re.match(pattern, key)
        if found:
            rest = key[found.end() :]
            for inner, ours in INSIDE:
                rest = inner.sub(ours, rest)
            return make(found) + rest
    return None


def constants(scheme: LandmarkScheme, size: int = CROP.size) -> dict[str, Tensor]:
    """Return what the eight constants of official weights must be."""
    map_size, points = size // STRIDE, scheme.num_points
    line = torch.arange(size, dtype=torch.float32) / (size - 1) * 2 - 1
    table = torch.zeros(points, len(edge_curves(scheme)) + 1)
    for column, members in enumerate((*edge_curves(scheme), scheme.singles)):
        table[list(members), column] = 1
    sides = [WINDOW * map_size / 2**step for step in range(SIZES["steps"])]
    scales = [SAMPLES / map_size * (side - 1) / (SAMPLES - 1) for side in sides]
    return {
        "diagonal_mask": ~torch.eye(points, dtype=torch.bool),
        "visual_cnn.pre.0.xx_channel": line[:, None].expand(1, 1, size, size),
        "visual_cnn.pre.0.yy_channel": line.expand(1, 1, size, size),
        "visual_cnn.E2Ptransform.ones": torch.ones(1, map_size, map_size),
        "visual_cnn.E2Ptransform.edge2point": table,
    } | {f"theta_S.{i}": scale * torch.eye(2) for i, scale in enumerate(scales)}


def _ours(key: str, value: Tensor) -> Tensor:
    """Return the tensor as ours: matrices instead of 1x1 convolutions, heads of consecutive channels."""
    if key.startswith("cascade.") and value.ndim > 2:
        value = value.flatten(1)
    if re.search(r"layers\.\d\.(query|key|value)\.", key):
        # Official channel c belongs to head c % 4; ours to head c // (C / 4).
        return value.unflatten(0, (-1, HEADS)).transpose(0, 1).flatten(0, 1)
    if re.search(r"layers\.\d\.merge\.weight", key):
        return value.unflatten(1, (-1, HEADS)).transpose(1, 2).flatten(1, 2)
    return value


def find_scheme(official: Mapping[str, Tensor]) -> LandmarkScheme:
    """Return the scheme of official weights, by their number of points."""
    head = official.get("visual_cnn.outs_points.0.0.conv.weight")
    if head is None or head.ndim != 4 or head.shape[0] not in SCHEMES:
        raise LabError("weights: visual_cnn.outs_points.0.0.conv.weight for 68 or 98 points is missing; give an "
                       "official file of this method")  # fmt: skip
    return SCHEMES[head.shape[0]]


def _check_constants(official: Mapping[str, Tensor], scheme: LandmarkScheme) -> None:
    for key, expected in constants(scheme).items():
        value = official.get(key)
        if value is None or value.shape != expected.shape:
            raise LabError(f"weights: constant {key} is missing or not {tuple(expected.shape)}")
        if (value.double() - expected.double()).abs().max() > CONSTANT_TOLERANCE:
            raise LabError(f"weights: constant {key} has other values than this architecture's; is this a fork?")


def convert_state_dict(official: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename official weights for `SpigaNet`, whole; the mean face is not among them.

    Returns:
        The weights, and the official keys of unused shortcut convolutions, which were dropped.

    Raises:
        LabError: a key is missing or unknown, a shape differs, or a constant has another value.
    """
    given = {key.removeprefix(PARALLEL): value for key, value in official.items()}
    scheme = find_scheme(given)
    _check_constants(given, scheme)
    with torch.device("meta"):  # only names and shapes are needed
        net = SpigaNet(scheme.num_points, edge_curves(scheme), scheme.singles, torch.zeros(scheme.num_points, 3),
                       None, CROP.size, **SIZES)  # fmt: skip
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items() if key != MEAN_FACE}
    state: dict[str, Tensor] = {}
    dropped, unknown, fixed = [], [], constants(scheme).keys()
    for key, value in given.items():
        if key in fixed:
            continue
        ours = our_name(key)
        if ours in shapes:
            state[ours] = _ours(ours, value)
        elif ours is not None and ours.endswith(".skip.weight"):
            dropped.append(key)
        else:
            unknown.append(key)
    missing = [key for key in shapes if key not in state]
    differ = [f"{k} is {tuple(v.shape)}, not {shapes[k]}" for k, v in state.items() if tuple(v.shape) != shapes[k]]
    problems = [f"{len(found)} {what} ({listed(found)})" for what, found in
                (("keys missing", missing), ("keys unknown", unknown), ("shapes differ", differ)) if found]  # fmt: skip
    if problems:
        raise LabError(f"weights: do not fit the official network: {'; '.join(problems)}")
    return state, dropped


def convert(source: Path, mean_face: Path | None = None) -> Converted:
    """Return official weights as entries and settings of `SpigaTask`.

    Args:
        source: the official file.
        mean_face: the face that the weights were trained with; without it they can start a training, but not predict.

    Raises:
        LabError: a file cannot be read or does not fit.
    """
    official = read_official(source)
    try:
        state, dropped = convert_state_dict(official)
    except LabError as error:
        raise LabError(f"{source}: {error}") from None
    scheme = find_scheme({key.removeprefix(PARALLEL): value for key, value in official.items()})
    lacking = ""
    if mean_face is None:
        lacking = (f"convert it again with --mean_face mean_face_3D_{scheme.num_points}.txt, the face that the weights "
                   "were trained with")  # fmt: skip
    else:
        state[MEAN_FACE] = read_mean_face(mean_face, scheme).float()
    return Converted(
        method="spiga",
        state={TASK_PREFIX + key: value for key, value in state.items()},
        settings={"scheme": scheme.name, "input_size": CROP.size, "last_head": False, **SIZES},
        crop=CROP,
        dropped=tuple(dropped),
        lacking=lacking,
    )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = converter_parser(FILES, "official file, such as spiga_wflw.pt")
    parser.add_argument("--mean_face", type=Path, help="official mean face (.txt or .npy), written into the weights")
    options = parser.parse_args(arguments)
    check_target(options.target, options.overwrite)
    conclude(convert(options.source, options.mean_face), options.target, options.overwrite)
    return 0


if __name__ == "__main__":
    sys.exit(main())
