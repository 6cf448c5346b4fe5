"""DPR for photographs at full speed on a CPU: the three networks as ONNX graphs, run by ONNX Runtime.

Crops are cut by OpenCV out of uint8 pictures, as the official code does; the exported graphs take them as they are,
with normalisations folded into the convolutions. Coordinates are image pixels, centre of the first pixel at (0, 0).
Needs the extra `fast` (pip install 'face-alignment-lab[fast]').
"""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from common.export.graph import to_onnx
from common.export.runtime import OnnxSession
from common.geometry import compose_affine
from dpr.network import DPRNet
from dpr.stages.reinit import SIZE
from dpr.transform import box_map, invert, move_points, normalise, scaled, theta_map

FACES_ALONE = 2  # faces for each thread from which it is faster that none waits for another


class _FromPixels(nn.Module):
    """A network after the change from pictures (B, ..., S, S, 3) uint8 to what it was trained on."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, crops: Tensor) -> object:
        axes = crops.ndim
        return self.net(normalise(crops.float()).permute(*range(axes - 3), axes - 1, axes - 3, axes - 2))


class _Session:
    """An exported network; takes and returns arrays whose first axis is the batch.

    Args:
        net: the network.
        example: an input.
        threads: that work on one call. Calls from several threads may be made with `alone`, which uses one for each.
    """

    def __init__(self, net: nn.Module, example: Tensor, threads: int) -> None:
        content = to_onnx(net, (example,), ("x",))
        self.together = OnnxSession(content, threads)
        self.alone = OnnxSession(content, 1) if threads > 1 else self.together

    def __call__(self, x: np.ndarray, alone: bool) -> list[Tensor]:
        session = self.alone if alone else self.together
        return [torch.from_numpy(y) for y in session({"x": x}).values()]


class FastDpr:
    """A trained network, ready for photographs.

    Args:
        net: with its weights.
        local: run the local stage too, if the network has one.
        threads: together on one face, or each on its share of many.

    Raises:
        LabError: the packages of the extra `fast` are missing.
    """

    def __init__(self, net: DPRNet, local: bool = True, threads: int = 1) -> None:
        self.threads, self.pool = threads, ThreadPoolExecutor(threads, thread_name_prefix="dpr")
        net = copy.deepcopy(net).float().cpu().eval()
        net.mean_face = net.mean_face.double()  # float() took it along; points are computed in double
        self.net, self.local = net, local and net.local_regress is not None
        pixels = (torch.zeros(1, size, size, 3, dtype=torch.uint8) for size in (SIZE, net.face_size))
        self.reinit, self.regress = (
            _Session(_FromPixels(part).eval(), example, threads)
            for part, example in zip((net.global_reinit, net.global_regress), pixels, strict=True)
        )
        if self.local:
            assert net.local_regress is not None
            crops = torch.zeros(1, len(net.parts), net.part_size, net.part_size, 3, dtype=torch.uint8)
            self.refine = _Session(_FromPixels(net.local_regress).eval(), crops, threads)

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return landmarks (N, L, 2) float64, image pixels, of all faces of a photograph.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (N, 4) x0 y0 x1 y1, image pixels, as the reinitialisation is to see them.
        """
        boxes = np.asarray(boxes, np.float64)
        if self.threads == 1 or len(boxes) < FACES_ALONE * self.threads:
            return self._find(image, boxes, alone=False)
        shares = np.array_split(boxes, self.threads)
        return np.concatenate(list(self.pool.map(lambda share: self._find(image, share, alone=True), shares)))

    @torch.inference_mode()
    def _find(self, image: np.ndarray, boxes: np.ndarray, alone: bool) -> np.ndarray:
        net = self.net
        to_box = box_map(torch.from_numpy(boxes), SIZE)
        (theta,) = self.reinit(cut(image, to_box, SIZE), alone)
        face_map = scaled(compose_affine(theta_map(theta, SIZE), to_box), net.face_size / SIZE)
        faces = cut(image, face_map, net.face_size)
        (offsets,) = self.regress(faces, alone)
        face_points = (0.5 * offsets + net.mean_face) * net.face_size
        to_image = invert(face_map)
        points = move_points(to_image, face_points)
        if self.local:
            self._refine(image, faces, face_map, face_points, to_image, points, alone)
        return points.numpy()

    def _refine(
        self, image: np.ndarray, faces: np.ndarray, face_map: Tensor, face_points: Tensor, to_image: Tensor,
        points: Tensor, alone: bool,
    ) -> None:  # fmt: skip
        """Put the part regressors' outputs into the points (N, L, 2)."""
        net = self.net
        assert net.local_reinit is not None
        part_map = theta_map(net.local_reinit(face_points.float()), net.part_size)
        if net.part_source == "image":
            crops = [cut(image, row, net.part_size) for row in compose_affine(part_map, face_map[:, None])]
        else:
            crops = [cut(face, row, net.part_size) for face, row in zip(faces, part_map, strict=True)]
        back = invert(part_map)
        found = self.refine(np.stack(crops), alone)
        for k, (part, mean) in enumerate(zip(net.parts, net.mean_parts(), strict=True)):
            moved = move_points(back[:, k], (0.5 * found[k] + mean) * net.part_size)
            points[:, list(part)] = move_points(to_image, moved)


def cut(image: np.ndarray, maps: Tensor, size: int) -> np.ndarray:
    """Return crops (N, S, S, 3) uint8 by maps (N, 2, 3) image -> crop; black outside the image."""
    out = np.empty((len(maps), size, size, 3), np.uint8)
    for crop, matrix in zip(out, maps.numpy(), strict=True):
        cv2.warpAffine(image, matrix, (size, size), dst=crop, flags=cv2.INTER_LINEAR)
    return out
