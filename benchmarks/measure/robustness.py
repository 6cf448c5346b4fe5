"""Robustness to perturbed boxes and pictures, calibration of the predicted errors, and jitter.

    python -m benchmarks robustness --config benchmarks/faces.yaml

Every disturbance is drawn from (seed, face, kind), so that all methods see the same ones. Boxes are disturbed before
the crop, pictures after it. One JSON line per method, kind and level goes to robustness.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field

from benchmarks.provenance import ROOT
from benchmarks.readme import table
from benchmarks.record import Robustness, append_record, read_records
from benchmarks.report.markdown import figure
from benchmarks.run.plan import Trial, read_plan, restrict
from benchmarks.run.trial import last_checkpoint, load_trained
from common.data.batching import Collate
from common.data.crops import CropConfig, CroppedFace, crop_box, crop_sample, draw_matrix
from common.errors import LabError, check_range
from common.evaluation import Evaluation, evaluate, evaluate_batches
from common.files.images import decode_image
from common.files.validation import Finite, Strict, read_yaml_as
from common.geometry import invert_affine
from common.methods import METHODS
from common.task import LandmarkTask
from common.types import FaceSample

RECORD = "robustness.jsonl"
LEVELS = ROOT / "benchmarks" / "robustness.yaml"
BOX_KINDS = ("shift", "scale", "rotation")
# Levels that a kind can have.
RANGES = {"shift": "[0, 10]", "scale": "(0, 10]", "rotation": "[0, 180]", "occlusion": "[0, 1]", "blur": "[0, 1]",
          "jpeg": "[0, 100]", "dark": "[0, 1]", "small": "[1, 4096]"}  # fmt: skip
KindName = Literal["shift", "scale", "rotation", "occlusion", "blur", "jpeg", "dark", "small"]
Picture = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


class Levels(Strict):
    """Levels of one kind."""

    unit: str
    levels: Annotated[list[Finite], Field(min_length=2)]


class Flicker(Strict):
    """How many still faces are cropped how often."""

    faces: Annotated[int, Field(ge=1)]
    crops: Annotated[int, Field(ge=2)]


class Settings(Strict):
    """What is examined; the file that --levels names."""

    seed: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=1)]
    kinds: dict[KindName, Levels]
    flicker: Flicker


def read_settings(path: Path) -> Settings:
    """Return the content of a file of kinds and levels.

    Raises:
        LabError: it is missing or no YAML, or a value is out of its range.
    """
    found = read_yaml_as(Settings, path)
    for kind, entry in found.kinds.items():
        check_range(f"{path}: kinds.{kind}.levels", entry.levels, RANGES[kind])
        if min(entry.levels) == max(entry.levels):
            raise LabError(f"{path}: kinds.{kind}.levels are all the same; give at least two")
    return found


def stream(seed: int, index: int, kind: str) -> np.random.Generator:
    """Return the generator of one face and kind, the same for every method and level."""
    return np.random.default_rng([seed, index, *kind.encode()])


def occlude(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Cover a rectangle of `level` of the crop's area with noise about a random colour."""
    side = image.shape[0]
    aspect = rng.uniform(0.6, 1.6)
    width, height = (min(side, int(round(side * np.sqrt(level * k)))) for k in (aspect, 1 / aspect))
    left, top = int(rng.uniform(0, side - width + 1)), int(rng.uniform(0, side - height + 1))
    patch = rng.uniform(0, 255, 3) + rng.normal(0, 20, (height, width, 3))
    result = image.copy()
    result[top : top + height, left : left + width] = np.clip(patch, 0, 255).astype(np.uint8)
    return result


