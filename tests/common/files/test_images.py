"""Pictures in and out: right pixels, or one line that names the cause."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.errors import LabError
from common.files.images import MAX_PIXELS, decode_image, read_image, write_image


def encoded(image: np.ndarray, ending: str = ".png") -> bytes:
    done, content = cv2.imencode(ending, image)
    assert done
    return content.tobytes()


def gradient() -> np.ndarray:
    return np.arange(24 * 32 * 3, dtype=np.uint32).reshape(24, 32, 3).astype(np.uint8)


def test_colours_are_rgb() -> None:
    image = gradient()
    np.testing.assert_array_equal(decode_image(encoded(image[..., ::-1]), "x"), image)


@pytest.mark.parametrize("bits", [9, 12, 16])
def test_sixteen_bit_files_use_the_range_that_they_have(bits: int) -> None:
    """Twelve bits in sixteen came out nearly black, and the landmarks were 41 % off."""
    image = np.linspace(0, 2**bits - 1, 24 * 32).round().astype(np.uint16).reshape(24, 32)
    found = decode_image(encoded(image), "x")
    assert found.dtype == np.uint8 and found.max() == 255 and found.min() == 0
    np.testing.assert_allclose(found[..., 0], image / 2 ** (bits - 8), atol=1)


@pytest.mark.parametrize(("mode", "kind", "most"), [
    ("L", "PNG", 0), ("LA", "PNG", 0), ("RGBA", "PNG", 0), ("P", "PNG", 20), ("P", "GIF", 20), ("1", "PNG", 255),
    ("RGB", "BMP", 0), ("RGB", "TIFF", 0), ("RGB", "WEBP", 20), ("RGB", "JPEG2000", 20), ("CMYK", "JPEG", 20),
])  # fmt: skip
def test_kinds_of_pictures_that_are_read(mode: str, kind: str, most: int) -> None:
    """Grey, transparent, indexed, printed and one-bit pictures in all usual files, within so many grey levels."""
    smooth = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8) * 2
    image = Image.fromarray(np.stack([smooth, smooth[::-1], smooth[:, ::-1]], axis=2)).convert(mode)
    out = io.BytesIO()
    image.save(out, kind)
    found, shown = decode_image(out.getvalue(), "x"), np.asarray(image.convert("RGB"))
    assert found.shape == (48, 64, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - shown).mean() <= most


def with_orientation(image: np.ndarray, orientation: int) -> bytes:
    tag = Image.Exif()
    tag[0x0112] = orientation
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", exif=tag.tobytes(), quality=100)
    return out.getvalue()


def test_annotated_pictures_keep_their_pixels_and_photographs_are_turned() -> None:
    """An orientation tag turned the picture but not its points: 3 % error became 30 to 76 %."""
    image = np.zeros((24, 32, 3), np.uint8)
    image[:8] = 255
    data = with_orientation(image, 6)  # turn by 90 degrees clockwise to see it upright
    stored, shown = decode_image(data, "x"), decode_image(data, "x", follow_orientation=True)
    assert stored.shape == (24, 32, 3) and stored[2].min() > 200
    assert shown.shape == (32, 24, 3) and shown[:, -3].min() > 200


def bomb(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size; nothing behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_too_many_pixels_are_refused_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for side in (30_000, 40_000):
        assert side * side > MAX_PIXELS
        with pytest.raises(LabError, match="megapixels"):
            decode_image(bomb(side, side), "bomb.png")


def test_kinds_that_are_not_read_are_named() -> None:
    with pytest.raises(LabError, match="HEIC"):
        decode_image(b"\0\0\0\x18ftypheic" + b"\0" * 64, "a.heic")
    out = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.float32)).save(out, "TIFF")
    with pytest.raises(LabError, match="floating-point"):
        decode_image(out.getvalue(), "a.tif")
    for junk in (b"", b"<html></html>", encoded(gradient())[:40]):
        with pytest.raises(LabError, match="does not decode"):
            decode_image(junk, "a.png")


def test_folders_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(LabError, match="is missing"):
        read_image(tmp_path / "none.png")


def test_any_file_name_is_written_whole(tmp_path: Path) -> None:
    """OpenCV's own writer ended the process with a segmentation fault for a name that is not UTF-8."""
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    write_image(path, gradient())
    np.testing.assert_array_equal(read_image(path), gradient())
    assert os.listdir(os.fsencode(tmp_path)) == [b"caf\xe9.png"]
    with pytest.raises(LabError, match="cannot write"):
        write_image(tmp_path / "a.xyz", gradient())
