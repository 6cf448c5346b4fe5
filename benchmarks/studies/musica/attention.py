"""Where the network looks: attention by facial region, and pictures of the patches of every iteration."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from common.prediction.plotting import PREDICTED, SHIFT, draw_landmarks, grid
from common.schemes import LandmarkScheme
from common.types import FaceBatch
from musica.network import CascadeNet
from musica.types import FEATURES, PATCH, Trace

# Region -> word in the names of its landmarks (the scheme names each after its curve).
REGIONS = {"jaw": "jaw", "brows": "brow", "eyes": "eye", "pupils": "pupil", "nose": "nose", "mouth": "lip"}
COLD, HOT = np.array([40.0, 70, 200]), np.array([255.0, 60, 30])  # RGB of the least and the most attention
SCALE = 2  # pictures are drawn at twice the crop's size


def regions(scheme: LandmarkScheme, indices: Iterable[int]) -> dict[str, list[int]]:
    """Return region -> positions in `indices` of the patches that lie in it; regions without a patch are left out."""
    found: dict[str, list[int]] = {}
    for position, landmark in enumerate(indices):
        name = scheme.names[landmark]
        region = next((region for region, word in REGIONS.items() if word in name), "other")
        found.setdefault(region, []).append(position)
    return found


def patch_attention(trace: Trace) -> Tensor:
    """Return the mean gate (A, M) of each patch in 0..1: one number a patch out of its 256."""
    gates = trace.output.attention.view(len(trace.faces), -1, FEATURES)
    return gates.mean(2)


def patch_signal(trace: Trace) -> Tensor:
    """Return the mean gated feature (A, M) of each patch: what reaches the hidden layer."""
    signal = (trace.output.attention * trace.features).view(len(trace.faces), -1, FEATURES)
    return signal.mean(2)


def region_table(
    net: CascadeNet, scheme: LandmarkScheme, faces: Iterable[FaceBatch]
) -> dict[str, list[tuple[float, float] | None]]:
    """Return region -> per iteration (attention, signal), each over the mean of all patches of the iteration.

    1 means as much as the average patch; None stands where the region has no patch.
    """
    measures = (patch_attention, patch_signal)
    seen = [[[measure(trace) for measure in measures] for trace in net.traced(batch.image)] for batch in faces]
    table: dict[str, list[tuple[float, float] | None]] = {region: [] for region in REGIONS}
    for t, indices in enumerate(net.index_sets):
        gate, signal = (torch.cat([values[t][kind] for values in seen]).mean(0) for kind in range(len(measures)))
        found = regions(scheme, indices.tolist())
        for region, values in table.items():
            rows = found.get(region)
            values.append((float(gate[rows].mean() / gate.mean()), float(signal[rows].mean() / signal.mean()))
                          if rows else None)  # fmt: skip
    return {region: values for region, values in table.items() if any(values)}


def draw_iteration(image: np.ndarray, trace: Trace, row: int, level: int, patch: int) -> np.ndarray:
    """Return a crop (S * 2, S * 2, 3) with the squares that one iteration cut, coloured by attention, strongest last.

    Args:
        image: (S, S, 3) uint8 crop.
        trace: of the iteration.
        row: face in the trace.
        level: of the pyramid.
        patch: side of a patch in pixels of the level.
    """
    canvas = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR)
    weight = patch_attention(trace)[row].numpy()
    weight = (weight - weight.min()) / max(float(np.ptp(weight)), 1e-9)
    corners = (trace.centres[row].numpy()[:, ::-1] - patch / 2) * 2**level
    side = patch * 2**level
    for position in np.argsort(weight):
        color = (COLD + (HOT - COLD) * weight[position]).astype(int).tolist()
        first = ((corners[position] + 0.5) * SCALE * 2**SHIFT).round().astype(int)
        last = ((corners[position] + side + 0.5) * SCALE * 2**SHIFT).round().astype(int)
        thick = 1 + int(2 * weight[position])
        cv2.rectangle(canvas, first.tolist(), last.tolist(), color, thick, cv2.LINE_AA, SHIFT)
    return canvas


def attention_pictures(net: CascadeNet, scheme: LandmarkScheme, image: Tensor) -> np.ndarray:
    """Return one picture: a row a face, a column an iteration, and the result in the last column.

    Args:
        net: the network that predicts.
        scheme: of its landmarks.
        image: (B, 3, S, S) uint8 crops.
    """
    traces = net.traced(image)
    cells = []
    for row in range(len(image)):
        crop = np.ascontiguousarray(image[row].permute(1, 2, 0).numpy())
        for trace, level in zip(traces, net.level_of, strict=True):
            cells.append(draw_iteration(crop, trace, row, level, PATCH))
        points = (net.start + traces[-1].moved[row]).flip(-1).numpy() * 2 ** net.level_of[-1]
        large = cv2.resize(crop, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR)
        cells.append(draw_landmarks(large, (points + 0.5) * SCALE - 0.5, scheme, PREDICTED))
    return grid(cells, len(traces) + 1)
