"""How far the cascade is from the time of reading its weights once.

python -m benchmarks.studies.musica.speed [--threads 2]

At one face the hidden layer's weights are each used once, so no program can be faster than memory gives them. Both are
measured in one run, taking turns, from empty caches; medians. A face's pyramid and cascade follow each other, as in
use.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.measure.timing import median_ms
from common.errors import command
from musica.compress import parameters, weight_bytes
from musica.module import MusicaTask, NetworkConfig
from musica.native.loops import NativeCascade
from musica.network import CascadeNet

SIZE = 228
SCHEME_OF = {98: "wflw98", 68: "ibug68"}
EVICTED = 128 * 2**20  # bytes, several times the largest cache


def build(points: int, patches: str, iterations: int = 3, units: int = 512, rank: int = 0) -> MusicaTask:
    """Return a task whose network has random weights."""
    return MusicaTask(SCHEME_OF[points], SIZE, NetworkConfig(patches, iterations, units=units, rank=rank)).eval()


def _reading(net: CascadeNet) -> Callable[[], object]:
    """Return a call that reads every weight once."""
    weights = [weight.detach() for weight in net.parameters()]
    return lambda: [weight.sum() for weight in weights]


def measure(task: MusicaTask, whole: MusicaTask, repeats: int) -> dict[str, float]:
    """Return size and milliseconds of one face: reading the weights, pyramid, cascade, and the cascade's ratios.

    Args:
        task: what is measured.
        whole: the task with whole hidden layers, whose weights' reading is the yardstick.
        repeats: passes; the calls take turns.
    """
    image = torch.randint(0, 256, (1, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    with torch.inference_mode():
        net, cascade = task.net, NativeCascade(task.net)
        net.start.uniform_(0, SIZE)
        pyramid, start = cascade.pyramid(image), net.first_shape(1)
        other = np.zeros(EVICTED // 8)

        def empty_caches() -> None:  # takes long enough, too, for the tensors' threads to stop spinning
            other[:] += 1

        def face_before() -> None:
            empty_caches()
            cascade.pyramid(image)

        calls = {"whole_reading": _reading(whole.net), "reading": _reading(net),
                 "pyramid": lambda: cascade.pyramid(image),
                 "cascade": lambda: cascade.run(pyramid, start)}  # fmt: skip
        times = median_ms(calls, repeats, before=dict.fromkeys(calls, empty_caches) | {"cascade": face_before})
    result = {"parameters": float(parameters(net)), "mbytes": weight_bytes(net) / 1e6,
              "macs": float(net.macs(len(net.level_of)))}  # fmt: skip
    result |= {f"{name}_ms": value for name, value in times.items()}
    return result | {"ratio": times["cascade"] / times["reading"],
                     "ratio_whole": times["cascade"] / times["whole_reading"]}  # fmt: skip


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the measurement as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.musica.speed", description="Cascade against reading its weights."
    )
    parser.add_argument("--points", type=int, choices=tuple(SCHEME_OF), default=98)
    parser.add_argument("--patches", default="every_second")
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    size = (options.points, options.patches, options.iterations, options.units)
    whole = build(*size)
    task = build(*size, options.rank) if options.rank else whole
    print(json.dumps({"threads": options.threads, **measure(task, whole, options.repeats)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
