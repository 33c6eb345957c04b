"""Paths as leaves; the payload is in the table of `scalars`.

A path of the file system arrives as one where the receiver's platform has that flavour, and as a pure path of the
sender's flavour where it does not: a `WindowsPath` from Windows is a `PureWindowsPath` on Linux. Pure; any thread.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import ProtocolError

if TYPE_CHECKING:
    from cloister.wire.decoding import Decoding
    from cloister.wire.encoding import Encoding

__all__ = ["READERS", "writer_of"]

PATH_CODE: Final = 24

_FLAVOURS: Final = (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
_NATIVE: Final = type(pathlib.Path())


def _write_path(value: pathlib.PurePath, encoding: Encoding) -> object:
    flavour = _FLAVOURS.index(type(value))
    return encoding.ext(PATH_CODE, bytes((flavour,)) + str(value).encode("utf-8", "surrogatepass"))


def _read_path(payload: bytes, decoding: Decoding) -> pathlib.PurePath:
    flavour = payload[0]
    if flavour > 3:
        raise ProtocolError(f"bad value: path flavour {flavour} does not exist")
    kind: type[pathlib.PurePath] = _FLAVOURS[flavour]
    if flavour >= 2 and kind is not _NATIVE:
        kind = _FLAVOURS[flavour - 2]
    return kind(payload[1:].decode("utf-8", "surrogatepass"))


READERS: Final[dict[int, Callable[[bytes, Decoding], object]]] = {PATH_CODE: _read_path}


def writer_of(kind: type) -> Callable[[Any, Encoding], object] | None:
    """Give the writer of one of the four kinds of path, or None."""
    return _write_path if kind in _FLAVOURS else None
