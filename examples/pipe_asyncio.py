"""One event loop serves several clients over a named pipe; no thread, and Ctrl-C ends it at any time."""

from __future__ import annotations

import asyncio

from cloister import aio
from cloister.errors import NotConnected, PipeCancelled

NAME = "asyncio-example"


async def serve(server: aio.PipeServer) -> None:
    """Take every client that comes, each in a task of its own, until the server is closed."""
    async with asyncio.TaskGroup() as clients:
        while True:
            try:
                pipe = await server.accept()
            except (PipeCancelled, NotConnected):  # somebody closed the server
                return
            clients.create_task(add_up(pipe))


async def add_up(pipe: aio.Pipe) -> None:
    """Answer each number with the sum so far."""
    total = 0
    async with pipe:
        async for message in pipe:
            total += int(message)
            await pipe.write_string(str(total), timeout=5)


async def ask(start: int) -> str:
    """Be a client: three numbers, three sums."""
    async with await aio.connect(NAME, timeout=5) as pipe:
        answers = []
        for number in range(start, start + 3):
            await pipe.write_string(str(number))
            answers.append(await pipe.read_string(timeout=5))
        return " ".join(answers)


async def main() -> None:
    """Serve, ask from three clients at once, and close the server while it waits."""
    async with aio.PipeServer(NAME) as server:
        serving = asyncio.create_task(serve(server))
        for answer in await asyncio.gather(ask(1), ask(10), ask(100)):
            print(answer)
        server.close()
        await serving


if __name__ == "__main__":
    asyncio.run(main())
