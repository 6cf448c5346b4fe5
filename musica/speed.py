"""How far the cascade is from the time of reading its weights once: python -m musica.speed [--threads 2]

At one face the hidden layer's weights are each used once, so no program can be faster than memory gives them. Both are
measured in one run, taking turns; the fastest pass of each counts, as other work on the machine only adds time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from musica.cascade import run_cascade
from musica.network import CascadeNet
from musica.patch_sets import patch_indices

SIZE = 228


def fastest_ms(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the fastest time of each call in milliseconds; the calls take turns."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], 1000 * (time.perf_counter() - start))
    return best


def measure(net: CascadeNet, repeats: int) -> dict[str, float]:
    """Return parameters, multiply-adds and milliseconds of one face: reading, pyramid, cascade, and the ratio."""
    net.eval()
    image = torch.randint(0, 256, (1, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    weights = list(net.parameters())
    with torch.inference_mode():
        net.start.uniform_(0, SIZE)
        tower, start = net.pyramid(image), net.start[None]
        times = fastest_ms(
            {
                "reading": lambda: [weight.sum() for weight in weights],
                "pyramid": lambda: net.pyramid(image),
                "cascade": lambda: run_cascade(net, tower, start),
            },
            repeats,
        )
    result = {"parameters": float(sum(w.numel() for w in weights)), "macs": float(net.macs(len(net.level_of)))}
    result |= {f"{name}_ms": value for name, value in times.items()}
    return result | {"ratio": times["cascade"] / times["reading"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the measurement as JSON."""
    parser = argparse.ArgumentParser(prog="python -m musica.speed", description="Cascade against reading its weights.")
    parser.add_argument("--points", type=int, default=98)
    parser.add_argument("--patches", default="every_second")
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    indices = patch_indices(options.patches, options.points)
    net = CascadeNet(options.points, indices, options.iterations, options.units, options.rank)
    print(json.dumps({"threads": options.threads, **measure(net, options.repeats)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
