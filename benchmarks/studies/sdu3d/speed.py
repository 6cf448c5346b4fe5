"""Times the published networks against a plain eager version of the released graph: same weights, same run.

python -m benchmarks.studies.sdu3d.speed --out runs/benchmark/sdu3d_speed.json

Batch 1, float32, one thread; medians of forms that take turns. The machine's peak is what a product of large
matrices reaches in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure.timing import ROUNDS, count_macs, count_parameters, median_ms
from benchmarks.provenance import ROOT
from benchmarks.studies.sdu3d.fuse import fused
from benchmarks.studies.sdu3d.plain import PlainGraph
from common.files.recipes import read_recipe
from sdu3d.convert import Size
from sdu3d.network import SduNet, count_running

PUBLISHED = ("hg2d4-resnet", "hg2d3-hpm", "hg2d4-cab", "sat2d3-cab", "hg2d3-cab")
SIDE, POINTS = 1536, 68
FORMS = ("released", "ours", "folded", "folded_channels_last")


def recipe_size(name: str) -> tuple[Size, int]:
    """Return the network of a recipe of this package and the side of its crops in pixels."""
    content = read_recipe(ROOT / "sdu3d" / f"{name}.yaml")
    model = {key: content["model"]["net"][key] for key in ("topology", "block", "depth", "stacks", "width", "stride")}
    return Size(num_points=POINTS, inside="none", **model), int(content["data"]["crop"]["size"])


def make_net(size: Size) -> SduNet:
    """Return a network with random weights, in evaluation mode; times do not depend on the weights."""
    torch.manual_seed(0)
    return SduNet(size.num_points, size.topology, size.block, size.depth, size.stacks, size.width, size.stride).eval()


def forms(net: SduNet, size: Size) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return FORMS: each gives the last maps of crops."""
    plain, folded = PlainGraph.of(net, size), fused(net)
    last = fused(net)
    last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return {
        "released": lambda image: plain(image)[-1],
        "ours": lambda image: net(image).heatmaps[-1],
        "folded": lambda image: folded(image).heatmaps[-1],
        "folded_channels_last": lambda image: last(
            image.contiguous(memory_format=torch.channels_last)
        ).heatmaps[-1],
    }  # fmt: skip


def peak_gmacs(rounds: int = ROUNDS, side: int = SIDE) -> float:
    """Return the multiply-adds a second, in billions, that the best product of two square matrices reaches."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    return side**3 / median_ms({"product": lambda: torch.mm(a, b)}, rounds)["product"] / 1e6


@torch.inference_mode()
def compare(name: str, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return parameters, MACs, medians in milliseconds, and how far the forms' maps differ.

    Args:
        name: of a recipe.
        rounds: turns of the forms.
    """
    size, side = recipe_size(name)
    net = make_net(size)
    image = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    ways = forms(net, size)
    maps = {form: way(image) for form, way in ways.items()}
    times = median_ms({form: partial(way, image) for form, way in ways.items()}, rounds)
    largest = float(maps["released"].abs().max())
    return {
        "learned": count_parameters(net),
        "running": count_running(net),
        "macs": count_macs(net, image),
        "ms": times,
        "difference": {form: float((maps[form] - maps["released"]).abs().max()) / largest for form in ways},
    }


def measure(names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return the comparison of networks, with the peak measured before and after them and each form's share of it."""
    torch.set_num_threads(1)
    before = peak_gmacs()
    networks = {name: compare(name, rounds) for name in names}
    peak = max(before, peak_gmacs())
    for found in networks.values():
        found["share"] = {form: found["macs"] / (ms * 1e6) / peak for form, ms in found["ms"].items()}
    return {"peak_gmacs": peak, "rounds": rounds, "torch": torch.__version__, "threads": 1, "networks": networks}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print a table and write the JSON; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.sdu3d.speed", description="Time the published networks."
    )
    parser.add_argument("names", nargs="*", default=list(PUBLISHED), help="recipes; default the published ones")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark/sdu3d_speed.json"))
    options = parser.parse_args(arguments)
    for name in options.names:
        if not (ROOT / "sdu3d" / f"{name}.yaml").is_file():
            print(f"error: {name}: no such recipe in this package; one of {', '.join(PUBLISHED)}", file=sys.stderr)
            return 2
    report = measure(options.names, options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, found in report["networks"].items():
        print(name, " ".join(f"{form} {ms:.0f} ms" for form, ms in found["ms"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
