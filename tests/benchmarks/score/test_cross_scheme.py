"""Points through the scheme map: the floor where both truths exist, by hand, and a 98-point model on 68-point truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.report.model import read_report
from benchmarks.score.cross_scheme import (
    Floor,
    both_truths,
    bounds,
    floor_text,
    map_floor,
    part_rows,
    source_scheme,
    through,
)
from common.errors import LabError
from common.metrics.protocols import evaluate
from common.schemes import AFLW19, IBUG68, LAPA106, WFLW98

MAP = WFLW98.map_to(IBUG68)
COUNT = 24


def test_both_schemes_lie_on_the_same_face() -> None:
    """Points that the schemes share are one point, to rounding; every second jaw point is the other's."""
    dense, sparse = both_truths("wflw98", "ibug68", 6)
    shared = {60: 36, 64: 39, 68: 42, 72: 45, 76: 48, 82: 54, 16: 8, 0: 0, 32: 16, 54: 30}
    for one, two in shared.items():
        np.testing.assert_allclose(dense[:, one], sparse[:, two], atol=0.6, err_msg=f"{one} {two}")
    with pytest.raises(LabError, match="no faces with both lapa106 and ibug68"):
        both_truths("lapa106", "ibug68", 2)


def test_floor_is_the_error_of_perfect_predictions() -> None:
    floor = map_floor(MAP, IBUG68, "corners", COUNT)
    dense, sparse = both_truths("wflw98", "ibug68", COUNT)
    found = evaluate("canonical", through(dense, WFLW98, IBUG68), sparse, IBUG68, "any")
    assert floor.mean == pytest.approx(found["nme"]) and 0 < floor.mean < 2
    np.testing.assert_allclose(floor.nmes, found["per_image"])
    assert set(floor.parts) == {"jaw", "brows", "nose", "eyes", "mouth"}
    assert max(floor.parts, key=lambda part: floor.parts[part]) in ("eyes", "brows", "jaw")
    pupils = map_floor(MAP, IBUG68, "pupils", COUNT)
    assert pupils.mean > floor.mean, "the eye centres lie closer together than the corners"


def test_the_map_states_its_own_error() -> None:
    assert MAP.error == pytest.approx(map_floor(MAP, IBUG68, "corners").mean, abs=0.005)


def test_parts_cover_the_scheme_once() -> None:
    rows = [row for part in part_rows(IBUG68).values() for row in part]
    assert sorted(rows) == list(range(68))


def test_bounds_hold_for_a_model_that_errs() -> None:
    """The error in 98 points' own truth, over the mapped points, lies within the floor of the mapped figure."""
    dense, sparse = both_truths("wflw98", "ibug68", COUNT)
    pred = dense + np.random.default_rng(0).normal(0, 2, dense.shape)
    value = evaluate("canonical", through(pred, WFLW98, IBUG68), sparse, IBUG68, "any")["nme"]
    own = evaluate("canonical", through(pred, WFLW98, IBUG68), through(dense, WFLW98, IBUG68), IBUG68, "any")["nme"]
    low, high = bounds(value, map_floor(MAP, IBUG68, "corners", COUNT))
    assert low <= own <= high


def test_floor_by_hand() -> None:
    floor = Floor("wflw98", "ibug68", "corners", np.array([0.4, 0.6]), {"jaw": 0.5})
    assert floor.mean == pytest.approx(0.5) and bounds(3.0, floor) == (2.5, 3.5) and bounds(0.2, floor) == (0.0, 0.7)
    text = floor_text(floor, 3.0, {"jaw": 4.0})
    assert "| jaw    | 0.500     | 4.000       |" in text and "between 2.50 and 3.50" in text
    assert "predictions" not in floor_text(floor)


def test_which_scheme_a_number_of_points_is() -> None:
    assert source_scheme(98, IBUG68, "x") is WFLW98 and source_scheme(106, IBUG68, "x") is LAPA106
    with pytest.raises(LabError, match="x: 19 points a face .aflw19. and no map from them to ibug68"):
        source_scheme(19, IBUG68, "x")
    with pytest.raises(LabError, match="no map from them to aflw19"):
        source_scheme(98, AFLW19, "x")


def test_a_98_point_model_on_68_point_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense, sparse = both_truths("wflw98", "ibug68", COUNT, seed=1)
    ids = np.array([f"f{k}" for k in range(COUNT)])
    np.savez(tmp_path / "p98.npz", ids=ids, points=dense)
    np.savez(tmp_path / "p68.npz", ids=ids, points=sparse + 1)
    np.savez(tmp_path / "t.npz", ids=ids, points=sparse)
    words = ["score", str(tmp_path / "p98.npz"), "--truth", str(tmp_path / "t.npz"), "--dataset", "faces"]
    with pytest.raises(SystemExit):
        main(words)
    assert "98 points a face" in capsys.readouterr().err
    main([*words, "--map", "--record", str(tmp_path), "--title", "Dense", "--digits", "4"])
    out = capsys.readouterr().out
    nme = evaluate("canonical", through(dense, WFLW98, IBUG68), sparse, IBUG68, "faces")["nme"]
    assert f"| all | {COUNT}    | {nme:.4f}" in out and "- mapped from: wflw98" in out and "The map's own error" in out
    main(["score", str(tmp_path / "p68.npz"), "--truth", str(tmp_path / "t.npz"), "--dataset", "faces", "--map",
          "--record", str(tmp_path), "--title", "Sparse"])  # fmt: skip
    (table,) = read_report(tmp_path).comparisons
    assert {"mapped from", "map floor"} <= set(table.differing), "a mapped row is marked"
    assert [entry.label for entry in table.entries] == ["Dense", "Sparse"]
