"""The plug-in of the tutorial: it decodes pictures, and trusts what the files say.

A picture begins with ``PIC1``, its width, its height, and the offset of its pixels. Real plug-ins of this kind bind a
native library; this one reads memory with ctypes, which is enough to crash as they do.
"""

from __future__ import annotations

import ctypes
import re
import struct

HEADER = struct.Struct(">4sHHQ")


def brightness(data: bytes) -> float:
    """The mean of all pixels of a picture, from 0 to 255. Raises ValueError for what is no picture."""
    mark, width, height, offset = HEADER.unpack_from(data)
    if mark != b"PIC1":
        raise ValueError(f"not a picture: it begins with {mark!r}")
    buffer = ctypes.create_string_buffer(data, len(data))
    # Nobody asks whether the offset lies within the file.
    pixels = ctypes.string_at(ctypes.addressof(buffer) + offset, width * height)
    return sum(pixels) / len(pixels)


class Decoder:
    """Decodes pictures, and counts them."""

    def __init__(self) -> None:
        self.decoded = 0

    def brightness(self, data: bytes) -> float:
        """The mean of all pixels of a picture."""
        result = brightness(data)
        self.decoded += 1
        return result

    def title(self, text: str) -> str:
        """The words of a caption. The pattern is careless: for some texts it takes years."""
        found = re.match(r"(\w+\s?)+$", text)
        return found[0] if found else "untitled"
