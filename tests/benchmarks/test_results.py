"""Figures that documents show are those of the committed records."""

from __future__ import annotations

import re

import pytest

from benchmarks.provenance import ROOT
from benchmarks.record import Result, read_records
from common.methods import METHODS

RECORDS = read_records(ROOT / "benchmarks/results/embedded.jsonl", Result)


def test_all_methods_and_three_references_are_recorded() -> None:
    trials = [record for record in RECORDS if record.recipe != "scored predictions"]
    assert sorted(record.method for record in trials) == sorted(METHODS) and len(RECORDS) == len(trials) + 3
    assert all((ROOT / str(record.recipe)).is_file() for record in trials)
    assert {record.card["n"] for record in RECORDS} == {330}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.title)
def test_the_readme_shows_the_recorded_figures(record: Result) -> None:
    row = re.search(rf"^\| {re.escape(record.title)} +\| (.*)", (ROOT / "README.md").read_text("utf-8"), re.M)
    low, high = record.intervals["nme"]
    assert row is not None and row[1].split(" |")[0].strip() == f"{record.metrics['nme']:.2f}"
    assert f"[{low:.2f}, {high:.2f}]" in row[1]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_card_of_the_weights_shows_the_recorded_figure(name: str) -> None:
    (record,) = (record for record in RECORDS if record.method == name and record.recipe != "scored predictions")
    card = (ROOT / name / "weights/README.md").read_text("utf-8")
    low, high = record.intervals["nme"]
    assert f"{record.metrics['nme']:.2f}" in card and f"[{low:.2f}, {high:.2f}]" in card
