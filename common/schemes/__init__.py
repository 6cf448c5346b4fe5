"""Landmark schemes: which points there are, how they mirror, which lines they draw, how schemes map to each other.

Indices are 0-based. "Left" means the image's left, which is the subject's right. Curves run from image-left to
image-right (the bridge of the nose from above), and neighbouring curves share their end points. Everything here is a
plain tuple, so that no averaging or moving of modules can change it.
"""

from __future__ import annotations

from pathlib import Path

from common.errors import LabError
from common.schemes.known import AFLW19, COFW29, IBUG68, JD106, LAPA106, MERLRAV68, SCHEMES, WFLW98
from common.schemes.maps import MAPS, Indices, SchemeMap
from common.schemes.scheme import Curve, LandmarkScheme

__all__ = [
    "AFLW19",
    "COFW29",
    "IBUG68",
    "JD106",
    "LAPA106",
    "MAPS",
    "MERLRAV68",
    "SCHEMES",
    "WFLW98",
    "Curve",
    "Indices",
    "LandmarkScheme",
    "SchemeMap",
    "get_scheme",
    "scheme_of_size",
]


def scheme_of_size(points: int) -> LandmarkScheme:
    """Return the first scheme of so many points.

    Raises:
        LabError: there is none.
    """
    for scheme in SCHEMES.values():
        if scheme.num_points == points:
            return scheme
    raise LabError(f"no landmark scheme of {points} points is known")


def get_scheme(word: str) -> LandmarkScheme:
    """Return a scheme.

    Args:
        word: a key of SCHEMES, the path of a YAML file of your own (docs/your_landmarks.md), or such a file's content
            as JSON, as checkpoints keep it.

    Raises:
        LabError: the name is unknown (lists the names), or the file or the text is wrong (names the key).
    """
    if word in SCHEMES:
        return SCHEMES[word]
    if word.lstrip().startswith("{"):
        from common.schemes.own import parse_scheme  # here: a schema library, which scoring files does without

        return parse_scheme(word, "landmark scheme of the checkpoint")
    if word.endswith((".yaml", ".yml")):
        from common.schemes.own import read_scheme

        return read_scheme(Path(word))
    raise LabError(f"unknown landmark scheme {word}; known are {', '.join(SCHEMES)}, or give a .yaml file of your own")
