"""Files where they are awaited: whole, in pieces, line by line, written; here and in a guest's coroutine."""

from __future__ import annotations

import asyncio
import inspect
import io
import sys
from pathlib import Path

import pytest

import cloister
from cloister.objects.awaited import make_awaited_class
from cloister.objects.descriptions import Description, Member, describe_type
from cloister.objects.file_proxies import PIECE
from cloister.objects.proxies import make_class
from cloister.objects.schema import from_plain, to_plain
from tests.aio.domains import new
from tests.loops import Run as Run
from tests.loops import run_asyncio as run_asyncio


def test_file_of_the_guest_is_awaited_like_a_file(run: Run, tmp_path: Path) -> None:
    """Larger than a piece, it is read and written whole; lines that were read ahead are not lost; nothing blocks."""
    path = tmp_path / "lines"
    lines = [b"%d %s\n" % (number, b"x" * 30_000) for number in range(100)]
    path.write_bytes(b"".join(lines))
    assert path.stat().st_size > 2 * PIECE

    async def main() -> None:
        async with new() as domain, await domain.call("papers:opened", str(path), "r+b") as file:
            assert await file.read() == b"".join(lines)
            assert await file.seek(0) == 0
            assert await file.read(PIECE + 7) == b"".join(lines)[: PIECE + 7]
            await file.seek(0)
            ahead = []
            async for line in file:
                ahead.append(line)
                if len(ahead) == 40:
                    break
            assert await file.tell() == sum(map(len, lines[:40]))
            assert await file.readline() == lines[40]
            assert await file.readlines() == lines[41:]
            buffer = bytearray(2 * PIECE)
            await file.seek(0)
            assert await asyncio.create_task(file.readinto(buffer)) == len(buffer)
            assert buffer == b"".join(lines)[: len(buffer)]
            await file.seek(0)
            await file.truncate(0)
            assert await file.write(b"y" * (2 * PIECE + 1)) == 2 * PIECE + 1
            await file.writelines([b"z\n"] * 3)
            await file.flush()
            assert path.stat().st_size == 2 * PIECE + 7
            with pytest.raises(TypeError, match="async with"), file:
                pass
            assert not file.closed
        assert file.closed

    run(main())


def test_file_of_the_host_is_awaited_in_a_coroutine_of_the_guest(run: Run) -> None:
    """A file without a descriptor stays here; a coroutine over there awaits it, also as a task."""

    async def main() -> None:
        async with new() as domain:
            assert await domain.call("papers:read_awaited", io.BytesIO(b"a\n" * 20)) == [b"a\n", 19, 40]

    run(main())
    with cloister.Domain("threads", setup=cloister.Setup(path=[str(Path(__file__).parent.parent / "modules")])) as d:
        assert d.call("papers:read_awaited", io.BytesIO(b"a\n" * 20)) == [b"a\n", 19, 40]


def known_as_coroutine(method: object) -> bool:
    """Whether asyncio takes a method for one that is awaited."""
    known = inspect.iscoroutinefunction if sys.version_info >= (3, 12) else asyncio.iscoroutinefunction
    return bool(known(method))


def test_methods_of_a_file_are_awaited_ones_only_where_they_are_awaited() -> None:
    """Those of a synchronous proxy stay plain functions; what is answered on this side is one everywhere."""
    description = describe_type(io.BytesIO)
    plain, awaited = make_class(description), make_awaited_class(description)
    for name in ("read", "write", "seek", "readinto", "getvalue", "isatty"):
        assert not known_as_coroutine(getattr(plain, name)), name
        assert not known_as_coroutine(getattr(make_class(description), name)), name
        assert known_as_coroutine(getattr(awaited, name)), name
    assert not known_as_coroutine(vars(awaited)["fileno"])


@pytest.mark.parametrize("name", ["closed", "fileno", "both"])
def test_description_of_a_file_with_odd_methods_makes_a_class(name: str) -> None:
    """A peer may say that `closed` is a method, or that a method is an attribute too: nothing is raised."""
    member = Member(name, "", ())
    described = Description("m:X", ("m:X", "io:IOBase"), "", (member,), (Member("both", ""),), ())
    assert make_awaited_class(from_plain(to_plain(described))).__name__ == "X"
