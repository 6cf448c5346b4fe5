"""From a photograph and face boxes to landmarks in image pixels: the one path for demos and benchmarks.

A file of weights says itself what it is: the method's name, the arguments of its network and the crop are in the
metadata of a `.safetensors` file, or in a training checkpoint and the `config.yaml` of its run. The method is one of
those that are installed (`common.methods`).
"""

from __future__ import annotations

import glob
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from common.data.base import check_box_in
from common.data.crops import CropConfig, draw_matrix, move_box, warp_image
from common.errors import LabError
from common.export.fast import Backend, FastPath, default_backend, of_file
from common.export.runtime import ONNX, Precision
from common.export.work import CropWork, Photograph, PhotographWork, Work
from common.files.checkpoints import read_checkpoint, read_state_dict, save_safetensors
from common.files.converting import official_hint
from common.files.images import as_picture
from common.geometry import apply_affine, invert_affine
from common.methods import METHODS, get_method
from common.packing import Description, describe, with_settings
from common.prediction.confidence import Confidence
from common.prediction.detection import BoxMap
from common.prediction.detector_file import BOX_MAPS
from common.schemes import LandmarkScheme
from common.task import LandmarkTask, make_task
from common.task import load_task as load_checkpoint_task
from common.types import FaceBatch, Prediction

PRETRAINED = "model.safetensors"  # file of weights in a folder or a repository of the model hub
WEIGHT_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ONNX)
Picture = np.ndarray | Path | str
Pictures = list[Picture] | tuple[Picture, ...]


