"""Guests whose functions and methods are coroutines. Only guests import this."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

_notes: list[Any] = []
_swallowing: set[asyncio.Task[Any]] = set()


async def echo(value: Any) -> Any:
    """Give back what came, a turn of the loop later."""
    await asyncio.sleep(0)
    return value


async def where() -> tuple[str, bool]:
    """The thread that runs this, and whether it is a task."""
    return threading.current_thread().name, asyncio.current_task() is not None


async def fail(text: str) -> None:
    """Raise a ValueError, a turn later."""
    await asyncio.sleep(0)
    raise ValueError(text)


async def end_with(code: int) -> None:
    """What would end a program."""
    raise SystemExit(code)


async def forever() -> None:
    """Wait for what never comes, and note how that ended."""
    _notes.append("begun")
    try:
        await asyncio.Event().wait()
    except BaseException as error:
        _notes.append(type(error).__name__)
        raise


async def stubborn(seconds: float) -> str:
    """Swallow every cancellation, until so many seconds have passed."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    _notes.append("begun")
    while loop.time() < end:
        try:
            await asyncio.sleep(end - loop.time())
        except asyncio.CancelledError:
            _notes.append("swallowed")
    return "late"


def notes() -> list[Any]:
    """What was noted; a plain function."""
    taken = _notes[:]
    _notes.clear()
    return taken


_gates: dict[str, asyncio.Event] = {}


async def meet(name: str) -> str:
    """Wait until somebody opens the gate of this name."""
    await _gates.setdefault(name, asyncio.Event()).wait()
    return name


async def open_gate(name: str) -> None:
    """Let those through who wait."""
    _gates.setdefault(name, asyncio.Event()).set()


async def waiting(name: str, seconds: float = 0) -> float | None:
    """The time that is left for this call."""
    import cloister.calling

    await asyncio.sleep(seconds)
    limit = cloister.calling.deadline.get()
    return None if limit is None else limit - asyncio.get_running_loop().time()


async def logical_thread() -> int:
    """The logical thread for which this runs, asked for after a turn of the loop."""
    from cloister import calling

    await asyncio.sleep(0)
    return calling.logical_thread()


async def later_failure() -> None:
    """Leave a task behind whose exception nobody takes."""

    async def fails() -> None:
        raise KeyError("nobody takes this")

    task = asyncio.create_task(fails())
    await asyncio.wait([task])
    del task


def call_in_loop(text: str) -> None:
    """Note something from the loop's thread, in a plain call-back of the loop that raises."""
    raise LookupError(text)


async def soon(text: str) -> None:
    """Raise in a call-back of the loop."""
    asyncio.get_running_loop().call_soon(call_in_loop, text)


class Account:
    """An object with coroutine methods, that is an asynchronous context too."""

    def __init__(self) -> None:
        self.balance = 0
        self.left: list[str] = []

    async def add(self, amount: int) -> int:
        """Add, a turn of the loop later."""
        await asyncio.sleep(0)
        self.balance += amount
        return self.balance

    def now(self) -> int:
        """A plain method."""
        return self.balance

    async def __call__(self, amount: int) -> int:
        return await self.add(amount)

    async def __aenter__(self) -> Account:
        await asyncio.sleep(0)
        self.left.append("entered")
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, traceback: object) -> bool:
        await asyncio.sleep(0)
        self.left.append("left" if kind is None else kind.__name__)
        return kind is ZeroDivisionError

    def history(self) -> list[str]:
        """How it was entered and left."""
        return self.left


async def make_account(amount: int) -> Account:
    """A factory that is a coroutine."""
    account = Account()
    await account.add(amount)
    return account


async def set_up() -> None:
    """An initializer that is a coroutine."""
    await asyncio.sleep(0)
    _notes.append(f"set up on {threading.current_thread().name}")


async def call_in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call the host from a thread of the loop's executor, which waits there."""
    return await asyncio.to_thread(function, *args)


async def leave_at_exit(path: str) -> None:
    """Write into a file when this is cancelled at the end of the domain."""
    _notes.append("begun")
    try:
        await asyncio.Event().wait()
    finally:
        with open(path, "a") as file:
            file.write("unwound\n")
