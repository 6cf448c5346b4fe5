"""The fast way of a method on a CPU: its exported graph, built once, compared, timed, and kept in the user's cache.

A graph replaces the network where its points are the network's (`TOLERANCE`) and it is faster; otherwise the network
stays. Methods that look at whole photographs run their networks' parts as graphs (`common.export.work`). Building
takes seconds, of a large network minutes, so with `auto` it waits until the network itself has worked
for as long (`PATIENCE` seconds, and the time of `BUILD_FACES` faces), unless the cache has the graph already: a single
picture is not worth it, and no prediction takes more than about twice its time.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, Literal, get_args

import torch

from common.data.crops import CropConfig
from common.errors import LabError
from common.export.graph import EXTRA
from common.export.method import TOLERANCE, check_batches, largest_difference
from common.export.runtime import PRECISIONS, GraphRunner, Precision, Runtime, installed_runtimes, open_session
from common.export.work import Case, CropWork, Run, Work
from common.files.whole import write_whole
from common.prediction.detector_file import cache_folder
from common.task import LandmarkTask
from common.types import FaceBatch, Prediction

Backend = Literal["auto", "eager", "onnx", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
PATIENCE = 2.0  # seconds of the network's own work after which a graph is built
BUILD_FACES = 60  # faces whose time a build takes: those of the comparison and of the timed calls, each way
ROUNDS = 5  # timed calls of each way, in turns
VERSIONED = ("face-alignment-lab", "torch", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Choice:
    """What was found when a graph was built; kept beside it.

    Attributes:
        backend: the fastest way whose points are the network's.
        milliseconds: of one face, each way.
        difference: of each graph's points from the network's, pixels, at most.
        digests: name of a graph -> SHA-256 of its file.
        reason: why there is no graph.
    """

    backend: str
    milliseconds: dict[str, float] = field(default_factory=dict)
    difference: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    reason: str = ""


def default_backend() -> Backend:
    """Return the backend that the environment names (FACE_ALIGNMENT_BACKEND), else auto."""
    return os.environ.get("FACE_ALIGNMENT_BACKEND", "auto")  # type: ignore[return-value]  # FastPath checks it


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@lru_cache
def _sources(package: str) -> str:
    """Return the digest of a package's code, so that a graph of another state of it is not taken for this one's."""
    spec, found = find_spec(package), hashlib.sha256()
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in sorted(Path(folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def graph_key(work: Work[Case], precision: Precision = "float32") -> str:
    """Return what graphs are kept under: weights, settings, code, versions, processor and threads."""
    task = work.task
    about = [task.METHOD, json.dumps(task.settings(), sort_keys=True, default=str), work.about, precision, processor(),
             str(torch.get_num_threads()), _sources("common"), _sources(type(task).__module__.partition(".")[0]),
             *map(_version, VERSIONED)]  # fmt: skip
    found = hashlib.sha256("\n".join(about).encode())
    for name, value in sorted(task.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:32]


def timed(calls: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the shortest time of each call in milliseconds; they take turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):  # the first turn warms up
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            found[name].append(1000 * (time.perf_counter() - start))
    return {name: min(times[1:]) for name, times in found.items()}


def opened(work: Work[Case], files: Mapping[str, bytes], runtime: Runtime, precision: Precision) -> Run[Case]:
    """Return what predicts by a method's graphs in a runtime."""
    return work.by_graphs({name: open_session(each, runtime, precision=precision) for name, each in files.items()})


@torch.inference_mode()
def compare(
    work: Work[Case], files: Mapping[str, bytes], runtimes: tuple[Runtime, ...], precision: Precision
) -> Choice:
    """Return which way is the fastest among the network and its graphs in each runtime."""
    cases = work.cases()
    wanted = [work.by_network(case) for case in cases]
    ways: dict[str, Run[Case]] = {"eager": work.by_network}
    difference: dict[str, float] = {}
    for name in runtimes:
        try:
            run = opened(work, files, name, precision)
            difference[name] = largest_difference(wanted, run, cases)
        except Exception:  # noqa: BLE001 - each runtime raises classes of its own
            continue  # a runtime that lacks an operation; another, or the network, takes its place
        if precision != "float32" or difference[name] <= TOLERANCE:
            ways[name] = run
    took = timed({name: partial(way, cases[0]) for name, way in ways.items()})
    best = min(took, key=lambda name: took[name])
    return Choice(best, took, difference, {name: hashlib.sha256(each).hexdigest() for name, each in files.items()})


