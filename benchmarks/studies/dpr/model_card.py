"""Embed trained weights of one run as a small file in dpr/weights, with the card that describes it.

python -m benchmarks.studies.dpr.model_card runs/dpr/crops/helen_local/checkpoints/best.ckpt [--root FOLDER] [--test]

What is better on the validation split, GSR or GLSR, is written and marked as the default of `python -m common.predict`;
a GLSR file holds GSR, whose landmarks are the first step of its answers. The test split is looked at with --test only,
once, after all choices.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.measure.timing import count_parameters
from benchmarks.provenance import ROOT
from benchmarks.readme import table
from benchmarks.studies.dpr.ablation import stage_errors
from common.data.crops import CropConfig
from common.errors import LabError, command
from common.evaluation import evaluate, load_data, read_config
from common.files.checkpoints import load_weights, read_checkpoint, save_safetensors, start_files
from common.metrics.functional import failure_rate
from common.metrics.stats import bootstrap_interval
from common.packing import Description
from common.task import load_task, make_task
from dpr.module import DprTask

Part = dict[str, Any]  # of the card's content or of a run's configuration
FOLDER = ROOT / "dpr" / "weights"
LOCAL = ("net.local_", "local_loss.")  # entries that GSR does not have
LARGEST = 10_000_000  # bytes of an embedded file
THRESHOLD = 8.0  # percent, of the failure rate
TERMS = {
    "crops": "Photographs and 68-point annotation of 300 Faces in-the-Wild (parts of HELEN and AFW), which are for "
    "research only, not for commercial use. The weights were made from them: use them under the same terms.",
    "synthetic": "Drawn faces of this project; no photographs.",
}
OTHER_TERMS = "Data set {name}; its terms hold for the weights too."


def gsr_of(task: DprTask) -> DprTask:
    """Return the global stage alone of a network with both, or the network itself."""
    if not task.with_local:
        return task
    small = make_task(DprTask, {**task.settings(), "stage": "gsr", "local_from": 0}, "the global stage")
    state: dict[str, Tensor] = {key: value for key, value in task.state_dict().items() if not key.startswith(LOCAL)}
    load_weights(small, state, "the global stage")
    return small.eval()


def write_weights(task: DprTask, crop: CropConfig, target: Path, extra: Mapping[str, str]) -> int:
    """Write a task as a file that `common.predict` reads; return its bytes.

    Raises:
        LabError: the file is larger than what is embedded.
    """
    size = sum(value.numel() * value.element_size() for value in task.state_dict().values())
    if size > LARGEST:
        raise LabError(f"{target}: {size / 1e6:.1f} MB of weights, embedded files stay under {LARGEST / 1e6:.0f} MB")
    metadata = Description(task.METHOD, task.settings(), crop).metadata() | dict(extra)
    save_safetensors(task.state_dict(), target, metadata, overwrite=True)
    return target.stat().st_size


def score(errors: np.ndarray) -> Part:
    """Return mean, 95 % interval and failure rate of faces' NMEs (N,) in percent."""
    low, high = bootstrap_interval(errors)
    return {"nme": float(errors.mean()), "interval": [low, high], "fr8": failure_rate(errors, THRESHOLD),
            "faces": len(errors)}  # fmt: skip


def terms_of(contents: Sequence[Part]) -> str:
    """Return under which terms weights may be used that configurations, one after the other, have trained."""
    names = list(dict.fromkeys(str(content["data"]["dataset"]) for content in contents))
    bound = [name for name in names if name != "synthetic"] or names
    return " ".join(TERMS.get(name, OTHER_TERMS.format(name=name)) for name in bound)


def _named(path: Path | str) -> str:
    """Return a path as a document may show it: of an absolute one the file's name only."""
    path = Path(path)
    return path.name if path.is_absolute() else path.as_posix()


def _start(path: str) -> str:
    """Return the name of a file to start from, with the epoch after which it was written, where it is kept."""
    epoch = read_checkpoint(path).get("epoch") if Path(path).is_file() else None
    return _named(path) + ("" if epoch is None else f" (after epoch {int(epoch) + 1})")


def _recipe_lines(content: Part) -> list[str]:
    """Return the settings of a run's configuration that say how it was trained."""
    trainer, model, data = content.get("trainer", {}), content.get("model", {}), content["data"]
    rows = {
        "data": f"{data['dataset']}, scheme {data.get('scheme')}, batches of {data.get('batch_size')}, "
        f"crop {json.dumps({k: v for k, v in (data.get('crop') or {}).items() if v})}",
        "started from": ", what it lacks from ".join(map(_start, start_files(content.get("init_from"))))
        or "random weights",
        "seed": content.get("seed_everything"),
        "epochs": trainer.get("max_epochs"),
        "gradient clip": trainer.get("gradient_clip_val"),
        "model": json.dumps({key: value for key, value in model.items() if value is not None}),
    }
    return [f"- {name}: {value}" for name, value in rows.items()]


