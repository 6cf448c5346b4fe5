"""Choose on validation data when faces leave the cascade, draw the trade-off, and write the policy for prediction.

python -m musica.choose_exit runs/musica/helen/checkpoints/best.ckpt --config musica/helen.yaml --root FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from common.data.datamodule import FaceDataModule
from common.errors import LabError, check_range, command
from common.evaluation import batches, load_data
from common.task import load_task
from musica.exit import ExitPolicy, Sweep, choose, exit_iteration, failure_threshold, sweep, usual_levels
from musica.exit.records import Records, augmented_batches, collect, milliseconds
from musica.module import MusicaTask

EVAL_BATCH = 32
BATCHES = (1, 64)  # sizes at which milliseconds are measured
TIMED_FACES = 64


def timed_points(found: Sweep, front: np.ndarray, chosen: int, count: int) -> list[int]:
    """Return rows of the front spread evenly over the cost, with the chosen one among them, cheapest first."""
    picked = {int(front[i]) for i in np.linspace(0, len(front) - 1, count).round().astype(int)}
    return sorted(picked | {chosen}, key=lambda row: (found.cost[row], -found.nme[row]))


def measure(
    runs: Sequence[tuple[MusicaTask, Sequence[float] | None]], images: torch.Tensor, repeats: int
) -> dict[int, list[float]]:
    """Return batch size -> ms a face of each task with its exit rule, on the first faces of the split."""
    faces = images[:TIMED_FACES]
    if len(faces) < TIMED_FACES:  # a small split is repeated, so that the largest batch can be filled
        faces = faces.repeat(-(-TIMED_FACES // len(faces)), 1, 1, 1)[:TIMED_FACES]
    return {batch: milliseconds(runs, faces, batch, repeats) for batch in BATCHES}


def draw(path: Path, curve: list[dict[str, float]], full: dict[str, float], chosen: dict[str, float]) -> None:
    """Write NME against mean multiply-adds, and against measured milliseconds, as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=110)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot([p["macs"] / 1e6 for p in curve], [p["nme"] for p in curve], "o-", ms=3)
    left.plot(full["macs"] / 1e6, full["nme"], "ks", label="all iterations")
    left.plot(chosen["macs"] / 1e6, chosen["nme"], "r*", ms=11, label="chosen")
    left.set(xlabel="mean multiply-adds a face, million", ylabel="NME, percent")
    for batch in BATCHES:
        timed = sorted((p for p in curve if f"ms_b{batch}" in p), key=lambda p: p[f"ms_b{batch}"])
        right.plot([p[f"ms_b{batch}"] for p in timed], [p["nme"] for p in timed], "o-", ms=3, label=f"batch {batch}")
        right.plot(full[f"ms_b{batch}"], full["nme"], "ks")
        right.plot(chosen[f"ms_b{batch}"], chosen["nme"], "r*", ms=11)
    right.set(xlabel="measured milliseconds a face", ylabel="NME, percent")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def check_split(data: FaceDataModule, split: str) -> None:
    """Raise a LabError where a split holds faces of the test list, as `val` does in sets without a validation part."""
    known = [
        data.faces(name).shapes() for name in (split, "test")
    ]  # None: drawn faces, of which each split has its own
    given, test = (set() if shapes is None else {row.tobytes() for row in shapes} for shapes in known)
    if same := given & test:
        raise LabError(f"--split {split}: {len(same)} of its {len(given)} faces are test faces of {data.dataset}, "
                       "which report the result; choose on others, such as --split train")  # fmt: skip


