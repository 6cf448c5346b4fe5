"""A method as one ONNX graph, from uint8 crops to points in crop pixels, checked against the network itself.

The graph's inputs are `image` (B, 3, S, S) uint8, RGB, and, where the method looks at it, `box` (B, 4) float32, the
face's box in crop pixels; its outputs are the fields of `Prediction` that the method fills, by their names, with
`steps` as (B, T, L, D). B is free. What the file is (method, settings, crop, version) is in its metadata.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import LabError
from common.types import FaceBatch, Prediction

OPSET = 17  # first with layer normalisation; ONNX Runtime reads it since 1.12
FIELDS = ("points", "score", "pose", "translation", "steps")
INPUTS = ("image", "box")
EXTRA = "pip install 'face-alignment-lab[fast]'"


def crops_only(image: Tensor, box: Tensor | None) -> FaceBatch:
    """Return a batch that holds crops (B, 3, S, S) and boxes (B, 4) in their pixels, and nothing of a data set."""
    none = image.new_zeros(0)
    return FaceBatch(image, none, none, none, none, none, none, none, none, box=box)


def tensors(found: Prediction) -> dict[str, Tensor]:
    """Return the fields of a prediction that are filled, in the order of FIELDS; steps as (B, T, L, D)."""
    steps = torch.stack([step.float() for step in found.steps], dim=1) if found.steps else None
    values = (found.points.float(), found.score, found.pose, found.translation, steps)
    return {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}


def prediction(values: Mapping[str, Tensor]) -> Prediction:
    """Return the prediction whose `tensors` these are."""
    steps = list(values["steps"].unbind(1)) if "steps" in values else []
    return Prediction(
        values["points"], values.get("score"), values.get("pose"), steps, translation=values.get("translation")
    )


class CropGraph(nn.Module):
    """A method's prediction with tensors alone in and out.

    Args:
        owner: holds the weights.
        predict: what predicts a batch; here it gets crops and boxes alone.
    """

    def __init__(self, owner: nn.Module, predict: Callable[[FaceBatch], Prediction]) -> None:
        super().__init__()
        self.owner, self.predict = owner, predict

    def forward(self, image: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        """Return the values of `tensors` for crops (B, 3, S, S) uint8 and boxes (B, 4) in their pixels."""
        return tuple(tensors(self.predict(crops_only(image, box))).values())


Net = Callable[..., tuple[Tensor, ...]]  # a part of a method, or its graph: tensors in, tensors out
Nets = Mapping[str, Net] | None  # by their names


@dataclass(frozen=True)
class GraphPart:
    """A part of a method that is exported by itself.

    Attributes:
        net: takes and returns tensors whose first axis is the batch.
        examples: its inputs by their names, of at least two faces.
        outputs: names of what it returns.
    """

    net: nn.Module
    examples: dict[str, Tensor]
    outputs: tuple[str, ...]


def need_onnx() -> None:
    """Raise a LabError where the packages that write and run ONNX files are missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise LabError(f"{error.name}: is not installed; {EXTRA}") from None


def to_onnx(
    net: nn.Module,
    examples: Sequence[Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return a network as an ONNX file's content, with any batch size.

    Args:
        net: takes and returns tensors whose first axis is the batch.
        examples: one for each input.
        inputs: their names; those that the network does not read are left out of the file.
        outputs: names of what it returns.
        metadata: what the file says of itself.

    Raises:
        LabError: the packages of the optional dependency `fast` are missing, or an operation has no form in ONNX.
    """
    need_onnx()
    import onnx

    file: Any = io.BytesIO()  # the annotation knows paths only
    names = [*inputs, *(outputs or ())]
    net.eval()
    # The exporter refuses to keep trained tensors that it does not find in the state dict under their own names.
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    with warnings.catch_warnings(), torch.no_grad():
        # The tracing exporter is announced as old; the new one takes a minute a network.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            torch.onnx.export(
                net, tuple(examples), file, dynamo=False, opset_version=OPSET, input_names=list(inputs),
                output_names=None if outputs is None else list(outputs),
                dynamic_axes={name: {0: "batch"} for name in names},
            )  # fmt: skip
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            raise LabError(f"this network cannot be exported: {str(error).splitlines()[0][:160]}") from None
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
    model = onnx.load_from_string(file.getvalue())
    read = {name for node in model.graph.node for name in node.input}
    for given in list(model.graph.input):
        if given.name not in read:
            model.graph.input.remove(given)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())
