"""Picture of the attention of one landmark.

python -m benchmarks.studies.spiga.attention PICTURE --weights FILE --box X0 Y0 X1 Y1

Draws whom a landmark attends to in one layer of one step of the cascade, brighter where more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from common.data.base import check_box
from common.errors import LabError, command
from common.files.images import read_image, write_image
from common.prediction.inference import Predictor
from common.prediction.sources import read_rct
from spiga.drawing import draw_attention
from spiga.module import SpigaTask
from spiga.network import SpigaNet
from spiga.schemes import NOSE_TIP


@torch.inference_mode()
def attention_weights(net: SpigaNet, image: torch.Tensor, step: int, layer: int) -> torch.Tensor:
    """Return the attention (B, L, L) of landmarks (rows) over landmarks, the mean of the heads.

    Args:
        net: in evaluation mode.
        image: RGB crops (B, 3, S, S).
        step: of the cascade, from 0.
        layer: of the step, from 0.

    Raises:
        LabError: there is no such step or layer.
    """
    if not 0 <= step < len(net.cascade):
        raise LabError(f"--step must be in 1 ... {len(net.cascade)}, got {step + 1}")
    found = net.predict(net.prepare(image))
    part = net.cascade[step]
    layers = list(part.layers)  # type: ignore[arg-type]
    if not 0 <= layer < len(layers):
        raise LabError(f"--layer must be in 1 ... {len(layers)}, got {layer + 1}")
    x: torch.Tensor = part.embed(found.features.maps[-1], found.steps[step])  # type: ignore[operator]
    for module in layers[:layer]:
        x = module(x, net.graph)
    weights: torch.Tensor = layers[layer].attention(x, net.graph).mean(dim=1)
    return weights


def picture(
    predictor: Predictor, image: np.ndarray, boxes: np.ndarray, point: int | None, step: int, layer: int
) -> np.ndarray:
    """Return the photograph (H, W, 3) with the attention of landmark `point` of each face; None for the nose tip.

    Raises:
        LabError: the weights are another method's, or there is no such point, step or layer.
    """
    task = predictor.task
    if not isinstance(task, SpigaTask):
        raise LabError("the weights are of another method, which has no attention between landmarks")
    point = NOSE_TIP.get(task.scheme.name, 0) if point is None else point
    if not 0 <= point < task.scheme.num_points:
        raise LabError(f"--point must be in 0 ... {task.scheme.num_points - 1}, got {point}")
    points = predictor(image, boxes).points.double().cpu().numpy()
    weights = attention_weights(task.net, predictor.batch(image, boxes).image, step, layer).cpu().numpy()
    for face, share in zip(points, weights, strict=True):
        image = draw_attention(image, face, share[point], point)
    return image


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; write the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.spiga.attention", description="Attention between landmarks."
    )
    parser.add_argument("picture", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint of stage 3, or .safetensors")
    parser.add_argument("--config", type=Path, help="config.yaml of the run, if the weights need it")
    parser.add_argument("--box", type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"), help="default: a .rct file")
    parser.add_argument("--point", type=int, help="landmark, from 0; default: the tip of the nose")
    parser.add_argument("--step", type=int, default=1, help="of the cascade, from 1")
    parser.add_argument("--layer", type=int, default=1, help="of the step, from 1")
    parser.add_argument("--out", type=Path, default=Path("attention.png"))
    options = parser.parse_args(arguments)
    predictor = Predictor.load(options.weights, options.config)
    image = read_image(options.picture)
    beside = options.picture.with_suffix(".rct")
    boxes = check_box(np.array(options.box), "--box")[None] if options.box else read_rct(beside)[None]
    drawn = picture(predictor, image, boxes, options.point, options.step - 1, options.layer - 1)
    write_image(options.out, drawn)
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
