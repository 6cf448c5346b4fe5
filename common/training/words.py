"""What the user typed, before it is parsed: configuration files are sound, former names are renamed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from common.errors import LabError
from common.files.validation import UniqueKeys

FLAG = re.compile(r"--([\w.]+)(?:=(.*))?", re.DOTALL)


def typed_keys(args: list[str]) -> set[str]:
    """Return the dotted names of all options that are typed on the command line."""
    return {found[1] for word in args if (found := FLAG.fullmatch(word))}


def config_names(args: list[str]) -> Iterator[str]:
    """Yield the names of the files given by --config or -c."""
    for index, word in enumerate(args):
        found = re.fullmatch(r"(?:--config|-c)(?:=(.+))?", word)
        if found:
            yield found.group(1) or (args[index + 1] if index + 1 < len(args) else "")


def rename_former(args: list[str], moved: Mapping[str, str]) -> list[str]:
    """Return the words with former names of model options (--model.lr) replaced by the present (--model.train.lr)."""
    words = list(args)
    for index, word in enumerate(words):
        found = FLAG.fullmatch(word)
        key = found[1].removeprefix("model.") if found else ""
        if not found or found[1] == key or key not in moved:
            continue
        value = found[2] if found[2] is not None else words[index + 1] if index + 1 < len(words) else ""
        if moved[key].partition(".")[0] == key and value.lstrip().startswith("{"):
            continue  # the whole group of that name
        words[index] = f"--model.{moved[key]}" + ("" if found[2] is None else f"={found[2]}")
    return words


def check_config_files(args: list[str], moved: Mapping[str, str]) -> None:
    """Check the files given by --config.

    Raises:
        LabError: one is missing, is no YAML, gives a key twice, or uses a former name of a model option.
    """
    for name in config_names(args):
        if not Path(name).is_file():
            raise LabError(f"{name or '--config'}: no such configuration file")
        try:
            content = UniqueKeys(Path(name).read_text(encoding="utf-8")).get_single_data()
        except LabError as error:
            raise LabError(f"{name}: {error}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            raise LabError(f"{name}{line}: is not valid YAML") from None
        model = content.get("model") if isinstance(content, dict) else None
        for key, value in model.items() if isinstance(model, dict) else ():
            place = moved.get(key, key)
            if place != key and not (place.partition(".")[0] == key and isinstance(value, dict)):
                raise LabError(f"{name}: model.{key} is now model.{place}; move it there")
