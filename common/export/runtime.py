"""Exported graphs on the CPU: ONNX Runtime or OpenVINO, crops in, a prediction out."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
import torch

from common.errors import LabError
from common.export.graph import EXTRA, need_onnx, prediction
from common.types import FaceBatch, Prediction

if TYPE_CHECKING:
    import openvino

Runtime = Literal["onnx", "openvino"]
Precision = Literal["float32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ONNX = ".onnx"
PACKAGES: dict[Runtime, str] = {"onnx": "onnxruntime", "openvino": "openvino"}


def installed_runtimes() -> tuple[Runtime, ...]:
    """Return the runtimes that are installed."""
    return tuple(name for name, package in PACKAGES.items() if importlib.util.find_spec(package) is not None)


class Session(Protocol):
    """An opened graph."""

    inputs: tuple[str, ...]

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by their names."""


class OnnxSession:
    """A graph run by ONNX Runtime.

    Args:
        content: of an ONNX file.
        threads: that work on one call.
    """

    def __init__(self, content: bytes, threads: int = 1) -> None:
        need_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        # A pool that spins while it waits would take the cores from whatever runs between two calls.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(given.name for given in self.session.get_inputs())
        self.outputs = [found.name for found in self.session.get_outputs()]

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(None, dict(feeds)), strict=True))


class OpenVinoSession:
    """A graph run by OpenVINO.

    Args:
        content: of an ONNX file.
        threads: that work on one call.
        precision: in which it computes; its own default would be bf16 wherever the processor has it.

    Raises:
        LabError: the package is missing, or the processor has no bf16.
    """

    def __init__(self, content: bytes, threads: int = 1, precision: Precision = "float32") -> None:
        core = openvino_core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise LabError("precision bf16: this processor has no bf16 arithmetic; leave it at float32")
        hint = {"float32": "f32", "bf16": "bf16"}[precision]
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint}
        model = core.read_model(content)
        self.inputs = tuple(given.get_friendly_name() for given in model.get_parameters())  # its tensor may have more
        self.model = core.compile_model(model, "CPU", settings)
        self.outputs = [found.get_names() for found in self.model.outputs]  # one tensor may have several

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self.model(dict(feeds))
        arrays = [np.array(found[place]) for place in range(len(self.outputs))]  # copies: its memory is used again
        return {name: array for names, array in zip(self.outputs, arrays, strict=True) for name in names}


@functools.cache
def openvino_core() -> openvino.Core:
    """Return the process's one OpenVINO core.

    Each core's CPU plugin gives the thread a signal stack and, when it is freed, puts the one before back. Of two cores
    freed in the order in which they were made, the second puts back the memory of the first, which is gone: the next
    signal (a loader's worker that ends) kills the process. One core that lives as long as the process does not.

    Raises:
        LabError: the package is missing.
    """
    try:
        import openvino
    except ImportError:
        raise LabError(f"openvino: is not installed; {EXTRA}") from None
    return openvino.Core()


def open_session(
    content: bytes, runtime: Runtime, threads: int | None = None, precision: Precision = "float32"
) -> Session:
    """Return an opened graph.

    Args:
        content: of an ONNX file.
        runtime: what runs it.
        threads: that work on one call; None for torch's number.
        precision: in which it computes.

    Raises:
        LabError: the runtime is missing or cannot compute in this precision, or the file is damaged.
    """
    if precision == "bf16" and runtime != "openvino":
        raise LabError("precision bf16 needs OpenVINO: choose the backend openvino")
    count = threads or torch.get_num_threads()
    try:
        return OnnxSession(content, count) if runtime == "onnx" else OpenVinoSession(content, count, precision)
    except LabError:
        raise
    except Exception as error:  # each runtime raises classes of its own, all below Exception
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise LabError(f"the graph cannot be opened by {runtime} ({reason}); export it again") from None


def graph_feeds(batch: FaceBatch, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return a graph's inputs of these names.

    Raises:
        LabError: the graph looks at the faces' boxes and the batch has none.
    """
    given, feeds = {"image": batch.image, "box": batch.box}, {}
    for name in names:
        value = given[name]
        if value is None:
            raise LabError("this graph looks at the faces' boxes; the batch has none")
        feeds[name] = np.ascontiguousarray(value.cpu().numpy())
    return feeds


class GraphRunner:
    """Predicts batches by an opened graph; the counterpart of `LandmarkTask.predict_batch`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __call__(self, batch: FaceBatch) -> Prediction:
        """Return points in the batch's crop pixels.

        Raises:
            LabError: see `graph_feeds`.
        """
        found = self.session(graph_feeds(batch, self.session.inputs))
        return prediction({name: torch.from_numpy(value) for name, value in found.items()})


def graph_metadata(path: Path) -> dict[str, str]:
    """Return what an exported file says of itself.

    Raises:
        LabError: the file is missing, damaged or not of this project, or `onnx` is not installed.
    """
    if not path.is_file():
        raise LabError(f"{path}: weights are missing; check the path")
    need_onnx()
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)  # one file; others may be anywhere
    except Exception:  # protobuf's errors have no public class of their own
        raise LabError(f"{path}: is no ONNX file, or it is damaged; export it again") from None
    found = {entry.key: entry.value for entry in model.metadata_props}
    if not {"method", "hyper_parameters", "crop"} <= found.keys():
        raise LabError(f"{path}: is no export of this project; make one with python -m common.export")
    return found
