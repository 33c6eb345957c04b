"""ZIP and gzip files, among them an archive bomb: a few kilobytes that unpack to a gigabyte."""

from __future__ import annotations

import gzip
import io
import zipfile

__all__ = ["bomb", "packed", "torn_sum", "zipped"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest date that ZIP knows: the same bytes whenever it is made."""


def zipped(members: dict[str, bytes]) -> bytes:
    """An archive of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED, 9)
    return stream.getvalue()


def bomb(inner: int, size: int) -> bytes:
    """An archive of `inner` archives, each with one file of `size` zeros."""
    charge = zipped({"zeros": bytes(size)})
    return zipped({f"{number:02}.zip": charge for number in range(inner)})


def packed(plain: bytes) -> bytes:
    """One gzip member without a date."""
    return gzip.compress(plain, mtime=0)


def torn_sum(plain: bytes) -> bytes:
    """The same with one bit of its check sum turned over."""
    data = bytearray(packed(plain))
    data[-8] ^= 1
    return bytes(data)
