"""Files that people write or pass on (JSON, YAML) against a schema: whatever is wrong is one line with file and key."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from common.errors import LabError

MOST_NODES = 100_000  # of a YAML file; the largest of ours has 3,000
Schema = TypeVar("Schema")
Place = Sequence[int | str]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """A schema: types are not converted (true is no number, "3" neither), unknown keys are errors, values are fixed."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice in one section, and aliases that would unfold to too much, or to no end."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _unfolded(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        lines: dict[object, int] = {}
        for key, _ in node.value:
            name, line = key.value, key.start_mark.line + 1
            if isinstance(name, str) and name in lines:
                raise LabError(f"key {name} is given twice, in lines {lines[name]} and {line}; keep one of them")
            if isinstance(name, str):
                lines[name] = line
        return super().construct_mapping(node, deep)


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many nodes there are below and with this one where aliases are written out."""
    if id(node) not in known:
        known[id(node)] = MOST_NODES  # an alias of what it lies in has no end
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        inside = parts if isinstance(parts, list) else []
        known[id(node)] = 1 + sum(_unfolded(part, known) for part in inside)
        if known[id(node)] > MOST_NODES:
            raise LabError(f"line {node.start_mark.line + 1}: unfolds to more than {MOST_NODES} values; is an alias "
                           "used inside itself?")  # fmt: skip
    return known[id(node)]


def read_text(path: Path, hint: str = "") -> str:
    """Return a text file's content; `hint` says what to do, for the end of the message.

    Raises:
        LabError: the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabError(f"{path}: no such file{hint and '; '}{hint}") from None
    except OSError as error:
        raise LabError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise LabError(f"{path}:{line}: is not UTF-8 text{hint and '; '}{hint}") from None


def read_json(path: Path, hint: str = "") -> Any:
    """Return the content of a JSON file.

    Raises:
        LabError: as `read_text`; or the text is not JSON, is nested too deeply, or holds a number of too many digits.
    """
    return parse_json(read_text(path, hint), str(path), hint)


def parse_json(text: str, where: str, hint: str = "") -> Any:
    """Return the content of a JSON text.

    Raises:
        LabError: as `read_json`.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise LabError(f"{where}:{error.lineno}: is not valid JSON: {error.msg}{hint and '; '}{hint}") from None
    except (RecursionError, ValueError) as error:
        raise LabError(f"{where}: is not valid JSON: {_reason(error)}") from None


def read_yaml(path: Path, hint: str = "") -> Any:
    """Return the content of a YAML file.

    Raises:
        LabError: as `read_text`; or the text is not YAML, gives a key twice, or is nested too deeply.
    """
    text = read_text(path, hint)
    try:
        return UniqueKeys(text).get_single_data()
    except LabError as error:
        raise LabError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise LabError(f"{path}{f':{mark.line + 1}' if mark else ''}: is not valid YAML") from None
    except (RecursionError, ValueError) as error:
        raise LabError(f"{path}: is not valid YAML: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def key_of(place: Place) -> str:
    """Return a place inside a file as people write it: jobs[0].seeds."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def complaint(error: ValidationError) -> str:
    """Return the first thing that is wrong: key, what it should be, and what it is."""
    found = error.errors(include_url=False)[0]
    key, given = key_of(found["loc"]), found["input"]
    # Only as much of the value as fits a line: it may be as large as the file.
    shown = "" if found["type"] == "missing" else f", got {reprlib.repr(given)}"
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{key}{key and ': '}{found['msg']}{shown}{more}"


def validated(schema: type[Schema], content: object, where: str, hint: str = "") -> Schema:
    """Return content as a schema's type.

    Args:
        schema: a `Strict` class, or any type that pydantic knows.
        content: as JSON or YAML gives it.
        where: file, or file and place, for the message.
        hint: what to do, for the message's end.

    Raises:
        LabError: the content does not fit; names the key.
    """
    try:
        return TypeAdapter(schema).validate_python(content)
    except ValidationError as error:
        raise LabError(f"{where}: {complaint(error)}{hint and '; '}{hint}") from None


def read_yaml_as(schema: type[Schema], path: Path, hint: str = "") -> Schema:
    """Return a YAML file as a schema's type.

    Raises:
        LabError: the file is missing or no YAML, or does not fit; names the line and the key.
    """
    content = read_yaml(path, hint)
    try:
        return TypeAdapter(schema).validate_python(content)
    except ValidationError as error:
        line = line_of(path, error.errors()[0]["loc"])
        raise LabError(f"{path}:{line}: {complaint(error)}{hint and '; '}{hint}") from None


def line_of(path: Path, place: Place) -> int:
    """Return the line of a place in a YAML file that was read before, or of the innermost part of it that is there."""
    return _line(yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader), place)


def _line(node: yaml.Node | None, place: Place) -> int:
    """Return the line of a place in a YAML document, or of the innermost part of it that is there."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
            key, node = pairs.get(str(part), (None, None))
            line = line if key is None else key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
