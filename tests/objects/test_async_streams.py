"""Streams of a domain whose calls are awaited."""

from __future__ import annotations

import asyncio

import cloister
from tests.modules import flows


def test_streams_of_an_asyncio_host(setup: cloister.Setup) -> None:
    """`async for` reads generators of either kind, and the host's own async generator is read by the guest."""

    async def read() -> list[object]:
        async with cloister.aio.Domain("awaited", setup=setup) as domain:
            counted, ticks = await domain.call("flows:counted", 300), await domain.call("flows:ticks", 300)
            found = [[n async for n in counted], [n async for n in ticks]]
            talker = await domain.call("flows:echo")
            said = [await anext(talker), await talker.send("a"), await talker.throw(ValueError("b"))]
            return [*found, said, await domain.call("flows:outcome", flows.ticks(60))]

    numbers = list(range(300))
    assert asyncio.run(read()) == [numbers, numbers, ["ready", "a", "caught b"], list(range(60))]
