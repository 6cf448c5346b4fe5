"""The shared core: data, geometry, metrics, training frame. Knows no method.

    from common import FaceDataModule, Predictor, evaluate, get_scheme, load_task

These names are imported when they are used: the command lines must answer `--help` at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.data.datamodule import FaceDataModule
    from common.data.options import SyntheticConfig
    from common.evaluation import evaluate
    from common.prediction.inference import Predictor, load_task
    from common.schemes import get_scheme

__all__ = ["FaceDataModule", "Predictor", "SyntheticConfig", "__version__", "evaluate", "get_scheme", "load_task"]

_HOMES = {
    "FaceDataModule": "common.data.datamodule",
    "Predictor": "common.prediction.inference",
    "SyntheticConfig": "common.data.options",
    "evaluate": "common.evaluation",
    "get_scheme": "common.schemes",
    "load_task": "common.prediction.inference",
}


# Read by torch's threads when it is imported: that they wait asleep. Beside another busy process they would take the
# processor from each other while they wait, and a face takes 142 ms instead of 17.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Read by OpenCV when it is imported: of pictures whose header only it understands; see common.files.images.MAX_PIXELS.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "250000000")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # its new engine warns of its own default at every start of YuNet

_trains = True


def only_predict() -> None:
    """Say that this process trains nothing, so that Lightning need not be imported; before any method is."""
    global _trains
    _trains = "lightning" in sys.modules


def trains() -> bool:
    """Return whether this process may train."""
    return _trains


def __getattr__(name: str) -> Any:
    """Import a name of the door when it is first asked for (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("face-alignment-lab")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
