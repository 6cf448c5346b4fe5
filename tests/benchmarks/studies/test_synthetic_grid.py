"""Pictures of drawn faces."""

from __future__ import annotations

import numpy as np

from benchmarks.studies.synthetic_grid import draw, draw_methods


def test_a_row_a_method_on_the_same_faces() -> None:
    found = draw_methods(["awing", "awing"], count=2, seed=3, cell=64)
    assert found.shape == (128, 128, 3)
    np.testing.assert_array_equal(found[:64], found[64:])
    plain = draw(2, 3, 64, 2, landmarks=False)
    changed = np.abs(found[:64].astype(int) - plain).max(axis=-1) > 60
    assert 0.02 < changed.mean() < 0.5, "points are drawn, and the face is still to be seen"
