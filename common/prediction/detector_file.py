"""Which face detector is used when the user names none: a cached model file, fetched once and checked, or dlib."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import urllib.request
from functools import cache
from pathlib import Path

from common.errors import LabError
from common.files.whole import write_whole
from common.prediction.detection import SCORE, BoxMap, Detector, DlibDetector, YuNet

YUNET_NAME = "face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
YUNET_ADDRESS = (
    f"https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/{YUNET_NAME}"
)
YUNET_BYTES = 4_000_000  # more than the file has; a longer answer is not it
TIMEOUT = 15.0  # seconds
# From each detector's box to the tight box of the landmarks: medians over 500 and 200 training faces of 300W.
BOX_MAPS = {
    "yunet": BoxMap(right=-0.002, down=0.1216, width=1.029, height=0.7592),
    "dlib": BoxMap(right=0.0061, down=0.0568, width=0.9225, height=0.9224),
}


def cache_folder() -> Path:
    """Return the folder for fetched files: FACE_ALIGNMENT_CACHE, else below the user's cache folder.

    A user without account and HOME, as containers have, gets a folder that ends with the process.
    """
    chosen = os.environ.get("FACE_ALIGNMENT_CACHE")
    if chosen:
        return Path(chosen)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        base = _of_this_process().name
    return Path(base) / "face-alignment-lab"


@cache
def _of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="face-alignment-lab-")


def fetch_yunet() -> Path:
    """Return YuNet's model file from the cache; fetch it once if it is not there.

    Raises:
        LabError: it cannot be fetched, or what arrived is another file.
    """
    target = cache_folder() / YUNET_NAME
    if target.is_file() and _digest(target.read_bytes()) == YUNET_SHA256:
        return target
    try:
        with urllib.request.urlopen(YUNET_ADDRESS, timeout=TIMEOUT) as answer:
            content = answer.read(YUNET_BYTES)
    except (OSError, ValueError) as error:
        raise LabError(f"YuNet's model cannot be fetched ({error}); give --detector FILE") from None
    if _digest(content) != YUNET_SHA256:
        raise LabError(f"{YUNET_ADDRESS}: is not the file that was expected (SHA-256); give --detector FILE")
    try:
        write_whole(target, content)
    except OSError:  # a cache that cannot be written: fetched again the next time
        target = Path(_of_this_process().name) / YUNET_NAME
        target.write_bytes(content)
    return target


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def open_detector(choice: str | None, score: float = SCORE) -> Detector:
    """Return the detector of a choice: a YuNet model file, `dlib`, or None for the best that is to be had.

    Raises:
        LabError: the file is missing or of another kind, dlib is not installed, or there is no detector at all.
    """
    if choice == "dlib":
        return DlibDetector(score, cache_folder())
    if choice is not None:
        return YuNet(Path(choice), score)
    try:
        return YuNet(fetch_yunet(), score)
    except LabError as error:
        try:
            detector = DlibDetector(score, cache_folder())
        except LabError:
            raise LabError(
                f"no face detector: {error}, install dlib (pip install 'face-alignment-lab[detector]'), or give --box"
            ) from None
        print(f"{error}; faces are found by dlib, which is slower and misses small ones", file=sys.stderr)
        return detector
