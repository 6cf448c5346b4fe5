"""Graphs in 8 bits: calibrated on training crops, judged by the error of validation faces, never of test faces.

What is between the graph's convolutions and products is quantised; pixel normalisation before and decoding after them
stay in float32. Weights have 7 bits: with 8, the sums of two products overflow on processors without VNNI.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.readers.crops import PreparedCrops
from common.errors import LabError
from common.evaluation import batches, evaluate_batches
from common.export.fast import timed
from common.export.runtime import GraphRunner, OnnxSession, graph_feeds, installed_runtimes, open_session
from common.task import LandmarkTask
from common.types import FaceBatch

CALIBRATED = 60  # training faces, spread over the split
TOGETHER = 4  # of them in a call: all values between the layers are kept for a while
DEAREST = 0.05  # percentage points of error that 8 bits may cost
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BETWEEN = ("Add", "Relu", "MaxPool", "AveragePool", "Concat", "Resize")  # run in 8 bits where both sides do


@dataclass(frozen=True)
class Quantised:
    """A graph in 8 bits.

    Attributes:
        content: of its file.
        before, after: error of the validation faces in float32 and in 8 bits, percent.
        faces: how many there are.
        gain: how many times as fast it is here, each in its fastest runtime.
    """

    content: bytes
    before: float
    after: float
    faces: int
    gain: float

    def __str__(self) -> str:
        return (f"8 bits, {len(self.content) / 1e6:.1f} MB, NME {self.after:.2f} % instead of {self.before:.2f} on "
                f"{self.faces} validation faces, {self.gain:.2f} times as fast here")  # fmt: skip


def _reached(start: Iterable[onnx.NodeProto], following: Callable[[onnx.NodeProto], list[onnx.NodeProto]]) -> set[str]:
    """Return the names of all nodes that come after some others, step by step."""
    found: set[str] = set()
    todo = list(start)
    while todo:
        for node in following(todo.pop()):
            if node.name not in found:
                found.add(node.name)
                todo.append(node)
    return found


def outside(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes that are no products and do not lie between two of them."""
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    products = [node for node in graph.node if node.op_type in PRODUCTS]
    after = _reached(products, lambda node: [user for name in node.output for user in users.get(name, [])])
    before = _reached(products, lambda node: [makers[name] for name in node.input if name in makers])
    return [node.name for node in graph.node if node.op_type not in PRODUCTS and node.name not in after & before]


def quantise(content: bytes, crops: Iterable[FaceBatch]) -> bytes:
    """Return a graph of crops in 8 bits (QDQ); what its file says of itself stays.

    Args:
        content: of the ONNX file in float32.
        crops: whose values between the layers set the scales.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inputs = OnnxSession(content).inputs

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no annotations
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, np.ndarray]] = (graph_feeds(batch, inputs) for batch in crops)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    level = logging.root.level
    with TemporaryDirectory() as folder:
        given, folded, made = (Path(folder, f"{name}.onnx") for name in ("given", "folded", "made"))
        given.write_bytes(content)
        logging.root.setLevel(logging.ERROR)  # the package warns through the root logger of what is done here
        try:
            quant_pre_process(str(given), str(folded), skip_symbolic_shape=True)
            quantize_static(
                str(folded), str(made), Reader(), per_channel=True, reduce_range=True, weight_type=QuantType.QInt8,
                op_types_to_quantize=[*PRODUCTS, *BETWEEN], nodes_to_exclude=outside(onnx.load(str(folded)).graph),
            )  # fmt: skip
        finally:
            logging.root.setLevel(level)
        model = onnx.load(str(made))
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load_from_string(content).metadata_props)
    model.metadata_props.add(key="precision", value="int8")
    return bytes(model.SerializeToString())


def int8_export(task: LandmarkTask, crop: CropConfig, content: bytes, folder: Path) -> Quantised:
    """Return a method's graph in 8 bits.

    Args:
        task: the method.
        crop: the crop that its weights were trained on.
        content: its graph in float32.
        folder: prepared crops; their training faces calibrate, their validation faces judge.

    Raises:
        LabError: the crops cannot be read or do not fit; or 8 bits cost more than DEAREST points.
    """
    train, val = (CroppedFaces(PreparedCrops(str(folder), split, task.scheme.name), crop) for split in ("train", "val"))
    if not len(train) or not len(val):
        raise LabError(f"{folder}: needs training faces to calibrate with, and validation faces to judge by")
    rows = np.unique(np.linspace(0, len(train) - 1, CALIBRATED).astype(int)).tolist()
    collate = Collate(train.faces.subset_names)
    groups = (rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER))
    made = quantise(content, (collate([train[row] for row in group]) for group in groups))
    before, after = (
        evaluate_batches(task, batches(val), GraphRunner(OnnxSession(each))).metrics()["nme"]
        for each in (content, made)
    )
    if not after - before <= DEAREST:
        raise LabError(f"{task.METHOD}: in 8 bits the error of {len(val)} validation faces is {after:.2f} % instead of "
                       f"{before:.2f}, more than {DEAREST} points worse; nothing was written")  # fmt: skip
    return Quantised(made, before, after, len(val), gain(content, made, collate([val[0]])))


def gain(before: bytes, after: bytes, face: FaceBatch) -> float:
    """Return how many times as fast one graph is as another, each in its fastest runtime."""
    graphs = {(bits, name): GraphRunner(open_session(content, name))
              for bits, content in ((32, before), (8, after)) for name in installed_runtimes()}  # fmt: skip
    took = timed({f"{bits} {name}": partial(run, face) for (bits, name), run in graphs.items()})
    fastest = {bits: min(took[f"{bits} {name}"] for name in installed_runtimes()) for bits in (32, 8)}
    return fastest[32] / fastest[8]
