"""Size and speed of a network: parameters, multiply-adds, milliseconds a face. One machine, one run, medians."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

WARM_UP, REPEATS = 3, 9


def machine() -> dict[str, Any]:
    """Return what timings depend on."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def count_parameters(net: nn.Module) -> int:
    """Return the number of parameters (buffers are not counted)."""
    return sum(p.numel() for p in net.parameters())


def count_macs(net: nn.Module, image: torch.Tensor) -> int:
    """Return the multiply-adds of convolutions and matrix products for one forward pass."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(image)
    return counter.get_total_flops() // 2


def median_ms(call: Callable[[], Any], warm_up: int = WARM_UP, repeats: int = REPEATS) -> float:
    """Return the median time of a call in milliseconds, after warm-up."""
    times = []
    for index in range(warm_up + repeats):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if index >= warm_up:
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(net: nn.Module, size: int, batches: tuple[int, ...] = (1, 8)) -> dict[str, Any]:
    """Return parameters, MACs of one face and ms a face at each batch size, for crops (B, 3, size, size)."""
    net.eval()
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    result: dict[str, Any] = {"parameters": count_parameters(net), "macs": count_macs(net, image), **machine()}
    with torch.inference_mode():
        for batch in batches:
            faces = image.repeat(batch, 1, 1, 1)
            result[f"ms_per_face_b{batch}"] = median_ms(partial(net, faces)) / batch
    return result
