"""Figures of docs/studies/musica.md, from checkpoints and a policy; looks at test faces, once, as nothing else does.

python -m benchmarks.studies.musica.report CKPT --config musica/helen.yaml --root FOLDER --policy POLICY
    [--official CKPT] [--write]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats as scipy_stats

from benchmarks.provenance import ROOT
from benchmarks.readme import fill
from benchmarks.studies.musica import speed
from benchmarks.studies.musica.attention import attention_pictures, region_table
from benchmarks.studies.musica.readme import BEGIN, END, Part, render, write_risk_curve
from common.data.batching import Collate, CroppedFaces
from common.data.crops import CropConfig
from common.data.synthetic import SyntheticFaces
from common.errors import LabError, command
from common.evaluation import batches, load_data
from common.files.images import write_image
from common.metrics.functional import failure_rate
from common.metrics.stats import bootstrap_interval
from common.task import load_task
from common.types import FaceBatch
from musica.choose_exit import BATCHES, EVAL_BATCH, measure
from musica.compress import layer_outputs, parameters, shrink, weight_bytes
from musica.exit import ExitPolicy, best_saving, exit_iteration, read_policy
from musica.exit.records import Records, collect
from musica.module import MusicaTask
from musica.network import CascadeNet

PAGE = ROOT / "docs" / "studies" / "musica.md"
FIGURES = ROOT / "docs" / "pictures" / "musica"
COVERAGES = (100, 90, 80, 70, 50)  # percent of the faces that are kept, surest first
THRESHOLD = 8.0  # percent, of the failure rate
DRAWN_FACES = 3
SPEED_REPEATS = 30  # passes of the speed table for each of the other timings' passes


def iterations_part(records: Records) -> list[Part]:
    """Return NME with its interval and failure rate after each iteration, when all faces run all of them."""
    rows = []
    for column in records.nme.T:
        low, high = bootstrap_interval(column)
        rate = failure_rate(column, THRESHOLD)
        rows.append({"nme": float(column.mean()), "interval": [low, high], "fr8": rate})
    return rows


class Runner(NamedTuple):
    """A network, its results with all iterations, and the policy that was chosen for it."""

    task: MusicaTask
    records: Records
    policy: ExitPolicy

    @property
    def costs(self) -> np.ndarray:
        """Multiply-adds (T,) of a face that leaves after each iteration."""
        net = self.task.net
        return np.array([net.macs(t + 1) for t in range(len(net.level_of))])

    def leaving(self) -> np.ndarray:
        """Return the index (n,) of the iteration after which the policy lets each face leave."""
        return exit_iteration(self.records.predicted, np.array(self.policy.exit_below))

    def results(self, with_exit: bool) -> tuple[np.ndarray, float]:
        """Return each face's NME (n,) and the mean multiply-adds, with the policy or with all iterations."""
        nme = self.records.nme
        out = self.leaving() if with_exit else np.full(len(nme), nme.shape[1] - 1)
        return nme[np.arange(len(nme)), out], float(self.costs[out].mean())


def runners(options: argparse.Namespace, faces: list[FaceBatch]) -> list[Runner]:
    """Return the network, and its smaller version where one is given, with their policies and results."""
    result = []
    for checkpoint, path in ((options.checkpoint, options.policy), (options.small, options.small_policy)):
        if checkpoint is None:
            continue
        task = load_task(MusicaTask, checkpoint)
        policy = read_policy(path, len(task.net.level_of), task.scheme.name, task.ranks)
        result.append(Runner(task, collect(task, faces), policy))
    return result


def ways_part(found: list[Runner], faces: list[FaceBatch], repeats: int) -> list[Part]:
    """Return NME, cost and time of every network with all iterations and with its policy; the first is the full one."""
    images = torch.cat([batch.image for batch in faces])
    rules = [(one, with_exit) for one in found for with_exit in (False, True)]
    runs = [(one.task, one.policy.exit_below if with_exit else None) for one, with_exit in rules]
    times, (full, _) = measure(runs, images, repeats), found[0].results(with_exit=False)
    rows = []
    for index, (one, with_exit) in enumerate(rules):
        given, macs = one.results(with_exit)
        rows.append({
            **dict(zip(("rank", "attention_rank"), one.task.ranks, strict=True)), "exit": with_exit,
            "max_loss": one.policy.chosen_on["max_loss"], "nme": float(given.mean()), "macs": macs,
            "difference_interval": list(bootstrap_interval(given - full)),
            "ms": {str(batch): times[batch][index] for batch in BATCHES},
        })  # fmt: skip
    return rows


