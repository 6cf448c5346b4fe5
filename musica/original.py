"""Released weights on a photograph, with the released preprocessing and sampling.

python -m musica.original WEIGHTS.safetensors IMAGE --box X0 Y0 X1 Y1 [--patches every_second] [--policy FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from common.checkpoints import load_weights, read_state_dict
from common.errors import LabError, command
from common.geometry import apply_affine
from common.images import decode_image
from musica.cascade import run_cascade
from musica.convert import TASK_PREFIX
from musica.exit import read_policy
from musica.network import LEVELS, CascadeNet
from musica.official_crop import official_crop
from musica.patch_sets import patch_indices
from musica.patches import make_level
from musica.pyramid import Pyramid, halvings, normalise

SCHEME_OF = {98: "wflw98", 68: "ibug68"}  # for the policy's check


@dataclass(frozen=True)
class OfficialFaces:
    """Answers for some faces.

    Attributes:
        points: (B, N, 2) x, y, image pixels, the first pixel's centre at (0, 0).
        steps: per iteration the same.
        error: (B,) last predicted errors, in the unit of the landmark loss.
        iterations: (B,) iterations that were run.
    """

    points: np.ndarray
    steps: list[np.ndarray]
    error: np.ndarray
    iterations: np.ndarray


def predict_official(
    net: CascadeNet,
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    exit_below: Sequence[float] | None = None,
) -> OfficialFaces:
    """Run a network with released weights on faces of any sizes.

    Every level is padded with zeros to the largest crop after its pyramid is made. Zero is also what the patches read
    outside a crop, so a face's answer does not depend on the others of its batch.

    Args:
        net: with sampling official, whose `start` counts from the box's corner.
        images: B photographs (H, W, 3) uint8.
        boxes: B boxes (4,) x0 y0 x1 y1, image pixels.
        exit_below: thresholds, or None for all iterations.
    """
    crops = [official_crop(image, box) for image, box in zip(images, boxes, strict=True)]
    depth = max(net.level_of) + 1
    towers = [halvings(normalise(torch.from_numpy(crop.pixels)[None] / 255), depth) for crop in crops]
    levels = []
    for level in range(depth):
        faces = [tower[level].image for tower in towers]
        height, width = max(f.shape[1] for f in faces), max(f.shape[2] for f in faces)
        padded = [F.pad(f, (0, 0, 0, width - f.shape[2], 0, height - f.shape[1])) for f in faces]
        levels.append(make_level(torch.cat(padded).float()))
    corners = torch.tensor(np.stack([crop.corner[::-1] for crop in crops]).copy(), dtype=torch.float32)
    with torch.inference_mode():
        run = run_cascade(net, Pyramid(levels), net.start + corners[:, None], exit_below)
    back = np.stack([np.linalg.inv(crop.matrix)[:2] for crop in crops])
    steps = [apply_affine(back, points.flip(-1).double().numpy()) for points in run.points]
    return OfficialFaces(steps[-1], steps, run.errors[-1].numpy(), run.iterations.numpy())


def load_official(path: Path, patches: str | Sequence[int], sampling: str = "official") -> CascadeNet:
    """Return the network that a converted file fits.

    Raises:
        LabError: the file is damaged or fits no network, brings no start shape, or the patches are not as many as its.
    """
    state = {k.removeprefix(TASK_PREFIX): v for k, v in read_state_dict(path).items() if k.startswith(TASK_PREFIX)}
    iterations = sum(key.endswith(".output.weight") for key in state)
    if iterations not in LEVELS or "stages.0.output.weight" not in state or "stages.0.hidden.weight" not in state:
        raise LabError(f"{path}: no weights of this method; make the file with `python -m musica.convert`")
    if "start" not in state:
        raise LabError(f"{path}: has no start shape; convert the weights again with --mean_shape")
    units = state["stages.0.hidden.weight"].shape[0]
    points = (state["stages.0.output.weight"].shape[0] - 1) // 2
    net = CascadeNet(points, patch_indices(patches, points), iterations, units, sampling=sampling)
    load_weights(net, state, str(path))
    return net.eval()


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the landmarks as JSON and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m musica.original", description="Released weights on a photograph.")
    parser.add_argument("weights", type=Path, help="file of `python -m musica.convert`")
    parser.add_argument("image", type=Path, help="photograph")
    parser.add_argument("--box", type=float, nargs=4, required=True, metavar=("X0", "Y0", "X1", "Y1"))
    parser.add_argument("--patches", default="every_second", help="patch set that the weights were trained with")
    parser.add_argument("--policy", type=Path, default=None, help="file of `python -m musica.choose_exit`")
    options = parser.parse_args(arguments)
    net = load_official(options.weights, options.patches)
    if not options.image.is_file():
        raise LabError(f"{options.image}: no such file")
    image = decode_image(options.image.read_bytes(), str(options.image))
    policy = None
    if options.policy is not None:
        policy = read_policy(options.policy, len(net.level_of), SCHEME_OF.get(net.num_points, ""))
    found = predict_official(net, [image], [np.array(options.box)], policy.exit_below if policy else None)
    answer = {"points": found.points[0].tolist(), "predicted_error": float(found.error[0]),
              "iterations": int(found.iterations[0])}  # fmt: skip
    if policy is not None:
        answer["failed"] = not found.error[0] <= policy.fail_above
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
