"""What the benchmark and the predictor know of progressive reinitialisation."""

from __future__ import annotations

from common.methods import Method

METHOD = Method(
    name="dpr",
    title="DPR (GLSR)",
    task="dpr.module:DprTask",
    cli="dpr.cli",
    recipes={
        "smoke": "dpr/smoke.yaml",
        "wflw": ("dpr/reinit.yaml", "dpr/gsr.yaml", "dpr/local_reinit.yaml", "dpr/glsr.yaml"),
        "helen": ("dpr/helen.yaml", "dpr/helen_more.yaml", "dpr/helen_local.yaml"),
        "equal": ("dpr/equal1.yaml", "dpr/equal2.yaml"),
    },
)