def blur(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian whose standard deviation is `level` of the crop's side."""
    return image if level <= 0 else cv2.GaussianBlur(image, (0, 0), level * image.shape[0])


def jpeg(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Compress to JPEG of quality `level`."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, int(level)])
    return decode_image(data, "compressed crop")


def dark(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Leave `level` of the light, with the shot noise of a sensor that counts 255 * 4 * level photons at white."""
    photons = rng.poisson(image.astype(np.float64) * level * 4) / 4
    return np.clip(photons, 0, 255).astype(np.uint8)


def small(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink the crop to `level` pixels a side and enlarge it again."""
    side = image.shape[0]
    reduced = cv2.resize(image, (int(level), int(level)), interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (side, side), interpolation=cv2.INTER_LINEAR)


PICTURE_KINDS: dict[str, Picture] = {"occlusion": occlude, "blur": blur, "jpeg": jpeg, "dark": dark, "small": small}


def disturb_box(sample: FaceSample, kind: str, level: float, rng: np.random.Generator) -> FaceSample:
    """Move the box by `level` of its longer side in a random direction, or scale its sides by `level`."""
    x0, y0, x1, y1 = sample.box.astype(np.float64)
    center, half = np.array([(x0 + x1) / 2, (y0 + y1) / 2]), np.array([x1 - x0, y1 - y0]) / 2
    angle = rng.uniform(0, 2 * np.pi)
    if kind == "shift":
        center = center + level * 2 * half.max() * np.array([np.cos(angle), np.sin(angle)])
    else:
        half = half * level
    return replace(sample, box=np.concatenate([center - half, center + half]).astype(np.float32))


class _Fixed:
    """Stands in for a generator where one crop parameter is given and none is drawn."""

    def __init__(self, turn: float) -> None:
        self.turn = turn

    def random(self, count: int) -> np.ndarray:
        """Return the draws (turn, scale, shift x, shift y, flip) that mean this turn and nothing else."""
        return np.array([(self.turn + 1) / 2, 0.5, 0.5, 0.5, 1.0])[:count]


def disturbed(sample: FaceSample, task: LandmarkTask, config: CropConfig, subsets: tuple[str, ...], kind: str,
              level: float, rng: np.random.Generator) -> CroppedFace:  # fmt: skip
    """Return a test face under one disturbance."""
    if kind == "rotation":
        sign = 1.0 if rng.uniform() < 0.5 else -1.0
        turned = replace(config, rotation=level)
        return crop_sample(sample, task.scheme, turned, subsets, _Fixed(sign))  # type: ignore[arg-type]
    if kind in BOX_KINDS:
        return crop_sample(disturb_box(sample, kind, level, rng), task.scheme, config, subsets)
    face = crop_sample(sample, task.scheme, config, subsets)
    face.image = PICTURE_KINDS[kind](face.image, level, rng)
    return face


def errors(task: LandmarkTask, faces: Sequence[CroppedFace], subsets: tuple[str, ...], size: int) -> Evaluation:
    """Return what the method predicts for faces, `size` at once."""
    collate = Collate(subsets)
    chunks = (faces[start : start + size] for start in range(0, len(faces), size))
    return evaluate_batches(task, map(collate, chunks))


def risk_coverage(nmes: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    """Return the mean NME of the surest faces against their share, and the area under it.

    Args:
        nmes: (N,) percent.
        score: (N,) larger is surer.
    """
    ordered = nmes[np.argsort(-score, kind="stable")]
    risk = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    coverage = np.arange(1, len(ordered) + 1) / len(ordered)
    shown = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), 50)).astype(int))
    return {"coverage": coverage[shown].tolist(), "nme": risk[shown].tolist(), "aurc": float(risk.mean())}


def curve_area(levels: list[float], values: list[float]) -> float:
    """Return the mean height of a curve by the trapezoid rule, in the unit of its values."""
    order = np.argsort(levels)
    x, y = np.asarray(levels, float)[order], np.asarray(values, float)[order]
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def flicker(task: LandmarkTask, samples: list[FaceSample], config: CropConfig, subsets: tuple[str, ...],
            crops: int, batch_size: int, seed: int) -> np.ndarray:  # fmt: skip
    """Return for each still face how far its points jitter when the crop moves by parts of a pixel (N,).

    The standard deviation of a point about its mean over the crops, both axes together, averaged over the points, in
    percent of the inter-ocular distance. The moves are uniform in +- half a crop pixel, each axis.
    """
    found = []
    for index, sample in enumerate(samples):
        rng = stream(seed, index, "flicker")
        matrix = draw_matrix(sample.box, config, None)[0]
        pixel = np.linalg.norm(invert_affine(matrix)[:, :2], axis=0).mean()  # image pixels a crop pixel covers
        faces = []
        for _ in range(crops):
            move = np.tile(rng.uniform(-0.5, 0.5, 2) * pixel, 2).astype(np.float32)
            faces.append(crop_sample(replace(sample, box=sample.box + move), task.scheme, config, subsets))
        result = errors(task, faces, subsets, batch_size)
        spread = np.sqrt(result.points[..., :2].var(axis=0).sum(-1))[result.weight[0] > 0].mean()
        found.append(100 * spread / faces[0].norm)
    return np.array(found)


def is_done(folder: Path, trial: Trial, count: int | None) -> bool:
    """Return whether the trial's present weights were examined on as many faces; by its last record."""
    last = [r for r in read_records(folder / RECORD, Robustness) if r.trial == f"{trial.name}/flicker"]
    return bool(last) and last[0].weights == weights_time(folder, trial) and last[0].asked == count


