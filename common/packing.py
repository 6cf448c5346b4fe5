"""How a file of weights says what it is: method, settings and crop, in its own metadata or beside a checkpoint.

python -m common.packing RUN/checkpoints/best.ckpt OUT.safetensors    packs a checkpoint into one small file
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from common.data.crops import CropConfig
from common.data.options import upgrade
from common.errors import LabError, command
from common.export.runtime import ONNX, graph_metadata
from common.files.checkpoints import (
    INSTANTIATOR,
    build,
    check_content,
    plain,
    read_checkpoint,
    read_state_dict,
    save_safetensors,
)
from common.files.room import NONSENSE
from common.prediction.confidence import Confidence
from common.prediction.detection import BoxMap


@dataclasses.dataclass(frozen=True)
class Description:
    """What must be known to use weights.

    Attributes:
        method: name of the method's package.
        hyper_parameters: arguments of its task.
        crop: what its data module cut out.
        official: converted official weights, which see photographs through the official crop and decoding.
        confidence: what their scores mean, where it was fitted.
        box_maps: name of a detector -> from its box to the one that they were trained on, where it was fitted.
    """

    method: str
    hyper_parameters: dict[str, Any]
    crop: CropConfig
    official: bool = False
    confidence: Confidence | None = None
    box_maps: Mapping[str, BoxMap] = dataclasses.field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """Return the entries of a `.safetensors` file's metadata."""
        crop = dataclasses.asdict(self.crop.still())
        settings = json.dumps(self.hyper_parameters, default=dataclasses.asdict)  # groups of options as mappings
        about = {"method": self.method, "hyper_parameters": settings, "crop": json.dumps(crop)}
        if self.official:
            about["official"] = "true"
        if self.confidence is not None:
            about["confidence"] = self.confidence.text()
        if self.box_maps:
            about["box_maps"] = json.dumps({name: dataclasses.asdict(found) for name, found in self.box_maps.items()})
        return about


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a `.safetensors` file.

    Raises:
        LabError: the file is missing or damaged.
    """
    if not path.is_file():
        raise LabError(f"{path}: weights are missing; check the path")
    check_content(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        raise LabError(f"{path}: weights are truncated or damaged; copy them again") from None


def describe(path: Path, config: Path | None = None) -> Description:
    """Return what a file of weights is.

    Args:
        path: `.safetensors`, `.ckpt`, or an exported `.onnx`.
        config: configuration of the run, for the crop; default: config.yaml in the run's folder of a checkpoint.

    Raises:
        LabError: the file does not say it.
    """
    if path.suffix in (".safetensors", ONNX):
        found: Mapping[str, str] = graph_metadata(path) if path.suffix == ONNX else read_metadata(path)
        if "lacking" in found:
            raise LabError(f"{path}: cannot predict yet: {found['lacking']}")
        try:
            hyper = dict(json.loads(found["hyper_parameters"]))
            former = hyper.pop("release_crop", False)  # the former converter's mark
            official = bool(former) or found.get("official") == "true"
            crop = _present_crop(json.loads(found["crop"])) if config is None else _crop_of(config)
            confidence = Confidence.read(found["confidence"]) if "confidence" in found else None
            maps = {name: _box_map(given) for name, given in json.loads(found.get("box_maps", "{}")).items()}
            about = build(CropConfig, crop, path).still()
            return Description(found["method"], hyper, about, official, confidence, maps)
        except NONSENSE:
            raise LabError(
                f"{path}: does not say what network it is for (method, hyper_parameters, crop in its metadata); pack "
                "the run's checkpoint with python -m common.packing, or convert the official file again"
            ) from None
    checkpoint = read_checkpoint(path)
    if "method" not in checkpoint and "pytorch-lightning_version" in checkpoint:
        raise LabError(f"{path}: is a Lightning checkpoint of another program; this project can use its own only")
    if "method" not in checkpoint or "hyper_parameters" not in checkpoint:
        raise LabError(f"{path}: is no checkpoint of this project (method and hyper_parameters are missing)")
    if not isinstance(checkpoint["hyper_parameters"], Mapping):
        raise LabError(f"{path}: its settings are damaged; copy it again")
    hyper = {key: plain(value) for key, value in checkpoint["hyper_parameters"].items() if key != INSTANTIATOR}
    run = config or path.resolve().parent.parent / "config.yaml"
    return Description(str(checkpoint["method"]), hyper, build(CropConfig, _crop_of(run), run).still())


def _box_map(given: Mapping[str, object]) -> BoxMap:
    made = BoxMap(**{name: float(str(value)) for name, value in given.items()})
    if not all(map(math.isfinite, dataclasses.astuple(made))):
        raise ValueError("no finite map of boxes")
    return made


def _crop_of(config: Path) -> dict[str, object]:
    if not config.is_file():
        raise LabError(f"{config}: no configuration of the run; give it, since it says how faces were cropped")
    from common.files.validation import read_yaml  # here: its library takes time to import

    try:
        return dict(upgrade(read_yaml(config)["data"])["crop"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise LabError(f"{config}: has no data.crop; give the config.yaml of the run") from None


def _present_crop(kept: Mapping[str, object]) -> dict[str, object]:
    """Return a kept crop without the box that former versions kept in it: which box is used is the data's matter."""
    return {key: value for key, value in kept.items() if key != "box"}


