"""One trial of the benchmark: train stage by stage, test the last checkpoint, time the network, return the record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from benchmarks.measure.speed import measure, sizes, train_step_ms
from benchmarks.record import Result, Speed
from benchmarks.run.plan import EMBEDDED, Trial
from common.data.datamodule import FaceDataModule
from common.data.options import upgrade
from common.errors import LabError
from common.evaluation import Evaluation, batches, evaluate, load_data, read_config
from common.files.checkpoints import build
from common.files.images import write_image
from common.files.provenance import commit, machine
from common.files.recipes import read_recipe
from common.geometry import apply_affine, invert_affine
from common.methods import METHODS
from common.metrics.protocols import PROTOCOLS, Plain
from common.metrics.stats import metric_intervals
from common.packing import describe
from common.prediction.inference import load_task as load_weights_task
from common.prediction.plotting import TRUE, draw_landmarks
from common.task import LandmarkTask, load_task

SHOWN = 4  # worst and median faces that are drawn for each trial
PICTURE = 384  # side of such a picture in pixels
PATIENCE = 30.0  # seconds that a process gets to end by itself


def stage_folder(folder: Path, trial: Trial, stage: int) -> Path:
    """Return the run folder of a stage; one-stage recipes have none below the trial's."""
    run = folder / trial.name
    return run / f"stage{stage + 1}" if len(trial.stages) > 1 else run


def last_checkpoint(folder: Path, trial: Trial) -> Path:
    """Return the path of the last stage's last checkpoint, or of the embedded weights."""
    if trial.embedded:
        return METHODS[trial.method].weights()[0]
    return stage_folder(folder, trial, len(trial.stages) - 1) / "checkpoints" / "last.ckpt"


def recipe_file(trial: Trial, stage: int = -1) -> Path:
    """Return the YAML of a stage; default the last one."""
    return METHODS[trial.method].file(trial.stages[stage])


def _arguments(folder: Path, trial: Trial, stage: int) -> list[str]:
    run = stage_folder(folder, trial, stage)
    return ["--config", str(recipe_file(trial, stage)), "--run", str(run), "--seed_everything", str(trial.seed),
            "--data.seed", str(trial.seed), *trial.args]  # fmt: skip


