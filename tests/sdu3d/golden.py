"""What the golden tests share: the folder, its parameter values, and the comparison at the stated tolerance."""

from __future__ import annotations

import importlib.util
import json
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn

from sdu3d.convert import COUNTER, released_names
from tests.conftest import SHARED

GOLDEN = SHARED / "golden" / "sdu3d"
TOLERANCE = 1e-5  # of the largest value of the array


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("golden_fill", SHARED / "golden" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the agreed value of a parameter."""
    return np.asarray(_module().fill(name, shape))


def image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the agreed test picture in [0, 1]."""
    return np.asarray(_module().image(seed, shape))


def read_json(name: str) -> Any:
    """Return a JSON file of the folder."""
    return json.loads((GOLDEN / name).read_text())


def arrays(name: str) -> dict[str, np.ndarray]:
    """Return an archive of the folder."""
    with np.load(GOLDEN / name, allow_pickle=False) as table:
        return {key: table[key] for key in table.files}


def parameters(entries: list[list[Any]], scale: dict[str, float]) -> dict[str, np.ndarray]:
    """Return "arg:name" / "aux:name" -> value for a list of [name, shape, kind]."""
    module, found = _module(), {}
    for name, shape, kind in entries:
        value = module.fill(name, tuple(shape))
        for pattern, factor in scale.items():
            if fnmatchcase(name, pattern):
                value = value * np.float32(factor)
        found[f"{kind}:{name}"] = value
    return found


def load(module: nn.Module, prefix: str, values: dict[str, np.ndarray]) -> nn.Module:
    """Load released values whose names start with `prefix`; every one is used, and none is missing."""
    names = released_names(module)
    state = module.state_dict()
    given = {key.split(":")[1].removeprefix(prefix): value for key, value in values.items()}
    assert set(given) == set(names)
    for name, key in names.items():
        assert tuple(state[key].shape) == given[name].shape, name
    loaded = {names[name]: torch.from_numpy(np.array(value)) for name, value in given.items()}
    counters = {key: value for key, value in state.items() if key.endswith(COUNTER)}
    module.load_state_dict(loaded | counters)
    return module.eval()


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Compare two arrays; the tolerance is a share of the expected array's largest value."""
    assert actual.shape == expected.shape
    largest = float(np.abs(expected).max())
    assert float(np.abs(actual.astype(np.float64) - expected).max()) <= tolerance * largest
