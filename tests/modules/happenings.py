"""Code to which things happen: exceptions that nobody handles, or that somebody does; imported by guests only."""

from __future__ import annotations

import asyncio
import importlib
import threading

import cloister


def fail_in_thread(text: str) -> None:
    """A thread of the guest's own raises."""

    def raise_it() -> None:
        raise LookupError(text)

    thread = threading.Thread(target=raise_it, name="lost")
    thread.start()
    thread.join()


async def _raise(text: str) -> None:
    raise OSError(text)


async def fail_in_task(text: str) -> None:
    """A task on the domain's loop raises, and nobody takes its result."""
    task = asyncio.create_task(_raise(text))
    await asyncio.wait([task])
    del task


def fail_in_loop_of_ones_own(text: str) -> None:
    """The same on a loop that the code here has made."""
    asyncio.run(fail_in_task(text))


def note_unhandled() -> None:
    """Write down what nobody handles here."""
    seen: list[tuple[str, str]] = []
    here, told = cloister.current_domain(), threading.Semaphore(0)
    here.set_data("seen", (seen, told))

    @here.on(cloister.events.UnhandledException)
    def note(event: cloister.events.UnhandledException) -> None:
        seen.append((event.domain, event.where))
        told.release()


def unhandled(count: int) -> list[tuple[str, str]]:
    """What was written down, once there is so much."""
    seen: list[tuple[str, str]]
    seen, told = cloister.current_domain().get_data("seen")
    for _ in range(count):
        assert told.acquire(timeout=30)
    return list(seen)


def watch_itself(kinds: list[str]) -> None:
    """Write down the modules of the tests that this domain loads, and what is caught by name."""
    seen: list[str] = []
    here, told = cloister.current_domain(), threading.Semaphore(0)
    here.set_data("watched", (seen, told))

    def note_module(event: cloister.events.ModuleLoaded) -> None:
        if "modules" in event.file:
            seen.append(event.module)
            told.release()

    def note_raised(event: cloister.events.ExceptionRaised) -> None:
        if "caught by" in event.message:
            seen.append(event.message)
            told.release()

    here.on(cloister.events.ModuleLoaded, note_module)
    if "ExceptionRaised" in kinds:
        here.on(cloister.events.ExceptionRaised, note_raised)


def watched(count: int) -> set[str]:
    """What was written down, once there is so much."""
    seen, told = cloister.current_domain().get_data("watched")
    for _ in range(count):
        assert told.acquire(timeout=30)
    return set(seen)


def catch_in_thread(text: str) -> None:
    """As `catch`, on a thread of the guest's own."""
    thread = threading.Thread(target=catch, args=(text,))
    thread.start()
    thread.join()


def in_thread(module: str) -> None:
    """A thread of the guest's own loads a module."""
    thread = threading.Thread(target=importlib.import_module, args=(module,))
    thread.start()
    thread.join()


def fail(text: str) -> None:
    """Raise, for a caller or a one-way call."""
    raise ValueError(text)


def catch(text: str) -> str:
    """Raise three levels down, let it pass, and catch it."""

    def deep() -> None:
        raise KeyError(text)

    def between() -> None:
        try:
            deep()
        finally:
            str(text)

    try:
        between()
    except KeyError as error:
        return str(error)
    return ""


class Odd(Exception):
    """Can't even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raise_oddly() -> None:
    """Raise and catch it."""
    try:
        raise Odd
    except Odd:
        pass


def raise_often(count: int) -> None:
    """Many, quickly."""
    for number in range(count):
        try:
            raise KeyError(number)
        except KeyError:
            pass
