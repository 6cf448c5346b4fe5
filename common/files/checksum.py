"""A SHA-256 inside a file of `torch.save`: as the comment that the zip format allows at its end.

Any reader of such files skips the comment; a file of its own beside the weights would be lost when they are copied.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

MARK = b"sha256:"
COMMENT = len(MARK) + 64  # bytes, with the digits
END = b"PK\x05\x06"  # the record that ends a zip file; its last two bytes are the comment's length
END_SIZE = 22
BLOCK = 1 << 22


def sealed(content: bytes | memoryview) -> tuple[bytes | memoryview, bytes, bytes]:
    """Return a zip file's bytes, in pieces, with the checksum as its comment."""
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:-2], COMMENT.to_bytes(2, "little"), MARK + digest


def is_sound(path: Path) -> bool | None:
    """Return whether a file holds what its checksum says, or None for a file without one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < END_SIZE + COMMENT:
            return None
        file.seek(size - COMMENT - END_SIZE)
        tail = file.read()
        if not (tail.startswith(END) and tail[END_SIZE:].startswith(MARK)):
            return None
        file.seek(0)
        digest, left = hashlib.sha256(), size - COMMENT - 2
        while left:
            piece = file.read(min(BLOCK, left))
            if not piece:
                return False
            digest.update(piece)
            left -= len(piece)
    digest.update(b"\0\0")  # the comment's length before there was one
    return digest.hexdigest().encode() == tail[END_SIZE + len(MARK) :]
