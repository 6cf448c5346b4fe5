"""From a photograph and face boxes to landmarks in image pixels: the one path for demos and benchmarks.

A file of weights says itself what it is: the method's name, the arguments of its network and the crop lie in the
metadata of a `.safetensors` file, or in a training checkpoint and the `config.yaml` of its run. The method's package
is imported by that name, and only if it lies beside this one.

python -m common.inference RUN/checkpoints/best.ckpt OUT.safetensors    packs a checkpoint into one small file
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open

from common.checkpoints import load_weights, read_checkpoint, read_state_dict, save_safetensors
from common.data.base import check_box
from common.data.crops import CropConfig, draw_matrix, move_box, warp_image
from common.errors import LabError, command
from common.geometry import apply_affine, invert_affine
from common.schemes import LandmarkScheme
from common.task import LandmarkTask
from common.types import FaceBatch, Prediction

ROOT = Path(__file__).resolve().parents[1]
METHOD_NAME = re.compile(r"[a-z][a-z0-9_]*")
DETECTOR_SIDE = 640  # longer side that a photograph is shrunk to; the detector's range is faces of 10 to 300 px
DETECTOR_SCORE = 0.6


def task_class(method: str) -> type[LandmarkTask]:
    """Return the task of a method from `<method>/module.py`.

    Raises:
        LabError: there is no such method in this project.
    """
    if METHOD_NAME.fullmatch(method) and (ROOT / method / "module.py").is_file():
        spec = importlib.util.find_spec(method)
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent == ROOT / method:
            module = importlib.import_module(f"{method}.module")
            for _, value in inspect.getmembers(module, inspect.isclass):
                if issubclass(value, LandmarkTask) and value.METHOD == method:
                    return value
    raise LabError(f"method {method[:40]!r} of the weights is not in this project")


@dataclasses.dataclass(frozen=True)
class Description:
    """What must be known to use weights.

    Attributes:
        method: name of the method's package.
        hyper_parameters: arguments of its task.
        crop: what its data module cut out.
    """

    method: str
    hyper_parameters: dict[str, Any]
    crop: CropConfig

    def metadata(self) -> dict[str, str]:
        """Return the entries of a `.safetensors` file's metadata."""
        crop = dataclasses.asdict(self.crop.still())
        return {"method": self.method, "hyper_parameters": json.dumps(self.hyper_parameters), "crop": json.dumps(crop)}


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a `.safetensors` file.

    Raises:
        LabError: the file is missing or damaged.
    """
    if not path.is_file():
        raise LabError(f"{path}: weights are missing; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        raise LabError(f"{path}: weights are truncated or damaged; copy them again") from None


def describe(path: Path, config: Path | None = None) -> Description:
    """Return what a file of weights is.

    Args:
        path: `.safetensors` or `.ckpt`.
        config: configuration of the run, for the crop; default: config.yaml in the run's folder of a checkpoint.

    Raises:
        LabError: the file does not say it.
    """
    if path.suffix == ".safetensors":
        found: Mapping[str, Any] = read_metadata(path)
        try:
            hyper = json.loads(found["hyper_parameters"])
            crop = json.loads(found["crop"]) if config is None else _crop_of(config)
            return Description(found["method"], dict(hyper), CropConfig(**crop).still())
        except (KeyError, ValueError, TypeError):
            raise LabError(
                f"{path}: does not say what network it is for (method, hyper_parameters, crop in its metadata); "
                "pack a checkpoint with python -m common.inference"
            ) from None
    checkpoint = read_checkpoint(path)
    if "method" not in checkpoint or "hyper_parameters" not in checkpoint:
        raise LabError(f"{path}: is no checkpoint of this project (method and hyper_parameters are missing)")
    hyper = {key: _plain(value) for key, value in checkpoint["hyper_parameters"].items() if key != "_instantiator"}
    run = config or path.resolve().parents[1] / "config.yaml"
    return Description(str(checkpoint["method"]), hyper, CropConfig(**_crop_of(run)).still())


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _crop_of(config: Path) -> dict[str, Any]:
    if not config.is_file():
        raise LabError(f"{config}: no configuration of the run; give it, since it says how faces were cropped")
    try:
        return dict(yaml.safe_load(config.read_text(encoding="utf-8"))["data"]["crop"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise LabError(f"{config}: has no data.crop; give the config.yaml of the run") from None


class Predictor:
    """A trained method, ready for photographs.

    A method may bring `predict_image(image, boxes) -> Prediction` in image pixels, if it needs more of the photograph
    than one crop; else its `predict_batch` gets the crop that it was trained on.

    Args:
        task: the method with its weights.
        crop: the crop that it was trained on.
    """

    def __init__(self, task: LandmarkTask, crop: CropConfig) -> None:
        self.task, self.crop = task.eval(), crop.still()

    @classmethod
    def load(cls, path: Path | str, config: Path | None = None, device: str = "cpu") -> Predictor:
        """Return the predictor of a file of weights.

        Raises:
            LabError: see `describe`; or the weights do not fit.
        """
        path = Path(path)
        found = describe(path, config)
        kind = task_class(found.method)
        try:
            task = kind(**found.hyper_parameters)
        except TypeError as error:
            raise LabError(f"{path}: its settings do not fit method {found.method} ({error})") from None
        load_weights(task, read_state_dict(path), str(path))
        return cls(task.to(device), found.crop)

    @property
    def scheme(self) -> LandmarkScheme:
        """Landmark scheme of the answers."""
        return self.task.scheme

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> Prediction:
        """Return landmarks of all faces of one photograph, image pixels.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (N, 4) x0 y0 x1 y1, image pixels, N at least 1.

        Raises:
            LabError: a box has no area or is not finite.
        """
        checked = np.stack([check_box(box, f"face {index}") for index, box in enumerate(boxes)])
        whole = getattr(self.task, "predict_image", None)
        if whole is not None:
            answer: Prediction = whole(image, checked)
            return answer
        batch = self.batch(image, checked)
        found = self.task.predict_batch(batch)
        back = batch.to_image.double()
        move = [apply_affine(back, points.double()) for points in (found.points, *found.steps)]
        return Prediction(points=move[0], score=found.score, pose=found.pose, steps=move[1:])

    def batch(self, image: np.ndarray, boxes: np.ndarray) -> FaceBatch:
        """Return the crops of boxes (N, 4) as a batch without truth (points 0, weight 0)."""
        matrices = [draw_matrix(box, self.crop, None)[0] for box in boxes]
        crops = np.stack([warp_image(image, matrix, self.crop.size, nearest=self.crop.nearest) for matrix in matrices])
        count, points = len(boxes), torch.zeros(len(boxes), self.scheme.num_points, 2)
        batch = FaceBatch(
            image=torch.from_numpy(crops).permute(0, 3, 1, 2),
            points=points,
            weight=torch.zeros(points.shape[:2]),
            image_points=points,
            to_image=torch.from_numpy(np.stack([invert_affine(matrix) for matrix in matrices]).astype(np.float32)),
            norm=torch.ones(count),
            visible=torch.zeros(points.shape[:2], dtype=torch.bool),
            subsets=torch.zeros(count, 0, dtype=torch.bool),
            pose=torch.full((count, 3), torch.nan),
            ids=[str(index) for index in range(count)],
            box=torch.from_numpy(np.stack([move_box(m, box) for m, box in zip(matrices, boxes, strict=True)])),
        )
        return batch.to(self.task.device)


class FaceDetector:
    """Finds faces with a model file for OpenCV's FaceDetectorYN.

    Args:
        model: ONNX file.
        score: lowest score of an answer.

    Raises:
        LabError: the file is missing or no such model.
    """

    def __init__(self, model: Path, score: float = DETECTOR_SCORE) -> None:
        if not model.is_file():
            raise LabError(f"{model}: detector model is missing; check --detector")
        try:
            self.net = cv2.FaceDetectorYN.create(str(model), "", (DETECTOR_SIDE, DETECTOR_SIDE), score)
        except cv2.error:
            raise LabError(f"{model}: is no model for OpenCV's FaceDetectorYN") from None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return boxes (N, 4) x0 y0 x1 y1, image pixels, surest first, of an RGB photograph; N may be 0."""
        height, width = image.shape[:2]
        factor = min(1.0, DETECTOR_SIDE / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
        self.net.setInputSize(size)
        found = self.net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        if found is None:
            return np.zeros((0, 4), np.float32)
        found = found[np.argsort(-found[:, -1])]
        # Pixel areas are scaled on each other, so centres shift by half the difference of the pixels' sides.
        ratio = np.array([width / size[0], height / size[1]] * 2)
        corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
        return np.asarray((corners + 0.5) * ratio - 0.5, np.float32)


def embedded_weights() -> Iterator[Path]:
    """Yield the weights that lie in this project's packages."""
    yield from sorted(ROOT.glob("*/weights/*.safetensors"))


def default_weights() -> Path:
    """Return the embedded weights whose metadata say that they are the default.

    Raises:
        LabError: there are none.
    """
    for path in embedded_weights():
        if read_metadata(path).get("default") == "true":
            return path
    raise LabError("no default weights are embedded; give --weights FILE")


def pack(source: Path, target: Path, config: Path | None = None, extra: Mapping[str, str] | None = None) -> Description:
    """Write a checkpoint as one `.safetensors` file that `Predictor.load` can read without anything else.

    Raises:
        LabError: see `describe` and `save_safetensors`.
    """
    found = describe(source, config)
    save_safetensors(read_state_dict(source), target, {**found.metadata(), **(extra or {})})
    return found


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `pack`; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m common.inference", description="Pack a checkpoint.")
    parser.add_argument("source", type=Path, help="checkpoint of a run")
    parser.add_argument("target", type=Path, help="file to write; .safetensors")
    parser.add_argument("--config", type=Path, help="config.yaml of the run; default: beside its checkpoints")
    parser.add_argument("--default", action="store_true", help="mark as the default of python -m common.predict")
    options = parser.parse_args(arguments)
    if options.target.suffix != ".safetensors":
        raise LabError(f"{options.target}: the packed file must be named .safetensors")
    extra = {"default": "true"} if options.default else {}
    found = pack(options.source, options.target, options.config, extra)
    print(f"{options.target}: {found.method}, {options.target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
