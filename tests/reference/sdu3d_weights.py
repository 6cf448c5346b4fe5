"""SDU's weights as a file of MXNet under their official names, which the converter is tested with."""

from __future__ import annotations

import struct

import numpy as np

from sdu3d.convert import MOVING, released_names
from sdu3d.convert_mxnet import DENSE_V2, LIST_MAGIC
from sdu3d.network import SduNet


def write_params(arrays: dict[str, np.ndarray]) -> bytes:
    """Return a version-2 file of float32 arrays, for weights that go back to MXNet and for tests."""
    parts = [struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays))]
    for array in arrays.values():
        values = np.ascontiguousarray(array, "<f4")
        parts.append(struct.pack(f"<IiI{values.ndim}qiii", DENSE_V2, 0, values.ndim, *values.shape, 1, 0, 0))
        parts.append(values.tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        raw = name.encode()
        parts += [struct.pack("<Q", len(raw)), raw]
    return b"".join(parts)


def released_arrays(net: SduNet) -> dict[str, np.ndarray]:
    """Return a network's weights under the official names, with arg: and aux:."""
    state = net.state_dict()
    return {
        ("aux:" if name.endswith(MOVING) else "arg:") + name: state[key].detach().cpu().numpy()
        for name, key in released_names(net).items()
    }
