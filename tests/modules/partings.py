"""Code that wants to know of its domain's end, or brings it about; imported by guests only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import cloister
from cloister import events

here = cloister.current_domain()
said: list[str] = []


def tell_before_the_end(tell: Callable[[str], object]) -> None:
    """When this domain is unloaded, call the host, which may call back."""

    @here.on(events.Unloading)
    def parting(event: events.Unloading) -> None:
        thread = threading.Thread(target=said.append, args=("a new thread",))
        thread.start()
        thread.join()
        tell(f"{event.domain}: {said[-1]}")


def raise_before_the_end() -> None:
    """The first handler raises, the second one says so."""

    def broken(event: events.Unloading) -> None:
        raise RuntimeError("no goodbye")

    here.on(events.Unloading, broken)
    here.on(events.Unloading, lambda event: print("the second"))


def hang_before_the_end() -> None:
    """A handler that does not come back."""
    here.on(events.Unloading, lambda event: time.sleep(60))


def print_at_the_end() -> None:
    """Tell of all that comes."""
    here.on(events.Unloading, lambda event: print("unloading", here.name))
    here.on(events.ProcessExit, lambda event: print("exit", event.domain))


def answer() -> str:
    """Something to call in the last moment."""
    return "still here"


def unload() -> str:
    """End this domain."""
    try:
        here.unload()
    finally:
        print("unwound")
    return "not reached"


async def unload_in_a_coroutine() -> None:
    """The same on the domain's loop."""
    here.unload()


def unload_in_a_thread() -> None:
    """The same on a thread of one's own, which Python waits for at exit."""
    thread = threading.Thread(target=here.unload)
    thread.start()
    thread.join()


def unload_soon() -> None:
    """The same after this call."""
    threading.Timer(0.01, here.unload).start()


def unload_twice() -> None:
    """A handler of the unloading unloads: nothing happens."""

    def again(event: events.Unloading) -> None:
        here.unload()
        print("returned")

    here.on(events.Unloading, again)
    here.unload()
