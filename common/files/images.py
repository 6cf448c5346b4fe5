"""Pictures in and out: sizes are looked at before pixels are decoded, and every refusal names its cause.

All pictures are RGB, (H, W, 3) uint8. Files are read and written as bytes by Python, so that any file name works and
the system's own message arrives when a disk is full.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from common.errors import LabError
from common.files.whole import write_whole

MAX_PIXELS = 250_000_000  # a 200-megapixel photograph is genuine; more is refused from the header
MAX_BYTES = 1 << 30  # of a file
ROWS = 512  # of a picture that are turned from RGB to BGR at once
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def decode_image(
    data: bytes | np.ndarray, where: str, follow_orientation: bool = False, most_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Return the RGB picture (H, W, 3) uint8 in the bytes of a JPEG, PNG, TIFF, WebP, ... file.

    Pictures of 16 bits are scaled by the bits that they use, so that 12 bits in 16 do not come out black.

    Args:
        data: the file's bytes.
        where: name for messages.
        follow_orientation: turn the pixels as an EXIF tag says. Annotations of data sets belong to the pixels as they
            are stored, so that readers of annotated photographs leave it off.
        most_pixels: a picture with more is refused from its header.

    Raises:
        LabError: no picture, a damaged one, one with too many pixels, or a kind that is not supported, which is named.
    """
    content = bytes(data)
    _check_header(content, where, most_pixels)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH
    if not follow_orientation:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:
        image = None
    if image is None:
        raise LabError(
            f"{where}: the image does not decode; the file is damaged or no image, copy it again or remove it"
        )
    if image.dtype == np.uint16:
        bits = max(8, int(image.max()).bit_length())
        return np.right_shift(image, bits - 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise LabError(f"{where}: a picture of {image.dtype} values; convert it to 8 or 16 bits")
    return image


def decode_known(data: bytes | memoryview, where: str) -> np.ndarray:
    """Return the RGB picture (H, W, 3) uint8 of a JPEG or PNG file that this project wrote, in less time.

    OpenCV alone looks at the size that it claims, against the limit that `common` sets.

    Raises:
        LabError: it is damaged.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise LabError(
            f"{where}: the image does not decode; the file is damaged or no image, copy it again or remove it"
        )
    return image


def _check_header(content: bytes, where: str, most_pixels: int) -> None:
    """Raise a LabError if the header alone shows that the picture cannot be read."""
    if content[4:8] == b"ftyp" and content[8:12] in HEIC_BRANDS:
        raise LabError(f"{where}: HEIC pictures are not supported; convert it to JPEG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as header:
                width, height = header.size
                kind = header.mode
    except Image.DecompressionBombError:
        raise LabError(f"{where}: more than {most_pixels // 10**6} megapixels; make it smaller first") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return  # OpenCV reads some kinds that this header check does not know, with the limit that `common` sets
    if width * height > most_pixels:
        raise LabError(
            f"{where}: {width} x {height} pixels, more than {most_pixels // 10**6} megapixels; make it smaller first"
        )
    if kind == "F":
        raise LabError(f"{where}: a picture of floating-point values; convert it to 8 or 16 bits")


def read_image(path: Path | str, follow_orientation: bool = False) -> np.ndarray:
    """Return the RGB picture (H, W, 3) uint8 of a file; see `decode_image`.

    Raises:
        LabError: the file is missing, is a folder, or is no picture.
    """
    path = Path(path)
    if path.is_dir():
        raise LabError(f"{path}: is a folder, not a picture")
    if not path.is_file():
        raise LabError(f"{path}: image is missing; check its path, or whether the data set is complete")
    if path.stat().st_size > MAX_BYTES:
        raise LabError(f"{path}: a picture of more than {MAX_BYTES >> 20} MB; make it smaller first")
    return decode_image(path.read_bytes(), str(path), follow_orientation)


def as_picture(image: np.ndarray | Path | str) -> np.ndarray:
    """Return a picture as networks take it, (H, W, 3) uint8 RGB.

    Args:
        image: that; or gray (H, W), (H, W, 1); or with alpha (H, W, 4), which is left out; or the path of a file.

    Raises:
        LabError: it is none of these. Other types than uint8 are refused: nothing says whether values end at 1 or 255.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise LabError(f"a picture is an array of uint8, 0 to 255, or a path; this one is {kind}")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise LabError(f"a picture has the shape (H, W, 3), RGB; this one has {image.shape}")
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.ascontiguousarray(image[..., :3])


def write_image(path: Path, image: np.ndarray, spare: bool = False) -> None:
    """Write an RGB picture (H, W, 3) uint8 in the format that the name's ending says; a reader never sees half of it.

    Args:
        path: the file.
        image: the picture.
        spare: its array is not needed any more and is written over, which saves the memory of a copy.

    Raises:
        LabError: the ending is of no known format.
        OSError: the system refuses (no room, no permission).
    """
    if spare:
        for row in range(0, len(image), ROWS):
            image[row : row + ROWS] = cv2.cvtColor(image[row : row + ROWS], cv2.COLOR_RGB2BGR)
    try:
        done, content = cv2.imencode(path.suffix or ".png", image if spare else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        done = False
    if not done:
        raise LabError(f"{path}: cannot write pictures of this kind; use .png or .jpg")
    write_whole(path, content.tobytes())
