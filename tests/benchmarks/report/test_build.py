"""Documents from made-up records: comparable rows, paired marks, Markdown, LaTeX, the README, W&B."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.readme import table
from benchmarks.record import Result
from benchmarks.report import build, wandb_log
from benchmarks.report.markdown import described, escape_latex, latex, plain_rows
from benchmarks.report.model import (
    SAME,
    Comparison,
    Report,
    ced_curves,
    compare,
    disturbances,
    flickers,
    read_report,
    risk_curves,
)
from benchmarks.report.page import page
from benchmarks.report.sections import published_table
from common.errors import LabError
from tests.benchmarks import made_up

BEFORE, AFTER = f"before\n{build.BEGIN}", f"{build.END}\nafter"
NAMES = np.array([f"face-{k}" for k in range(60)])


def known(folder: Path, method: str, errors: np.ndarray, seed: int = 0, **changes: Any) -> Result:
    """Return a trial with these errors (60,), its predictions in a shuffled order."""
    path = folder / f"{method}-{seed}.npz"
    order = np.random.default_rng(seed).permutation(len(errors))
    np.savez(path, ids=NAMES[order], nme=errors[order])
    card = made_up.card("known", n=len(errors)) | changes.pop("card", {})
    content = {
        "cell": f"{method}/known/x/{seed}", "method": method, "title": method.upper(), "dataset": "known",
        "recipe": f"{method}/x.yaml", "seed": seed, "card": card, "metrics": {"nme": float(np.nanmean(errors))},
        "intervals": {}, "predictions": path.name, "seconds": 60.0, "commit": "abc", "device": "d",
    } | changes  # fmt: skip
    return Result.model_validate(content)


def one(records: list[Result], folder: Path) -> Comparison:
    (found,) = compare(records, folder)
    return found


def test_rows_are_paired_by_face(tmp_path: Path) -> None:
    """B is one above A on every face and so separable though the faces' own spread is wide; C only trembles."""
    base = np.random.default_rng(0).gamma(4.0, 2.0, 60)
    near = base + np.where(np.arange(60) % 2, 0.51, -0.49)
    records = [known(tmp_path, "b", base + 1), known(tmp_path, "a", base), known(tmp_path, "c", near)]
    found = one(records, tmp_path)
    assert [entry.label for entry in found.entries] == ["A", "C", "B"]
    apart = found.differences[2, 0]
    assert apart.mean == pytest.approx(1.0) and apart.low == pytest.approx(1.0) and apart.separable
    assert [found.against_best(k) for k in range(3)] == ["best", SAME, "+1.00"]
    same, back = found.differences[1, 0], found.differences[0, 1]
    assert (back.mean, back.low, back.high) == (-same.mean, -same.high, -same.low)


def test_unlike_faces_are_not_compared(tmp_path: Path) -> None:
    base = np.linspace(1, 9, 60)
    other = known(tmp_path, "b", base + 1)
    np.savez(tmp_path / "b-0.npz", ids=np.char.add(NAMES, "x"), nme=base)
    gap = known(tmp_path, "c", np.where(np.arange(60) == 3, np.nan, base + 2))
    found = one([known(tmp_path, "a", base), other, gap], tmp_path)
    assert found.differences == {} and found.against_best(1) == "not measured"
    levels, shares = ced_curves(found)
    # Errors of C are 3 .. 11 without one of the 60 faces, so its curve ends below 100 percent.
    assert shares["A"][-1] == 100 and shares["C"][levels >= 11][-1:].tolist() in ([], [pytest.approx(100 * 59 / 60)])
    assert shares["C"].max() <= 100 * 59 / 60 + 1e-9


def test_missing_predictions_are_said(tmp_path: Path) -> None:
    records = [known(tmp_path, "a", np.full(60, 2.0)), known(tmp_path, "b", np.full(60, 3.0))]
    (tmp_path / "b-0.npz").unlink()
    found = one(records, tmp_path)
    assert found.against_best(1) == "not measured" and list(ced_curves(found)[1]) == ["A"]
    assert compare(records)[0].differences == {}


