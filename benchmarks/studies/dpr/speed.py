"""Speed of DPR on photographs, as it runs by default, against the official way: same weights and run, taking turns.

The official way: eager float32 networks one face at a time, normalisations as layers of their own, the four parts one
after the other, crops cut by OpenCV. Weights are random: the work does not depend on them.

Run: python -m benchmarks.studies.dpr.speed [--threads 1] [--points 98]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from benchmarks.measure.timing import ROUNDS, median_ms
from common.errors import command
from common.export.graph import Net, to_onnx
from common.export.runtime import Runtime, installed_runtimes, open_session
from common.export.work import session_net
from common.geometry import compose_affine
from common.schemes import IBUG68, WFLW98, LandmarkScheme
from dpr.network import DPRNet
from dpr.parts import neutral_face, part_indices
from dpr.photograph import find, photograph_parts
from dpr.stages.regress import LocalRegress
from dpr.stages.reinit import SIZE
from dpr.transform import box_map, invert, move_points, normalise, scaled, theta_map

RECORD = Path("runs/benchmark/dpr_speed.json")
SCHEMES = {scheme.num_points: scheme for scheme in (WFLW98, IBUG68)}
PICTURE, BOX = (480, 640, 3), (200.0, 120.0, 420.0, 360.0)
BATCH = 8


class ReleasedWay:
    """One face at a time through eager networks, parts in a loop."""

    def __init__(self, net: DPRNet, local: bool) -> None:
        self.net, self.local = net.eval(), local
        self.singles = [LocalRegress([len(part)], net.part_size).eval() for part in net.parts]

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, box: np.ndarray) -> torch.Tensor:
        """Return landmarks (1, L, 2), image pixels."""
        net = self.net
        to_box = box_map(torch.from_numpy(box[None]), SIZE)
        theta = net.global_reinit(_input(cut(image, to_box, SIZE)))
        face_map = scaled(compose_affine(theta_map(theta, SIZE), to_box), net.face_size / SIZE)
        face = cut(image, face_map, net.face_size)
        face_points = (0.5 * net.global_regress(_input(face)) + net.mean_face) * net.face_size
        to_image = invert(face_map)
        points = move_points(to_image, face_points)
        if self.local:
            assert net.local_reinit is not None
            part_map = theta_map(net.local_reinit(face_points.float()), net.part_size)
            back = invert(part_map)
            for k, (part, mean, single) in enumerate(zip(net.parts, net.mean_parts(), self.singles, strict=True)):
                crop = _input(cut(face[0], part_map[:, k], net.part_size))
                found = (0.5 * single(crop[:, None])[0] + mean) * net.part_size
                points[:, list(part)] = move_points(to_image, move_points(back[:, k], found))
        return points


class DefaultWay:
    """All faces together, networks as graphs in a runtime, the rest as in training (`dpr.photograph`)."""

    def __init__(self, net: DPRNet, local: bool, runtime: Runtime, threads: int) -> None:
        self.net, self.local, self.nets = net.eval(), local, dict[str, Net]()
        for name, part in photograph_parts(net, local).items():
            content = to_onnx(part.net, list(part.examples.values()), list(part.examples), part.outputs)
            self.nets[name] = session_net(open_session(content, runtime, threads), part.outputs)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> torch.Tensor:
        """Return landmarks (N, L, 2), image pixels."""
        return find(self.net, image, torch.from_numpy(boxes), self.local, self.nets).points


def cut(image: np.ndarray, maps: torch.Tensor, size: int) -> np.ndarray:
    """Return crops (N, S, S, 3) uint8 by maps (N, 2, 3) image -> crop; black outside the image."""
    crops = [cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR) for matrix in maps.numpy()]
    return np.stack(crops)


def _input(crops: np.ndarray) -> torch.Tensor:
    return normalise(torch.from_numpy(crops).permute(0, 3, 1, 2).float())


def measure(scheme: LandmarkScheme, threads: int, rounds: int) -> dict[str, Any]:
    """Return milliseconds a face and ratios for GSR and GLSR.

    Raises:
        LabError: the packages of the extra `fast` are missing.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    net = DPRNet(scheme, torch.from_numpy(neutral_face(scheme).copy()))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # numbers of usual size all the way: tiny ones would slow the CPU down
            nn.init.uniform_(module.weight, 0.5, 1.5)
    image = np.random.default_rng(0).integers(0, 256, PICTURE, np.uint8)
    box = np.array(BOX)
    boxes = np.tile(box, (BATCH, 1))
    result: dict[str, Any] = {"threads": threads, "points": scheme.num_points, "parts": len(part_indices(scheme))}
    for name, local in (("gsr", False), ("glsr", True)):
        slow = ReleasedWay(net, local)
        calls: dict[str, Callable[[], object]] = {"released_ms": partial(slow, image, box)}
        for runtime in installed_runtimes():
            fast = DefaultWay(net, local, runtime, threads)
            calls[f"{runtime} one"], calls[f"{runtime} many"] = (
                partial(fast, image, boxes[:1]),
                partial(fast, image, boxes),
            )
        took = median_ms(calls, rounds, clock=time.process_time if threads == 1 else time.perf_counter)
        found = {"released_ms": took["released_ms"]}
        found["fast_ms"] = min(took[f"{runtime} one"] for runtime in installed_runtimes())
        found["fast_batch_ms"] = min(took[f"{runtime} many"] for runtime in installed_runtimes()) / BATCH
        found["ratio"] = found["released_ms"] / found["fast_ms"]
        found["ratio_batch"] = found["released_ms"] / found["fast_batch_ms"]
        result[name] = found
    return result


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; write the record and print it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.dpr.speed", description="DPR's default way against the official one."
    )
    parser.add_argument("--points", type=int, default=98, choices=sorted(SCHEMES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args(arguments)
    record = measure(SCHEMES[options.points], options.threads, options.rounds)
    options.record.parent.mkdir(parents=True, exist_ok=True)
    options.record.write_text(json.dumps(record, indent=1), encoding="utf-8")
    for name in ("gsr", "glsr"):
        row = record[name]
        print(f"{name.upper()}: official way {row['released_ms']:.1f} ms, fast {row['fast_ms']:.1f} ms "
              f"({row['ratio']:.1f} times), in batches of {BATCH} {row['fast_batch_ms']:.1f} ms a face "
              f"({row['ratio_batch']:.1f} times)")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
