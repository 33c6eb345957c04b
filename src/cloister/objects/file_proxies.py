"""What a proxy has for files: the file interface of `io`, with what would not survive the way done on this side.

Data goes in pieces, so that a file of any size is read and written; `readinto` fills the buffer here; iterating reads
lines ahead, and what is done to the file next knows of them. `closed` is what this side knows. A descriptor number
means nothing here, so there is none. Where calls are awaited, each method is the plain call. Any thread may enter; two
at once are in each other's way, as with any file.
"""

from __future__ import annotations

import inspect
import io
from typing import TYPE_CHECKING, Any, Final

from cloister.objects.reading import reading_of

if TYPE_CHECKING:
    from cloister.objects.descriptions import Description

__all__ = ["FILE", "FILE_METHODS", "file_members"]

PIECE: Final = 1024 * 1024
"""Bytes or characters of one call."""
FILE: Final = "io:IOBase"
_TEXT: Final = "io:TextIOBase"
_RAW: Final = "io:RawIOBase"

FILE_METHODS: Final = frozenset(
    "read read1 readline readlines readall write writelines seek tell truncate flush close".split()
    + "readable writable seekable isatty".split()
)
"""What a guest may do with a file of the host that it was handed: nothing but use it as a file."""


def file_members(description: Description) -> dict[str, Any]:
    """The members that a proxy of this type has where it is a file; none where it is not."""
    if FILE not in description.bases:
        return {}
    members: dict[str, Any] = {name.strip("!"): member for name, member in _MEMBERS.items() if name.endswith("!")}
    offered = description.callable_names
    members.update((name, member) for name, member in _MEMBERS.items() if name in offered)
    members["_cloister_empty"] = "" if _TEXT in description.bases else b""
    members["_cloister_raw"] = _RAW in description.bases
    if "read" in offered and _TEXT not in description.bases:
        members["readinto"] = _readinto
    if "read1" in offered:
        members["readinto1"] = _readinto1
    return members


def _call(self: Any, name: str, *args: Any) -> Any:
    return self._cloister_peer.call(self._cloister_id, name, args, None)


def _ahead(self: Any) -> int:
    """How much was read ahead by iterating."""
    return sum(map(len, reading_of(self).items))


def _taken(self: Any, size: int) -> list[Any]:
    """At most `size` of what was read ahead; all of it where `size` is negative."""
    items = reading_of(self).items
    parts = []
    while items and size:
        part = items.popleft()
        if 0 <= size < len(part):
            items.appendleft(part[size:])
            part = part[:size]
        parts.append(part)
        size -= min(size, len(part)) if size > 0 else 0
    return parts


def _read(self: Any, size: int | None = -1, /) -> Any:
    """Read and return at most `size` bytes or characters; all that is left where it is negative or None."""
    size = -1 if size is None or size < 0 else size
    parts = _taken(self, size)
    if size > 0:
        size -= sum(map(len, parts))
    if self._cloister_raw and size >= 0 and parts:
        size = 0  # a raw file may give less than it is asked for
    while size:
        asked = PIECE if size < 0 else min(size, PIECE)
        part = _call(self, "read", asked)
        if inspect.isawaitable(part):
            return part
        if part is None and not parts:
            return None
        if not part:
            break
        parts.append(part)
        size -= min(size, len(part)) if size > 0 else 0
        if (size > 0 and self._cloister_raw) or (len(part) < asked and not self._cloister_raw):
            break
    return self._cloister_empty.join(parts)


def _readall(self: Any) -> Any:
    """Read and return all that is left."""
    return _read(self, -1)


def _read1(self: Any, size: int = -1, /) -> Any:
    """Read and return at most `size` bytes, with at most one read of what lies below."""
    parts = _taken(self, PIECE if size < 0 else size)
    return self._cloister_empty.join(parts) if parts else _call(self, "read1", PIECE if size < 0 else min(size, PIECE))


def _readinto(self: Any, buffer: Any, /) -> int | None:
    """Read into a buffer; return how many bytes that were."""
    return _fill(buffer, _read(self, memoryview(buffer).nbytes))


def _readinto1(self: Any, buffer: Any, /) -> int | None:
    """Read into a buffer, with at most one read of what lies below; return how many bytes that were."""
    return _fill(buffer, _read1(self, memoryview(buffer).nbytes))


