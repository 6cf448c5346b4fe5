"""Every command of the README and the pages is run: here on a few drawn faces, or by the test that is named for it.

The commands of a page are run one after the other in one folder, as a reader would, with placeholders filled in and
options appended that make data and networks small.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.report import build
from common.data import boxes
from common.files.recipes import find_recipe, read_recipe
from common.methods import METHODS
from common.prediction import detector_file, job
from common.prediction.detection import Detections
from common.prediction.video import frames
from tests.pages import CALLS, PAGES, ROOT, Call, typed
from tests.stand_ins import TREES, write_once, write_pictures, write_plans, write_scores
from tests.test_examples import example
from tests.test_recipes_run import SMALL, TINY, data_words

# Module, perhaps with its subcommand or an option -> the test that runs it, where it needs more than a few faces.
ELSEWHERE = {
    "dpr.convert": "tests/dpr/test_convert.py::test_made_up_files_predict_through_the_official_crop",
    "musica.convert": "tests/musica/test_convert.py::test_file_to_file_and_into_the_task",
    "spiga.convert": "tests/spiga/test_convert.py::test_a_small_file_predicts_through_the_official_crop",
    "spiga.mean_face": "tests/benchmarks/studies/spiga/test_studies.py::test_own_mean_face_is_written_and_read_again",
    "musica.choose_exit": "tests/musica/test_choose_exit.py::test_command_makes_a_policy_that_predict_uses",
    "musica.cli predict": "tests/musica/test_choose_exit.py::test_command_makes_a_policy_that_predict_uses",
    "musica.compress": "tests/musica/test_compress.py::test_command_writes_a_checkpoint",
    "common.demo": "tests/common/demo/test_demo.py::test_the_page_in_a_browser",
    "common.export --calibrate": "tests/common/export/test_quantise.py::test_a_file_in_8_bits",
    "common.predict --set": "tests/musica/test_choose_exit.py::test_command_makes_a_policy_that_predict_uses",
    "benchmarks.studies.maps": "tests/benchmarks/studies/test_maps.py::test_command",
    "benchmarks.studies.pictures": "tests/benchmarks/studies/test_pictures.py"
    "::test_errors_are_printed_and_what_was_found_is_written",
    "common.data doctor": "tests/common/data/test_doctor.py::test_the_manifest_is_written_then_compared",
    "common.data --format": "tests/common/data/test_packed.py::test_crops_of_the_helen_recipes",
    "tests.golden.make": "tests/golden/test_make.py::test_numbers_are_those_of_the_complete_recordings",
    "benchmarks confidence": "tests/benchmarks/measure/test_confidence.py::test_maps_are_stored_and_numbers_stay",
    "benchmarks cross": "tests/benchmarks/score/test_cross_dataset.py::test_the_command_adds_rows_to_the_report",
    "benchmarks import": "tests/benchmarks/run/test_import_run.py::test_a_run_becomes_a_trial",
    "benchmarks paths": "tests/benchmarks/measure/test_paths.py::test_ways_stand_beside_each_other",
    "benchmarks speed": "tests/benchmarks/run/test_runner.py::test_speed_is_recorded_with_its_machine",
    "benchmarks.studies.dpr.ablation": "tests/benchmarks/studies/dpr/test_studies.py"
    "::test_a_cell_is_run_with_its_form_and_recorded_once",
    "benchmarks.studies.dpr.model_card": "tests/benchmarks/studies/dpr/test_studies.py"
    "::test_the_better_stage_is_embedded_and_answers_as_the_checkpoint",
    "benchmarks.studies.dpr.readme": "tests/benchmarks/studies/dpr/test_studies.py"
    "::test_figures_are_those_of_the_records",
    "benchmarks.studies.dpr.speed": "tests/dpr/test_photograph.py::test_speed_writes_a_record",
    "benchmarks.studies.musica.report": "tests/benchmarks/studies/musica/test_report.py::test_report_from_a_checkpoint",
    "benchmarks.studies.musica.speed": "tests/benchmarks/studies/musica/test_report.py"
    "::test_speed_prints_size_and_ratio",
    "benchmarks.studies.sdu3d.ablation": "tests/benchmarks/studies/sdu3d/test_studies.py"
    "::test_ablation_trains_what_is_missing_and_scores_what_is_complete",
    "benchmarks.studies.sdu3d.depth": "tests/benchmarks/studies/sdu3d/test_studies.py"
    "::test_depth_report_of_a_checkpoint",
    "benchmarks.studies.sdu3d.evaluate --records": "tests/sdu3d/test_original.py"
    "::test_records_are_scored_by_both_normalisers_and_all_decoders",
    "benchmarks.studies.sdu3d.poses": "tests/benchmarks/studies/sdu3d/test_studies.py"
    "::test_genuine_files_of_aflw2000_are_scored",
    "benchmarks.studies.sdu3d.readme": "tests/benchmarks/studies/sdu3d/test_speed.py"
    "::test_times_are_recorded_and_reach_the_page",
    "benchmarks.studies.sdu3d.speed": "tests/benchmarks/studies/sdu3d/test_speed.py"
    "::test_times_are_recorded_and_reach_the_page",
    "benchmarks.studies.peers": "tests/benchmarks/studies/test_peers.py"
    "::test_pictures_go_to_another_python_and_meshes_come_back",
    "benchmarks.studies.predict_share": "tests/benchmarks/studies/test_predict_share.py"
    "::test_steps_of_real_predictions_are_shown",
    "benchmarks.studies.spiga.attention": "tests/benchmarks/studies/spiga/test_studies.py::test_attention_picture",
    "benchmarks.studies.spiga.evaluate": "tests/benchmarks/studies/spiga/test_evaluate.py"
    "::test_a_model_of_one_s_own_gets_its_pose_errors",
    "benchmarks.studies.spiga.speed": "tests/spiga/test_graph.py::test_the_speed_record_counts_the_released_network",
    "benchmarks.studies.spiga.steps": "tests/benchmarks/studies/spiga/test_studies.py"
    "::test_the_table_of_steps_is_what_predictions_score",
    # A recipe with nothing else: each takes two steps there, the stages of one in turn.
    "fit": "tests/test_recipes_run.py::test_recipe_takes_two_steps",
    # Needs the 330 faces and predictions of others, which cannot be made up: its parts are tested where they are.
    "benchmarks helen": "tests/benchmarks/run/test_runner.py::test_references_on_the_helen_faces",
    # Starts several processes; on two machines or a cluster it differs by their number alone.
    "several": "tests/integration/test_two_processes.py::test_two_processes_score_and_write_every_face_once",
}
PROGRAMS = ("make", "source", "export", "pip", "python3", "torchrun", "sbatch")  # of others, on the pages
FEW = {  # what measures -> options that end it soon
    "benchmarks.studies.synthetic_speed": ["--windows", "1", "--faces", "2", "--size", "64"],
    "benchmarks.studies.awing.targets_speed": ["--batch", "2", "--rounds", "1", "--threads", "1"],
    "benchmarks.studies.store_speed": ["--faces", "4", "--samples", "1300"],
    "benchmarks robustness": ["--methods", "awing", "--faces", "2", "--levels", "levels.yaml", "--config",
                              "benchmarks/smoke.yaml"],
    "awing.convert": ["--overwrite"],
    "sdu3d.convert": ["--overwrite"],
    "benchmarks run": ["--methods", "awing", "--no-timing", "--unchecked"],
    "benchmarks train": ["--methods", "awing"],
    "benchmarks evaluate": ["--methods", "awing", "--no-timing"],
    "benchmarks report": ["--no-track"],
}  # fmt: skip
SHORT = ("--overwrite", "true", "--trainer.max_epochs", "1")
PLACES = {
    "PICTURE": "photo.jpg",
    "PICTURES": "photo.jpg",
    "IMAGE": "photo.jpg",
    "X0": "40",
    "Y0": "40",
    "X1": "220",
    "Y1": "220",
    "FILE": "mine.npz",
    "PLAN": "benchmarks/smoke.yaml",
    "RUN/checkpoints/best.ckpt": "small.ckpt",
}


def name_of(call: Call) -> str:
    """Return a command's module, with its subcommand where it has some."""
    module, *rest = call.words
    return " ".join([module, *rest[:1]]) if re.fullmatch(r"benchmarks|common\.data|\w+\.cli", module) else module


