"""The ledger: paper, released weights under our metric, our training; made-up records, figures by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.published.ledger import Row, cost_figures, ledger_rows, plain
from benchmarks.report.model import read_report
from tests.benchmarks import made_up
from tests.benchmarks.made_up import append_record


def rows_of(folder: Path, title: str, data: str) -> list[Row]:
    return [row for row in ledger_rows(read_report(folder)) if (row["method"], row["data set"]) == (title, data)]


def add(folder: Path, method: str, dataset: str, nme: float, seed: int | None = 0, **changes: object) -> None:
    """Record a cell of known NME."""
    made = made_up.record(folder, method, dataset, seed or 0, speed={}, predictions=None, pictures=None)
    made |= {"cell": f"{method}/{dataset}/{changes}/{seed}", "seed": seed, "metrics": {"nme": nme}, "intervals": {}}
    append_record(folder / "records.jsonl", made | changes)


def test_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    for seed, nme in enumerate((4.2, 4.5, 4.8)):
        add(tmp_path, "awing", "wflw", nme, seed, commit=f"c{seed // 2}", title="AWing")
    (row,) = rows_of(tmp_path, "AWing", "wflw")
    assert row["ours"] == pytest.approx(4.5) and row["sd"] == pytest.approx(np.std([4.2, 4.5, 4.8], ddof=1))
    assert row["seeds"] == [0, 1, 2] and row["commit"] == "c0, c1" and row["device"] == made_up.MACHINE["device"]
    assert row["paper"] == "4.36" and row["normaliser"] == "corners" and "ICCV" in row["source"]
    assert row["gap"] == pytest.approx(4.5 - 4.36) and row["official"] is None and row["date"] == "2026-11-21"
    assert [plain(row, key) for key in ("ours", "sd", "gap", "seeds", "official")] == [
        "4.50", "0.30", "+0.14", "0, 1, 2", "-"
    ]  # fmt: skip


def test_released_weights_stand_beside_it(tmp_path: Path) -> None:
    """Measured figures of published.yaml are ours by the corners; a scored file counts before them."""
    add(tmp_path, "spiga", "synthetic", 3.0, title="SPIGA")
    (private,) = rows_of(tmp_path, "SPIGA", "300W private")
    assert private["official"] == 3.43 and private["paper"] == "2.031" and private["normaliser"] == "lnd_bbox"
    assert private.get("ours") is None and private["gap"] is None
    add(tmp_path, "spiga", "300wprivate", 3.41, None, official=True, recipe="scored predictions", title="Released")
    (private,) = rows_of(tmp_path, "SPIGA", "300wprivate")
    assert private["official"] == 3.41 and private.get("ours") is None


def test_no_gap_across_normalisers(tmp_path: Path) -> None:
    add(tmp_path, "sdu3d", "cofw68", 4.0, title="SDU")
    (row,) = rows_of(tmp_path, "SDU", "cofw68")
    assert row["paper"] == "5.983" and row["normaliser"] == "eye_centres" and row["gap"] is None


def test_a_slip_is_not_put_forward(tmp_path: Path) -> None:
    add(tmp_path, "dpr", "wflw", 6.0)
    (row,) = [row for row in ledger_rows(read_report(tmp_path)) if row.get("ours") == 6.0]
    assert row["paper"] == "5.08" and row["remark"] == "G&LSRw"


def test_what_was_trained_elsewhere_is_not_ours(tmp_path: Path) -> None:
    add(tmp_path, "awing", "drawn", 9.0, None, recipe="some/weights.ckpt")
    assert not [row for row in ledger_rows(read_report(tmp_path)) if row.get("ours") == 9.0]


def test_recipes_have_rows_of_their_own(tmp_path: Path) -> None:
    add(tmp_path, "awing", "helen", 4.0, recipe="awing/helen.yaml")
    add(tmp_path, "awing", "helen", 5.0, recipe="awing/long.yaml")
    found = [row for row in ledger_rows(read_report(tmp_path)) if row["data set"] == "helen"]
    assert [(row["recipe"], row["ours"]) for row in found] == [("awing/helen.yaml", 4.0), ("awing/long.yaml", 5.0)]


def test_costs_of_reference_implementations() -> None:
    found = cost_figures(["dpr"])
    assert all(figure.method == "dpr" and not figure.dataset for figure in found)
    assert {figure.facts["machine"] for figure in found if "ms" in figure.values} >= {"P100, PyTorch", "iPhone 6S, MNN"}
