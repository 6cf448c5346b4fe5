"""The one list of methods. To add a paper, add an entry: the contract test and the benchmark then run it too."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from benchmarks.provenance import ROOT
from common.data.crops import CropConfig
from common.task import LandmarkTask


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        title: how tables call it.
        task: import path of its LandmarkTask.
        cli: module with `main(args)`.
        recipes: name -> YAML, or the YAMLs of its stages, each of which starts from the weights of the one before;
            "smoke" is the one of `make benchmark`.
        published: data set -> NME in percent as printed, see published.yaml for table and protocol.
    """

    title: str
    task: str
    cli: str
    recipes: Mapping[str, str | tuple[str, ...]]
    published: Mapping[str, float] = field(default_factory=dict)

    def stages(self, recipe: str) -> tuple[str, ...]:
        """Return the YAML of each stage of a recipe."""
        files = self.recipes[recipe]
        return (files,) if isinstance(files, str) else tuple(files)

    def main(self) -> Callable[[list[str]], Any]:
        """Return the method's command line as a function."""
        return importlib.import_module(self.cli).main  # type: ignore[no-any-return]

    def task_class(self) -> type[LandmarkTask]:
        """Return the method's LandmarkTask."""
        module, name = self.task.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


METHODS: dict[str, Method] = {
    "awing": Method(
        title="Adaptive Wing",
        task="awing.module.AWingTask",
        cli="awing.cli",
        recipes={
            "smoke": "awing/smoke.yaml",
            "wflw": "awing/wflw.yaml",
            "w300": "awing/w300.yaml",
            "helen": "awing/helen.yaml",
        },
        published={"WFLW": 4.36, "300W full": 3.07},
    ),
    "dpr": Method(
        title="Progressive reinitialisation (GLSR)",
        task="dpr.module.DprTask",
        cli="dpr.cli",
        recipes={
            "smoke": "dpr/smoke.yaml",
            "wflw": ("dpr/reinit.yaml", "dpr/gsr.yaml", "dpr/local_reinit.yaml", "dpr/glsr.yaml"),
            "helen": ("dpr/helen.yaml", "dpr/helen_more.yaml", "dpr/helen_local.yaml"),
        },
        published={"WFLW": 5.08},
    ),
    "musica": Method(
        title="Selective cascade with patch attention (MuSiCa)",
        task="musica.module.MusicaTask",
        cli="musica.cli",
        recipes={
            "smoke": "musica/smoke.yaml",
            "wflw": "musica/wflw.yaml",
            "w300": "musica/w300.yaml",
            "helen": "musica/helen.yaml",
        },
        published={},  # the abstract's 300W figure names no normaliser
    ),
    "sdu3d": Method(
        title="SDU",
        task="sdu3d.module.SduTask",
        cli="sdu3d.cli",
        recipes={
            "smoke": "sdu3d/smoke.yaml",
            "hg2d3-cab": "sdu3d/hg2d3-cab.yaml",
            "sat2d3-cab": "sdu3d/sat2d3-cab.yaml",
            "helen": "sdu3d/helen.yaml",
        },
        published={"300W private": 5.65, "AFLW2000-3D": 3.01},
    ),
    "spiga": Method(
        title="SPIGA",
        task="spiga.module.SpigaTask",
        cli="spiga.cli",
        recipes={
            "smoke": "spiga/smoke.yaml",
            "wflw": tuple(f"spiga/stage{n}.yaml" for n in (1, 2, 3)),
            "w300": tuple(f"spiga/w300public_stage{n}.yaml" for n in (1, 2, 3)),
            "w300private": tuple(f"spiga/w300private_stage{n}.yaml" for n in (1, 2, 3)),
            "merlrav": tuple(f"spiga/merlrav_stage{n}.yaml" for n in (1, 2, 3)),
            "helen": tuple(f"spiga/helen_stage{n}.yaml" for n in ("1", "1b", "2", "3")),
        },
        published={"WFLW": 4.06, "300W full": 2.99, "300W private": 2.03, "COFW-68": 2.52, "MERL-RAV": 1.51},
    ),
}


def make_task(name: str, recipe: str) -> LandmarkTask:
    """Return a method's task as the last stage of a recipe makes it, with random weights."""
    content = yaml.safe_load((ROOT / METHODS[name].stages(recipe)[-1]).read_text(encoding="utf-8"))
    data = content["data"]
    return METHODS[name].task_class()(
        scheme=data["scheme"], input_size=data.get("crop", {}).get("size", CropConfig.size), **content["model"]
    )
