"""Runtimes of exported graphs leave the process as they found it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from common.export.runtime import Runtime, installed_runtimes

ROOT = Path(__file__).resolve().parents[3]
SIGNALLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from common.export.runtime import open_session
content = Path(sys.argv[1]).read_bytes()
first, second = (open_session(content, sys.argv[2], 1) for _ in range(2))
values = first({"image": np.array([-1.0, 2.0], np.float32)})["y"]
del first
del second  # the runtime's own memory goes in the order in which it came
signal.signal(signal.SIGUSR1, lambda number, frame: print("signalled", values.tolist()))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.parametrize("runtime", installed_runtimes())
def test_a_signal_after_sessions_were_freed_does_not_kill_the_process(runtime: Runtime, tmp_path: Path) -> None:
    """A loader's worker that ends is such a signal; pytest, Lightning and torch handle several."""
    given, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("image", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["y"])], "relu", [given], [found])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "relu.onnx").write_bytes(model.SerializeToString())
    command = [sys.executable, "-c", SIGNALLED, str(tmp_path / "relu.onnx"), runtime]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "signalled [0.0, 2.0]\n"), ended.stderr
