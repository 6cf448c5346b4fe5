"""What the benchmark and the predictor know of the Adaptive Wing method."""

from __future__ import annotations

from common.methods import Method

METHOD = Method(
    name="awing",
    title="AWing",
    task="awing.module:AWingTask",
    cli="awing.cli",
    default=True,  # the lowest error from a detector's boxes on validation faces: the cards of the embedded weights
    recipes={
        "smoke": "awing/smoke.yaml",
        "wflw": "awing/wflw.yaml",
        "w300": "awing/w300.yaml",
        "cofw": "awing/cofw.yaml",
        "aflw": "awing/aflw.yaml",
        "helen": "awing/helen.yaml",
        "helen_ema": "awing/helen_ema.yaml",
        "helen_tune": ("awing/helen_tune1.yaml", "awing/helen_tune2.yaml"),
        "equal": "awing/equal.yaml",
    },
)
