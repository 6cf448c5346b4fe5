"""What the benchmark and the predictor know of SPIGA."""

from __future__ import annotations

from common.methods import Method

METHOD = Method(
    name="spiga",
    title="SPIGA",
    task="spiga.module:SpigaTask",
    cli="spiga.cli",
    recipes={
        "smoke": "spiga/smoke.yaml",
        "wflw": tuple(f"spiga/stage{n}.yaml" for n in (1, 2, 3)),
        "w300": tuple(f"spiga/w300public_stage{n}.yaml" for n in (1, 2, 3)),
        "w300private": tuple(f"spiga/w300private_stage{n}.yaml" for n in (1, 2, 3)),
        "merlrav": tuple(f"spiga/merlrav_stage{n}.yaml" for n in (1, 2, 3)),
        "helen": tuple(f"spiga/helen_stage{n}.yaml" for n in ("1", "1b", "2", "3")),
        "helen_ema": tuple(f"spiga/helen_ema{n}.yaml" for n in (1, 2, 3)),
        "equal": tuple(f"spiga/equal{n}.yaml" for n in (1, 2, 3)),
    },
)