def _fill(buffer: Any, data: Any) -> int | None:
    if data is None:
        return None
    if inspect.isawaitable(data):
        getattr(data, "cancel", getattr(data, "close", int))()
        raise TypeError("where calls are awaited, use `await file.read(n)` instead of readinto()")
    view = memoryview(buffer).cast("B")
    view[: len(data)] = data
    return len(data)


def _readline(self: Any, size: int | None = -1, /) -> Any:
    """Read and return one line, or at most `size` of it."""
    items = reading_of(self).items
    if items:
        line = items[0]
        return self._cloister_empty.join(_taken(self, len(line) if size is None or size < 0 else min(size, len(line))))
    return _call(self, "readline", -1 if size is None else size)


def _readlines(self: Any, hint: int | None = -1, /) -> list[Any]:
    """Read and return the lines that are left, or lines of about `hint` in all."""
    lines: list[Any] = []
    size = 0
    for line in self:
        lines.append(line)
        size += len(line)
        if hint is not None and 0 < hint <= size:
            break
    return lines


def _tell(self: Any) -> Any:
    """Return the position in the file."""
    ahead = _ahead(self)
    if ahead and self._cloister_empty == "":
        raise OSError("telling position disabled by next() call: lines were read ahead")
    return _call(self, "tell") - ahead if ahead else _call(self, "tell")


def _seek(self: Any, offset: int, whence: int = 0, /) -> Any:
    """Set the position in the file; return it."""
    ahead = _ahead(self)
    if ahead and whence == 1 and self._cloister_empty == "":
        raise OSError("the current position of a text file is not known after iterating over it")
    reading_of(self).drop()
    return _call(self, "seek", offset - ahead if whence == 1 else offset, whence)


def _settle(self: Any) -> None:
    """Let the file stand where this side has read to, before it is changed."""
    if reading_of(self).items:
        _seek(self, 0, 1)


def _write(self: Any, data: Any, /) -> Any:
    """Write all of it, or, to a raw file, what it takes; return how much that was."""
    _settle(self)
    if not isinstance(data, str | bytes):
        data = bytes(memoryview(data).cast("B"))
    if len(data) <= PIECE or self._cloister_raw:
        return _call(self, "write", data[:PIECE])
    written = 0
    for begin in range(0, len(data), PIECE):
        part = _call(self, "write", data[begin : begin + PIECE])
        if inspect.isawaitable(part):
            raise TypeError(f"where calls are awaited, write at most {PIECE} at a time, and await it")
        written += part
    return written


def _writelines(self: Any, lines: Any, /) -> None:
    """Write lines, many of them in one call."""
    waiting, size = [], 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= PIECE:
            _write(self, self._cloister_empty.join(waiting))
            waiting, size = [], 0
    if waiting:
        _write(self, self._cloister_empty.join(waiting))


def _truncate(self: Any, size: int | None = None, /) -> Any:
    """Cut or lengthen the file to a size, by default to the position; return it."""
    _settle(self)
    return _call(self, "truncate", size)


def _close(self: Any) -> Any:
    """Flush and close the file over there; a second time does nothing."""
    reading = reading_of(self)
    if reading.closed:
        return None
    reading.drop()
    reading.closed = True
    return _call(self, "close")


def _closed(self: Any) -> bool:
    return reading_of(self).closed


def _fileno(self: Any) -> int:
    """There is none: a descriptor of another process means nothing here."""
    raise io.UnsupportedOperation("fileno: the file is in another domain, and its descriptor does not come here")


def _itself(self: Any) -> Any:
    return self


def _leave(self: Any, *_: object) -> None:
    self.close()


_MEMBERS: Final[dict[str, Any]] = {
    "read": _read,
    "readall": _readall,
    "read1": _read1,
    "readline": _readline,
    "readlines": _readlines,
    "tell": _tell,
    "seek": _seek,
    "write": _write,
    "writelines": _writelines,
    "truncate": _truncate,
    "close": _close,
    "__enter__": _itself,
    "__exit__": _leave,
    "closed!": property(_closed, None, None, "Whether it was closed by this side."),
    "fileno!": _fileno,
}
"""By the names of what they stand in for; those with ``!`` are there whatever the file over there has."""
