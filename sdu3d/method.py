"""What the benchmark and the predictor know of SDU."""

from __future__ import annotations

from common.methods import Method

METHOD = Method(
    name="sdu3d",
    title="SDU",
    task="sdu3d.module:SduTask",
    cli="sdu3d.cli",
    recipes={
        "smoke": "sdu3d/smoke.yaml",
        "hg2d3-cab": "sdu3d/hg2d3-cab.yaml",
        "sat2d3-cab": "sdu3d/sat2d3-cab.yaml",
        "w300": "sdu3d/sat2d3-cab.yaml",
        "w300lp": "sdu3d/sat2d3-cab-3d.yaml",
        "w300lp_depth": "sdu3d/sat2d3-cab-depth.yaml",
        "paper": "sdu3d/paper.yaml",
        "records": "sdu3d/records.yaml",
        "helen": "sdu3d/helen.yaml",
        "helen_ema": "sdu3d/helen_ema.yaml",
        "helen_tune": "sdu3d/helen_tune.yaml",
        "equal": "sdu3d/equal.yaml",
    },
)