class FastPath(Generic[Case]):
    """Predicts by the network, or by its graphs where they are equal and faster.

    Args:
        work: the method with its weights, and what it is given.
        backend: auto chooses; eager is the network itself; onnx and openvino are the graph in that runtime, at once.
        precision: bf16 computes in half precision, about 0.1 px off; it needs OpenVINO and a processor that has it.

    Attributes:
        choice: what was found; None as long as nothing was built or read.

    Raises:
        LabError: a backend other than auto is not installed, or cannot be had on this device or in this precision.
    """

    def __init__(self, work: Work[Case], backend: Backend = "auto", precision: Precision = "float32") -> None:
        task: LandmarkTask = work.task
        if backend not in BACKENDS:
            raise LabError(f"backend must be one of {', '.join(BACKENDS)}, got {backend}")
        if precision not in PRECISIONS:
            raise LabError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}")
        if precision == "bf16" and backend in ("eager", "onnx"):
            raise LabError(f"precision bf16 needs OpenVINO; the backend is {backend}")
        if backend not in ("auto", "eager") and task.device.type != "cpu":
            raise LabError(f"backend {backend} runs on the CPU; the device is {task.device}")
        self.work: Work[Case] = work
        self.backend: Backend = backend
        self.precision: Precision = precision
        self.choice: Choice | None = None
        self.spent = 0.0
        self.faces = 0
        self.looked = False
        self.runner: Run[Case] | None = None
        values = (*task.parameters(), *task.buffers())
        self.values, self.state = [value for value in values if not value.is_inference()], 0
        if precision == "bf16":
            self.backend = "openvino"
        if self.backend in ("onnx", "openvino"):
            self.prepare()

    def __call__(self, case: Case) -> Prediction:
        """Return points in the pixels of what is given: of a batch's crops, or of a photograph."""
        if self.runner is not None and self.backend != "eager" and self.weights_state() != self.state:
            self.runner = self.choice = None  # the weights were changed since: another graph
            if self.backend != "auto":
                self.prepare()
        if self.backend == "auto" and self.choice is None and self.work.task.device.type == "cpu":
            if not self.looked or self.worth_building():
                self.prepare(build=self.worth_building())
        if self.runner is not None:
            return self.runner(case)
        start = time.perf_counter()
        found = self.work.by_network(case)
        self.spent += time.perf_counter() - start
        self.faces += len(case)
        return found

    def worth_building(self) -> bool:
        """Return whether the network has worked for as long as a build takes."""
        return self.spent > PATIENCE and self.faces > BUILD_FACES

    def weights_state(self) -> int:
        """Return a number that every change of a weight in its place makes larger."""
        return sum(value._version for value in self.values)

    def prepare(self, build: bool = True) -> None:
        """Take the graph from the cache, or build it; what is slower than the network, or not equal, is left alone.

        Args:
            build: make the graph if the cache does not have it.

        Raises:
            LabError: the backend was named, and its graph cannot be built or is not equal.
        """
        self.looked, self.state = True, self.weights_state()
        runtimes: tuple[Runtime, ...] = installed_runtimes() if self.backend == "auto" else (self.backend,)  # type: ignore[assignment]
        if self.backend == "eager" or not runtimes:
            self.choice = Choice("eager", reason="no runtime is installed")
            return
        key = graph_key(self.work, self.precision)
        file = cache_folder() / "graphs" / f"{self.work.task.METHOD}-{key}.json"
        found = _read(file)
        if found is None and build:
            found = self._build(file)
        if found is not None:
            self._take(found)

    def _take(self, found: tuple[Choice, dict[str, bytes]]) -> None:
        choice, files = found
        name = choice.backend if self.backend == "auto" else self.backend
        if name not in ("onnx", "openvino"):
            self.choice = choice
            return
        if self.backend != "auto" and self.precision == "float32":
            if name not in choice.milliseconds:
                off = choice.difference.get(name, float("nan"))
                raise LabError(f"backend {name}: its points are {off:.3g} px off the network's, more than {TOLERANCE}")
        self.runner = opened(self.work, files, name, self.precision)  # type: ignore[arg-type]
        self.choice = choice

    def _build(self, file: Path) -> tuple[Choice, dict[str, bytes]]:
        try:
            files = self.work.export()
        except LabError as error:
            if self.backend != "auto":
                raise
            files, choice = {}, Choice("eager", reason=str(error))
        else:
            choice = compare(self.work, files, installed_runtimes(), self.precision)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                write_whole(_graph_file(file, name), content)
            write_whole(file, json.dumps(asdict(choice), indent=1).encode())
        except (OSError, LabError):
            pass  # a cache that cannot be written: the graphs serve this process only
        return choice, files


def _graph_file(file: Path, name: str) -> Path:
    return file.with_suffix(f".{name}.onnx" if name else ".onnx")


def _read(file: Path) -> tuple[Choice, dict[str, bytes]] | None:
    """Return what the cache holds, or None where it holds nothing or something broken."""
    try:
        choice = Choice(**json.loads(file.read_text(encoding="utf-8")))
        files = {name: _graph_file(file, name).read_bytes() for name in choice.digests}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    whole = all(hashlib.sha256(each).hexdigest() == choice.digests[name] for name, each in files.items())
    return (choice, files) if whole else None


def of_file(
    task: LandmarkTask, crop: CropConfig, path: Path, backend: Backend, precision: Precision
) -> FastPath[FaceBatch]:
    """Return what predicts by an exported file alone; auto takes the faster runtime.

    Raises:
        LabError: no runtime is installed, or the file is damaged.
    """
    if backend == "eager":
        raise LabError(f"{path}: holds no network for the backend eager; give the weights that it was made of")
    made, content = FastPath(CropWork(task, crop), "eager"), path.read_bytes()
    names: tuple[Runtime, ...] = installed_runtimes() if backend == "auto" else (backend,)
    names = ("openvino",) if precision == "bf16" else names
    runners = {name: GraphRunner(open_session(content, name, precision=precision)) for name in names}
    if not runners:
        raise LabError(f"{path}: no runtime for it is installed; {EXTRA}")
    one = check_batches(task, crop, (1,))[0]
    took = timed({name: partial(runner, one) for name, runner in runners.items()}) if len(runners) > 1 else {}
    best = min(runners, key=lambda name: took.get(name, 0.0))
    made.runner, made.choice = runners[best], Choice(best, took)
    return made