def weights_time(folder: Path, trial: Trial) -> int:
    """Return when the trial's weights were written, in seconds."""
    return int(last_checkpoint(folder, trial).stat().st_mtime)


def examine(folder: Path, trial: Trial, settings: Settings, count: int | None) -> list[Robustness]:
    """Return all records of a trained trial."""
    tested = load_trained(folder, trial)
    task, cropped = tested.task, tested.data.cropped("test")
    faces, config = cropped.faces, cropped.config
    # A box that is moved must be the one that is cropped, also where it has grown to hold the landmarks.
    found = (faces[k] for k in range(min(len(faces), count or len(faces))))
    samples = [replace(sample, box=crop_box(sample, config)) for sample in found]
    config = replace(config, fit=False)
    size, seed = settings.batch_size, settings.seed
    base = partial(Robustness, method=trial.method, title=METHODS[trial.method].title, dataset=trial.dataset,
                   seed=trial.seed, n=len(samples))  # fmt: skip
    records = []
    for kind, entry in settings.kinds.items():
        values = []
        for level in entry.levels:
            changed = [disturbed(sample, task, config, faces.subset_names, kind, level, stream(seed, k, kind))
                       for k, sample in enumerate(samples)]  # fmt: skip
            result = errors(task, changed, faces.subset_names, size)
            values.append(float(result.nme.mean()))
            records.append(base(trial=f"{trial.name}/{kind}/{level:g}", kind=kind, level=level, unit=entry.unit,
                                nme=values[-1], fr=result.failure_rate()))  # fmt: skip
        records.append(base(trial=f"{trial.name}/{kind}/area", kind=f"{kind}_area",
                            nme=curve_area(entry.levels, values)))  # fmt: skip
        print(f"[{trial.name}] {kind}: " + "  ".join(f"{level:g}: {value:.2f}" for level, value in
                                                    zip(entry.levels, values, strict=True)), flush=True)  # fmt: skip
    plain = evaluate(task, cropped, count=len(samples))
    if plain.score is not None:
        records.append(base(trial=f"{trial.name}/risk_coverage", kind="risk_coverage",
                            **risk_coverage(plain.nme, plain.score.mean(1))))  # fmt: skip
    trembling = flicker(task, samples[: settings.flicker.faces], config, faces.subset_names,
                        settings.flicker.crops, size, seed)  # fmt: skip
    records.append(base(trial=f"{trial.name}/flicker", kind="flicker", nme=float(trembling.mean()), n=len(trembling),
                        asked=count, weights=weights_time(folder, trial)))  # fmt: skip
    return records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's options."""
    parser.add_argument("--config", type=Path, default=Path("benchmarks/faces.yaml"), help="the plan that was trained")
    parser.add_argument("--methods", nargs="+", help="of the plan; default all that are trained")
    parser.add_argument("--levels", type=Path, default=LEVELS, help="kinds and levels of the disturbances")
    parser.add_argument("--fresh", action="store_true", help="repeat what was examined already")
    parser.add_argument("--faces", type=int, help="first faces of the test set only")


def main(options: argparse.Namespace) -> None:
    """Examine every trained trial of a plan, record and print a table."""
    check_range("--faces", options.faces, "[1, inf)")
    plan = restrict(read_plan(options.config), options.methods, None)
    settings = read_settings(options.levels)
    trials = [trial for trial in plan.trials() if last_checkpoint(plan.folder, trial).is_file()]
    if not trials:
        raise LabError(f"{options.config}: no trial is trained yet; run `python -m benchmarks train` first")
    todo = [trial for trial in trials if options.fresh or not is_done(plan.folder, trial, options.faces)]
    if len(todo) < len(trials):
        print(
            f"{len(trials) - len(todo)} of {len(trials)} trials are examined already; --fresh repeats them", flush=True
        )
    rows, kinds = [], [*(f"{kind}_area" for kind in settings.kinds), "flicker"]
    for trial in todo:
        records = examine(plan.folder, trial, settings, options.faces)
        for record in records:
            append_record(plan.folder / RECORD, record)
        found = {record.kind: record.value for record in records}
        rows.append([METHODS[trial.method].title, trial.dataset, *(figure(found[kind]) for kind in kinds)])
    if not rows:
        return
    print("\nmean NME over each curve's levels (percent), and flicker of a still face (percent)\n")
    print(table(["method", "data", *(kind.removesuffix("_area") for kind in kinds)], rows))