def crop_of(path: Path) -> CropConfig:
    """Return the crop that a file's network knows: of a checkpoint, which keeps it, else as `describe`.

    Raises:
        LabError: the file does not say it.
    """
    if path.suffix == ".ckpt":
        kept = (read_checkpoint(path).get("data") or {}).get("crop")
        if kept is not None:
            return build(CropConfig, _present_crop(kept), path).still()
    return describe(path).crop


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights whose matrices and kernels are float16; what that cannot hold, and vectors, stay as they are."""
    found = dict(state)
    for key, value in state.items():
        if value.dtype == torch.float32 and value.ndim > 1 and value.half().isfinite().all():
            found[key] = value.half()
    return found


def named_values(given: Sequence[str]) -> dict[str, str]:
    """Return name -> value of the words NAME=VALUE of --set.

    Raises:
        LabError: one has no =.
    """
    if wrong := [word for word in given if "=" not in word]:
        raise LabError(f"--set {wrong[0]}: must be NAME=VALUE")
    return dict(word.split("=", 1) for word in given)


def with_settings(
    found: Description, changes: Mapping[str, str], where: Path, unkept: Collection[str] = ()
) -> Description:
    """Return a description with other settings of its task, such as those of decoding.

    Args:
        found: of the weights.
        changes: name, with the groups that it is in ("extra.flip_test") -> value as YAML.
        where: file of the weights, for messages.
        unkept: settings that files do not keep, which may be given, too.

    Raises:
        LabError: the task has no such setting, or a value is no YAML.
    """
    hyper = json.loads(json.dumps(found.hyper_parameters, default=dataclasses.asdict))
    for name, value in changes.items():
        *outer, last = name.split(".")
        group = hyper
        for part in outer:
            group = group.get(part) if isinstance(group, dict) else None
        if not isinstance(group, dict) or (last not in group and name not in unkept):
            known = ", ".join(dict.fromkeys((*hyper, *unkept)))
            raise LabError(f"{where}: --set {name}: its {found.method} has no such setting; it has {known}")
        try:
            group[last] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise LabError(f"--set {name}: the value cannot be read: {value[:60]!r}") from None
    return dataclasses.replace(found, hyper_parameters=hyper)


def pack(
    source: Path,
    target: Path,
    config: Path | None = None,
    extra: Mapping[str, str] | None = None,
    half: bool = False,
    changes: Mapping[str, str] | None = None,
) -> Description:
    """Write a checkpoint as one `.safetensors` file that `Predictor.load` can read without anything else.

    Args:
        source: checkpoint or `.safetensors` file.
        target: file to write.
        config: see `describe`.
        extra: further metadata.
        half: store matrices and kernels as float16, half the size; the network computes in float32 as before.
        changes: see `with_settings`.

    Raises:
        LabError: see `describe`, `with_settings`, `save_safetensors`; or the file does not read back as it was written.
    """
    found, state = with_settings(describe(source, config), changes or {}, source), read_state_dict(source)
    if changes:  # a value that the task refuses, or that makes another network, is reported before anything is written
        from common.methods import get_method  # here: reading a description must not import the networks
        from common.task import make_task

        make_task(get_method(found.method).task_class(), found.hyper_parameters, source, state)
    state = halved(state) if half else state
    save_safetensors(state, target, {**found.metadata(), **(extra or {})})
    back = read_state_dict(target)
    if back.keys() != state.keys() or any(not torch.equal(back[key], value) for key, value in state.items()):
        raise LabError(f"{target}: does not read back as it was written; is the disk sound?")
    return found


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `pack`; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m common.packing", description="Pack a checkpoint.")
    parser.add_argument("source", type=Path, help="checkpoint of a run")
    parser.add_argument("target", type=Path, help="file to write; .safetensors")
    parser.add_argument("--config", type=Path, help="config.yaml of the run; default: beside its checkpoints")
    parser.add_argument("--half", action="store_true", help="store the weights as float16: half the size")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="a setting that the packed file has otherwise, such as extra.flip_test=true")  # fmt: skip
    options = parser.parse_args(arguments)
    changes = named_values(options.set)
    if options.target.suffix != ".safetensors":
        raise LabError(f"{options.target}: the packed file must be named .safetensors")
    found = pack(options.source, options.target, options.config, half=options.half, changes=changes)
    print(f"{options.target}: {found.method}, {options.target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
