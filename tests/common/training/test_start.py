"""The command line before and after its libraries are imported: help, names, stages, what is missing."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import dpr.cli
import spiga.cli
from awing.cli import main
from common.data.datamodule import DATASETS
from common.methods import METHODS
from common.training import start
from common.training.cli import LandmarkParser
from common.training.command import commands
from common.training.former import follow, lacking
from common.training.help import dataset_names
from common.training.words import explained
from spiga.method import METHOD as SPIGA

ROOT = Path(__file__).resolve().parents[3]
FAULTS = """
import resource, numpy as np
from common.training.start import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5): np.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(), print(faults(), keep_freed_memory(), faults() and faults())
"""


def refused(capsys: pytest.CaptureFixture[str], *args: str, run: object = main) -> str:
    """Return the one line by which a command is refused."""
    assert callable(run)
    with pytest.raises(SystemExit) as stop:
        run(list(args))
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and said.startswith("error: ") and "\n" not in said, said
    return said.removeprefix("error: ")


def seconds(*words: str, folder: Path) -> tuple[float, str]:
    """Return the processor time of a command, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


@pytest.mark.parametrize("method", METHODS)
def test_help_is_quick_and_names_the_method_s_options_first(method: str, tmp_path: Path) -> None:
    took, said = seconds("-m", f"{method}.cli", "fit", "--help", folder=tmp_path)
    assert took < 2
    assert said.index("--model.threshold") < said.index("--data.dataset") < said.index("--run ")
    assert "{synthetic, synthetic3d, crops" in said and "{rmsprop, adam, adamw, nadam, sgd}" in said


def test_import_of_common_is_quick(tmp_path: Path) -> None:
    assert seconds("-c", "import common", folder=tmp_path)[0] < 0.3


def test_threads_wait_asleep() -> None:
    """Whoever did not read the README's last lines had threads that took the processor from each other."""
    unset = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", "import common, torch"], cwd=ROOT, capture_output=True, text=True,
                          env=unset | {"OMP_DISPLAY_ENV": "verbose"}, check=True)  # fmt: skip
    assert "GOMP_SPINCOUNT = '0'" in done.stderr  # GNU's words; 300000 where nothing is said


