"""A SHA-256 inside a file of weights; a file of its own beside them would be lost when they are copied.

In a file of `torch.save` it is the comment that the zip format allows at its end, which any reader skips; in a
`.safetensors` file it is an entry of the metadata, made of the tensors, their names and the other entries.
"""

from __future__ import annotations

import hashlib
import json
from io import BufferedRandom, BufferedReader
from pathlib import Path

MARK = b"sha256:"
COMMENT = len(MARK) + 64  # bytes, with the digits
END = b"PK\x05\x06"  # the record that ends a zip file; its last two bytes are the comment's length
END_SIZE = 22
BLOCK = 1 << 22
ENTRY = "sha256"  # in the metadata of a .safetensors file
BLANK = "0" * 64


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


def _of_tensors(file: BufferedReader | BufferedRandom) -> tuple[str | None, str]:
    """Return the checksum that a .safetensors file holds, None for none, and that of its content."""
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    kept = (header.get("__metadata__") or {}).pop(ENTRY, None)
    begun = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    return kept, hashlib.file_digest(file, lambda: begun).hexdigest()


def seal_tensors(path: Path) -> None:
    """Write the checksum into a .safetensors file whose metadata has BLANK in its place."""
    with path.open("r+b") as file:
        _, digest = _of_tensors(file)
        file.seek(0)
        header = file.read(int.from_bytes(file.read(8), "little"))
        before = f'"{ENTRY}":"'
        file.seek(8 + header.index(f"{before}{BLANK}".encode()) + len(before))
        file.write(digest.encode())


def tensors_are_sound(path: Path) -> bool | None:
    """Return whether a .safetensors file that can be read holds what its checksum says, or None for one without it."""
    with path.open("rb") as file:
        kept, digest = _of_tensors(file)
    return None if kept is None else kept == digest