def run_children(
    commands: Sequence[list[str]], pass_fds: tuple[int, ...] = (), threads: int | None = None
) -> list[int]:
    """Run commands side by side and return their exit codes; when this process is asked to end, so are they, first.

    An orphan would go on training, and hold its trial's lock.

    Args:
        commands: at least one.
        pass_fds: descriptors that the children keep open.
        threads: threads of each child's arithmetic; None leaves the environment as it is.

    Raises:
        SystemExit: with 143, after the children have ended on a SIGTERM.
    """
    env = None if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    asked: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: object) -> None:
        asked.append(number)
        for child in children:
            child.terminate()

    main = threading.current_thread() is threading.main_thread()  # only the main thread may handle signals
    former = signal.signal(signal.SIGTERM, pass_on) if main else None  # before a child is there: none is missed
    try:
        for command in commands:
            children.append(subprocess.Popen(command, pass_fds=pass_fds, env=env))
            if asked:
                children[-1].terminate()
        codes = [child.wait() for child in children]
    except BaseException:
        _end(children)
        raise
    finally:
        if main:
            signal.signal(signal.SIGTERM, former)
    if asked:
        raise SystemExit(128 + asked[0])
    return codes


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes: asked first, so that they end their own children; killed when they do not."""
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()


def trained_seconds(folder: Path, trial: Trial) -> float:
    """Return the seconds that the finished stages of a trial took; marks of imported runs hold none."""
    marks = [stage_folder(folder, trial, stage) / "finished" for stage in range(len(trial.stages))]
    return sum(float(mark.read_text(encoding="utf-8") or 0) for mark in marks if mark.is_file())


def train(folder: Path, trial: Trial, lock: int | None = None) -> None:
    """Train every stage that is not finished, each in its own process.

    Raises:
        LabError: a training process failed; its own message is above.
    """
    for stage in range(len(trial.stages)):
        done = stage_folder(folder, trial, stage) / "finished"
        if not done.is_file():
            start = time.perf_counter()
            _train_stage(folder, trial, stage, lock)
            done.write_text(f"{time.perf_counter() - start:.1f}\n", encoding="utf-8")


def _train_stage(folder: Path, trial: Trial, stage: int, lock: int | None) -> None:
    command = [sys.executable, "-m", METHODS[trial.method].cli, "fit", *_arguments(folder, trial, stage)]
    last = stage_folder(folder, trial, stage) / "checkpoints" / "last.ckpt"
    if last.is_file():
        command += ["--ckpt_path", str(last)]
    elif stage:
        command += ["--init_from", str(stage_folder(folder, trial, stage - 1) / "checkpoints" / "last.ckpt")]
    part = f", stage {stage + 1} of {len(trial.stages)}" if len(trial.stages) > 1 else ""
    print(f"[{trial.name}] training{part}{' (resumed)' if last.is_file() else ''}", flush=True)
    code = run_children([command], () if lock is None else (lock,))[0]
    if code:
        raise LabError(f"{trial.name}: training ended with exit code {code}: {' '.join(command)}")


@dataclass(frozen=True)
class Trained:
    """A trained trial: the task with its last weights, and its data."""

    task: LandmarkTask
    data: FaceDataModule


def settings(words: Sequence[str]) -> dict[str, Any]:
    """Return the nested values of a plan's arguments: `--data.crop.size 64` or `--data.crop.size=64`.

    Raises:
        LabError: an argument has no value.
    """
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        name, mark, value = word.removeprefix("--").partition("=")
        if not mark:
            value = next(rest, "")
        if not word.startswith("--") or not value:
            raise LabError(f"args of the plan: {word} must be --NAME VALUE, such as --data.synthetic.test_count 100")
        *outer, last = name.split(".")
        inner = found
        for part in outer:
            inner = inner.setdefault(part, {})
        try:
            inner[last] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise LabError(f"args of the plan: the value of {name} cannot be read: {value[:60]!r}") from None
    return found


def load_trained(folder: Path, trial: Trial) -> Trained:
    """Return the task of a trial's last checkpoint and its data; the run's configuration, else the recipe, names them.

    Raises:
        LabError: there is no checkpoint.
    """
    path = last_checkpoint(folder, trial)
    if not path.is_file():
        raise LabError(f"{path}: checkpoint is missing; train the trial first (python -m benchmarks train)")
    limit = PROTOCOLS["canonical"].measure(trial.dataset, 0).threshold
    if trial.embedded:
        return _load_embedded(path, trial, limit)
    task = load_task(METHODS[trial.method].task_class(), path, threshold=limit)
    own = stage_folder(folder, trial, len(trial.stages) - 1) / "config.yaml"
    config = own if own.is_file() else recipe_file(trial)
    data = load_data(config, None, task, **settings(trial.args).get("data", {}))
    return Trained(task.to("cuda") if torch.cuda.is_available() else task, data)


def _load_embedded(path: Path, trial: Trial, limit: float) -> Trained:
    """Return the task of embedded weights, and the data that the plan names, in the crops that the weights state."""
    task = load_weights_task(path, threshold=limit)
    return Trained(task.to("cuda") if torch.cuda.is_available() else task, embedded_data(path, trial))


def embedded_data(path: Path, trial: Trial) -> FaceDataModule:
    """Return the data that the plan names for embedded weights, in their scheme and in the crops that they state.

    Raises:
        LabError: the plan names an option that data do not have.
    """
    found, named = describe(path), upgrade(settings(trial.args).get("data", {}))
    own = {"scheme": found.hyper_parameters["scheme"], "crop": found.crop}
    return build(FaceDataModule, {"dataset": trial.dataset, **named, **own}, f"args of the plan, job {trial.dataset}")


def intervals(found: Evaluation) -> dict[str, tuple[float, float]]:
    """Return the 95 % bootstrap intervals of nme, fr and auc, over all faces and over each subset's."""
    parts = {"": np.ones(len(found), bool)}
    parts |= {f"{name}/": rows for name, rows in found.subsets.items() if rows.any()}
    return {f"{name}{key}": span for name, chosen in parts.items()
            for key, span in metric_intervals(found.nme[chosen], found.threshold).items()}  # fmt: skip


def training_state(path: Path, epochs: int | None) -> str:
    """Return which state of a training a checkpoint is: its last epoch, or an earlier one where it had stopped."""
    done = int(torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("epoch", -1)) + 1
    return "last epoch" if epochs is None or epochs < 0 or done >= epochs else f"epoch {done} of {epochs}"


