"""Files where they are awaited: whole, in pieces, line by line, written; here and in a guest's coroutine."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

import cloister
from cloister.objects.file_proxies import PIECE
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
