"""The linter: every known slip of published tables is found, sound figures are not blamed, and each check by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.published.figures import PUBLISHED, Printed, read_published
from benchmarks.published.lint import Finding, lint, read_table
from common.errors import LabError
from tests.benchmarks import made_up
from tests.benchmarks.made_up import append_record

SOUND = "nme: 3.0, source: s, table: t, protocol: p, evidence: page"
HEADER = "method,dataset,subset,n,threshold,nme,fr,auc,p90,p95,p99,auc_rule"


def table(folder: Path, *rows: str, header: str = HEADER) -> list[Finding]:
    path = folder / "table.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return lint(read_table(path))


def rules(found: list[Finding]) -> list[str]:
    return [finding.rule for finding in found]


def published(method: str, dataset: str, subset: str = "full", variant: str = "") -> list[str]:
    """Return what the linter says about one published row."""
    found = [figure for figure in read_table(PUBLISHED) if (figure.method, figure.dataset) == (method, dataset)]
    found = [figure for figure in found if not variant or figure.facts.get("variant") == variant]
    wheres = [figure.where for figure in found if figure.subset == subset]
    return [str(finding.message) for finding in lint(found) if finding.where in wheres]


@pytest.mark.parametrize(("subset", "text"), [
    ("pose", "38 of 325"), ("expression", "7 of 313"), ("makeup", "2 of 205"), ("blur", "25 of 772"),
])  # fmt: skip
def test_star_lost_the_first_face(subset: str, text: str) -> None:
    (message,) = published("star", "WFLW", subset)
    assert text in message and "not a whole number" in message


@pytest.mark.parametrize(("variant", "text"), [("G&LSRw full digits", "154 of 2501"), ("GSRw full digits", "171 of")])
def test_dpr_has_one_face_too_many(variant: str, text: str) -> None:
    (message,) = published("dpr", "WFLW", variant=variant)
    assert text in message


def test_dpr_auc_repeats_the_nme() -> None:
    (message,) = published("dpr", "WFLW", variant="G&LSRw, the README's AUC")
    assert message == "AUC 50.79 repeats the digits of NME 5.0785"


@pytest.mark.parametrize(("dataset", "subset", "text"), [
    ("300W", "common", "AUC 44.2 is below 100 (1 - NME/t) = 67.62"),
    ("300W private", "outdoor", "AUC 37.2 is below 100 (1 - NME/t) = 71.00"),
])  # fmt: skip
def test_two_wrong_areas_of_spiga(dataset: str, subset: str, text: str) -> None:
    (message,) = published("spiga", dataset, subset)
    assert message.startswith(text)


def test_lab_pools_models() -> None:
    (message,) = published("lab", "300W")
    assert "NME 3.49 is not the pool of common 2.98 and challenge 5.19: 3.41" in message


def test_cofw_area_of_awing() -> None:
    (message,) = published("awing", "COFW")
    assert "need failures with a mean error of 149 %" in message


def test_published_figures_have_no_other_slip() -> None:
    """What is marked as a slip is found, and nothing else is."""
    marked = {figure.where for figure in read_published() if figure.facts.get("slip")}
    found = lint(read_table(PUBLISHED))
    assert {finding.where for finding in found} == marked and len(found) == len(marked) == 12
    assert all(finding.known for finding in found)


def test_a_mark_without_a_slip_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.yaml"
    entry = "{dataset: COFW, nme: 4.0, protocol: p, source: s, table: t, evidence: page, slip: nothing}"
    path.write_text(f"one:\n  - {entry}\n")
    with pytest.raises(SystemExit):
        main(["lint", str(path)])
    assert "marked as a slip, but no check finds one" in capsys.readouterr().out


def test_whole_failures(tmp_path: Path) -> None:
    assert rules(table(tmp_path, "a,WFLW,,,10,4.36,2.84,,,,,")) == []
    (found,) = table(tmp_path, "a,WFLW,,,10,4.36,2.85,,,,,")
    assert found.message == "FR 2.85 is 71.25 of 2500 faces, not a whole number"
    assert found.where.endswith("table.csv:2")
    assert rules(table(tmp_path, "a,mine,,7,10,4.0,14.29,,,,,", "b,mine,,7,10,4.0,14.3,,,,,")) == []
    assert rules(table(tmp_path, "a,mine,,7,10,4.0,15.0,,,,,")) == ["whole"]
    assert rules(table(tmp_path, "a,unknown,,,10,4.0,15.0,,,,,")) == [], "without n nothing is known"


def test_area_and_mean(tmp_path: Path) -> None:
    """AUC is at least 100 (1 - NME / t), and equal where no face fails."""
    assert rules(table(tmp_path, "a,x,,,10,4.00,,59.7,,,,exact")) == ["bound"]
    assert rules(table(tmp_path, "a,x,,,10,4.00,,59.7,,,,")) == [], "an unknown rule may be 0.2 off"
    assert rules(table(tmp_path, "a,x,,,10,4.00,0.00,60.0,,,,exact")) == []
    assert rules(table(tmp_path, "a,x,,,10,4.00,0.00,61.0,,,,exact")) == ["equality"]
    assert rules(table(tmp_path, "a,x,,,10,4.00,2.00,61.0,,,,exact")) == [], "failures of 15 % explain it"
    assert rules(table(tmp_path, "a,x,,,10,4.00,2.00,70.0,,,,exact")) == ["failures"]
    assert rules(table(tmp_path, "a,x,,,10,4.00,,0.607,,,,exact")) == [], "a fraction is read as percent"


def test_percentiles(tmp_path: Path) -> None:
    assert rules(table(tmp_path, "a,x,,100,10,4.0,6.00,,6.0,11.0,12.0,")) == []
    assert rules(table(tmp_path, "a,x,,100,10,4.0,,,6.0,5.0,9.0,")) == ["percentiles"]
    above = table(tmp_path, "a,x,,100,10,4.0,2.00,,6.0,11.0,12.0,")
    assert rules(above) == ["percentiles"] and "P95 11.0 is above 10 %, but FR is only 2.00" in above[0].message
    below = table(tmp_path, "a,x,,100,10,4.0,20.00,,6.0,11.0,12.0,")
    assert rules(below) == ["percentiles"] and "P90 6.0 is below 10 %, but FR is 20.00" in below[0].message


def test_pools(tmp_path: Path) -> None:
    """300W full is (554 common + 135 challenge) / 689: 3.00 and 5.00 pool to 3.39, not to their mean 4.00."""
    parts = ("a,300W,common,,8,3.00,,,,,,", "a,300W,challenge,,8,5.00,,,,,,")
    assert rules(table(tmp_path, *parts, "a,300W,full,,8,3.39,,,,,,")) == []
    (found,) = table(tmp_path, *parts, "a,300W,full,,8,4.00,,,,,,")
    assert found.rule == "pool" and "3.39" in found.message
    assert rules(table(tmp_path, parts[0], "a,300W,full,,8,4.00,,,,,,")) == [], "a part is missing"
    assert rules(table(tmp_path, *parts, "b,300W,full,,8,4.00,,,,,,")) == [], "another method's parts"


def test_records_of_the_runner_are_sound(tmp_path: Path) -> None:
    record = made_up.record(tmp_path, "spiga")
    append_record(tmp_path / "records.jsonl", record)
    assert lint(read_table(tmp_path / "records.jsonl")) == []
    bad = json.loads(json.dumps(record)) | {"cell": "bad"}  # hardly trained: 24 faces, of which 23 failed far off
    bad["card"]["n"] = 24
    bad["metrics"] = {"nme": 156.345489502, "fr": 95.833335876, "auc": 0.1}
    append_record(tmp_path / "bad.jsonl", bad)
    assert lint(read_table(tmp_path / "bad.jsonl")) == []
    record["metrics"]["fr"] += 0.1
    append_record(tmp_path / "records.jsonl", record)
    assert "whole" in rules(lint(read_table(tmp_path / "records.jsonl")))


def test_digits_carry_their_precision() -> None:
    assert Printed("4.36").half == pytest.approx(0.005) and Printed("0.6056").percent().half == pytest.approx(0.005)
    assert Printed("12").half == 0.5 and Printed("0.00").half == pytest.approx(0.005)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["lint", str(PUBLISHED)])
    out = capsys.readouterr().out
    assert "12 known slips" in out and "171 of 2501" in out
    path = tmp_path / "mine.csv"
    path.write_text(f"{HEADER}\nmine,WFLW,,,10,4.36,2.85,,,,,\n")
    with pytest.raises(SystemExit) as stop:
        main(["lint", str(path)])
    assert stop.value.code == 1 and f"{path}:2: mine, WFLW full: FR 2.85 is 71.25" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "content", "text"), [
    ("none.csv", None, "none.csv: no such table"),
    ("a.txt", "x", "a.txt: a table must be .yaml, .csv or .jsonl"),
    ("a.csv", "method,fr\na,1\n", "a.csv:1: the header must name the columns, at least nme"),
    ("a.csv", "method,nme\na,much\n", "a.csv:2: nme must be a number, got 'much'"),
    ("a.csv", "method,nme,n\na,4.0,few\n", "a.csv:2: n must be a number, got 'few'"),
    ("a.csv", "method,nme,n\na,4.0,0\n", "a.csv:2: n must lie between 1 and 1e+09, got '0'"),
    ("a.csv", "method,nme,threshold\na,4.0,0\n", "a.csv:2: threshold must lie between"),
    ("a.csv", "method,nme\na,inf\n", "a.csv:2: nme must lie between"),
    ("a.csv", b"method,nme\n\xc6,4.0\n", "a.csv:2: is not UTF-8 text"),
    ("a.yaml", "a: 3\n", "a.yaml: a must hold a list of entries"),
    ("a.yaml", "a: [{nme: 3.0}]\n", "a.yaml:1: a: source: Field required (3 more)"),
    ("a.yaml", f"a: [{{{SOUND}, colour: red}}]\n", "a.yaml:1: a: colour: Extra inputs are not permitted"),
    ("a.yaml", f"a:\n- {{{SOUND}, n: few}}\n", "a.yaml:2: a: n: Input should be an instance of Printed"),
    ("a.yaml", f"a: [{{{SOUND}, n: 0}}]\n", "a.yaml:1: a: n: Value error, must lie between 1 and 1e+09"),
    ("a.yaml", f"a: [{{{SOUND}, threshold: 0}}]\n", "a.yaml:1: a: threshold: Value error, must lie between"),
    ("a.yaml", f"a: [{{{SOUND}, fr: .nan}}]\n", "a.yaml:1: is not YAML: '.nan' is no decimal number"),
    ("a.yaml", f"a: [{{{SOUND}, subsets: [1]}}]\n", "a.yaml:1: a: subsets: Input should be a valid dictionary"),
    ("a.yaml", "a: [" * 3000, "a.yaml:1: is not YAML"),
    ("a.yaml", "a: [\n", "a.yaml:2: is not YAML"),
    ("a.jsonl", json.dumps({"cell": "x"}) + "\n", "a.jsonl:1: is no record: method: Field required"),
])  # fmt: skip
def test_mistakes_are_one_line(tmp_path: Path, name: str, content: str | bytes | None, text: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LabError) as error:
        read_table(path)
    assert text in str(error.value) and "\n" not in str(error.value)
