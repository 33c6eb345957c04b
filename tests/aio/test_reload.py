"""Reload of a domain for asyncio: durable proxies go on, what fails or is cancelled changes nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import cloister
from cloister import aio
from cloister.domain.reloading import Exchange
from cloister.errors import CallTimeout, DomainUnloaded
from tests.loops import Run as Run
from tests.loops import run_asyncio as run_asyncio

SHOP = """
import asyncio, time
class Shop:
    def __init__(self, city, *, beside=None):
        self.city, self.sold, self.beside = city, 0, beside
    def sell(self):
        self.sold += 1
        return self.sold
    async def where(self):
        return VERSION + self.city
    def neighbour(self):
        return self.beside.city
    def wait(self):
        time.sleep(60)
VERSION = {!r}
"""


def write(folder: Path, version: str, more: str = "") -> None:
    """Replace the module; its time changes with the length of the version."""
    (folder / "shop.py").write_text(SHOP.format(version) + more)
    os.utime(folder / "shop.py", (len(version), len(version)))


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The folder of the module, with its first version."""
    (tmp_path / "code").mkdir()
    write(tmp_path / "code", "1 ")
    return tmp_path / "code"


def new(code: Path) -> aio.Domain:
    """A domain with its own copy of the module."""
    return aio.Domain("shop", setup=cloister.Setup(path=[code], shadow_copy=True))


def test_durable_proxies_and_views_go_on_with_the_new_code(run: Run, code: Path) -> None:
    """O16: what was made as durable is made again, in order; open calls and other proxies end with DomainUnloaded."""

    async def main() -> None:
        async with new(code) as domain:
            durable = domain.with_options(durable=True)
            shop = await durable.create("shop:Shop", "Delft")
            second = await durable.create("shop:Shop", "Breda", beside=shop)
            plain = await domain.create("shop:Shop", "Utrecht")
            assert [await shop.sell(), await shop.sell()] == [1, 2]
            assert domain.changed() == []
            write(code, "two ")
            assert domain.changed() == [str(code / "shop.py")]
            waiting = asyncio.ensure_future(plain.wait())
            while "wait" not in domain.status().calls:
                await asyncio.sleep(0)
            pid = domain.pid
            await asyncio.gather(domain.reload(), durable.reload())  # one after the other
            assert domain.pid != pid
            assert (await shop.where(), await shop.sell(), await second.neighbour()) == ("two Delft", 1, "Delft")
            with pytest.raises(DomainUnloaded):
                await waiting
            with pytest.raises(DomainUnloaded):
                await plain.sell()
            assert await (await durable.create("shop:Shop", "Goes")).where() == "two Goes"
        with pytest.raises(DomainUnloaded, match="make a new one"):
            await domain.reload()

    run(main())


def test_reload_that_fails_or_is_cancelled_leaves_all_as_it_was(run: Run, code: Path) -> None:
    """A maker that raises, a time-out, a cancel: the old domain goes on, the new one is gone (the fixture looks)."""

    async def main() -> None:
        async with new(code) as domain:
            shop = await domain.with_options(durable=True).create("shop:Shop", "Delft")
            assert await shop.sell() == 1
            write(code, "two ", "\n1 / 0\n")
            with pytest.raises(ZeroDivisionError):
                await domain.reload()
            write(code, "two ", "\ntime.sleep(60)\n")
            with pytest.raises(CallTimeout):
                await domain.with_options(timeout=1).reload()
            task = asyncio.create_task(domain.reload())
            queued = asyncio.create_task(domain.reload())
            await asyncio.sleep(0.2)
            queued.cancel()
            task.cancel()
            assert [type(each) for each in await asyncio.gather(task, queued, return_exceptions=True)] == [
                asyncio.CancelledError
            ] * 2
            assert (await shop.where(), await shop.sell()) == ("1 Delft", 2)
            write(code, "three ")
            await domain.reload()
            assert (await shop.where(), await shop.sell()) == ("three Delft", 1)

    run(main())


def test_reload_that_is_cancelled_while_the_old_domain_ends_holds_up_the_next(
    run: Run, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no way back then, so the next one waits for the rest of it, and the durable proxies go on."""

    async def main() -> None:
        async with new(code) as domain:
            shop = await domain.with_options(durable=True).create("shop:Shop", "Delft")
            await domain.exec("import atexit, time; atexit.register(time.sleep, 0.5)")
            move = Exchange.move

            def moved(self: Exchange) -> DomainUnloaded | None:
                task.cancel()
                return move(self)

            monkeypatch.setattr(Exchange, "move", moved)
            task = asyncio.create_task(domain.reload())
            with pytest.raises(asyncio.CancelledError):
                await task
            monkeypatch.undo()
            async with asyncio.timeout(30):
                await domain.reload()
                assert (await shop.where(), await shop.sell()) == ("1 Delft", 1)

    run(main())