@pytest.mark.parametrize("method", METHODS)
def test_help_names_the_parser_s_options(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read from the source, they must be those that the parser takes, with the same choices."""
    with pytest.raises(SystemExit):
        METHODS[method].main()(["fit", "--help"])
    shown = set(re.findall(r"^  --([\w.]+)", capsys.readouterr().out, re.M))
    seen: list[set[str]] = []

    def keep(parser: LandmarkParser, message: str, ex: Exception | None = None) -> None:
        seen.append(parser.options())
        raise SystemExit(2)

    monkeypatch.setattr(LandmarkParser, "error", keep)
    with pytest.raises(SystemExit):
        METHODS[method].main()(["fit", "--config", "smoke", "--no_such_option"])
    own = {name for name in seen[0] if name.startswith(("model.", "data."))} - {"model.scheme", "model.input_size"}
    groups = {name for name in own if any(other.startswith(f"{name}.") for other in shown)}
    assert not own - groups - {name for name in own if name.endswith(".help")} - shown
    optional = ("model.train.augment.", "model.jitter.")
    assert not {name for name in shown - seen[0] if not name.startswith(optional)}
    assert dataset_names() == DATASETS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["fit", "--config", "smoke", "--model.stack", "2"],
            "--model.stack is no option; did you mean --model.stacks?",
        ),
        (["fit", "--config", "smoke", "--max_epochs", "2"], "did you mean --trainer.max_epochs?"),
        (["fit", "--config", "smoke", "--model.stacks", "x"], "model.stacks: expected int, got x"),
        (["fit", "--config", "smoke", "--model.decode", "x"], "expected one of argmax, quarter, window, soft, got x"),
        (["fit", "--config", "smok"], "smok: no such configuration file; did you mean smoke?"),
        (["fti"], "fti is no subcommand; did you mean fit?"),
    ],
)
def test_a_mistyped_word_is_one_line_with_what_was_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *words)


def test_an_unknown_key_of_a_file_is_told_like_an_option() -> None:
    said = explained("Subcommand 'fit' does not accept option 'model.stakcs'", ["model.stacks", "data.root"])
    assert said == "model.stakcs is no option; did you mean model.stacks?"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and re.match(r"face-alignment-lab \d+\.\d+\.\d+, AWing\n", capsys.readouterr().out)


def test_all_that_is_missing_is_told_together_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "fit", "--config", "stage3", run=spiga.cli.main)
    assert "give --data.root" in said and "runs/spiga/wflw/stage2/checkpoints/last.ckpt: weights" in said
    assert "python -m spiga.cli fit --config spiga/stage2.yaml" in said
    small = ("--data.train_count", "2", "--data.val_count", "2", "--data.num_workers", "0")
    for recipe, former in (("gsr", "reinit"), ("local_reinit", "gsr"), ("glsr", "local_reinit")):
        data = ("--data.dataset", "synthetic", *small)
        said = refused(capsys, "fit", "--config", recipe, *data, run=dpr.cli.main)
        assert f"runs/dpr/synthetic/{former}/checkpoints/last.ckpt: weights to start from are missing" in said
        assert said.endswith(f"fit --config dpr/{former}.yaml --data.dataset synthetic")
    assert not list(tmp_path.iterdir())


def test_former_weights_follow_data_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    former = "runs/spiga/wflw/stage1/checkpoints/last.ckpt"
    here = Path("runs/spiga/wflw/stage2")
    assert follow(former, here, "wflw", "wflw", moved=False) == former
    assert follow(former, here, "wflw", "synthetic", moved=False) == "runs/spiga/synthetic/stage1/checkpoints/last.ckpt"
    assert follow(former, here, "json", "json", moved=False) == former  # weights of other data are meant
    assert follow("mine.ckpt", here, "wflw", "synthetic", moved=True) == "mine.ckpt"
    beside = tmp_path / "mine/stage1/checkpoints/last.ckpt"
    assert follow(former, tmp_path / "mine/stage2", "wflw", "wflw", moved=True) == former
    beside.parent.mkdir(parents=True)
    beside.touch()
    assert follow(former, tmp_path / "mine/stage2", "wflw", "wflw", moved=True) == str(beside)
    other = Path("runs/spiga/synthetic/stage1/checkpoints/last.ckpt")
    other.parent.mkdir(parents=True)
    other.touch()
    assert f"{other} is there, of other data" in lacking(former, SPIGA.folder, "")


def test_a_recipe_of_stages_is_one_command() -> None:
    runs = commands(SPIGA, ["fit", "--config=wflw", "--run", "mine", "--init_from=a.ckpt", "--model.threshold", "8"])
    assert [run.stage for run in runs] == ["stage1", "stage2", "stage3"]
    assert runs[0].words == ("--run", "mine/stage1", "--init_from", "a.ckpt", "--model.threshold", "8")
    assert runs[2].words == ("--run", "mine/stage3", "--model.threshold", "8")
    assert [run.stage for run in commands(SPIGA, ["test", "--config", "wflw"])] == ["stage3"]


TINY = (
    "--data.dataset", "synthetic", "--data.scheme", "ibug68", "--data.crop.size", "64", "--model.width", "32",
    "--model.steps", "2",
    "--model.stacks", "1", "--model.depth", "2", "--data.num_workers", "0", "--data.train_count", "4",
    "--data.val_count", "2", "--data.batch_size", "2", "--trainer.accelerator", "cpu", "--track", "false",
    "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false",
)  # fmt: skip


def test_stages_of_a_recipe_train_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spiga.cli.main(["fit", "--config", "wflw", *TINY])
    said = capsys.readouterr().out
    assert "stage 3 of 3: stage3" in said and "starts from runs/spiga/synthetic/stage2/checkpoints/last.ckpt" in said
    assert sorted(path.parts[3] for path in Path().glob("runs/spiga/synthetic/*/checkpoints/last.ckpt")) == [
        "stage1", "stage2", "stage3",
    ]  # fmt: skip
    spiga.cli.main(["fit", "--config", "wflw", *TINY, "--resume", "true"])  # finished stages end at once


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept() -> None:
    found = subprocess.run([sys.executable, "-c", FAULTS], cwd=ROOT, capture_output=True, text=True, check=True)
    before, kept, after = found.stdout.split()
    assert kept == "True" and int(after) < int(before) / 4


def test_fit_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(start, "keep_freed_memory", lambda: asked.append(True))
    monkeypatch.setattr("common.training.cli.run_command", lambda task, run: None)
    for job in ("fit", "validate"):
        main([job, "--config", "smoke"])
    assert asked == [True]