def exit_part(found: list[Runner], faces: list[FaceBatch], repeats: int) -> Part:
    """Return what the policies give on these faces: NME, cost, measured time, and how well failures are flagged."""
    one = found[0]
    given, records, costs = one.results(with_exit=True)[0], one.records, one.costs
    rows, out = np.arange(len(given)), one.leaving()
    flagged, bad = ~(records.predicted[rows, out] <= one.policy.fail_above), given > THRESHOLD
    leave = [np.bincount(each.leaving(), minlength=len(each.costs)) / len(rows) for each in found]
    limit = one.policy.chosen_on["max_loss"]
    return {
        "ways": ways_part(found, faces, repeats), "share_leaving": [share.tolist() for share in leave],
        "chosen_on": [each.policy.chosen_on for each in found],
        "max_loss": limit, "best_saving": best_saving(records.nme, limit, costs.tolist()),
        "failures": {"bad": int(bad.sum()), "flagged": int(flagged.sum()), "both": int((bad & flagged).sum())},
    }  # fmt: skip


def confidence_part(records: Records) -> Part:
    """Return correlations of predicted and true error, and NME of the surest faces at several coverages."""
    result: Part = {"iterations": []}
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


def sampling_part(checkpoints: dict[str, Path], config: Path, root: str | None, split: str) -> list[Part]:
    """Return NME per iteration of weights that were trained with either sampling, run with either."""
    rows = []
    for name, checkpoint in checkpoints.items():
        for used in ("bilinear", "official"):
            task = load_task(MusicaTask, checkpoint, sampling=used)
            faces = list(batches(load_data(config, root, task), split, EVAL_BATCH))
            records = collect(task, faces)
            rows.append({"trained": name, "run": used, "nme": records.nme.mean(0).tolist()})
    return rows


def small_part(
    task: MusicaTask,
    config: Path,
    root: str | None,
    split: str,
    ranks: Sequence[int],
    given: MusicaTask | None = None,
) -> list[Part]:
    """Return size and NME with whole layers, low-rank hidden ones (from training faces), and as `given`."""
    data = load_data(config, root, task)
    faces = list(batches(data, split, EVAL_BATCH))
    outputs = layer_outputs(task.net, batches(data.cropped("train"), size=EVAL_BATCH)) if ranks else []
    used = [task, *(shrink(task, outputs, rank) for rank in ranks)]
    rows: list[Part] = []
    for one in used if given is None else [*used, given]:
        net, kind = one.net, dict(zip(("rank", "attention_rank"), one.ranks, strict=True))
        rows.append({**kind, "nme": float(collect(one, faces).nme[:, -1].mean()),
                     "parameters": parameters(net), "mbytes": weight_bytes(net) / 1e6,
                     "macs": net.macs(len(net.level_of))})  # fmt: skip
    return rows


def speed_part(ranks: Sequence[int], repeats: int) -> list[dict[str, float]]:
    """Return size and milliseconds of the official network, whole and with smaller hidden layers; random weights."""
    whole = speed.build(98, "every_second")
    rows = [{"rank": 0, **speed.measure(whole, whole, repeats)}]
    for rank in ranks:
        rows.append({"rank": rank, **speed.measure(speed.build(98, "every_second", rank=rank), whole, repeats)})
    return rows


