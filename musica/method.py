"""What the benchmark and the predictor know of the selective cascade."""

from __future__ import annotations

from common.methods import Method

METHOD = Method(
    name="musica",
    title="MuSiCa",
    task="musica.module:MusicaTask",
    cli="musica.cli",
    recipes={
        "smoke": "musica/smoke.yaml",
        "wflw": "musica/wflw.yaml",
        "w300": "musica/w300.yaml",
        "helen": "musica/helen.yaml",
        "equal": "musica/equal.yaml",
    },
)
