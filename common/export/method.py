"""From a trained method to its ONNX file: export, comparison with the network in pixels, metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import TypeVar

import numpy as np
import torch

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import DRAWN, SyntheticFaces
from common.errors import LabError
from common.export.graph import INPUTS, GraphPart, crops_only, tensors, to_onnx
from common.export.runtime import GraphRunner, OnnxSession
from common.packing import Description
from common.prediction.detector_file import BOX_MAPS
from common.task import LandmarkTask
from common.types import FaceBatch, Prediction

Case = TypeVar("Case")
TOLERANCE = 0.05  # pixels of the crop by which a graph's points may differ from the network's
CHECKED = (1, 2, 5)  # batch sizes that are compared


def drawn_scheme(task: LandmarkTask) -> str:
    """Return the scheme in which faces are drawn for a method."""
    return task.scheme.name if task.scheme.name in DRAWN else DRAWN[0]


def check_batches(task: LandmarkTask, crop: CropConfig, counts: tuple[int, ...] = CHECKED) -> list[FaceBatch]:
    """Return batches of drawn faces, cropped as the method's weights were trained to see them."""
    faces = SyntheticFaces(sum(counts), scheme=drawn_scheme(task), seed=11)
    crops, collate = CroppedFaces(faces, crop.still()), Collate(faces.subset_names)
    ends = np.cumsum(counts)
    return [collate([crops[row] for row in range(end - count, end)]) for end, count in zip(ends, counts, strict=True)]


def difference(one: Prediction, other: Prediction) -> float:
    """Return the largest distance between the points of two predictions, all steps, pixels."""
    pairs = [(one.points, other.points), *zip(one.steps, other.steps, strict=True)]
    return max(float((a.float() - b.float()).norm(dim=-1).max()) for a, b in pairs)


@torch.inference_mode()
def largest_difference(wanted: list[Prediction], run: Callable[[Case], Prediction], cases: list[Case]) -> float:
    """Return by how many pixels a graph's points differ from the network's, at most; NaN where one is not finite."""
    return float(np.max([difference(run(case), found) for case, found in zip(cases, wanted, strict=True)]))


def export_task(task: LandmarkTask, crop: CropConfig, about: Description | None = None) -> bytes:
    """Return a method as an ONNX file's content, not yet compared with the network.

    Args:
        task: the method with its weights.
        crop: the crop that it was trained on.
        about: what its file says of itself, where more is known than method, settings and crop.

    Raises:
        LabError: the packages of the optional dependency `fast` are missing, or an operation has no form in ONNX.
    """
    task.eval()
    graph = task.exportable()
    example = check_batches(task, crop, (2,))[0]
    assert example.box is not None
    with torch.no_grad():
        names = list(tensors(graph.predict(crops_only(example.image, example.box))))
    about = about or Description(task.METHOD, task.settings(), crop, box_maps=BOX_MAPS)
    said = replace(about, official=False).metadata() | {
        "scheme": task.scheme.name, "input_size": str(task.input_size), "version": version("face-alignment-lab"),
    }  # fmt: skip
    try:
        return to_onnx(graph, (example.image.contiguous(), example.box), INPUTS, names, said)
    except LabError as error:
        raise LabError(f"{task.METHOD}: {error}") from None


def checked_export(task: LandmarkTask, crop: CropConfig, about: Description | None = None) -> tuple[bytes, float]:
    """Return a method as an ONNX file's content, and by how many pixels its points differ from the network's.

    Raises:
        LabError: see `export_task`; or they differ by more than TOLERANCE.
    """
    content = export_task(task, crop, about)
    batches = check_batches(task, crop)
    with torch.inference_mode():
        wanted = [task.predict_batch(batch) for batch in batches]
    found = largest_difference(wanted, GraphRunner(OnnxSession(content)), batches)
    if not found <= TOLERANCE:
        raise LabError(f"{task.METHOD}: points of the exported graph are up to {found:.3g} px off the network's, more "
                       f"than {TOLERANCE} px; nothing was written")  # fmt: skip
    return content, found


@torch.inference_mode()
def checked_part(name: str, part: GraphPart) -> tuple[bytes, float]:
    """Return a part of a method as an ONNX file's content, and its largest difference from the network's part.

    Raises:
        LabError: see `to_onnx`; or the first output, points in pixels, differs by more than TOLERANCE.
    """
    content = to_onnx(part.net, list(part.examples.values()), list(part.examples), part.outputs)
    session, worst = OnnxSession(content), 0.0
    for count in (1, len(next(iter(part.examples.values())))):
        given = {key: value[:count] for key, value in part.examples.items()}
        found = session({key: value.contiguous().numpy() for key, value in given.items()})
        wanted = part.net(*given.values())[0]
        worst = max(worst, float((torch.from_numpy(found[part.outputs[0]]) - wanted).norm(dim=-1).max()))
    if not worst <= TOLERANCE:
        raise LabError(f"{name}: points of the exported part are up to {worst:.3g} px off the network's")
    return content, worst
