"""Evaluation over two processes counts every face once and finds what one process finds, raw and prepared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from awing.cli import main
from common.data.__main__ import main as data_main
from tests.integration.faults import PATIENCE, ROOT
from tests.test_examples import example

FACES = 5  # of validation and of test: an odd number, so that one process has a face less
TINY = [
    "--config", str(ROOT / "awing/smoke.yaml"), "--data.crop.size", "40", "--model.width", "16", "--model.stacks", "1",
    "--model.depth", "1", "--data.num_workers", "0", "--data.batch_size", "4", "--data.eval_batch_size", "2",
    "--trainer.accelerator", "cpu", "--track", "false", "--trainer.enable_progress_bar", "false",
    "--trainer.max_epochs", "1",
]  # fmt: skip
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


def in_two(words: list[str]) -> None:
    """Run the command line in processes of its own."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-m", "awing.cli", *words, *TWO], cwd=ROOT, env=env,
                          capture_output=True, text=True, timeout=PATIENCE)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def figures(folder: Path, job: str) -> dict[str, Any]:
    sets = json.loads((folder / "results.json").read_text())[job]["sets"]
    assert sets["all"]["faces"] == FACES
    return {f"{name} {key}": values for name, row in sets.items() for key, values in row.items()}


@pytest.mark.slow
def test_two_processes_score_and_write_every_face_once(tmp_path: Path) -> None:
    """The files held half the faces: each process wrote its own over the other's."""
    raw, store = tmp_path / "faces", tmp_path / "store"
    example("train_your_own_landmarks").write_faces(raw, 8, FACES)
    scheme = str(raw / "face12.yaml")
    assert data_main(["prepare", "csv", "--root", str(raw), "--scheme", scheme, "--out", str(store)]) == 0
    own = [*TINY, "--data.scheme", scheme, "--data.dataset"]
    main(["fit", *own, "csv", "--data.root", str(raw), "--run", str(tmp_path / "run")])
    weights = ["--ckpt_path", str(tmp_path / "run/checkpoints/last.ckpt"), "--run"]
    one = tmp_path / "one"
    for job in ("validate", "test", "predict"):
        main([job, *own, "csv", "--data.root", str(raw), *weights, str(one)])
    for name, root, jobs in (("csv", raw, ("validate", "test", "predict")), ("store", store, ("validate", "test"))):
        two = tmp_path / name
        for job in jobs:
            in_two([job, *own, name, "--data.root", str(root), *weights, str(two)])
        for job in ("validate", "test"):
            alone, shared = figures(one, job), figures(two, job)
            assert shared.keys() == alone.keys()
            for key, values in alone.items():
                np.testing.assert_allclose(shared[key], values, rtol=1e-6, err_msg=f"{name}, {job}: {key}")
    for name, file in (("csv", "test_predictions.npz"), ("csv", "predictions.npz"), ("store", "test_predictions.npz")):
        alone, shared = np.load(one / file), np.load(tmp_path / name / file)
        assert list(shared["ids"]) == list(alone["ids"]) and len(set(alone["ids"])) == FACES
        np.testing.assert_allclose(shared["points"], alone["points"], atol=1e-4)
