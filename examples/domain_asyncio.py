"""One event loop, one domain: calls at the same time, a call-back that is a coroutine, a time-out, a crash."""

from __future__ import annotations

import asyncio

import cloister


async def look_up(word: str) -> str:
    """A call-back: what the domain asks this program, answered on its loop."""
    await asyncio.sleep(0)
    return word.upper()


async def main() -> None:
    """Use a domain, and outlive it."""
    async with cloister.aio.Domain("words") as domain:
        await domain.exec("def join(words, look_up): return ' '.join(look_up(word) for word in words)")
        join = await domain.eval("join")
        print(await asyncio.gather(join(["good", "morning"], look_up), join(["hello"], look_up)))
        try:
            with cloister.timeout(0.1):
                await domain.call("time:sleep", 60)
        except cloister.CallTimeout as error:
            print(error)
        try:
            await domain.call("os:abort")
        except cloister.DomainCrashed as crash:
            print(crash.report.cause)


if __name__ == "__main__":
    asyncio.run(main())
