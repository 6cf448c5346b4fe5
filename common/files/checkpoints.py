"""Reading, checking and writing weights: strict, with a complete report, and without ever running pickled code."""

from __future__ import annotations

import dataclasses
import inspect
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from jsonargparse import ArgumentError, ArgumentParser
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.errors import LabError
from common.files.arrays import DAMAGED, check_unpacked
from common.files.checksum import BLANK, ENTRY, is_sound, seal_tensors, tensors_are_sound

KEYS_SHOWN = 5
SAFETENSORS = ".safetensors"
TORCH_PROTOCOL = 2  # of the pickles that torch.save writes
HEAD = 512  # bytes that show what a file is
REFUSED = re.compile(r"(?:GLOBAL|callable) ([\w.]+)")  # in torch's refusals: what the pickle wanted
INSTANTIATOR = "_instantiator"  # Lightning's note of who made the object, among the settings
Built = TypeVar("Built")


class Versioned(Protocol):
    """A task, as far as its former settings go."""

    METHOD: str
    MOVED: ClassVar[dict[str, str]]
    REMOVED: ClassVar[dict[str, object]]


def _numpy_data() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """Return what a pickled NumPy scalar is made of, which is data and no program; also by the name of NumPy 1."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    types = [type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *dict.fromkeys(types)]


def check_content(path: Path) -> None:
    """Raise a LabError that names what a file of weights is, where its first bytes show that it holds none.

    Raises:
        LabError: it is empty, a Git LFS pointer, a web page, or of the other of the two formats than its name says.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        raise LabError(f"{path}: is empty; copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        raise LabError(f"{path}: is a Git LFS pointer, not the file itself; fetch it with git lfs pull")
    if re.match(rb"\s*(<!doctype html|<html|<\?xml|<head)", head, re.IGNORECASE):
        raise LabError(
            f"{path}: is a web page, not weights; open the link in a browser and save the file that it leads to"
        )
    packed = head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8
    if packed and path.suffix != SAFETENSORS:
        raise LabError(f"{path}: holds safetensors data; rename it to {path.with_suffix(SAFETENSORS).name}")
    if path.suffix == SAFETENSORS and head.startswith((b"PK\x03\x04", b"\x80\x02")):
        raise LabError(f"{path}: was written by torch.save; rename it to {path.with_suffix('.pth').name}")


def _check_packing(path: Path) -> None:
    """Raise a LabError if a file of `torch.save`, which packs nothing, would unpack to much more than its size."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            try:
                check_unpacked(archive, path.stat().st_size, ratio=1)
            except ValueError as error:
                raise LabError(f"{path}: refused, since {error}; torch.save packs nothing") from None


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Return the content of a checkpoint file.

    Args:
        path: a `.safetensors` file (its tensors are returned under "state_dict"), or a file of `torch.save`.

    Raises:
        LabError: the file is missing, truncated, damaged or something else (see `check_content`), or would have to run
            code to be read; or its checksum, where it has one, is not that of its content.
    """
    path = Path(path)
    if not path.is_file():
        raise LabError(f"{path}: checkpoint is missing; check the path, or train it first")
    check_content(path)
    try:
        if path.suffix == SAFETENSORS:
            content: object = {"state_dict": load_file(path)}
            sound = tensors_are_sound(path)
        elif (sound := is_sound(path)) is not False:
            _check_packing(path)
            with torch.serialization.safe_globals(_numpy_data()):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = REFUSED.search(str(error))
        protocol = path.read_bytes()[:2]
        if found or (protocol[:1] == b"\x80" and protocol[1] > TORCH_PROTOCOL):
            wanted = found[1] if found else f"pickle protocol {protocol[1]}, not from torch.save"
            raise LabError(
                f"{path}: refused, since this pickle would run code when read ({wanted}); where it was made, save the "
                "state_dict alone with torch.save"
            ) from None
        raise LabError(f"{path}: checkpoint is damaged or no checkpoint; copy or download it again") from None
    except (OSError, SafetensorError, AssertionError, *DAMAGED):
        raise LabError(f"{path}: checkpoint is truncated or damaged; copy or download it again") from None
    if sound is False:
        raise LabError(f"{path}: checkpoint is damaged (its SHA-256 differs); copy or download it again")
    if not isinstance(content, dict):
        raise LabError(f"{path}: holds a {type(content).__name__} where a dictionary of weights was expected")
    try:
        upgrade_averages(content)
    except DAMAGED:
        raise LabError(f"{path}: checkpoint is damaged; copy or download it again") from None
    return content


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint: its "state_dict" if it has one, else the file itself.

    Raises:
        LabError: as `read_checkpoint`, or an entry is no tensor.
    """
    return state_of(read_checkpoint(path), path)


def state_of(content: Mapping[str, object], path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of what `read_checkpoint` returned for a path.

    Raises:
        LabError: an entry is no tensor, or has no name.
    """
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise LabError(f"{path}: state_dict is a {type(state).__name__}, no dictionary; is this a file of weights?")
    for key, value in state.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise LabError(f"{path}: entry {key} is a {type(value).__name__}, no tensor; is this a file of weights?")
    return dict(state)


def listed(keys: Iterable[str]) -> str:
    """Return the first keys in their order, and how many more there are."""
    keys = sorted(keys)
    more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
    return ", ".join(keys[:KEYS_SHOWN]) + more


def start_files(value: list[str] | str | None) -> list[str]:
    """Return the files of a run's `init_from`, the first one's weights before the others'."""
    return [value] if isinstance(value, str) else list(value or ())


def load_weights(
    module: nn.Module,
    state: Mapping[str, Tensor],
    where: str,
    allow_missing: tuple[str, ...] = (),
    drop: tuple[str, ...] = (),
) -> list[str]:
    """Load weights strictly; nothing is loaded when anything does not fit.

    Args:
        module: receives the weights.
        state: their keys and tensors.
        where: file they come from, for messages.
        allow_missing: prefixes of keys that the file need not have (a later stage's new parts).
        drop: prefixes of keys of the file that are left out on purpose.

    Returns:
        The keys that kept their initial value.

    Raises:
        LabError: a key is missing or unknown, a shape differs, or a number is not finite: decoders that look for the
            largest value would place points as if nothing were wrong.
    """
    own = module.state_dict()
    given = {key: value for key, value in state.items() if not key.startswith(drop)} if drop else dict(state)
    missing = [key for key in own if key not in given]
    lacking = [key for key in missing if not (allow_missing and key.startswith(allow_missing))]
    unknown = [key for key in given if key not in own]
    shapes = [
        f"{key} is {tuple(given[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    broken = [key for key, value in given.items() if _diverged(value)]
    problems = []
    if broken:
        problems.append(f"{len(broken)} hold NaN or infinity ({listed(broken)}), of a training that has diverged")
    if lacking:
        problems.append(f"{len(lacking)} keys missing ({listed(lacking)})")
    if unknown:
        problems.append(f"{len(unknown)} keys unknown ({listed(unknown)})")
    if shapes:
        problems.append(f"{len(shapes)} shapes differ ({listed(shapes)})")
    if problems:
        raise LabError(f"{where}: weights do not fit this network: {'; '.join(problems)}")
    try:
        module.load_state_dict(given, strict=False)
    except RuntimeError as error:  # sparse or without storage
        raise LabError(f"{where}: weights cannot be copied ({' '.join(str(error).split())[:160]})") from None
    return missing


def _diverged(value: Tensor) -> bool:
    try:
        return value.is_floating_point() and not bool(value.isfinite().all())
    except RuntimeError:  # sparse or without storage
        return False


def plain(value: object) -> object:
    """Return settings as values that every format keeps: dataclasses as dictionaries, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def upgrade(kind: type[Versioned], settings: Mapping[str, object], where: Path | str) -> dict[str, object]:
    """Return a file's settings as the present constructor takes them.

    Args:
        kind: a task, with its tables MOVED and REMOVED.
        settings: as this version or a former one wrote them.
        where: file they come from, for messages.

    Raises:
        LabError: a setting is unknown, or was removed and had another effect than the task has now.
    """
    found: dict[str, object] = {}

    def group(name: str) -> dict[str, object]:
        value = found.get(name)
        return dict(value) if isinstance(value, Mapping) else {}

    known = inspect.signature(kind).parameters
    unknown = [key for key in settings
               if kind.MOVED.get(key, key).partition(".")[0] not in (*known, *kind.REMOVED, INSTANTIATOR)]  # fmt: skip
    if unknown:
        raise LabError(f"{where}: was made with {', '.join(sorted(unknown))}, which {kind.METHOD} does not know; train "
                       "it anew, or use the version that made it")  # fmt: skip
    for key, value in settings.items():
        value = plain(value)
        place = kind.MOVED.get(key, key)
        root, _, name = place.partition(".")
        if key == INSTANTIATOR:
            continue
        if key in kind.REMOVED and key not in known:
            if value != kind.REMOVED[key]:
                raise LabError(f"{where}: was made with {key} {value}, which {kind.METHOD} no longer has; train it "
                               "anew, or use the version that made it")  # fmt: skip
        elif name and not (root == key and isinstance(value, Mapping)):  # a group may have a former argument's name
            found[root] = group(root) | {name: value}
        else:
            found[root] = group(root) | dict(value) if isinstance(value, Mapping) else value
    return found


def explain(error: Exception) -> str:
    """Return what a parser has against a setting in one line: key, what is allowed, what was given."""
    text = " ".join(str(error).split())
    text = re.sub(r'Parser key "(?:made\.)?([\w.]*)":', r"\1:", text)
    choices = re.compile(r"Expected a typing\.Literal\[([^\]]*)\]\. Got value: ")
    return choices.sub(lambda found: f"must be one of {found[1].replace(chr(39), '')}, got ", text)


def build(kind: type[Built], settings: Mapping[str, object], where: Path | str) -> Built:
    """Return an object made from plain settings, checked against the types of its constructor.

    Raises:
        LabError: a setting is unknown, has the wrong type or is out of its range.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "made")
    try:
        made = parser.instantiate(parser.parse_object({"made": plain(settings)}))["made"]
    except (ArgumentError, TypeError) as error:
        raise LabError(f"{where}: {explain(error)}") from None
    except LabError as error:
        raise LabError(f"{where}: {error}") from None
    assert isinstance(made, kind)
    return made


def upgrade_averages(checkpoint: dict[str, object]) -> None:
    """Bring a checkpoint whose moving average was a second network, `ema`, into the present form, in place."""
    state = checkpoint.get("state_dict")
    if not isinstance(state, dict) or "ema.steps" not in state:
        return
    trained = {key: value for key, value in state.items() if not key.startswith("ema.")}
    steps = int(state["ema.steps"])
    mean = {key.removeprefix("ema."): value for key, value in state.items() if key.startswith("ema.net.")}
    checkpoint["state_dict"] = trained | (mean if steps else {})
    checkpoint["current_model_state"] = trained
    checkpoint["averaging_state"] = {"n_averaged": torch.tensor(steps + 1)}


def save_safetensors(
    state: Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, str] | None = None, overwrite: bool = False
) -> None:
    """Write tensors to a `.safetensors` file with their checksum, whole or not at all.

    Raises:
        LabError: the file exists and `overwrite` is off, or its folder is missing.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise LabError(f"{path}: exists already; remove it or choose another name")
    if not path.parent.is_dir():
        raise LabError(f"{path.parent}: no such folder; make it first")
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
        save_file(tensors, name, {**(metadata or {}), ENTRY: BLANK})
        seal_tensors(Path(name))
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
