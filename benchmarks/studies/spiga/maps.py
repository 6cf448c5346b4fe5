"""Picture of the heatmaps of a face: the crop, the maps of points, of edges, and their attended product.

python -m benchmarks.studies.spiga.maps PICTURE --weights FILE --box X0 Y0 X1 Y1

Each panel shows the largest value over all landmarks or edges, brighter where larger, laid over the crop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from common.data.base import check_box
from common.errors import LabError, command
from common.files.images import read_image, write_image
from common.prediction.inference import Predictor
from common.prediction.sources import read_rct
from spiga.module import SpigaTask

SIDE = 256  # of a panel, pixels


def panel(crop: np.ndarray, maps: Tensor) -> np.ndarray:
    """Return the crop (S, S, 3) under the largest value of maps (K, M, M), (SIDE, SIDE, 3) uint8."""
    highest = maps.amax(0).clamp(min=0)
    shares = (highest / highest.amax().clamp(min=1e-6)).cpu().numpy().astype(np.float32)
    large = cv2.resize(shares, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)[..., None]
    colours = cv2.applyColorMap((255 * large).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    below = cv2.resize(crop, (SIDE, SIDE))
    return np.clip(0.5 * below + 0.5 * colours, 0, 255).astype(np.uint8)


@torch.inference_mode()
def picture(predictor: Predictor, image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the panels of the last stack with maps side by side (SIDE, 4 SIDE, 3), RGB.

    Args:
        predictor: of this method.
        image: (H, W, 3) uint8, RGB.
        box: (4,) x0 y0 x1 y1, image pixels.

    Raises:
        LabError: the weights are another method's.
    """
    task = predictor.task
    if not isinstance(task, SpigaTask):
        raise LabError("the weights are of another method, which has no maps of edges")
    crops = predictor.batch(image, box[None]).image
    maps = task.net.backbone(task.net.prepare(crops), cores="none").heads[-1]
    crop = crops[0].permute(1, 2, 0).cpu().numpy()
    parts = [panel(crop, found[0].float()) for found in (maps.points, maps.edges, maps.attended)]
    return np.concatenate([cv2.resize(crop, (SIDE, SIDE)), *parts], axis=1)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.spiga.maps", description="Heatmaps of a face.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint, or .safetensors")
    parser.add_argument("--config", type=Path, help="config.yaml of the run, if the weights need it")
    parser.add_argument("--box", type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"), help="default: a .rct file")
    parser.add_argument("--out", type=Path, default=Path("maps.png"))
    options = parser.parse_args(arguments)
    predictor = Predictor.load(options.weights, options.config, backend="eager")
    box = check_box(np.array(options.box), "--box") if options.box else read_rct(options.picture.with_suffix(".rct"))
    write_image(options.out, picture(predictor, read_image(options.picture), box))
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
