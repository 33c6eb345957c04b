"""What a proxy has for files: the file interface of `io`, with what would not survive the way done on this side.

Data goes in pieces, so that a file of any size is read and written; `readinto` fills the buffer here; iterating reads
lines ahead, and what is done to the file next knows of them. `closed` is what this side knows. A descriptor number
means nothing here, so there is none. Any thread may enter; two at once are in each other's way, as with any file.

A method is written once, as the *steps* of it: a generator that yields what to call over there, or LINE for the next
line, and is sent the answer. Where calls are awaited the method is a coroutine, elsewhere it waits.
"""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from cloister.objects.reading import reading_of

if TYPE_CHECKING:
    from cloister.objects.descriptions import Description

__all__ = ["FILE", "FILE_METHODS", "KNOWN_HERE", "file_members"]

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
KNOWN_HERE: Final = frozenset(("closed", "fileno"))
"""What is answered on this side, at once, also where calls are awaited."""


def file_members(description: Description) -> dict[str, Any]:
    """The members that a proxy of this type has where it is a file; none where it is not.

    Those that wait are functions of their own, for this one class.
    """
    if FILE not in description.bases:
        return {}
    members: dict[str, Any] = {name.strip("!"): member for name, member in _MEMBERS.items() if name.endswith("!")}
    offered = description.callable_names
    members.update((name, member) for name, member in _MEMBERS.items() if name in offered)
    members.update((name, _method(steps)) for name, steps in _STEPS.items() if name in offered)
    members["_cloister_empty"] = "" if _TEXT in description.bases else b""
    members["_cloister_raw"] = _RAW in description.bases
    if "read" in offered and _TEXT not in description.bases:
        members["readinto"] = _method(_readinto)
    if "read1" in offered:
        members["readinto1"] = _method(_readinto1)
    return members


Steps = Generator[tuple[Any, ...], Any, Any]
LINE: Final = ()


def _method(steps: Callable[..., Steps]) -> Callable[..., Any]:
    """Make a method of its steps."""

    @functools.wraps(steps)
    def method(self: Any, /, *args: Any) -> Any:
        taken = steps(self, *args)
        if self._cloister_peer.awaiting():
            return _awaited(self, taken)
        answer: Any = None
        try:
            while True:
                asked = taken.send(answer)
                answer = _call(self, *asked) if asked else next(self, None)
        except StopIteration as end:
            return end.value

    method.__name__ = steps.__name__[1:]  # the name that it has over there
    return method


async def _awaited(self: Any, taken: Steps) -> Any:
    answer: Any = None
    try:
        while True:
            asked = taken.send(answer)
            answer = await (_call(self, *asked) if asked else anext(self, None))
    except StopIteration as end:
        return end.value


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


def _read(self: Any, size: int | None = -1, /) -> Steps:
    """Read and return at most `size` bytes or characters; all that is left where it is negative or None."""
    size = -1 if size is None or size < 0 else size
    parts = _taken(self, size)
    if size > 0:
        size -= sum(map(len, parts))
    if self._cloister_raw and size >= 0 and parts:
        size = 0  # a raw file may give less than it is asked for
    while size:
        asked = PIECE if size < 0 else min(size, PIECE)
        part = yield "read", asked
        if part is None and not parts:
            return None
        if not part:
            break
        parts.append(part)
        size -= min(size, len(part)) if size > 0 else 0
        if (size > 0 and self._cloister_raw) or (len(part) < asked and not self._cloister_raw):
            break
    return self._cloister_empty.join(parts)


def _readall(self: Any) -> Steps:
    """Read and return all that is left."""
    return (yield from _read(self, -1))


def _read1(self: Any, size: int = -1, /) -> Steps:
    """Read and return at most `size` bytes, with at most one read of what lies below."""
    parts = _taken(self, PIECE if size < 0 else size)
    if parts:
        return self._cloister_empty.join(parts)
    return (yield "read1", PIECE if size < 0 else min(size, PIECE))


def _readinto(self: Any, buffer: Any, /) -> Steps:
    """Read into a buffer; return how many bytes that were."""
    return _fill(buffer, (yield from _read(self, memoryview(buffer).nbytes)))


