"""anyio, on asyncio: its task groups and cancel scopes around the calls of a domain."""

from __future__ import annotations

import anyio

import cloister


async def main() -> None:
    """Call, from several tasks; give up what takes too long."""
    async with cloister.aio.Domain("letters") as domain:
        letters = await domain.create("collections:Counter", "banana")
        async with anyio.create_task_group() as group:
            group.start_soon(letters.update, "bandana")
            group.start_soon(letters.update, "nab")
        print(await letters["n"])
        with anyio.move_on_after(0.2) as scope:
            await domain.call("time:sleep", 60)
        print("given up" if scope.cancelled_caught else "over")
        print(await letters["a"])


if __name__ == "__main__":
    anyio.run(main)