def elsewhere(call: Call) -> str | None:
    """Return the test that runs a command."""
    options = {word for word in call.words if word.startswith("--")}
    if call.words[1:2] == ("fit",) and options <= {"--config", "--data.root", "--init_from"} and not call.several:
        return ELSEWHERE["fit"]
    names = ["several"] if call.several else [f"{call.words[0]} {word}" for word in call.words[1:]] + [call.words[0]]
    return next((ELSEWHERE[name] for name in names if name in ELSEWHERE), None)


def is_mention(call: Call) -> bool:
    """Return whether the text names a command and does not give it: without the arguments that it needs."""
    bare = {"common.predict", "benchmarks", "awing.cli", "awing.cli predict", "benchmarks score", "benchmarks run",
            "benchmarks report", "benchmarks robustness", "benchmarks.studies.loader_speed"}  # fmt: skip
    return "..." in call.words or "COMMAND" in call.words or "--help" in call.words or " ".join(call.words) in bare


@cache
def own(page: Path) -> list[Call]:
    """Return the commands of a page that are run here, each once."""
    found = [call for call in CALLS if call.page == page and not is_mention(call) and elsewhere(call) is None]
    return list(dict.fromkeys(call for call in found if call.words[-1] != "--config"))


def first(page: Path) -> list[Call]:
    """Return the commands of a page that no page before it has."""
    before = {call.words for other in ORDER[: ORDER.index(page)] for call in own(other)}
    return [call for call in own(page) if call.words not in before]