def _readinto1(self: Any, buffer: Any, /) -> Steps:
    """Read into a buffer, with at most one read of what lies below; return how many bytes that were."""
    return _fill(buffer, (yield from _read1(self, memoryview(buffer).nbytes)))


def _fill(buffer: Any, data: Any) -> int | None:
    if data is None:
        return None
    view = memoryview(buffer).cast("B")
    view[: len(data)] = data
    return len(data)


def _readline(self: Any, size: int | None = -1, /) -> Steps:
    """Read and return one line, or at most `size` of it."""
    items = reading_of(self).items
    if items:
        line = items[0]
        return self._cloister_empty.join(_taken(self, len(line) if size is None or size < 0 else min(size, len(line))))
    return (yield "readline", -1 if size is None else size)


def _readlines(self: Any, hint: int | None = -1, /) -> Steps:
    """Read and return the lines that are left, or lines of about `hint` in all."""
    lines: list[Any] = []
    size = 0
    while (line := (yield LINE)) is not None:
        lines.append(line)
        size += len(line)
        if hint is not None and 0 < hint <= size:
            break
    return lines


def _tell(self: Any) -> Steps:
    """Return the position in the file."""
    ahead = _ahead(self)
    if ahead and self._cloister_empty == "":
        raise OSError("telling position disabled by next() call: lines were read ahead")
    return (yield ("tell",)) - ahead


def _seek(self: Any, offset: int, whence: int = 0, /) -> Steps:
    """Set the position in the file; return it."""
    ahead = _ahead(self)
    if ahead and whence == 1 and self._cloister_empty == "":
        raise OSError("the current position of a text file is not known after iterating over it")
    reading_of(self).drop()
    return (yield "seek", offset - ahead if whence == 1 else offset, whence)


def _settle(self: Any) -> Steps:
    """Let the file stand where this side has read to, before it is changed."""
    if reading_of(self).items:
        yield from _seek(self, 0, 1)


def _write(self: Any, data: Any, /) -> Steps:
    """Write all of it, or, to a raw file, what it takes; return how much that was."""
    yield from _settle(self)
    if not isinstance(data, str | bytes):
        data = bytes(memoryview(data).cast("B"))
    if len(data) <= PIECE or self._cloister_raw:
        return (yield "write", data[:PIECE])
    written = 0
    for begin in range(0, len(data), PIECE):
        written += yield "write", data[begin : begin + PIECE]
    return written


def _writelines(self: Any, lines: Any, /) -> Steps:
    """Write lines, many of them in one call."""
    waiting, size = [], 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= PIECE:
            yield from _write(self, self._cloister_empty.join(waiting))
            waiting, size = [], 0
    if waiting:
        yield from _write(self, self._cloister_empty.join(waiting))


def _truncate(self: Any, size: int | None = None, /) -> Steps:
    """Cut or lengthen the file to a size, by default to the position; return it."""
    yield from _settle(self)
    return (yield "truncate", size)


def _close(self: Any) -> Steps:
    """Flush and close the file over there; a second time does nothing."""
    reading = reading_of(self)
    if not reading.closed:
        reading.drop()
        reading.closed = True
        yield ("close",)


def _closed(self: Any) -> bool:
    return reading_of(self).closed


def _fileno(self: Any) -> int:
    """There is none: a descriptor of another process means nothing here."""
    raise io.UnsupportedOperation("fileno: the file is in another domain, and its descriptor does not come here")


def _enter(self: Any) -> Any:
    if self._cloister_peer.awaiting():
        raise TypeError(f"`with` would have to wait for {self!r}, which is awaited: use `async with`")
    return self


def _leave(self: Any, *_: object) -> None:
    self.close()


async def _aenter(self: Any) -> Any:
    return self


async def _aleave(self: Any, *_: object) -> None:
    closed = self.close()
    if inspect.isawaitable(closed):
        await closed


_STEPS: Final[dict[str, Callable[..., Steps]]] = {
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
}
"""By the names of what they stand in for."""
_MEMBERS: Final[dict[str, Any]] = {
    "__enter__": _enter,
    "__exit__": _leave,
    "__aenter__!": _aenter,
    "__aexit__!": _aleave,
    "closed!": property(_closed, None, None, "Whether it was closed by this side."),
    "fileno!": _fileno,
}
"""As `_STEPS`, of what is no such method; those with ``!`` are there whatever the file over there has."""
