"""Guests whose functions and methods are coroutines. Only guests import this."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Callable
from typing import Any

_notes: list[Any] = []
_everybody = asyncio.Event()


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


async def all_here(number: int, count: int) -> tuple[int, int]:
    """Wait until so many calls are here; give back the number, and the how manieth this one was."""
    _notes.append(number)
    place = len(_notes)
    if place == count:
        _everybody.set()
    await _everybody.wait()
    return number, place


def memory() -> int:
    """The most memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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


async def other_tasks() -> int:
    """How many tasks there are beside this one."""
    return len(asyncio.all_tasks()) - 1


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


# -- coroutines that call the host -------------------------------------------------------------------------------------


async def progress(tell: Callable[[int], Any], steps: int) -> list[Any]:
    """Tell the host each step, and wait until it has taken it."""
    return [await tell(step) for step in range(steps)]


async def together(ask: Callable[[int], Any], count: int) -> list[Any]:
    """Ask the host many things at once."""
    return await asyncio.gather(*(ask(number) for number in range(count)))


async def descend(up: Callable[[int], Any], depth: int) -> int:
    """Await the host, which calls this again, until the depth is used up."""
    return 0 if depth == 0 else await up(depth - 1) + 1


async def ticking(slow: Callable[[], Any]) -> int:
    """Count the turns of the loop while the host works."""
    waiting = asyncio.ensure_future(slow())
    turns = 0
    while not waiting.done():
        turns += 1
        await asyncio.sleep(0.001)
    await waiting
    return turns


async def use(box: Any) -> list[Any]:
    """Use an object of the host: await its methods; what can't be awaited is refused."""
    noted: list[Any] = [await box.put(1), await box.get()]
    for wrong in (lambda: len(box), lambda: 1 in box, lambda: list(box)):
        try:
            wrong()
        except TypeError as error:
            noted.append("to_thread" in str(error))
    noted.append(await asyncio.to_thread(len, box))
    return noted


async def read_through(*sources: Any) -> list[Any]:
    """Read the host's iterables and iterators with ``async for``; a plain ``for`` is refused."""
    read: list[Any] = []
    for source in sources:
        try:
            for _ in source:
                read.append("without waiting")
        except TypeError as error:
            read.append("async for" in str(error))
        read.append([item async for item in source])
    return read


async def as_tasks(ask: Callable[[int], Any]) -> list[Any]:
    """Calls of the host that become tasks."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(number)) for number in range(3)]
    return [task.result() for task in tasks]


def helper(ask: Callable[[int], Any]) -> Any:
    """A plain function that calls the host; in a coroutine it gets a future."""
    return ask(7)


async def by_helper(ask: Callable[[int], Any]) -> list[Any]:
    """The three ways to call a plain function that calls the host."""
    future = helper(ask)
    return [asyncio.isfuture(future), await future, await asyncio.to_thread(helper, ask)]


def own_loop(ask: Callable[[int], Any], times: int) -> list[Any]:
    """A plain function that runs a loop of its own, several times."""

    async def main() -> Any:
        return await ask(3)

    return [asyncio.run(main()) for _ in range(times)]


async def give_up(slow: Callable[[], Any]) -> list[str]:
    """Give up calls of the host: by a time-out of asyncio, and by one of ours."""
    import cloister

    noted: list[str] = []
    try:
        await asyncio.wait_for(slow(), 0.05)
    except TimeoutError as error:
        noted.append(type(error).__name__)
    try:
        with cloister.timeout(0.05):
            await slow()
    except cloister.CallTimeout as error:
        noted.append(type(error).__name__)
    return noted


async def wait_for_host(never: Callable[[], Any]) -> None:
    """Await the host for ever, and note how that ended."""
    try:
        await never()
    except BaseException as error:
        _notes.append(type(error).__name__)
        raise


async def send_what_cannot_travel(take: Callable[[Any], Any]) -> str:
    """The error is the future's."""
    import cloister

    future = take(cloister.code(len))
    try:
        await future
    except cloister.MarshalError as error:
        return type(error).__name__
    return "none"


async def within(function: Callable[[], Any], seconds: float) -> Any:
    """Await a function of the host for so long; say "late" where that is not enough."""
    try:
        async with asyncio.timeout(seconds):
            return await function()
    except TimeoutError:
        return "late"
