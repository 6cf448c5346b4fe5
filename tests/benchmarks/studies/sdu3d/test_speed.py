"""The plain graph against the network, the timing script, and the figures of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.provenance import ROOT
from benchmarks.readme import NOT_MEASURED, split_at_marks
from benchmarks.studies.sdu3d import readme, speed
from benchmarks.studies.sdu3d.plain import PlainGraph
from common.files.recipes import read_recipe
from sdu3d.convert import Size, build


@pytest.mark.parametrize(
    "options",
    [
        {"block": "resnet", "depth": 2},
        {"block": "hpm", "stride": 4},
        {"block": "inception"},
        {"block": "cab", "topology": "sat", "depth": 3},
        {"block": "cab", "topology": "sat_gate", "depth": 3, "stacks": 3},
        {"block": "cab", "width": 64, "depth": 2},
    ],
)
def test_plain_graph_and_network_give_the_same_maps(options: dict[str, Any]) -> None:
    """Two programs, written apart from one description."""
    size = Size(**{"num_points": 5, "topology": "hourglass", "depth": 1, "stacks": 2, "width": 32, "stride": 2,
                   "inside": "none", **options})  # fmt: skip
    net = build(size).eval()
    for name, value in net.named_buffers():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
        assert name
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        found, expected = PlainGraph.of(net, size)(image), net(image).heatmaps
    assert len(found) == size.stacks
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * float(b.abs().max()), rtol=1e-5)


def test_the_plain_graph_has_no_transformers() -> None:
    with pytest.raises(ValueError, match="no transformers"):
        PlainGraph({}, Size(5, "hourglass", "cab", 1, 2, 32, 2, "dcn"))


def test_recipes_have_the_published_sizes() -> None:
    sizes = {name: readme.file_bytes(speed.recipe_size(name)[0]) // 10**6 for name in speed.PUBLISHED}
    assert sizes == {"hg2d4-resnet": 26, "hg2d3-hpm": 38, "hg2d4-cab": 46, "sat2d3-cab": 40, "hg2d3-cab": 37}
    for name in ("hg2d3-cab", "sat2d3-cab"):
        assert speed.recipe_size(f"{name}-3d") == speed.recipe_size(name)
        content = read_recipe(ROOT / "sdu3d" / f"{name}-3d.yaml")
        assert content["data"]["dataset"] == "w300lp"


def test_times_are_recorded_and_reach_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Size(68, "hourglass", "cab", 1, 1, 32, 4, "none")
    monkeypatch.setattr(speed, "recipe_size", lambda _: (small, 32))
    monkeypatch.setattr(readme, "recipe_size", lambda _: (small, 32))
    monkeypatch.setattr(speed, "SIDE", 64)
    out = tmp_path / "benchmark" / "sdu3d_speed.json"
    assert speed.main(["hg2d3-cab", "--rounds", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    found = report["networks"]["hg2d3-cab"]
    assert set(found["ms"]) == set(speed.FORMS) and min(found["ms"].values()) > 0
    assert max(found["difference"].values()) < 1e-4 and found["macs"] > 1e6
    assert speed.main(["vgg"]) == 2 and "no such recipe" in capsys.readouterr().err
    scores = tmp_path / "sdu3d" / "scores"
    scores.mkdir(parents=True)
    values = {"corners": 1.5, "eye_centres": 2.25, "lnd_bbox": 3.125}
    both = {"released": values, "local_soft": {key: value - 0.5 for key, value in values.items()}}
    (scores / "helen_hg_val.json").write_text(json.dumps(both))
    (scores / "depth.json").write_text(json.dumps({"z": 1.25, "faces": 8.0}))
    (scores / "aflw2000.json").write_text(json.dumps({"faces": 8, "plane": {"pooled": 4.5}}))
    (tmp_path / "sdu3d" / "ablation").mkdir()
    row = {"nme": 7.0, "low": 6.0, "high": 8.0, "parameters": 1234}
    (tmp_path / "sdu3d" / "ablation" / "report.json").write_text(json.dumps({"none": row}))
    document = tmp_path / "page.md"
    document.write_text(f"before\n{readme.START}\nformer figures\n{readme.END}\nafter\n")
    arguments = ["--runs", str(tmp_path), "--document", str(document)]
    assert readme.main(arguments) == 0
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "former figures" not in text
    for part in ("1.75", NOT_MEASURED, "2.250 (+0.000)", "1.750 (-0.500)", "[6.00, 8.00]", "1.25", "4.50", "1,234"):
        assert part in text, part
    assert readme.main(arguments) == 0 and document.read_text() == text
    document.write_text("no marks")
    assert readme.main(arguments) == 2


def test_the_page_has_its_marks() -> None:
    head, _, tail = split_at_marks(readme.PAGE, readme.START, readme.END)
    assert head.startswith("# ") and readme.START not in tail