ORDER = list(dict.fromkeys(call.page for call in CALLS))
READ = [page for page in ORDER if first(page)]


# Eyes, nose and corners of the mouth in shares of a picture.
FIVE = np.array([[[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]]])


class Finder:
    """Stands in for a face detector, whose model would be fetched: the face is where every drawn one is."""

    name = "yunet"

    def __init__(self, *_: Any) -> None:
        pass

    def detect(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        side = np.array([width, height], float)
        return Detections.of(np.array([[*(0.2 * side), *(0.8 * side)]]), np.ones(1), FIVE * side)


def test_every_command_is_run_here_or_by_a_test_that_is_there() -> None:
    named = {test for call in CALLS if (test := elsewhere(call))}
    assert named == set(ELSEWHERE.values())
    for test in named:
        file, _, function = test.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test
    assert len(CALLS) > 180 and sum(map(len, map(first, READ))) > 50


def test_blocks_hold_no_other_programs() -> None:
    for page in PAGES:
        for line in typed(page):
            words = line.split()
            assert not words or words[0] in (*PROGRAMS, "#") or words[:2] == ["python", "-m"], f"{page.name}: {line}"


class Reader:
    """Runs the commands of a page in a folder.

    Attributes:
        folder: the current one.
        last: method -> the checkpoint that its last training wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.last = folder, dict[str, Path]()

    def run(self, call: Call) -> Any:
        module, *words = call.words
        if "--truth-dataset" in words or "NAME" in words:
            write_once("w300")
            words = [
                {"mine.json": "w300.json", "NAME": "w300", "FOLDER": "data/w300"}.get(word, word) for word in words
            ]
        if "CHECKPOINT" in words:
            self.train("sdu3d", ["fit", "--config", "sdu3d/smoke.yaml"])
            words = [{"CHECKPOINT": str(self.last["sdu3d"]), "FOLDER": "crops"}.get(word, word) for word in words]
        if module.endswith(".cli"):
            return self.train(module.partition(".")[0], words)
        weights = {"FILE": "CKPT"} if "--weights" in words else {}
        words = [PLACES.get(word, word) for word in (weights.get(word, word) for word in words)]
        words = [str(self.small(word)) if word in ("small.ckpt", "CKPT") or word.startswith("runs/") and
                 word.endswith(".ckpt") else word for word in words]  # fmt: skip
        if module == "common.packing":
            Path(words[1]).unlink(missing_ok=True)  # of a command before it
        if module == "common.predict":
            words += ["--overwrite", *(["--frames", "2"] if "--camera" in words else [])]
        if "--documents" in words:
            words.append("--drop")  # the figures of the documents' own records
        if name_of(call) == "benchmarks lint":
            words = [word.replace("mine.csv", "figures.csv") for word in words]
        words += FEW.get(name_of(call), FEW.get(module, []))
        return self.call(module, words)

    def small(self, word: str) -> Path:
        """Return the checkpoint that a page means, of its last training or of one that is made for it."""
        if Path(word).is_file():
            return Path(word)
        if "awing" not in self.last:
            self.train("awing", ["fit", "--config", "awing/smoke.yaml"])
        return self.last["awing"]

    def train(self, method: str, words: list[str]) -> Any:
        """Run fit, test or predict of a method."""
        recipe = read_recipe(find_recipe(words[words.index("--config") + 1], METHODS[method])[0])
        if words[0] != "fit" and method not in self.last:
            self.train(method, ["fit", "--config", f"{method}/smoke.yaml", "--data.scheme", recipe["data"]["scheme"]])
        if "CKPT" in words and method not in self.last:
            self.train(method, ["fit", "--config", f"{method}/smoke.yaml"])
        names = {"CKPT": self.last.get(method), "FILE": self.last.get(method)}
        words = [str(names.get(word) or word) for word in words]
        more: list[str] = [*TINY, *SMALL[method], *SHORT, *self.data(words, recipe)]
        if "--init_from" not in words:
            own_weights = words[0] == "fit" or "--ckpt_path" in words
            more += ["--init_from", "null" if own_weights else str(self.last[method])]  # which a recipe names
            if not own_weights and words[0] != "fit":  # a network of the size that was trained for it
                sizes = read_recipe(find_recipe("smoke", METHODS[method])[0])["model"]
                for name in sizes.keys() & {"stacks", "width", "depth"}:
                    more += [] if f"--model.{name}" in more else [f"--model.{name}", str(sizes[name])]
        found = self.call(f"{method}.cli", [*words, *more])
        if words[0] == "fit" and "--print_config" not in words:
            self.last[method] = Path(found.trainer.default_root_dir).resolve() / "checkpoints/last.ckpt"
        return found

    def data(self, words: list[str], recipe: dict[str, Any]) -> list[str]:
        """Return the options of the data that a command reads, which are written where they are not there."""
        if "--data.dataset" in words:
            kind, root = words[words.index("--data.dataset") + 1], words[words.index("--data.root") + 1]
            if kind == "json" and not Path("lists").is_dir():
                example("train_your_own").write_lists(Path("lists"), 4, 2)
            if kind == "csv" and not Path("faces").is_dir():
                example("train_your_own_landmarks").write_faces(Path("faces"), 4, 2)
            return ["--data.root", "lists" if root == "FOLDER" else root]
        kind = recipe["data"].get("dataset", "synthetic")
        if kind in TREES:
            root = next((word for word in words if word.startswith("data/")), f"data/{kind}")
            write_once(kind, root)
            return ["--data.root", root, *(["--data.eval_split", "common"] if kind == "w300" else [])]
        return list(data_words(recipe, self.folder))

    def call(self, module: str, words: list[str]) -> Any:
        """Run a module's command line, which must end well."""
        found = importlib.util.find_spec(module)
        package = found is not None and found.submodule_search_locations
        main = importlib.import_module(f"{module}.__main__" if package else module).main
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
        assert not isinstance(code, int | str) or code == 0, f"python -m {module} {' '.join(words)}: {code}"
        return code


@pytest.mark.slow
@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_end_well(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (job, boxes, detector_file):
        monkeypatch.setattr(module, "open_detector", Finder)
    monkeypatch.setattr(job, "frames", lambda source: frames(source if isinstance(source, Path) else Path("clip.mp4")))
    monkeypatch.setattr(build, "ROOT", tmp_path)
    for name in build.DOCUMENTS:
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("pictures"))
    write_pictures(tmp_path)
    calls = first(page)
    if any(call.words[0].startswith("benchmarks") for call in calls):
        write_scores(tmp_path)
        write_plans(tmp_path)
    if any(call.words[0] == "common.data" for call in calls):
        write_once("w300", "data/300w")
        write_once("wflw")
    reader = Reader(tmp_path)
    for call in calls:
        reader.run(call)
