"""The timer of every speed figure: medians of calls that take turns, so that their ratios can be trusted.

One statistic for all, so that milliseconds of different studies can share a table. A busy machine slows all calls of
one measurement alike; what is left over in the medians is small beside the differences that are reported.
"""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

ROUNDS, SECONDS = 7, 0.05


def median_ms(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    before: Mapping[str, Callable[[], object]] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median time of each call in milliseconds.

    Args:
        calls: name -> what is timed; each is called once before, uncounted.
        rounds: turns of all calls.
        seconds: least time of a turn of one call, which holds as many passes as fit; CUDA is waited for.
        before: name -> what is called before a pass, untimed, such as to empty the caches; a turn is then one pass.
        clock: seconds; `time.process_time` for those of the processor.
    """
    prepare, times = before or {}, {name: list[float]() for name in calls}

    def one_pass(name: str) -> float:
        prepare.get(name, int)()
        _finish()
        start = clock()
        calls[name]()
        _finish()
        return clock() - start

    for turn in range(rounds):
        for name, found in times.items():
            if turn == 0:
                one_pass(name)
            spent = 0.0
            while spent <= seconds:
                found.append(one_pass(name))
                spent = math.inf if name in prepare else spent + found[-1]
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def _finish() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def count_parameters(net: nn.Module) -> int:
    """Return the number of parameters (buffers are not counted)."""
    return sum(p.numel() for p in net.parameters())


def count_macs(call: Callable[..., object], *arguments: object) -> int:
    """Return the multiply-adds of convolutions and matrix products in one call, such as of a network on one image.

    Additions of biases, normalisation, activations and sampling are not counted, as is the field's habit.
    """
    # Without gradients, but not in inference mode: the counter decomposes composite calls such as attention only then.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(*arguments)
    return counter.get_total_flops() // 2


def _resident_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return float("nan")


def peak_memory_mb(call: Callable[[], object], device: str) -> float | None:
    """Return by how many MB a call's peak lies above the memory held before it; None where it is not known."""
    if device.startswith("cuda"):
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    with suppress(OSError, AttributeError):  # memory of earlier work that the allocator kept would hide the call's own
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
        before = _resident_mb("VmRSS:")
        call()
        return max(0.0, _resident_mb("VmHWM:") - before)
    except OSError:
        return None