def planned_epochs(run: Path, recipe: int | None) -> int | None:
    """Return how many epochs a run was to have: by its own configuration, where it kept one, or by the recipe.

    An imported run may have had another length than the recipe.
    """
    own = run / "config.yaml"
    if not own.is_file():
        return recipe
    epochs = (read_recipe(own).get("trainer") or {}).get("max_epochs")
    return recipe if epochs is None else int(epochs)


def recipe_epochs(trial: Trial) -> int | None:
    """Return how many epochs the plan wants of a trial's last stage."""
    trainer = read_config(recipe_file(trial)).get("trainer") or {}
    epochs = (trainer | settings(trial.args).get("trainer", {})).get("max_epochs")
    return None if epochs is None else int(epochs)


def card(tested: Trained, trial: Trial, count: int, state: str) -> dict[str, Plain]:
    """Return the protocol card of the figures: all that decides them besides the points."""
    task, faces = tested.task, tested.data.cropped("test").faces
    own = {"trained on": str(tested.data.dataset)}
    if tested.data.map_words():
        own["truth"] = tested.data.map_words()
    if faces[0].norm is not None:
        own["normaliser"] = "the data set's own"
    if task.flip_test:
        own |= {
            "flip": "mean with the mirrored image",
            "notes": "original image pixels, float ground truth, exact area",
        }
    return PROTOCOLS["canonical"].card(
        trial.dataset, task.scheme.num_points, n=count, landmarks=task.scheme.name, threshold=task.threshold,
        box=tested.data.crop_words(),
        decode=str(getattr(task, "decode", "of the method")), checkpoint=state, **own,
    )  # fmt: skip


def draw_faces(folder: Path, data: FaceDataModule, found: Evaluation) -> None:
    """Draw the worst and the median test faces, prediction beside truth, to `folder`."""
    faces = data.cropped("test")
    order, middle = np.argsort(found.nme), len(found) // 2
    chosen = {"worst": order[::-1][:SHOWN], "median": order[max(0, middle - SHOWN // 2) :][:SHOWN]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in chosen.items():
        for k, row in enumerate(rows):
            face = faces[int(row)]
            scale = PICTURE / face.image.shape[0]
            points = apply_affine(invert_affine(face.to_image.astype(np.float64)), found.points[row])
            canvas = cv2.resize(face.image, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)
            canvas = draw_landmarks(canvas, (face.points + 0.5) * scale - 0.5, found.scheme, TRUE)
            canvas = draw_landmarks(canvas, (points + 0.5) * scale - 0.5, found.scheme)
            write_image(folder / f"{name}-{k}.png", canvas)


def evaluate_cell(folder: Path, trial: Trial, seconds: float, timing: bool = True) -> Result:
    """Test, draw and time a trained trial; return its record."""
    tested = load_trained(folder, trial)
    found = evaluate(tested.task, tested.data)
    task, run = tested.task.cpu(), stage_folder(folder, trial, len(trial.stages) - 1)
    run.mkdir(parents=True, exist_ok=True)
    predictions, pictures = run / "test_predictions.npz", folder / "faces" / trial.name
    found.save(predictions)
    draw_faces(pictures, tested.data, found)
    path = last_checkpoint(folder, trial)
    state = EMBEDDED if trial.embedded else training_state(path, planned_epochs(run, recipe_epochs(trial)))
    recipe = f"{trial.method}/weights/{path.name}" if trial.embedded else trial.stages[-1]
    speed = Speed(**sizes(task.network(), task.input_size))
    if timing:
        print(f"[{trial.name}] timing", flush=True)
        step = train_step_ms(task, next(batches(tested.data)))
        speed = Speed(**measure(task.network(), task.input_size, inference=task.inference()), train_step_ms=step)
    return Result(
        trial=trial.name, method=trial.method, title=METHODS[trial.method].title, dataset=trial.dataset,
        recipe=recipe, seed=trial.seed, protocol="canonical", card=card(tested, trial, len(found), state),
        metrics=found.metrics(), intervals=intervals(found), predictions=str(predictions.relative_to(folder)),
        pictures=str(pictures.relative_to(folder)), seconds=seconds, speed=speed, commit=commit(),
        device=str(machine()["device"]), date=datetime.now(UTC).isoformat(timespec="seconds"),
        torch=str(torch.__version__),
    )  # fmt: skip
