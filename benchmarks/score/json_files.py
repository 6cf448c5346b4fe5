"""JSON files of faces: read with every key once, and `common.predict`'s own form turned into faces."""

from __future__ import annotations

import json
from pathlib import Path

from common.errors import LabError


def load_json(path: Path) -> object:
    """Return the content of a JSON file, or of a file of JSON lines as `common.predict --format jsonl` writes it.

    Raises:
        LabError: it is no text, no JSON, or an object in it names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise LabError(f"{path}: is not a text file") from None
    if path.suffix.lower() == ".jsonl":
        entries = [_parsed(path, line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if entries and isinstance(entries[0], dict) and "method" in entries[0]:
            return {"pictures": entries[1:]}
        return entries
    return _parsed(path, text, 0)


def _parsed(path: Path, text: str, line: int) -> object:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise LabError(f"{path}: {key!r} is twice in one object; keep one of them")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise LabError(f"{path}:{line or error.lineno}: is not JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise LabError(f"{path}: is not JSON: {error}") from None


def one_face_each(path: Path, pictures: list[object]) -> list[dict[str, object]]:
    """Return the faces of `common.predict`'s pictures; a picture's name is its face's id.

    A picture without a face is a face without a prediction.

    Raises:
        LabError: an entry is of another form, or a picture has several faces, so that its name says not which.
    """
    faces: list[dict[str, object]] = []
    for number, entry in enumerate(pictures, 1):
        where = f"{path}: picture {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("faces"), list) or "picture" not in entry:
            raise LabError(f"{where}: expected an object with picture and faces")
        found = entry["faces"]
        if len(found) > 1:
            raise LabError(f"{where}: {entry['picture']} has {len(found)} faces; predict with --faces 1 to score it")
        if found and not (isinstance(found[0], dict) and "points" in found[0]):
            raise LabError(f"{where}: {entry['picture']}: the face has no points")
        faces.append({"id": entry["picture"], "points": found[0]["points"] if found else None})
    return faces
