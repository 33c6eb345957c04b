"""trio: the futures of `submit`, awaited. No thread waits for a call; a cancelled scope stops it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TypeVar

import trio

import cloister

T = TypeVar("T")


async def outcome(future: Future[T]) -> T:
    """Wait for a future in trio; cancelling the wait cancels the future."""
    over, token = trio.Event(), trio.lowlevel.current_trio_token()

    def tell(_: Future[T]) -> None:
        try:
            token.run_sync_soon(over.set)
        except trio.RunFinishedError:
            pass  # nobody waits

    future.add_done_callback(tell)
    try:
        await over.wait()
    except trio.Cancelled:
        future.cancel()
        raise
    return future.result()


async def main() -> None:
    """Call, from several tasks; give up what takes too long."""
    with cloister.Domain("letters") as domain:
        letters = await trio.to_thread.run_sync(domain.create, "collections:Counter", "banana")

        async def update(word: str) -> None:
            await outcome(cloister.submit(letters.update, word))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(update, "bandana")
            nursery.start_soon(update, "nab")
        print(await outcome(cloister.submit(letters.__getitem__, "n")))
        with trio.move_on_after(0.2) as scope:
            await outcome(domain.submit("time:sleep", 60))
        print("given up" if scope.cancelled_caught else "over")
        print(await outcome(cloister.submit(letters.__getitem__, "a")))


if __name__ == "__main__":
    trio.run(main)