def test_seeds_are_averaged(tmp_path: Path) -> None:
    base = np.linspace(1, 9, 60)
    records = [known(tmp_path, "a", base + shift, seed) for seed, shift in enumerate((0.0, 1.0, 5.0))]
    found = one(records, tmp_path)
    assert re.search(r"sd \(seeds\).*\n.*\n\| A .*\| 2\.65 \(3\) ", described(found))
    entry = found.entries[0]
    assert entry.metrics["nme"] == pytest.approx(7.0) and entry.sd == pytest.approx(np.std([0, 1, 5], ddof=1))
    assert entry.nmes is not None and entry.ids is not None and entry.seeds == [0, 1, 2]
    np.testing.assert_allclose(entry.nmes[np.argsort(entry.ids).argsort()], entry.nmes)
    np.testing.assert_allclose(np.sort(entry.nmes), base + 2)
    assert entry.intervals["nme"][0] < 7.0 < entry.intervals["nme"][1]


@pytest.mark.parametrize(("name", "value"), [("threshold", 8), ("normaliser", "pupils"), ("n", 59), ("auc_rule", "h")])
def test_unlike_cards_share_no_column(tmp_path: Path, name: str, value: Any) -> None:
    errors = np.linspace(1, 9, 60)
    records = [known(tmp_path, "a", errors), known(tmp_path, "b", errors, card={name: value})]
    found = compare(records, tmp_path)
    assert [len(part.entries) for part in found] == [1, 1]
    assert found[1].title == f"known ({name}: {value})"
    text = "\n".join(map(described, found))
    assert text.count("| method") == 2 and f"{name}: {value}" in text


def test_ten_is_ten_point_zero(tmp_path: Path) -> None:
    """A threshold that one command writes as 10 and another as 10.0 does not part the rows."""
    errors = np.linspace(1, 9, 60)
    records = [known(tmp_path, m, errors, card={"threshold": t}) for m, t in (("a", 10), ("b", 10.0))]
    found = one(records, tmp_path)
    assert len(found.entries) == 2 and found.differing == [] and found.note == ""


def test_other_differences_of_cards_are_marked(tmp_path: Path) -> None:
    errors = np.linspace(1, 9, 60)
    records = [known(tmp_path, "a", errors), known(tmp_path, "b", errors, card={"box": "detector"})]
    found = one(records, tmp_path)
    assert found.differing == ["box"] and "box" not in found.card
    assert described(found).endswith("Rows differ in box; the report has the protocol cards.")


def test_equal_titles_are_told_apart(tmp_path: Path) -> None:
    first = known(tmp_path, "a", np.full(60, 2.0))
    second = known(tmp_path, "b", np.full(60, 3.0), title="A", recipe="b/long.yaml")
    assert [entry.label for entry in one([first, second], tmp_path).entries] == ["A, x", "A, long"]


def test_robustness_is_read(tmp_path: Path) -> None:
    made_up.write_robustness(tmp_path)
    records = read_report(tmp_path).robustness
    found = {d.kind: d for d in disturbances(records)}
    assert list(found) == list(made_up.KINDS) and found["blur"].unit == "share of the crop side"
    curve = found["shift"].curves[0]
    plain = made_up.nmes("spiga").mean()
    np.testing.assert_allclose(curve.y, [plain * (1 + 0.4 * (level / 0.2) ** 2) for level in curve.x])
    assert curve.label == "SPIGA" and curve.area == pytest.approx(np.mean(curve.y))
    assert {name for _, name in flickers(records)} == {method[0] for method in made_up.METHODS.values()}
    assert flickers(records)["synthetic", "AWing"] == pytest.approx(0.15)
    assert [c.label for c in risk_curves(records)["synthetic"]] == ["AWing", made_up.METHODS["musica"][0]]


def test_markdown_keeps_its_columns() -> None:
    lines = table(("a", "b"), [("x|y", "1"), ("", "22")]).splitlines()
    assert lines == ["| a    | b  |", "|------|----|", "| x\\|y | 1  |", "|      | 22 |"]


