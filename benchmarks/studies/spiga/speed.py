"""How fast this implementation is beside a plain one of the released graph.

python -m benchmarks.studies.spiga.speed [--threads 1]

All in one run, taking turns, with the same weights; the fastest pass of each counts, as other work on the machine only
adds time. With one thread the processor's time is measured, else the time that passes. "Plain" is the network as it is
defined, run eagerly in the default memory order and answering everything that the released forward pass answers (maps
of all stacks, poses of all stacks, attention of all layers). "Fast" is `fold_network`'s: BatchNorm folded into the
convolutions, channels last, and only what the landmarks need.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from common.errors import LabError
from common.schemes import IBUG68, WFLW98, LandmarkScheme
from spiga.backbone import Residual
from spiga.convert import CROP, SIZES
from spiga.fold import fold_network
from spiga.graph import GraphAttention, complete_edges, make_edges
from spiga.mean_face import default_mean_face
from spiga.network import STRIDE, CascadeStep, SpigaNet
from spiga.schemes import edge_curves

SCHEMES = {98: WFLW98, 68: IBUG68}
RELEASED_PARAMETERS = {98: 63_295_788, 68: 63_179_052}  # trainable, with shortcuts that are never used
BATCHES = (1, 8)
KNN = 8
RATIO_GOAL = 1.15
RECORD = Path("runs/benchmark/spiga_speed.json")


def make_network(scheme: LandmarkScheme) -> SpigaNet:
    """Return the released network with random weights whose BatchNorm has seen something, so that folding matters."""
    torch.manual_seed(0)
    net = SpigaNet(scheme.num_points, edge_curves(scheme), scheme.singles, default_mean_face(scheme), None, CROP.size,
                   **SIZES)  # fmt: skip
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.8, 1.2)  # type: ignore[arg-type]
    return net.eval()


def steps_of(net: SpigaNet) -> list[CascadeStep]:
    """Return the steps of the cascade."""
    return [step for step in net.cascade if isinstance(step, CascadeStep)]


def plain_answer(net: SpigaNet, image: Tensor) -> tuple[Tensor, Tensor]:
    """Run the network as the released forward pass does, which answers the attention weights of all layers too.

    Returns:
        Points (B, L, 2) and poses (B, 6).
    """
    features = net.backbone(net.prepare(image), cores="all")
    pose = net.pose(features.cores[-1])
    points, weights = net.place(pose), []
    for step in steps_of(net):
        x = step.embed(features.maps[-1], points)
        for layer in step.layers:
            assert isinstance(layer, GraphAttention)
            x, attention = plain_layer(layer, x)
            weights.append(attention)
        points = points + step.reach * nn.functional.hardtanh(step.decoder(x))
    return points, pose


def plain_layer(layer: GraphAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a layer's output (B, L, C) and its attention (B, H, L, L), computed without a fused kernel."""
    attention = layer.attention(x)
    value = layer.value(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
    message = layer.merge((attention @ value).transpose(1, 2).flatten(2))
    return layer.skip(x) + layer.mlp(torch.cat([x, message], dim=-1)), attention


def fastest_ms(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the fastest time of each call in milliseconds; the calls take turns, and the first turn is not counted."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if turn:
                best[name] = min(best[name], 1000 * (clock() - start))
    return best


def compare_networks(scheme: LandmarkScheme, repeats: int) -> dict[str, Any]:
    """Return milliseconds a face of the plain and the fast network at each batch size, and how far they differ."""
    net = make_network(scheme)
    fast = fold_network(net)
    result: dict[str, Any] = {}
    with torch.inference_mode():
        for batch in BATCHES:
            generator = torch.Generator().manual_seed(batch)
            image = torch.randint(0, 256, (batch, 3, CROP.size, CROP.size), dtype=torch.uint8, generator=generator)
            difference = float((plain_answer(net, image)[0] - fast(image)[0]).abs().max())
            calls = {"plain": partial(plain_answer, net, image), "fast": partial(fast, image)}
            times = fastest_ms(calls, max(2, repeats // batch))
            result[f"batch {batch}"] = {
                "plain_ms_per_face": times["plain"] / batch, "fast_ms_per_face": times["fast"] / batch,
                "ratio": times["plain"] / times["fast"], "largest_difference_of_points": difference,
            }  # fmt: skip
    return result


def compare_graphs(scheme: LandmarkScheme, repeats: int) -> dict[str, Any]:
    """Return milliseconds of one cascade step's four layers over each graph, and its edges, at each batch size."""
    points, width = scheme.num_points, 2 * SIZES["width"]
    torch.manual_seed(0)
    layers = CascadeStep(points, SIZES["width"], CROP.size // STRIDE, step=0).eval().layers
    model = default_mean_face(scheme)
    graphs: dict[str, Tensor | None] = {"complete, fused attention": None}
    graphs["complete, message passing"] = complete_edges(points)
    graphs |= {f"{name}, message passing": make_edges(name, scheme, model, KNN) for name in ("anatomical", "knn")}

    def run(x: Tensor, edges: Tensor | None) -> Tensor:
        for layer in layers:
            x = layer(x, edges)
        return x

    result: dict[str, Any] = {"edges": {name: points**2 if e is None else e.shape[1] for name, e in graphs.items()}}
    with torch.inference_mode():
        for batch in BATCHES:
            x = torch.randn(batch, points, width, generator=torch.Generator().manual_seed(batch))
            calls = {name: partial(run, x, edges) for name, edges in graphs.items()}
            result[f"batch {batch}, ms"] = fastest_ms(calls, repeats)
            fused, passed = (run(x, edges) for edges in list(graphs.values())[:2])
            result[f"batch {batch}, largest difference"] = float((fused - passed).abs().max())
    return result


def dead_shortcuts(net: SpigaNet) -> int:
    """Return how many weights the release holds in shortcut convolutions that it never uses."""
    return sum(m.conv3.out_channels**2 for m in net.modules()
               if isinstance(m, Residual) and isinstance(m.skip, nn.Identity))  # fmt: skip


def count_macs(net: SpigaNet) -> dict[str, int]:
    """Return the multiply-adds of convolutions and matrix products for one face: everything, and the fast network's."""
    image = torch.zeros(1, 3, CROP.size, CROP.size, dtype=torch.uint8, device=net.mean_face.device)
    counts = {}
    fast = fold_network(net)
    calls: dict[str, Callable[[], Any]] = {"plain": lambda: plain_answer(net, image), "fast": lambda: fast(image)}
    for name, call in calls.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
        counts[name] = counter.get_total_flops() // 2
    return counts


def sizes(scheme: LandmarkScheme) -> dict[str, Any]:
    """Return parameters and multiply-adds beside the release's.

    Raises:
        LabError: parameters and dead shortcuts do not add up to the release's.
    """
    with torch.device("meta"):  # shapes alone are counted, without values and without work
        net = make_network(scheme).to("meta")
    ours, dead = sum(p.numel() for p in net.parameters()), dead_shortcuts(net)
    released = RELEASED_PARAMETERS[scheme.num_points]
    if ours + dead != released:
        raise LabError(f"{ours} parameters and {dead} of dead shortcuts are not the release's {released}")
    return {"parameters": ours, "dead_shortcuts": dead, "released": released, "macs": count_macs(net)}


def table(record: dict[str, Any]) -> str:
    """Return a record as three Markdown tables: sizes, networks, graphs."""
    found, macs = record["sizes"], record["sizes"]["macs"]
    counts = [f"{found[key]:,}" for key in ("parameters", "dead_shortcuts", "released")]
    counts += [f"{macs[key] / 1e9:.2f}" for key in ("plain", "fast")]
    setting = f"{record['points']} points, {record['threads']} threads"
    lines = ["| parameters | unused in the release | release | GMAC, released graph | GMAC, fast |", "|---" * 5 + "|",
             f"| {' | '.join(counts)} |", "",
             f"| {setting} | plain, ms a face | fast, ms a face | ratio | |", "|---" * 5 + "|"]  # fmt: skip
    for batch, row in record["network"].items():
        goal = f"goal {RATIO_GOAL}, {'reached' if row['ratio'] >= RATIO_GOAL else 'not reached'}"
        lines.append(f"| {batch} | {row['plain_ms_per_face']:.0f} | {row['fast_ms_per_face']:.0f} | {row['ratio']:.2f} "
                     f"| {goal} |")  # fmt: skip
    graphs = record["graphs"]
    times = {key.removesuffix(", ms"): value for key, value in graphs.items() if key.endswith(", ms")}
    lines += ["", f"| four layers of a step, ms | edges | {' | '.join(times)} |", "|---" * (2 + len(times)) + "|"]
    for name, count in graphs["edges"].items():
        cells = " | ".join(f"{values[name]:.1f}" for values in times.values())
        lines.append(f"| {name} | {count} | {cells} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the measurements as tables and write them to runs/benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.spiga.speed", description="Plain against fast, graph by graph."
    )
    parser.add_argument("--points", type=int, default=98, choices=sorted(SCHEMES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=12, help="timed turns at batch 1")
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    scheme = SCHEMES[options.points]
    record = {"points": options.points, "threads": options.threads, "torch": torch.__version__,
              "sizes": sizes(scheme), "network": compare_networks(scheme, options.repeats),
              "graphs": compare_graphs(scheme, options.repeats)}  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
