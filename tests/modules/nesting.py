"""Code of a domain that makes a domain itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloister


def _inner() -> cloister.Domain:
    inner: cloister.Domain = cloister.current_domain().get_data("inner")
    return inner


def make(name: str, level: str) -> str:
    """Make a domain, and keep it."""
    inner = cloister.Domain(name, level=level)
    cloister.current_domain().set_data("inner", inner)
    return inner.name


def names() -> list[str]:
    """What this domain has made."""
    return [each.name for each in cloister.domains()]


def place() -> str:
    """The domain of the running code."""
    return cloister.current_domain().name


def place_inside() -> tuple[str, str]:
    """The domain of code in the inner domain, and of this code after that."""
    return _inner().call("nesting:place"), place()


def answer(function: Callable[[str], Any]) -> Any:
    """Call back, with where this is."""
    return function(place())


def pass_on(function: Callable[[str], Any]) -> Any:
    """Let the inner domain call back."""
    return _inner().call("nesting:answer", function)


def fail(text: str) -> None:
    """Raise."""
    raise LookupError(text)


def fail_inside(text: str) -> None:
    """Let the inner domain raise."""
    _inner().call("nesting:fail", text)


def unload_inside() -> None:
    """Unload the inner domain."""
    _inner().unload()


def spin_inside(told: str) -> None:
    """Wait for a call in the inner domain that does not return."""
    _inner().call("conformance:spin_and_say", told)


def say_when_over(file: str) -> None:
    """Write into a file how the inner domain has ended."""

    def say(event: cloister.events.Exited) -> None:
        Path(file).write_text(f"{event.domain} {event.report.reason.value}")

    _inner().on(cloister.events.Exited, say)


def place_in_thread() -> str:
    """The domain of a thread that this code starts."""
    places: list[str] = []
    thread = threading.Thread(target=lambda: places.append(place()))
    thread.start()
    thread.join(30)
    return places[0]