def test_comparison_without_times(tmp_path: Path) -> None:
    """A cell that was not timed leaves its columns out instead of failing; a figure is as recorded."""
    text = described(compare([known(tmp_path, "a", np.full(60, 2.5))])[0]).partition("\n\n")[2]
    assert text.splitlines()[0].split("|")[1:-1] == [" method ", " NME  "] and "| A      | 2.50 |" in text


def test_latex() -> None:
    assert escape_latex(r"50% & a_b #1 {x} ~^\ <−>") == (
        r"50\% \& a\_b \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} $<$$-$$>$"
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Read a whole benchmark once: its paired bootstraps take a while."""
    return read_report(made_up.write_benchmark(tmp_path_factory.mktemp("benchmark")))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Write a benchmark of one method; return its folder."""
    made_up.append_record(tmp_path / "records.jsonl", made_up.record(tmp_path, "spiga"))
    made_up.write_pictures(tmp_path, "spiga")
    made_up.write_robustness(tmp_path)
    return tmp_path


def test_latex_tables(whole: Report) -> None:
    text = latex(whole.comparisons)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert r"SPIGA & \textbf{3.49} & [" in text and r"AWing & 3.50$^{\dagger}$ &" in text
    assert r"MuSiCa $<$with \& marks$>$" in text and r"FR$_{10}$" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {row.replace(r"\&", "").count("&") for row in rows} == {8}


def readme(folder: Path) -> Path:
    folder.mkdir()
    for name in ("README.md", "BENCHMARKS.md"):
        (folder / name).write_text(f"before\n{build.BEGIN}\nold\n{build.END}\nafter\n")
    return folder


def test_all_documents(small: Path, tmp_path: Path) -> None:
    documents = readme(tmp_path / "documents")
    (small / "helen.json").write_text(json.dumps({"mean face": {"nme": 17.61, "fr8": 88.8, "auc8": 1.9, "n": 330}}))
    paths = build.write(small, documents)
    assert [path.name for path in paths] == [
        "report.html", "table.md", "table.tex", "ledger.json", "BENCHMARKS.md", "README.md"
    ]  # fmt: skip
    assert all(path.stat().st_size > 100 for path in paths)
    for name in ("README.md", "BENCHMARKS.md"):
        text = (documents / name).read_text()
        assert text.startswith(f"before\n{build.BEGIN}\n") and text.endswith(f"{build.END}\nafter\n"), name
    text = (documents / "README.md").read_text()
    assert (
        "<!-- shows: synthetic -->" in text
        and "Smallest difference in NME that is significant on these 300 faces" in text
    )
    assert "| SPIGA" and "synthetic: NME by corners" in text and "\nold\n" not in text
    build.write(small, documents)
    assert (documents / "README.md").read_text() == text
    benchmarks = (documents / "BENCHMARKS.md").read_text()
    assert all(f"## {title}" in benchmarks for title in ("Reproduction", "Robustness", "HELEN test faces"))
    assert "17.61" in benchmarks and "AURC" in benchmarks and "## Reference implementations" in benchmarks
    assert "## Targets" not in benchmarks and "## Loader" not in benchmarks


def test_results_of_the_readme(whole: Report) -> None:
    text = build.results(whole)
    assert text.count("| method") == 1 and f"| {SAME}" in text and "ms/face" not in text
    assert "helen: NME by corners" in text and "synthetic" not in text, "photographs before drawn faces"


def test_without_records_nothing_is_claimed(tmp_path: Path) -> None:
    documents = readme(tmp_path / "documents")
    (tmp_path / "empty").mkdir()
    paths = build.write(tmp_path / "empty", documents)
    assert [path.name for path in paths] == ["report.html", "BENCHMARKS.md", "README.md"]
    assert (documents / "BENCHMARKS.md").read_text() == f"{BEFORE}\n{build.SHOWS.format('')}\n\n{AFTER}\n"
    assert "No results yet" in (documents / "README.md").read_text()
    assert build.write(tmp_path / "empty", None) == [tmp_path / "empty/report.html"]


def filled(folder: Path, documents: Path, drop: bool = False) -> dict[str, str]:
    """Fill the documents from a folder's records, without the page; return their texts."""
    for path, text in build.fill_documents(documents, folder, read_report(folder), drop).items():
        path.write_text(text)
    return {name: (documents / name).read_text() for name in ("README.md", "BENCHMARKS.md")}


def test_figures_are_not_lost_unseen(small: Path, tmp_path: Path) -> None:
    """Records of synthetic faces alone must not drop the figures of photographs from the documents; --drop may."""
    documents = readme(tmp_path / "documents")
    (small / "helen.json").write_text(json.dumps({"mean face": {"nme": 17.61, "fr8": 88.8, "auc8": 1.9, "n": 330}}))
    made_up.append_record(small / "records.jsonl", made_up.record(small, "spiga", "helen"))
    before = filled(small, documents)
    assert "<!-- shows: helen -->" in before["README.md"]
    (small / "helen.json").unlink()
    with pytest.raises(
        LabError, match="BENCHMARKS.md: shows helen.json, of which there are no records here; .* --drop"
    ):
        filled(small, documents)
    (small / "records.jsonl").unlink()
    made_up.append_record(small / "records.jsonl", made_up.record(small, "spiga"))
    with pytest.raises(LabError, match="shows helen, helen.json, of"):
        filled(small, documents)
    assert before == {name: (documents / name).read_text() for name in before}
    assert "helen" not in filled(small, documents, drop=True)["README.md"]


def test_a_new_document_gets_its_marks(small: Path, tmp_path: Path) -> None:
    documents = readme(tmp_path / "documents")
    (documents / "BENCHMARKS.md").unlink()
    text = filled(small, documents)["BENCHMARKS.md"]
    assert text.startswith(build.TITLE) and text.endswith(f"{build.END}\n") and "## Reproduction" in text


def test_the_documents_of_the_repository_have_their_marks() -> None:
    for name in ("README.md", "BENCHMARKS.md"):
        text = (build.ROOT / name).read_text()
        assert 0 < text.find(build.BEGIN) < text.find(build.END) and text.count(build.BEGIN) == 1, name


def test_make_benchmark_leaves_the_documents_alone() -> None:
    """`make benchmark` writes below runs/ only: no line of its recipe asks for the documents."""
    recipe = (build.ROOT / "Makefile").read_text().split("\nbenchmark:")[1].split("\n\n")[0]
    assert "benchmarks run" in recipe and "benchmarks report" in recipe and "--documents" not in recipe
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    assert parser.parse_args([]).documents is None


def test_a_readme_without_marks_is_a_user_mistake(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"{build.END} {build.BEGIN}")
    with pytest.raises(LabError, match="the marks .* are missing"):
        build.write(tmp_path, tmp_path)
    assert not list(tmp_path.glob("report.html")), "all or nothing"
    with pytest.raises(LabError, match="no such folder of records"):
        build.write(tmp_path / "none")


@pytest.mark.parametrize(("ratio", "word"), [(0.84, "not reached"), (0.85, "reached"), (1.2, "reached")])
def test_goals_follow_the_figure(tmp_path: Path, ratio: float, word: str) -> None:
    (tmp_path / "loader_speed.json").write_text(json.dumps({"ratio": ratio, "memory_mb": [500.0, 512.0], "rounds": 5}))
    text = build.render(tmp_path)
    assert f"{ratio:.3f} of the rate" in text and f"(goal 0.85, {word})" in text
    assert "500 MB after the first, 512 MB after the last" in text


@pytest.mark.parametrize(
    ("ratio", "pixels", "first", "second"), [(4.0, 0.4, "not reached", "kept"), (60.0, 4.5, "reached", "exceeded")]
)
def test_target_speed(tmp_path: Path, ratio: float, pixels: float, first: str, second: str) -> None:
    times = {"exact": {"best_ms": 120.0}, "batched_fresh_memory": {"best_ms": 60.0}}
    found = {"batch": 32, "threads": 2, "times": times, "exact_over_batched": ratio, "differing_pixels_percent": pixels}
    (tmp_path / "boundary_speed.json").write_text(json.dumps(found))
    text = build.render(tmp_path)
    assert (
        f"(goal 50, {first})" in text
        and f"(limit 4 %, {second})" in text
        and "2.0 times as tensors in fresh memory" in text
    )


@pytest.mark.parametrize(("content", "word"), [
    ({"ratio": 0.7, "peak_memory_mb": [1.0]}, "no 'memory_mb'"),
    ({"ratio": 0.7, "memory_mb": [], "rounds": 3}, "not the expected content"),
    ([1], "not the expected content"),
])  # fmt: skip
def test_a_stale_record_is_told_and_the_others_stand(
    tmp_path: Path, content: Any, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loader_speed.json").write_text(json.dumps(content))
    (tmp_path / "helen.json").write_text(json.dumps({"mean face": {"nme": 17.61, "fr8": 88.8, "auc8": 1.9, "n": 330}}))
    text = build.render(tmp_path)
    assert "17.61" in text and f"Not shown: the record has {word}; run its script again." in text
    message = capsys.readouterr().err
    assert "loader_speed.json" in message and "python -m benchmarks.studies.loader_speed" in message


def test_records_that_lack_a_key_do_not_stop_the_report(tmp_path: Path) -> None:
    """Records of older versions: each key but those that name a row and its figure may be missing.

    One that lacks these is said with its line, and never left out in silence.
    """
    whole_record = made_up.record(tmp_path, "spiga", "synthetic")
    needed = ("method", "dataset", "metrics")
    for number, key in enumerate([*whole_record, *whole_record["speed"], *whole_record["card"]]):
        old = json.loads(json.dumps(whole_record)) | {"cell": f"{number}", "dataset": f"set-{number}"}
        for part in (old, old["speed"], old["card"]):
            if key not in needed:
                part.pop(key, None)
        made_up.append_record(tmp_path / "records.jsonl", old)
    found = read_report(tmp_path)
    assert len(found.comparisons) == len(whole_record) + len(whole_record["speed"]) + len(whole_record["card"])
    assert "| " in build.render(tmp_path, found) and "SPIGA" in page(found) and latex(found.comparisons)
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write('{"cell": "broken", "method": "spiga", "dataset": "synthetic"}\n')
    with pytest.raises(LabError, match=r"records.jsonl:\d+: is no record: metrics: Field required"):
        read_report(tmp_path)


def test_the_command(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    build.main(parser.parse_args(["--folder", str(small), "--no-track"]))
    assert f"wrote {small / 'report.html'}" in capsys.readouterr().out and not list(small.glob("wandb"))


def test_published_figures_keep_their_marks() -> None:
    found = published_table({"awing": "AWing", "nobody": "Nobody"})
    assert found is not None
    rows = found.rows
    assert {row[0].value for row in rows} == {"AWing"}
    wflw = next(row for row in rows if row[1].value == "WFLW" and row[3].text == "4.36")
    assert wflw[-1].value == "from memory, check before quoting: fr, auc"
    assert str(wflw[-2].value).startswith("AWing, ICCV")
    assert any(str(row[-1].value).startswith("cannot be: ") for row in rows), "a known slip is said"


def test_report_goes_to_wandb_offline(small: Path) -> None:
    build.write(small, None)
    assert wandb_log.to_wandb(small)
    (run,) = small.glob("wandb/offline-run-*")
    (path,) = run.glob("files/media/table/tables/*.json")
    table = json.loads(path.read_text())
    columns, rows = plain_rows(read_report(small).comparisons[0])
    assert table["columns"] == columns and table["data"][0][0] == "SPIGA"
    assert table["data"][0][1] == pytest.approx(rows[0][1]) == made_up.nmes("spiga").mean()
    assert len(list(run.glob("files/media/table/robustness/synthetic/*.json"))) == len(made_up.KINDS)
    assert len(list(run.glob("files/media/images/faces/synthetic/*.png"))) == 8
    assert list(run.glob("files/media/table/ced/*.json")) and list(run.glob("files/media/html/*.html"))


def test_a_failure_of_wandb_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(wandb_log, "wandb_logger", broken)
    assert not wandb_log.to_wandb(tmp_path)
    assert capsys.readouterr().err == "W&B has not got the report (OSError: no room)\n"
