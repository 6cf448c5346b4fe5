"""What the user names on the command line of prediction: files, folders, patterns and lists become pictures."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.base import check_box
from common.errors import LabError
from common.prediction.video import VIDEO_ENDINGS, is_video

JPEG_ENDINGS = (".jpg", ".jpeg")
PICTURE_ENDINGS = (*JPEG_ENDINGS, ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".gif")
DRAWN = ".landmarks"  # before the ending of what prediction draws, so that a second run does not take it for an input


def expand(given: Sequence[Path], listed: Path | None = None) -> list[Path]:
    """Return the pictures and videos, each once, in order.

    Args:
        given: files, folders (all pictures and videos below them, sorted) and patterns; of the last two, what
            prediction drew is left out.
        listed: text file with one path a line, relative to it.

    Raises:
        LabError: an address instead of a file, a pattern or folder without pictures, or a list that cannot be read.
    """
    found: list[Path] = []
    for path in given:
        text = str(path)
        if text.startswith(("http:/", "https:/")):
            address = text.replace(":/", "://", 1)  # a path has no double slash
            raise LabError(f"{address}: is an address; fetch the picture first and give the file")
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if _is_input(file)]
            if not inside:
                raise LabError(f"{path}: there is no picture or video in this folder")
            found += inside
        elif not path.exists() and glob.has_magic(text):
            matches = [Path(name) for name in sorted(glob.glob(text, recursive=True)) if not _is_drawn(Path(name))]
            if not matches:
                raise LabError(f"{text}: no file fits this pattern")
            found += matches
        else:
            found.append(path)
    if listed is not None:
        try:
            lines = listed.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise LabError(f"{listed}: is not a text file of paths") from None
        found += [listed.parent / line.strip() for line in lines if line.strip()]
    return list(dict.fromkeys(found))


def _is_input(file: Path) -> bool:
    endings = (*PICTURE_ENDINGS, *VIDEO_ENDINGS)
    hidden = file.name.startswith(".")
    return file.suffix.lower() in endings and not hidden and not _is_drawn(file) and file.is_file()


def _is_drawn(file: Path) -> bool:
    return file.stem.endswith(DRAWN)


def read_rct(path: Path) -> np.ndarray:
    """Return the box x0 y0 x1 y1 (4,), image pixels, of a .rct file.

    Raises:
        LabError: the file is not one line of four numbers, or the box has no area.
    """
    try:
        words = path.read_text(encoding="ascii").split()
        values = [float(word) for word in words]
    except (OSError, UnicodeDecodeError, ValueError):
        raise LabError(f"{path}:1: expected four numbers x0 y0 x1 y1") from None
    if len(values) != 4:
        raise LabError(f"{path}:1: expected four numbers x0 y0 x1 y1, got {len(values)}")
    return check_box(np.array(values), f"{path}:1")


def output_names(sources: Sequence[Path | int]) -> list[str]:
    """Return a different name for what is drawn of each source: the stem, numbered where it is taken."""
    names: dict[str, None] = {}
    for source in sources:
        stem = f"camera{source}" if isinstance(source, int) else source.stem
        name, count = stem, 1
        while name in names:
            count += 1
            name = f"{stem}-{count}"
        names[name] = None
    return list(names)


def drawn_name(source: Path | int, name: str) -> str:
    """Return the file's name of what is drawn of a source: of a JPEG a JPEG, which takes a tenth of a PNG's time."""
    if isinstance(source, int) or is_video(source):
        return f"{name}{DRAWN}.mp4"
    return f"{name}{DRAWN}{'.jpg' if source.suffix.lower() in JPEG_ENDINGS else '.png'}"
