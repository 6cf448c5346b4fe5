"""How fast this implementation is beside a plain one of the official graph.

python -m benchmarks.studies.spiga.speed [--threads 1]

All in one run, taking turns, with the same weights; medians. "Plain" is the network as it is defined, run eagerly in
the default memory order and returning everything that the official forward pass returns (maps of all stacks, poses
of all stacks, attention of all layers). "Fast" is `fold_network`'s: BatchNorm folded into the convolutions,
channels last, and only what the landmarks need.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure.timing import ROUNDS, count_macs, count_parameters, median_ms
from benchmarks.readme import table
from common.errors import LabError
from common.schemes import IBUG68, WFLW98, LandmarkScheme
from spiga.backbone import Residual
from spiga.convert import CROP, SIZES
from spiga.fold import fold_network
from spiga.graph import GraphAttention, complete_edges, make_edges
from spiga.mean_face import default_mean_face
from spiga.network import STRIDE, CascadeStep, SpigaNet
from spiga.schemes import edge_curves

Part = dict[str, Any]  # a part of the record's JSON
SCHEMES = {98: WFLW98, 68: IBUG68}
RELEASED_PARAMETERS = {98: 63_295_788, 68: 63_179_052}  # trainable, with shortcuts that are never used
BATCHES = (1, 8)
KNN = 8
RATIO_GOAL = 1.15
RECORD = Path("runs/benchmark/spiga_speed.json")


def make_network(scheme: LandmarkScheme) -> SpigaNet:
    """Return the official network with random weights whose BatchNorm has seen something, so that folding matters."""
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
    """Run the network as the official forward pass does, which returns the attention weights of all layers too.

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


def compare_networks(scheme: LandmarkScheme, rounds: int) -> Part:
    """Return milliseconds a face of the plain and the fast network at each batch size, and how far they differ."""
    net = make_network(scheme)
    fast = fold_network(net)
    result: Part = {}
    with torch.inference_mode():
        for batch in BATCHES:
            generator = torch.Generator().manual_seed(batch)
            image = torch.randint(0, 256, (batch, 3, CROP.size, CROP.size), dtype=torch.uint8, generator=generator)
            difference = float((plain_answer(net, image)[0] - fast(image)[0]).abs().max())
            calls = {"plain": partial(plain_answer, net, image), "fast": partial(fast, image)}
            times = median_ms(calls, rounds)
            result[f"batch {batch}"] = {
                "plain_ms_per_face": times["plain"] / batch, "fast_ms_per_face": times["fast"] / batch,
                "ratio": times["plain"] / times["fast"], "largest_difference_of_points": difference,
            }  # fmt: skip
    return result


def compare_graphs(scheme: LandmarkScheme, rounds: int) -> Part:
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

    result: Part = {"edges": {name: points**2 if e is None else e.shape[1] for name, e in graphs.items()}}
    with torch.inference_mode():
        for batch in BATCHES:
            x = torch.randn(batch, points, width, generator=torch.Generator().manual_seed(batch))
            calls = {name: partial(run, x, edges) for name, edges in graphs.items()}
            result[f"batch {batch}, ms"] = median_ms(calls, rounds)
            fused, passed = (run(x, edges) for edges in list(graphs.values())[:2])
            result[f"batch {batch}, largest difference"] = float((fused - passed).abs().max())
    return result


def dead_shortcuts(net: SpigaNet) -> int:
    """Return how many weights the official file holds in shortcut convolutions that it never uses."""
    return sum(m.conv3.out_channels**2 for m in net.modules()
               if isinstance(m, Residual) and isinstance(m.skip, nn.Identity))  # fmt: skip


def sizes(scheme: LandmarkScheme) -> Part:
    """Return parameters and multiply-adds beside the official ones.

    Raises:
        LabError: parameters and dead shortcuts do not add up to the official ones.
    """
    with torch.device("meta"):  # shapes alone are counted, without values and without work
        net = make_network(scheme).to("meta")
    ours, dead = count_parameters(net), dead_shortcuts(net)
    released = RELEASED_PARAMETERS[scheme.num_points]
    if ours + dead != released:
        raise LabError(f"{ours} parameters and {dead} of dead shortcuts are not the official {released}")
    image = torch.zeros(1, 3, CROP.size, CROP.size, dtype=torch.uint8, device="meta")
    macs = {"plain": count_macs(plain_answer, net, image), "fast": count_macs(fold_network(net), image)}
    return {"parameters": ours, "dead_shortcuts": dead, "released": released, "macs": macs}


def tables(record: Part) -> str:
    """Return a record as three Markdown tables: sizes, networks, graphs."""
    found, macs = record["sizes"], record["sizes"]["macs"]
    counts = [f"{found[key]:,}" for key in ("parameters", "dead_shortcuts", "released")]
    counts += [f"{macs[key] / 1e9:.2f}" for key in ("plain", "fast")]
    networks = []
    for batch, row in record["network"].items():
        goal = f"goal {RATIO_GOAL}, {'reached' if row['ratio'] >= RATIO_GOAL else 'not reached'}"
        plain, fast = row["plain_ms_per_face"], row["fast_ms_per_face"]
        networks.append([batch, f"{plain:.0f}", f"{fast:.0f}", f"{row['ratio']:.2f}", goal])
    graphs = record["graphs"]
    times = {key.removesuffix(", ms"): value for key, value in graphs.items() if key.endswith(", ms")}
    edges = [[name, count, *(f"{values[name]:.1f}" for values in times.values())]
             for name, count in graphs["edges"].items()]  # fmt: skip
    setting = f"{record['points']} points, {record['threads']} threads"
    return "\n\n".join([
        table(["parameters", "unused in the release", "release", "GMAC, released graph", "GMAC, fast"], [counts]),
        table([setting, "plain, ms a face", "fast, ms a face", "ratio", ""], networks),
        table(["four layers of a step, ms", "edges", *times], edges),
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; print the measurements as tables and write them to runs/benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.spiga.speed", description="Plain against fast, graph by graph."
    )
    parser.add_argument("--points", type=int, default=98, choices=sorted(SCHEMES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed turns")
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    scheme = SCHEMES[options.points]
    record = {"points": options.points, "threads": options.threads, "torch": torch.__version__,
              "sizes": sizes(scheme), "network": compare_networks(scheme, options.rounds),
              "graphs": compare_graphs(scheme, options.rounds)}  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(tables(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