def ancestors(config: Path) -> list[Part]:
    """Return the configurations of the runs that a run got its weights from, nearest first, as far as they are kept."""
    seen = [config.resolve()]
    for path in seen:  # which grows
        for start in start_files(read_config(path).get("init_from")):
            before = Path(start).resolve().parents[1] / "config.yaml"
            if before not in seen and before.is_file():
                seen.append(before)
    return [read_config(path) for path in seen[1:]]


def card(files: Sequence[Part], contents: Sequence[Part], epoch: int, typed: str) -> str:
    """Return the model card.

    Args:
        files: for each stage the file's name and bytes, the stage's name, parameters and scores by split.
        contents: configuration of the run, then those of `ancestors`.
        epoch: of the checkpoint, counted from 1.
        typed: the command that wrote the card.
    """
    content, *earlier = contents
    lines = [
        "# Embedded weights of DPR", "",
        f"Written by `{typed}`, but for the section on confidence; not to be edited. "
        f"Landmarks: {content['data'].get('scheme')}. Input: an RGB "
        "photograph and a rough face box.", "",
        f"`{files[0]['name']}`, {files[0]['bytes'] / 1e6:.1f} MB, is the default of `python -m common.predict`.", "",
    ]  # fmt: skip
    rows = []
    for file in files:
        for split, found in file["scores"].items():
            low, high = found["interval"]
            rows.append([file["stage"], f"{file['parameters']:,}", split, found["faces"], f"{found['nme']:.2f}",
                         f"[{low:.2f}, {high:.2f}]", f"{found['fr8']:.1f}"])  # fmt: skip
    head = ["stage", "parameters", "split", "faces", "NME, percent", "95 % interval", "faces over 8 %, percent"]
    lines.append(table(head, rows))
    if all("test" not in file["scores"] for file in files):
        lines += ["", "The test split was not scored for this card."]
    lines += [
        "", "NME: mean distance over the distance of the outer eye corners. Checkpoint and stage were chosen by the "
        "validation split.", "", "## Data and terms", "", terms_of(contents),
        "", "## Recipe", "", f"Checkpoint after epoch {epoch} of:", "", *_recipe_lines(content), "",
        *[line for before in earlier for line in ("Before it:", "", *_recipe_lines(before), "")],
        "## What they are not", "", "- Not the weights of the paper; the recipe, data and sizes of the crops differ.",
        "- Nobody measured how their error differs between groups of people. Do not use them to decide about people.",
        "- Boxes must hold the face roughly.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def export(options: argparse.Namespace) -> str:
    """Score, write the weights and the card; return the card.

    Raises:
        LabError: the checkpoint or its configuration cannot be used, or the weights are too large.
    """
    config = options.config or options.checkpoint.resolve().parents[1] / "config.yaml"
    contents, task = [read_config(config), *ancestors(config)], load_task(DprTask, options.checkpoint)
    data = load_data(config, options.root)
    tasks = {"gsr": gsr_of(task)}
    splits = ("val", "test") if options.test else ("val",)
    errors = {split: stage_errors(evaluate(task, data, split)) for split in splits}
    if "glsr" in errors["val"]:
        tasks["glsr"] = task
    best = min(tasks, key=lambda name: errors["val"][name].mean())
    options.out.mkdir(parents=True, exist_ok=True)
    epoch = int(read_checkpoint(options.checkpoint).get("epoch", 0)) + 1
    scores = {name: {split: score(errors[split][name]) for split in splits} for name in tasks}
    target = options.out / f"{options.name}_{best}.safetensors"
    extra = {"terms": terms_of(contents), "scores": json.dumps(scores[best])}
    size = write_weights(tasks[best], data.crop, target, extra)
    # In a GLSR file both stages are found; a GSR file that is better holds no local stage to report.
    files = [
        {"name": target.name, "stage": name.upper(), "bytes": size, "scores": scores[name],
         "parameters": count_parameters(tasks[name].net)}
        for name in tasks if name == best or best == "glsr"
    ]  # fmt: skip
    typed = f"python -m benchmarks.studies.dpr.model_card {_named(options.checkpoint)}" + (
        " --test" if options.test else ""
    )
    text = card(files, contents, epoch, typed)
    (options.out / "README.md").write_text(text, encoding="utf-8")
    return text


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.dpr.model_card", description="Embed trained weights with a card."
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint of `fit`")
    parser.add_argument("--config", type=Path, help="config.yaml of the run; default: beside its checkpoints")
    parser.add_argument("--root", help="folder of the data; default: the run's")
    parser.add_argument("--name", default="helen", help="first part of the files' names")
    parser.add_argument("--test", action="store_true", help="score the test split too")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(arguments)
    text = export(options)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