def build(options: argparse.Namespace) -> ExitPolicy:
    """Choose the thresholds, measure, write the policy, the curve and its picture; return the policy."""
    task = load_task(MusicaTask, options.checkpoint)
    net = task.net
    data = load_data(options.config, options.root, task)
    check_split(data, options.split)
    faces = list(batches(data, options.split, EVAL_BATCH))

    def recorded(one: MusicaTask) -> Records:
        more = augmented_batches(data, options.split, EVAL_BATCH, options.copies, options.copy_share)
        return collect(one, chain(faces, more))

    records = recorded(task)
    whole, whole_records = task, records
    if options.against is not None:
        whole = load_task(MusicaTask, options.against)
        load_data(options.config, options.root, whole)  # reports crops of another size or scheme
        whole_records = recorded(whole)
    costs = [net.macs(t + 1) for t in range(len(net.level_of))]
    levels = usual_levels(len(costs)) if options.levels is None else options.levels
    found = sweep(records.nme, records.predicted, levels, costs)
    full_nme = float(whole_records.nme[:, -1].mean())
    row = choose(found, full_nme, options.max_loss)
    rows = timed_points(found, found.front(), row, options.timed)
    runs = [(whole, None), *((task, tuple(found.exit_below[r])) for r in rows)]
    images = torch.cat([batch.image for batch in faces[: -(-TIMED_FACES // EVAL_BATCH)]])
    times = measure(runs, images, options.repeats)

    def point(nme: float, macs: float, index: int) -> dict[str, float]:
        return {"nme": nme, "macs": macs, **{f"ms_b{batch}": times[batch][index] for batch in BATCHES}}

    full = point(full_nme, float(whole.net.macs(len(whole.net.level_of))), 0)
    curve = [point(float(found.nme[r]), float(found.cost[r]), i + 1) for i, r in enumerate(rows)]
    chosen = curve[rows.index(row)]
    policy = policy_of(task, records, found.exit_below[row], options, {"full": full, "chosen": chosen})
    policy.write(options.out)
    front = [{"nme": float(found.nme[r]), "macs": float(found.cost[r])} for r in found.front()]
    content = {"full": full, "chosen": chosen, "timed": curve, "front": front}
    options.out.with_suffix(".curve.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(options.out.with_suffix(".png"), curve, full, chosen)
    return policy


def policy_of(
    task: MusicaTask,
    records: Records,
    exit_below: np.ndarray,
    options: argparse.Namespace,
    points: dict[str, dict[str, float]],
) -> ExitPolicy:
    """Return the policy with the failure flag for its outputs, and what the choice rests on.

    Args:
        task: whose policy it is.
        records: the faces that it was chosen on.
        exit_below: (T - 1,) thresholds.
        options: of the command line.
        points: NME, multiply-adds and ms of the full cascade ("full") and with the policy ("chosen").
    """
    out = exit_iteration(records.predicted, exit_below)
    index = np.arange(len(out))
    fail = failure_threshold(records.nme[index, out], records.predicted[index, out], options.failed_above)
    full, chosen = points["full"], points["chosen"]
    saved = {"macs_saved": 1 - chosen["macs"] / full["macs"], "nme_loss": chosen["nme"] / full["nme"] - 1}
    saved |= {f"ms_saved_b{b}": 1 - chosen[f"ms_b{b}"] / full[f"ms_b{b}"] for b in BATCHES}
    return ExitPolicy(
        tuple(float(v) for v in exit_below), fail, len(exit_below) + 1, task.scheme.name,
        {"split": options.split, "faces": len(set(records.ids)), "copies": options.copies, "max_loss": options.max_loss,
         "failed_above": options.failed_above, **points, **saved}, task.ranks,
    )  # fmt: skip


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m musica.choose_exit", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="checkpoint of `fit`")
    parser.add_argument("--config", type=Path, required=True, help="recipe that names the data and its crop")
    parser.add_argument("--root", default=None, help="folder of the data")
    parser.add_argument("--against", type=Path, default=None,
                        help="checkpoint whose full cascade the loss and the savings are counted from, when CHECKPOINT "
                             "is its smaller version (`musica.compress`); default CHECKPOINT itself")  # fmt: skip
    parser.add_argument("--split", default="val", help="split to choose on; never test")
    parser.add_argument("--max_loss", type=float, default=0.01, help="largest relative loss of NME (0.01: 1 percent)")
    parser.add_argument("--copies", type=int, default=8,
                        help="augmented copies of each face, with small changes of the crop; thresholds tuned on few "
                             "faces overfit")  # fmt: skip
    parser.add_argument("--copy_share", type=float, default=0.25,
                        help="strength of the copies' augmentation as a share of the training crop's")  # fmt: skip
    parser.add_argument("--levels", type=int, default=None,
                        help="thresholds tried an iteration; default 41, with five iterations 21")  # fmt: skip
    parser.add_argument("--failed_above", type=float, default=8.0, help="NME in percent of a failed face")
    parser.add_argument("--timed", type=int, default=8, help="points of the curve that are timed")
    parser.add_argument("--repeats", type=int, default=3, help="passes of the timing")
    parser.add_argument("--out", type=Path, default=None, help="policy file; default beside the checkpoints")
    options = parser.parse_args(arguments)
    if options.out is None:
        options.out = options.checkpoint.parent.parent / "policy.json"
    return options


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    options = parse(arguments)
    if options.split == "test":
        raise LabError("--split test: thresholds must not be chosen on the faces that report the result; use val")
    for name, interval in (("copies", "[0, 1000]"), ("copy_share", "[0, 1]"), ("max_loss", "[0, inf)"),
                           ("failed_above", "(0, 1000]"), ("timed", "[0, inf)"), ("repeats", "[1, inf)")):  # fmt: skip
        check_range(f"--{name}", getattr(options, name), interval)
    policy = build(options)
    on = policy.chosen_on
    print(f"{options.out}: leave below {', '.join(f'{v:.4f}' for v in policy.exit_below)}, flag above "
          f"{policy.fail_above:.4f}; on {on['faces']} faces of {on['split']} with {on['copies']} "
          f"copies each: NME {on['full']['nme']:.3f} -> "
          f"{on['chosen']['nme']:.3f} %, multiply-adds {-100 * on['macs_saved']:+.1f} %, ms "
          + ", ".join(f"{-100 * on[f'ms_saved_b{b}']:+.1f} % (batch {b})" for b in BATCHES))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
