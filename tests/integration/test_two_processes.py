"""Evaluation over two processes counts every face once and finds what one process finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.integration.faults import PATIENCE, ROOT
from tests.integration.test_resume import TINY, fit


@pytest.mark.slow
def test_two_processes_score_and_write_every_face_once(tmp_path: Path) -> None:
    """The files held half the faces: each process wrote its own over the other's."""
    fit(tmp_path, "--trainer.max_epochs", "1")
    env = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    for name, more in (("one", []), ("two", ["--trainer.devices", "2", "--trainer.strategy", "ddp"])):
        for job in ("test", "predict"):
            words = [sys.executable, "-W", "ignore", "-m", "awing.cli", job, *TINY[:-2], "--data.test_count", "5",
                     "--data.eval_batch_size", "2", "--ckpt_path", str(tmp_path / "checkpoints/last.ckpt"), "--run",
                     str(tmp_path / name), *more]  # fmt: skip
            done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE)
            assert done.returncode == 0, done.stderr[-2000:]
    for file in ("test_predictions.npz", "predictions.npz"):
        one, two = (np.load(tmp_path / name / file) for name in ("one", "two"))
        assert list(two["ids"]) == list(one["ids"]) and len(set(one["ids"])) == 5
        np.testing.assert_allclose(two["points"], one["points"], atol=1e-4)
    figures = [json.loads((tmp_path / name / "results.json").read_text())["test"]["sets"] for name in ("one", "two")]
    assert figures[0]["all"]["faces"] == 5 and figures[1].keys() == figures[0].keys()
    for name, row in figures[0].items():
        for key, values in row.items():
            np.testing.assert_allclose(figures[1][name][key], values, rtol=1e-5, err_msg=f"{name} {key}")