def attention_part(net: CascadeNet, task: MusicaTask, faces: list[FaceBatch], figures: Path, folder: Path) -> Part:
    """Return the table of regions; draw the patches of drawn faces for the page, of photographs for the run."""
    drawn = CroppedFaces(SyntheticFaces(DRAWN_FACES, task.scheme.name, seed=3), CropConfig(task.input_size, 1.6))
    batch = Collate()([drawn[i] for i in range(DRAWN_FACES)])
    write_image(figures / "attention.png", attention_pictures(net, task.scheme, batch.image)[::2, ::2])
    write_image(folder / "attention.png", attention_pictures(net, task.scheme, faces[0].image[:6]))
    return {"regions": region_table(net, task.scheme, faces)}


def build(options: argparse.Namespace) -> Part:
    """Return all parts, for writing as JSON."""
    task = load_task(MusicaTask, options.checkpoint)
    curves = {"exit.png": options.policy, "exit_small.png": options.small_policy}
    pictures = {name: path.with_suffix(".png") for name, path in curves.items() if path is not None}
    for path in pictures.values():
        if not path.is_file():
            raise LabError(f"{path}: the policy's curve is missing; make the policy again")
    faces = list(batches(load_data(options.config, options.root, task), options.split, EVAL_BATCH))
    found = runners(options, faces)
    net, records = task.net, found[0].records
    checkpoints = {str(task.net_config.sampling): options.checkpoint}
    if options.official is not None:
        checkpoints = {"bilinear": options.bilinear or options.checkpoint, "official": options.official}
    # A trial run leaves the page's pictures alone, as it does its text.
    figures = FIGURES if options.write else options.out.parent / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for name, path in pictures.items():
        shutil.copyfile(path, figures / name)
    write_risk_curve(figures / "risk.png", records.nme[:, -1], records.predicted[:, -1])
    return {
        "faces": len(records.ids), "split": options.split, "points": net.num_points,
        "patches": [stage.num_patches for stage in net.stage_list], "parameters": parameters(net),
        "macs": net.macs(len(net.level_of)), "costs": [net.macs(t + 1) for t in range(len(net.level_of))],
        "iterations": iterations_part(records), "exit": exit_part(found, faces, options.repeats),
        "confidence": confidence_part(records),
        "sampling": sampling_part(checkpoints, options.config, options.root, options.sampling_split),
        "sampling_split": options.sampling_split,
        "small": small_part(task, options.config, options.root, options.sampling_split, options.ranks,
                            *(one.task for one in found[1:])),
        "speed": speed_part(options.ranks, SPEED_REPEATS * options.repeats),
        "threads": torch.get_num_threads(),
        "attention": attention_part(net, task, faces, figures, options.out.parent),
    }  # fmt: skip


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.musica.report", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--config", type=Path, required=True, help="recipe that names the data")
    parser.add_argument("--root", default=None, help="folder of the data")
    parser.add_argument("--policy", type=Path, required=True, help="file of `python -m musica.choose_exit`")
    parser.add_argument("--small", type=Path, default=None, help="checkpoint of `musica.compress --rank`, made from it")
    parser.add_argument("--small_policy", type=Path, default=None,
                        help="its policy: `python -m musica.choose_exit SMALL --against CHECKPOINT`")  # fmt: skip
    parser.add_argument("--official", type=Path, default=None, help="checkpoint trained with official sampling")
    parser.add_argument("--bilinear", type=Path, default=None, help="its bilinear counterpart of the same schedule")
    parser.add_argument("--split", default="test")
    parser.add_argument("--sampling_split", default="val", help="split of the comparison of samplings")
    parser.add_argument("--repeats", type=int, default=3, help="passes of the timing")
    parser.add_argument("--ranks", type=int, nargs="*", default=[], help="low-rank hidden layers to compare")
    parser.add_argument("--threads", type=int, default=2, help="of all measurements")
    parser.add_argument("--out", type=Path, default=Path("runs/musica/report.json"))
    parser.add_argument("--write", action="store_true", help="fill the section of docs/studies/musica.md")
    options = parser.parse_args(arguments)
    if (options.small is None) != (options.small_policy is None):
        raise LabError("--small and --small_policy belong together: a smaller network and the policy made for it")
    torch.set_num_threads(options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = build(options)
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    text = render(content)
    if options.write:
        fill(PAGE, BEGIN, END, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
