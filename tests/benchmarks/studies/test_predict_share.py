"""`python -m benchmarks.studies.predict_share`: what the steps of a prediction take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies import predict_share
from common.data.synthetic import SyntheticFaces
from common.export.fast import FastPath
from common.files.images import write_image
from common.prediction.detection import Detections, FaceFinder


class Known:
    name = "yunet"

    def detect(self, image: np.ndarray) -> Detections:
        return Detections.of(SyntheticFaces(1, seed=3)[0].box[None], np.ones(1))


def test_steps_of_real_predictions_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict_share, "make_finder", lambda options: FaceFinder(Known(), turned=False))
    monkeypatch.setattr(FastPath, "prepare", lambda path, build=True: None)  # the network itself: nothing is built
    write_image(tmp_path / "a.jpg", SyntheticFaces(1, seed=3)[0].image)
    document = tmp_path / "page.md"
    document.write_text(f"before\n{predict_share.BEGIN}\nold\n{predict_share.END}\nafter\n")
    assert predict_share.main([str(tmp_path), "--photographs", "3", "--document", str(document)]) == 0
    text = document.read_text()
    cells = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    rows = {step.strip(): float(share) for _, step, _, share, _ in cells[1:]}
    assert set(rows) == set(predict_share.STEPS) and abs(sum(rows.values()) - 100) < 0.3
    assert rows["network"] > max(rows["detector"], rows["reading"]), "a network's own time is the largest here"
    assert "3 photographs, 3 faces" in text and "old" not in text
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.jpg", document], "what is written goes to a folder of its own"


def test_the_goal_is_judged() -> None:
    one = np.array([[0.06, 0.03, 0.004, 0.004, 0.002]])
    assert "take 90 % of the processor's time (goal 85, reached); 10.0 photographs" in predict_share.described(one, 1)
    assert "(goal 85, not reached)" in predict_share.described(one + [[0, 0, 0, 0.02, 0]], 1)
