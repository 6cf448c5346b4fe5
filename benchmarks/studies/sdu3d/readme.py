"""Writes the figures of docs/studies/sdu3d.md from what the scripts recorded; no figure is ever typed.

python -m benchmarks.studies.sdu3d.readme --runs runs        rewrites what is of docs/studies/sdu3d.md between its marks

Records, all JSON, by the script of this folder that writes them: RUNS/sdu3d/scores/NAME_val.json and NAME_test.json
(evaluate), depth.json (depth) and aflw2000.json (poses) beside them, RUNS/sdu3d/ablation/report.json (ablation),
RUNS/benchmark/sdu3d_speed.json (speed). What is not there is said to be missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import ROOT
from benchmarks.readme import NOT_MEASURED, fill, table
from benchmarks.studies.sdu3d.speed import FORMS, recipe_size
from common.errors import command
from common.files.recipes import read_recipe
from sdu3d.convert import MOVING, Size, build, released_names
from sdu3d.convert_mxnet import params_bytes

PAGE = ROOT / "docs" / "studies" / "sdu3d.md"
START, END = "<!-- figures: written by benchmarks.studies.sdu3d.readme -->", "<!-- end of figures -->"
RUNS = {"helen_hg": "Hourglass2(d=3)-CAB, reduced", "helen_sat": "SAT2(d=3)-CAB, reduced"}
NORMS = {"eye_centres": "eye centres", "lnd_bbox": "root of the box", "corners": "outer eye corners"}


def read(path: Path) -> Any:
    """Return the content of a JSON file, or None when it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() and path.stat().st_size else None


def rows_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, or the word for no rows."""
    return table(header, rows) if rows else f"{NOT_MEASURED}."


def decoder_of(recipe: str) -> str:
    """Return the decoder that a recipe of this package names."""
    content = read_recipe(ROOT / "sdu3d" / f"{recipe}.yaml")
    return str(content["model"]["decode"])


def helen(runs: Path) -> str:
    """Return the table of the trainings on photographs, by the recipe's decoder, chosen on the validation split."""
    decoder, rows = decoder_of("helen"), []
    for name, title in RUNS.items():
        for split, faces in (("val", "validation"), ("test", "HELEN test")):
            found = read(runs / "sdu3d" / "scores" / f"{name}_{split}.json")
            figures = [f"{found[decoder][norm]:.2f}" if found else NOT_MEASURED for norm in NORMS]
            rows.append([title, faces, *figures])
    return rows_table(["network", "faces", *NORMS.values()], rows)


def decoding(runs: Path) -> str:
    """Return the table of decoders on the validation split: NME, and the difference from the official one."""
    rows = []
    for name, title in RUNS.items():
        found = read(runs / "sdu3d" / "scores" / f"{name}_val.json")
        if found is None:
            continue
        base = found["released"]
        for decoder, values in found.items():
            shown = [f"{values[norm]:.3f} ({values[norm] - base[norm]:+.3f})" for norm in ("eye_centres", "lnd_bbox")]
            rows.append([title, decoder, *shown])
    return rows_table(["network", "decoder", NORMS["eye_centres"], NORMS["lnd_bbox"]], rows)


def ablation(runs: Path) -> str:
    """Return the table of transformers."""
    found = read(runs / "sdu3d" / "ablation" / "report.json") or {}
    rows = [
        [name, f"{value['parameters']:,}", f"{value['nme']:.2f}", f"[{value['low']:.2f}, {value['high']:.2f}]"]
        for name, value in found.items()
    ]
    return rows_table(["transformers", "parameters", "NME, outer eye corners", "95 % interval"], rows)


def depth(runs: Path) -> str:
    """Return the table of errors in depth."""
    found = read(runs / "sdu3d" / "scores" / "depth.json") or {}
    return rows_table(["in % of the box root", "error"], [
        [name.replace("_", " "), f"{value:.0f}" if name == "faces" else f"{value:.2f}"] for name, value in found.items()
    ])  # fmt: skip


def poses(runs: Path) -> str:
    """Return the table of AFLW2000-3D."""
    found = dict(read(runs / "sdu3d" / "scores" / "aflw2000.json") or {})
    faces = found.pop("faces", 0)
    names = list(dict.fromkeys(key for values in found.values() for key in values))
    rows = [
        [what, *(f"{values[key]:.2f}" if key in values else "-" for key in names)] for what, values in found.items()
    ]
    return rows_table([f"{faces} faces", *names], rows)


def file_bytes(size: Size) -> int:
    """Return the size of the official file of a network: learned values and running statistics in float32."""
    with torch.device("meta"):
        net = build(size)
    state = net.state_dict()
    return params_bytes(
        [(f"{'aux' if name.endswith(MOVING) else 'arg'}:{name}", list(state[key].shape))
         for name, key in released_names(net).items()]
    )  # fmt: skip


def speed(runs: Path) -> str:
    """Return the table of sizes and times."""
    found = read(runs / "benchmark" / "sdu3d_speed.json")
    if found is None:
        return f"{NOT_MEASURED}."
    rows = []
    for name, value in found["networks"].items():
        times = [f"{value['ms'][form]:.0f} ({100 * value['share'][form]:.0f} %)" for form in FORMS]
        rows.append([name, f"{value['learned']:,} + {value['running']:,}", f"{file_bytes(recipe_size(name)[0]):,}",
                     f"{value['macs'] / 1e9:.2f} G", *times])  # fmt: skip
    below = (f"\n\nPeak of a matrix product in the same run: {found['peak_gmacs']:.0f} GMAC/s; medians of "
            f"{found['rounds']} rounds, torch {found['torch']}.")  # fmt: skip
    header = [
        "network",
        "learned + running",
        "float32 file, bytes",
        "MACs",
        *(form.replace("_", " ") for form in FORMS),
    ]
    return rows_table(header, rows) + below


SECTIONS = {
    "Photographs (HELEN + AFW), NME in %": helen,
    "Decoding, NME in % on the validation split (difference to the released decoding)": decoding,
    "Dual transformers, NME in % on the validation split": ablation,
    "Depth, synthetic test faces": depth,
    "AFLW2000-3D sample files, the same network, errors in % of the box root": poses,
    "Size and speed: milliseconds of one thread at batch 1 (share of the measured peak)": speed,
}


def render(runs: Path) -> str:
    """Return the generated part of the page."""
    return "\n" + "\n\n".join(f"### {title}\n\n{make(runs)}" for title, make in SECTIONS.items()) + "\n"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; rewrite the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.sdu3d.readme", description="Write the figures of docs/studies/sdu3d.md."
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--document", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    fill(options.document, START, END, render(options.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