def load_task(path: Path | str, **changes: object) -> LandmarkTask:
    """Return the task of a file of weights, whichever method's they are, ready to predict.

    Args:
        path: a `.ckpt` that `fit` wrote, or a packed `.safetensors`.
        changes: hyper-parameters that replace the file's.

    Raises:
        LabError: the file is missing, damaged or does not say what it is; its method is not installed; or the weights
            do not fit.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _task_of(path, describe(path), **changes)
    method = read_checkpoint(path).get("method")
    if method is None:
        raise LabError(f"{path}: does not name its method; give a .ckpt that `fit` wrote")
    return load_checkpoint_task(get_method(str(method)).task_class(), path, **changes)


def _task_of(path: Path, found: Description, **changes: object) -> LandmarkTask:
    settings = {**found.hyper_parameters, **changes}
    return make_task(get_method(found.method).task_class(), settings, path, read_state_dict(path))


class Predictor:
    """A trained method, ready for photographs.

    Official weights see photographs as the official implementation does (`predict_official`). Others: a method may
    take more of the photograph than one crop (`predict_image`); else its `predict_batch` gets the crop that it was
    trained on.

    On a CPU its exported graph takes the network's place where it is equal and faster (`common.export.fast`).

    Args:
        task: the method with its weights.
        crop: the crop that it was trained on.
        official: these are converted official weights.
        confidence: what the method's scores mean, where it was fitted.
        box_maps: name of a detector -> from its box to the one that the method was trained on.
        backend: auto, eager (the network itself), onnx or openvino; None for FACE_ALIGNMENT_BACKEND, else auto.
        precision: float32, or bf16 where OpenVINO and the processor have it.

    Attributes:
        fast: what predicts batches.

    Raises:
        LabError: see `FastPath`.
    """

    def __init__(
        self,
        task: LandmarkTask,
        crop: CropConfig,
        official: bool = False,
        confidence: Confidence | None = None,
        box_maps: Mapping[str, BoxMap] | None = None,
        backend: Backend | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.task, self.crop, self.official = task.eval(), crop.still(), official
        self.confidence, self.box_maps = confidence, {**BOX_MAPS, **(box_maps or {})}
        self.device, self.graph_only = task.device, False
        # A task may take more of a photograph than a crop; parts of its network can be graphs.
        self.photographs = official or type(task).predict_image is not LandmarkTask.predict_image
        self.work: Work[Any] = CropWork(self.task, self.crop)
        way = backend or default_backend()
        if self.photographs:
            self.work = looking = PhotographWork(self.task, official)
            if not looking.parts:
                if backend not in (None, "auto", "eager") or precision != "float32":
                    raise LabError(f"backend {backend or 'auto'}, precision {precision}: these weights look at the "
                                   "whole photograph, which only their network does")  # fmt: skip
                way = "eager"
        self.fast: FastPath[Any] = FastPath(self.work, way, precision)

    @classmethod
    def load(
        cls,
        path: Path | str,
        config: Path | None = None,
        device: str = "cpu",
        backend: Backend | None = None,
        precision: Precision = "float32",
        settings: Mapping[str, str] | None = None,
    ) -> Predictor:
        """Return the predictor of a file of weights, or of an exported `.onnx` file.

        Args:
            path: the file.
            config: config.yaml of the run that made it, if it needs one.
            device: that the network runs on.
            backend, precision: see `Predictor`.
            settings: name -> value as YAML, of the task for these predictions, also those that files do not keep; only
                the network itself follows them.

        Raises:
            LabError: see `describe`, `with_settings`; the weights do not fit; they are official ones that must be
                converted first; or the device cannot be used.
        """
        path = Path(path)
        if device == "auto" and (path.suffix == ONNX or backend not in (None, "auto", "eager")):
            device = "cpu"  # where graphs run
        place = usable_device(device)
        try:
            found = describe(path, config)
        except LabError:
            hint = _official_hint(path)
            if hint is None:
                raise
            raise LabError(f"{path}: {hint}") from None
        if settings:
            if path.suffix == ONNX or backend not in (None, "auto", "eager"):
                raise LabError(f"{path}: --set changes what the network does, which an exported graph does not follow; "
                               "give a file of weights and leave --backend out")  # fmt: skip
            possible = inspect.signature(get_method(found.method).task_class()).parameters
            found, backend = with_settings(found, settings, path, possible), "eager"
        if path.suffix == ONNX:
            return cls._of_graph(path, found, place, backend, precision)
        task = _task_of(path, found).to(place)
        if found.confidence is not None and len(found.confidence.shares) != task.scheme.num_points:
            raise LabError(f"{path}: says how sure it is of {len(found.confidence.shares)} points, and places "
                           f"{task.scheme.num_points}; pack the run's checkpoint again")  # fmt: skip
        return cls(task, found.crop, found.official, found.confidence, found.box_maps, backend, precision)

    @classmethod
    def _of_graph(
        cls, path: Path, found: Description, place: torch.device, backend: Backend | None, precision: Precision
    ) -> Predictor:
        if place.type != "cpu":
            raise LabError(f"{path}: an exported graph runs on the CPU here; leave --device out")
        task = make_task(get_method(found.method).task_class(), found.hyper_parameters, path)
        made = cls(task, found.crop, False, found.confidence, found.box_maps, "eager")
        made.fast = of_file(task, made.crop, path, backend or default_backend(), precision)
        task.to("meta")  # it has no weights: whatever would use them fails
        made.photographs, made.graph_only = False, True
        return made

    @classmethod
    def from_pretrained(cls, source: Path | str, device: str = "cpu") -> Predictor:
        """Return the predictor of a method's embedded weights, a file, a folder, or a repository of the model hub.

        Args:
            source: name of a method with embedded weights; file of weights; folder that `save_pretrained`
                wrote; or OWNER/NAME on the hub, which needs the optional dependency `hub` and, the first time, network.
            device: device that the network runs on, or auto: CUDA where there is one, else the CPU.

        Raises:
            LabError: as `load`; or there is nothing of that name.
        """
        path = Path(source)
        if (path / PRETRAINED).is_file():
            return cls.load(path / PRETRAINED, device=device)
        if path.is_file() or path.suffix in WEIGHT_FILES:
            return cls.load(path, device=device)
        if str(source) in METHODS and (embedded := METHODS[str(source)].weights()):
            return cls.load(embedded[0], device=device)
        if path.is_dir() or str(source).count("/") != 1:
            raise LabError(f"{source}: is no file of weights, no folder with {PRETRAINED}, no OWNER/NAME of the model "
                           "hub, and no method with embedded weights")  # fmt: skip
        return cls.load(_from_hub(str(source)), device=device)

    def save_pretrained(self, folder: Path | str, overwrite: bool = False) -> Path:
        """Write the weights and what they are into a folder that `from_pretrained` reads; return the file.

        Raises:
            LabError: the file exists and `overwrite` is off; or there are no weights but a graph.
        """
        if self.graph_only:
            raise LabError("an exported graph holds no weights that could be saved; take the file that it was made of")
        target = Path(folder) / PRETRAINED
        target.parent.mkdir(parents=True, exist_ok=True)
        save_safetensors(self.task.state_dict(), target, self.description().metadata(), overwrite=overwrite)
        return target

    def description(self) -> Description:
        """Return what a file of these weights says of itself."""
        task = self.task
        return Description(task.METHOD, task.settings(), self.crop, self.official, self.confidence, self.box_maps)

    def __repr__(self) -> str:
        """Return what it predicts with."""
        return f"Predictor({self.task.METHOD}, {self.scheme.num_points} points, {self.crop.size} px, {self.device})"

    @property
    def scheme(self) -> LandmarkScheme:
        """Landmark scheme of the predictions."""
        return self.task.scheme

    @overload
    def __call__(self, image: Picture, boxes: np.ndarray) -> Prediction: ...
    @overload
    def __call__(self, image: Pictures, boxes: Sequence[np.ndarray] | np.ndarray) -> list[Prediction]: ...
    def __call__(
        self, image: Picture | Pictures, boxes: np.ndarray | Sequence[np.ndarray]
    ) -> Prediction | list[Prediction]:
        """Return landmarks of all faces of one photograph, image pixels; of several, a list of them.

        Args:
            image: (H, W, 3) uint8, RGB; or see `as_picture`; or a list of such.
            boxes: (N, 4) x0 y0 x1 y1, image pixels, N may be 0; or (4,), of one face; for a list, one of these for each
                photograph.

        Raises:
            LabError: an image is no picture, a box is none of a face in it, see `check_box_in`, or a list has not the
                boxes of each photograph.
        """
        if not isinstance(image, list | tuple):
            return self._one(image, boxes)
        if len(boxes) != len(image):
            raise LabError(f"{len(image)} pictures, but boxes of {len(boxes)}; give a list with the boxes of each, "
                           "(N, 4) or (4,)")  # fmt: skip
        found = []
        for number, (one, own) in enumerate(zip(image, boxes, strict=True)):
            try:
                found.append(self._one(one, own))
            except LabError as error:
                raise LabError(f"picture {number}: {error}") from None
        return found

    @torch.inference_mode()
    def _one(self, picture: Picture, given: np.ndarray | Sequence[np.ndarray]) -> Prediction:
        image = as_picture(picture)
        try:
            boxes = np.asarray(given)
        except ValueError:  # arrays of several sizes
            raise LabError("boxes of one picture are one array (N, 4) or (4,), x0 y0 x1 y1, not several") from None
        if boxes.size and (boxes.ndim not in (1, 2) or boxes.shape[-1] != 4):
            raise LabError(f"boxes of a picture have the shape (N, 4) or (4,), x0 y0 x1 y1; these have {boxes.shape}")
        boxes = np.atleast_2d(boxes)
        if boxes.size == 0:
            return Prediction(points=torch.zeros(0, self.scheme.num_points, 2, dtype=torch.float64))
        height, width = image.shape[:2]
        checked = np.stack([check_box_in(box, height, width, f"face {index}") for index, box in enumerate(boxes)])
        if self.photographs:
            return self.fast(Photograph(image, checked))
        batch = self.batch(image, checked)
        found = self.fast(batch)
        back = batch.to_image.double()
        move = [apply_affine(back, points.double()) for points in (found.points, *found.steps)]
        return Prediction(move[0], found.score, found.pose, move[1:], found.translation)

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
        return batch.to(self.device)


def usable_device(name: str) -> torch.device:
    """Return the device of that name; of `auto`, a CUDA device if there is one that computes, else the CPU.

    Raises:
        LabError: there is no such device, or it does not compute here.
    """
    if name == "auto":
        try:
            return usable_device("cuda") if torch.cuda.is_available() else torch.device("cpu")
        except LabError:
            return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1).to(device).item()
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise LabError(f"device {name} cannot be used here ({reason}); use cpu") from None
    return device


def _from_hub(name: str) -> Path:
    """Return the file of weights of a repository of the model hub, from its cache or fetched."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise LabError(
            f"{name}: the model hub needs an optional dependency: pip install 'face-alignment-lab[hub]'"
        ) from None
    try:
        return Path(hf_hub_download(name, PRETRAINED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise LabError(f"{name}: cannot be had from the model hub ({reason}); give a file or a folder") from None


def _official_hint(path: Path) -> str | None:
    """Return what to do with a file that may hold unconverted official weights; None if it holds none."""
    there = any(path.parent.glob(glob.escape(path.name) + "*"))  # a TensorFlow checkpoint is named by its prefix
    if path.suffix == ".safetensors" or not there:
        return None
    try:
        keys = list(read_state_dict(path))
    except LabError:
        keys = []  # no file of PyTorch; its name may say what it is
    converting = [name for name, method in METHODS.items() if (method.folder / "convert.py").is_file()]
    return official_hint(path, keys, converting)
