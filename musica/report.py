"""All figures of the README, from checkpoints and a policy: test faces are looked at here, once, and nowhere else.

python -m musica.report CKPT --config musica/helen.yaml --root FOLDER --policy POLICY [--official CKPT] [--write]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats as scipy_stats

from common.data.crops import Collate, CropConfig, CroppedFaces
from common.data.synthetic import SyntheticFaces
from common.documents import fill
from common.errors import LabError, command
from common.metrics.functional import failure_rate
from common.metrics.stats import bootstrap_interval
from common.plotting import write_image
from common.task import load_task
from common.types import FaceBatch
from musica import speed
from musica.attention import attention_pictures, region_table
from musica.evaluation import Records, batches, collect, load_data
from musica.exit_policy import BATCHES, EVAL_BATCH, measure
from musica.exit_sweep import best_saving, exit_iteration
from musica.module import MusicaTask
from musica.network import CascadeNet
from musica.policy import ExitPolicy, read_policy
from musica.report_text import BEGIN, END, render, write_risk_curve
from musica.shrink import hidden_answers, parameters, shrink, store_as_integers, weight_bytes

README = Path(__file__).with_name("README.md")
FIGURES = Path(__file__).with_name("figures")
COVERAGES = (100, 90, 80, 70, 50)  # percent of the faces that are kept, surest first
THRESHOLD = 8.0  # percent, of the failure rate
DRAWN_FACES = 3
SPEED_REPEATS = 30  # passes of the speed table for each of the other timings' passes


def iterations_part(records: Records) -> list[dict[str, Any]]:
    """Return NME with its interval and failure rate after each iteration, when all faces run all of them."""
    rows = []
    for column in records.nme.T:
        low, high = bootstrap_interval(column)
        rate = failure_rate(column, THRESHOLD)
        rows.append({"nme": float(column.mean()), "interval": [low, high], "fr8": rate})
    return rows


def exit_part(
    task: MusicaTask, records: Records, policy: ExitPolicy, faces: list[FaceBatch], repeats: int
) -> dict[str, Any]:
    """Return what the policy gives on these faces: NME, cost, measured time, and how well failures are flagged."""
    out = exit_iteration(records.predicted, np.array(policy.exit_below))
    rows = np.arange(len(out))
    given, full = records.nme[rows, out], records.nme[:, -1]
    images = torch.cat([batch.image for batch in faces])
    times = measure(task, images, [None, policy.exit_below], repeats)
    low, high = bootstrap_interval(given - full)
    flagged, bad = ~(records.predicted[rows, out] <= policy.fail_above), given > THRESHOLD
    counts = np.bincount(out, minlength=records.nme.shape[1])
    net = task.evaluated()
    costs = [net.macs(t + 1) for t in range(len(counts))]
    return {
        "nme": float(given.mean()), "full_nme": float(full.mean()), "loss": float(given.mean() / full.mean() - 1),
        "difference_interval": [low, high], "share_leaving": (counts / len(out)).tolist(),
        "macs_saved": 1 - float(np.array(costs)[out].mean()) / costs[-1],
        "ms": {str(b): {"full": times[b][0], "policy": times[b][1], "saved": 1 - times[b][1] / times[b][0]}
               for b in BATCHES},
        "max_loss": policy.chosen_on["max_loss"],
        "best_saving": best_saving(records.nme, policy.chosen_on["max_loss"], costs),
        "failures": {"bad": int(bad.sum()), "flagged": int(flagged.sum()), "both": int((bad & flagged).sum())},
    }  # fmt: skip


def confidence_part(records: Records) -> dict[str, Any]:
    """Return correlations of predicted and true error, and NME of the surest faces at several coverages."""
    result: dict[str, Any] = {"iterations": []}
    for t in range(records.nme.shape[1]):
        true, predicted = records.true[:, t], records.predicted[:, t]
        result["iterations"].append({
            "pearson": float(scipy_stats.pearsonr(true, predicted).statistic),
            "spearman": float(scipy_stats.spearmanr(true, predicted).statistic),
            "mean_true": float(true.mean()), "mean_predicted": float(predicted.mean()),
        })  # fmt: skip
    nme, order = records.nme[:, -1], np.argsort(records.predicted[:, -1], kind="stable")
    kept = {c: max(1, round(len(nme) * c / 100)) for c in COVERAGES}
    result["coverage"] = [
        {"coverage": c, "nme": float(nme[order][:n].mean()), "oracle": float(np.sort(nme)[:n].mean())}
        for c, n in kept.items()
    ]
    counts = np.arange(1, len(nme) + 1)
    result["aurc"] = float((np.cumsum(nme[order]) / counts).mean())
    result["aurc_oracle"] = float((np.cumsum(np.sort(nme)) / counts).mean())
    return result


def sampling_part(checkpoints: dict[str, Path], config: Path, root: str | None, split: str) -> list[dict[str, Any]]:
    """Return NME per iteration of weights that were trained with either sampling, run with either."""
    rows = []
    for name, checkpoint in checkpoints.items():
        for used in ("bilinear", "official"):
            task = load_task(MusicaTask, checkpoint, sampling=used)
            faces = list(batches(load_data(config, root, task), split, EVAL_BATCH))
            records = collect(task, faces)
            rows.append({"trained": name, "run": used, "nme": records.nme.mean(0).tolist()})
    return rows


def _smaller(ranks: Sequence[int], bits: Sequence[int]) -> list[tuple[int, int]]:
    """Return (rank, bits) of each smaller hidden layer; 0 stands for what is left as it is."""
    return [*((rank, 0) for rank in ranks), *((0, kept) for kept in bits)]


def small_part(
    task: MusicaTask, config: Path, root: str | None, split: str, ranks: Sequence[int], bits: Sequence[int]
) -> list[dict[str, Any]]:
    """Return size and NME with whole hidden layers, low-rank ones (made from training faces), and integers."""
    data = load_data(config, root, task)
    faces = list(batches(data, split, EVAL_BATCH))
    answers = hidden_answers(task.evaluated(), batches(data, "train", EVAL_BATCH)) if ranks else []
    rows: list[dict[str, Any]] = []
    for rank, kept in ((0, 0), *_smaller(ranks, bits)):
        used = shrink(task, answers, rank) if rank else store_as_integers(task, kept) if kept else task
        net, found = used.evaluated(), collect(used, faces).nme[:, -1]
        rows.append({"rank": rank, "bits": kept, "nme": float(found.mean()), "parameters": parameters(net),
                     "mbytes": weight_bytes(net) / 1e6, "macs": net.macs(len(net.level_of))})  # fmt: skip
    return rows


def speed_part(ranks: Sequence[int], bits: Sequence[int], repeats: int) -> list[dict[str, float]]:
    """Return size and milliseconds of the released network, whole and with smaller hidden layers; random weights."""
    whole = speed.build(98, "every_second")
    rows = [{"rank": 0, "bits": 0, **speed.measure(whole, whole, repeats)}]
    for rank, kept in _smaller(ranks, bits):
        net = speed.build(98, "every_second", rank=rank, bits=kept)
        rows.append({"rank": rank, "bits": kept, **speed.measure(net, whole, repeats)})
    return rows


def attention_part(
    net: CascadeNet, task: MusicaTask, faces: list[FaceBatch], figures: Path, folder: Path
) -> dict[str, Any]:
    """Return the table of regions; draw the patches of drawn faces for the README, of photographs for the run."""
    drawn = CroppedFaces(SyntheticFaces(DRAWN_FACES, task.scheme.name, seed=3), CropConfig(task.input_size, 1.6))
    batch = Collate()([drawn[i] for i in range(DRAWN_FACES)])
    write_image(figures / "attention.png", attention_pictures(net, task.scheme, batch.image)[::2, ::2])
    write_image(folder / "attention.png", attention_pictures(net, task.scheme, faces[0].image[:6]))
    return {"regions": region_table(net, task.scheme, faces)}


def build(options: argparse.Namespace) -> dict[str, Any]:
    """Return all parts, for writing as JSON."""
    task = load_task(MusicaTask, options.checkpoint)
    net = task.evaluated()
    policy = read_policy(options.policy, len(net.level_of), task.scheme.name)
    if not options.policy.with_suffix(".png").is_file():
        raise LabError(f"{options.policy.with_suffix('.png')}: the policy's curve is missing; make the policy again")
    faces = list(batches(load_data(options.config, options.root, task), options.split, EVAL_BATCH))
    records = collect(task, faces)
    checkpoints = {str(task.hparams["sampling"]): options.checkpoint}
    if options.official is not None:
        checkpoints = {"bilinear": options.bilinear or options.checkpoint, "official": options.official}
    # A trial run leaves the README's pictures alone, as it does its text.
    figures = FIGURES if options.write else options.out.parent / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(options.policy.with_suffix(".png"), figures / "exit.png")
    write_risk_curve(figures / "risk.png", records.nme[:, -1], records.predicted[:, -1])
    return {
        "faces": len(records.ids), "split": options.split, "points": net.num_points,
        "patches": [stage.num_patches for stage in net.stage_list], "parameters": parameters(net),
        "macs": net.macs(len(net.level_of)), "costs": [net.macs(t + 1) for t in range(len(net.level_of))],
        "iterations": iterations_part(records), "exit": exit_part(task, records, policy, faces, options.repeats),
        "chosen_on": policy.chosen_on, "confidence": confidence_part(records),
        "sampling": sampling_part(checkpoints, options.config, options.root, options.sampling_split),
        "sampling_split": options.sampling_split,
        "small": small_part(task, options.config, options.root, options.sampling_split, options.ranks,
                            options.bits),
        "speed": speed_part(options.ranks, options.bits, SPEED_REPEATS * options.repeats),
        "threads": torch.get_num_threads(),
        "attention": attention_part(net, task, faces, figures, options.out.parent),
    }  # fmt: skip


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m musica.report", description=str(__doc__).splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--config", type=Path, required=True, help="recipe that names the data")
    parser.add_argument("--root", default=None, help="folder of the data")
    parser.add_argument("--policy", type=Path, required=True, help="file of `python -m musica.exit_policy`")
    parser.add_argument("--official", type=Path, default=None, help="checkpoint trained with official sampling")
    parser.add_argument("--bilinear", type=Path, default=None, help="its bilinear counterpart of the same schedule")
    parser.add_argument("--split", default="test")
    parser.add_argument("--sampling_split", default="val", help="split of the comparison of samplings")
    parser.add_argument("--repeats", type=int, default=3, help="passes of the timing")
    parser.add_argument("--ranks", type=int, nargs="*", default=[], help="low-rank hidden layers to compare")
    parser.add_argument("--bits", type=int, nargs="*", default=[], help="integers of so many bits to compare")
    parser.add_argument("--threads", type=int, default=2, help="of all measurements")
    parser.add_argument("--out", type=Path, default=Path("runs/musica/report.json"))
    parser.add_argument("--write", action="store_true", help="fill the README's section")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = build(options)
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    text = render(content)
    if options.write:
        fill(README, BEGIN, END, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
