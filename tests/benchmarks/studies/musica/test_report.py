"""Figures of the page: regions, pictures, tables, and the measurement of speed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.studies.musica import report, speed
from benchmarks.studies.musica.attention import patch_attention, region_table, regions
from benchmarks.studies.musica.readme import BEGIN, END
from benchmarks.studies.musica.report import confidence_part, iterations_part
from common.evaluation import batches, evaluate_batches, load_data
from common.schemes import IBUG68, WFLW98
from common.task import load_task
from musica.choose_exit import main as choose_exit
from musica.compress import main as make_small
from musica.exit import exit_iteration, read_policy
from musica.exit.records import Records, collect
from musica.module import MusicaTask
from tests.musica.test_choose_exit import trained  # noqa: F401 - a fixture


def test_every_landmark_has_a_region() -> None:
    for scheme in (IBUG68, WFLW98):
        found = regions(scheme, range(scheme.num_points))
        assert "other" not in found and sum(map(len, found.values())) == scheme.num_points
    found = regions(IBUG68, (8, 36, 30, 57))
    assert found == {"jaw": [0], "eyes": [1], "nose": [2], "mouth": [3]}


def test_confidence_of_a_perfect_and_of_a_reversed_prediction() -> None:
    nme = np.random.default_rng(0).uniform(2, 12, (50, 1))
    perfect = confidence_part(Records(nme, nme / 80, nme / 80, []))
    assert perfect["aurc"] == pytest.approx(perfect["aurc_oracle"]) and perfect["iterations"][0]["spearman"] > 0.999
    assert all(row["nme"] == pytest.approx(row["oracle"]) for row in perfect["coverage"])
    assert perfect["coverage"][0]["nme"] == pytest.approx(nme.mean())
    assert confidence_part(Records(nme, nme / 80, -nme, []))["aurc"] > nme.mean()
    row = iterations_part(Records(nme, nme, nme, []))[0]
    assert row["fr8"] == pytest.approx(100 * (nme > 8).mean()) and row["interval"][0] < row["nme"] < row["interval"][1]


def test_collected_errors_are_those_of_the_shared_metric(trained: tuple[Path, Path]) -> None:  # noqa: F811
    checkpoint, recipe = trained
    task = load_task(MusicaTask, checkpoint)
    faces = list(batches(load_data(recipe, None, task), "val", 5))
    records = collect(task, faces)
    np.testing.assert_allclose(evaluate_batches(task, faces).nme, records.nme[:, -1], rtol=1e-5)
    assert records.nme.shape == (12, 3) and len(set(records.ids)) == 12
    # With early exit the results are the recorded ones at the iteration where each face leaves.
    rule = tuple(float(np.median(records.predicted[:, t])) for t in range(2))
    out = exit_iteration(records.predicted, np.array(rule))
    with torch.inference_mode():
        taken = torch.cat([task.run_crops(batch.image, exit_below=rule).iterations for batch in faces])
    assert taken.tolist() == (out + 1).tolist()


def test_region_table_is_relative(trained: tuple[Path, Path]) -> None:  # noqa: F811
    checkpoint, recipe = trained
    task = load_task(MusicaTask, checkpoint)
    faces = list(batches(load_data(recipe, None, task), "val", 6))
    found = region_table(task.net, task.scheme, faces)
    sizes = {name: len(rows) for name, rows in regions(task.scheme, task.net.index_sets[0].tolist()).items()}
    for t in range(3):
        column = {name: values[t] for name, values in found.items()}
        mean = sum(sizes[name] * pair[0] for name, pair in column.items() if pair) / sum(sizes.values())
        assert mean == pytest.approx(1, abs=1e-4)
    weights = patch_attention(task.net.traced(faces[0].image)[0])
    assert weights.shape == (6, 5) and 0 < weights.min() and weights.max() < 1


def test_report_from_a_checkpoint(
    trained: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint, recipe = trained
    policy = tmp_path / "policy.json"
    assert choose_exit([str(checkpoint), "--config", str(recipe), "--out", str(policy), "--levels", "4", "--timed",
                        "2", "--repeats", "1", "--max_loss", "9"]) == 0  # fmt: skip
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(report, "FIGURES", tmp_path / "figures")
    (tmp_path / "page.md").write_text(f"before\n{BEGIN}\nstale words\n{END}\nafter\n")
    out = tmp_path / "run" / "report.json"
    arguments = [str(checkpoint), "--config", str(recipe), "--policy", str(policy), "--out", str(out), "--repeats",
                 "1", "--official", str(checkpoint), "--ranks", "5", "--threads", "1", "--write"]  # fmt: skip
    assert report.main(arguments) == 0
    text = re.sub(" +", " ", (tmp_path / "page.md").read_text())
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "stale words" not in text
    assert text.count("| bilinear |") >= 2 and "Early exit" in text
    content = json.loads(out.read_text())
    kinds = [[row["rank"] for row in content[part]] for part in ("small", "speed")]
    assert kinds == [[0, 5]] * 2 and "| rank 5 |" in text
    assert content["speed"][0]["parameters"] == 20_586_543 and "| 69.96 M |" in text
    whole, thin = content["small"]
    assert thin["parameters"] < whole["parameters"] and thin["macs"] < whole["macs"]
    full, early = content["exit"]["ways"]
    saved = 1 - early["macs"] / full["macs"]
    assert content["faces"] == 6 and saved == pytest.approx(2 / 3) and early["exit"] and not full["exit"]
    assert [sum(share) for share in content["exit"]["share_leaving"]] == [pytest.approx(1)]
    assert saved <= content["exit"]["best_saving"] + 1e-9 and "no rule can" in text
    assert read_policy(policy, 3, "ibug68").exit_below
    for name in ("figures/attention.png", "figures/exit.png", "figures/risk.png", "run/attention.png"):
        assert (tmp_path / name).stat().st_size > 0
    policy.with_suffix(".png").unlink()
    assert report.main(arguments) == 2
    assert "curve is missing" in capsys.readouterr().err


def test_report_of_a_smaller_version_counts_from_the_full_cascade(
    trained: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, recipe = trained
    small = tmp_path / "small.ckpt"
    assert (
        make_small([str(checkpoint), str(small), "--rank", "2", "--attention_rank", "8", "--config", str(recipe)]) == 0
    )
    few = ["--config", str(recipe), "--levels", "4", "--timed", "2", "--repeats", "1", "--copies", "0"]
    policies = [tmp_path / name for name in ("policy.json", "small.json")]
    assert choose_exit([str(checkpoint), *few, "--out", str(policies[0]), "--max_loss", "0"]) == 0
    against = ["--against", str(checkpoint), "--max_loss", "9"]
    assert choose_exit([str(small), *few, "--out", str(policies[1]), *against]) == 0
    whole, thin = (load_task(MusicaTask, path).net for path in (checkpoint, small))
    chosen = read_policy(policies[1], 3, "ibug68", (2, 8)).chosen_on
    assert chosen["full"]["macs"] == whole.macs(3) and chosen["chosen"]["macs"] == pytest.approx(thin.macs(1))
    assert chosen["full"]["nme"] == read_policy(policies[0], 3, "ibug68").chosen_on["full"]["nme"]
    out = tmp_path / "report.json"
    arguments = [str(checkpoint), "--config", str(recipe), "--policy", str(policies[0]), "--out", str(out),
                 "--repeats", "1", "--threads", "1"]  # fmt: skip
    assert report.main([*arguments, "--small", str(small), "--small_policy", str(policies[1])]) == 0
    ways = json.loads(out.read_text())["exit"]["ways"]
    assert [(way["rank"], way["exit"]) for way in ways] == [(0, False), (0, True), (2, False), (2, True)]
    assert [way["macs"] for way in ways[::2]] == [whole.macs(3), thin.macs(3)]
    assert ways[3]["macs"] == pytest.approx(thin.macs(1)) and ways[0]["difference_interval"] == [0, 0]
    assert all(min(way["ms"].values()) > 0 for way in ways)
    shown = re.sub(" +", " ", capsys.readouterr().out)
    assert "| rank 2, attention 8 | policy, limit 900 % |" in shown and "musica/exit_small.png" in shown
    assert {path.name for path in (tmp_path / "figures").glob("exit*")} == {"exit.png", "exit_small.png"}
    assert report.main([*arguments, "--small", str(small)]) == 2
    assert "--small_policy" in capsys.readouterr().err


@pytest.mark.parametrize("small", [[], ["--rank", "4"]])
def test_speed_prints_size_and_ratio(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--patches", "w300_19", "--points", "68", "--units", "32", "--threads", "1", "--repeats", "1"]
    assert speed.main([*size, *small]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ratio_whole"] == pytest.approx(found["cascade_ms"] / found["whole_reading_ms"])
    assert found["ratio"] == pytest.approx(found["cascade_ms"] / found["reading_ms"]) and found["macs"] > 0
