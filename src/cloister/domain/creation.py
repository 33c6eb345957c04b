"""The hooks that see the creation of every domain of this process, and may adjust or refuse it.

They are asked in the order in which they were added, on the thread that makes the domain, before anything is started;
each sees what the one before it made of it. A domain that a hook makes itself is not shown to that hook. Hooks belong
to their process: what a guest creates, the hooks in that guest see. Any thread may enter.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from cloister.errors import StartFailed

if TYPE_CHECKING:
    from cloister.domain.options import Options
    from cloister.domain.setup import Setup, Watchdog

__all__ = ["Creation", "CreationHook", "ask", "creation_hook"]

_lock = threading.Lock()
_hooks: tuple[CreationHook, ...] = ()
_asking: ContextVar[tuple[CreationHook, ...]] = ContextVar("cloister.asking", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A domain that is about to be made; what its fields mean is told by `Domain`."""

    name: str
    level: str
    """How strong its wall will be; a hook can't change it."""
    setup: Setup
    watchdog: Watchdog
    max_concurrency: int | None
    start_timeout: float
    stop_timeout: float
    echo: bool

    def replace(self, **changes: Any) -> Creation:
        """The same with other options. Raises TypeError for what is no option, ValueError for another level."""
        if changes.get("level", self.level) != self.level:
            raise ValueError(f"a hook can't change the level of domain {self.name!r}; refuse it, by raising, instead")
        return dataclasses.replace(self, **changes)


class CreationHook:
    """A hook that is in force until `remove`, or until the end of its ``with`` block."""

    def __init__(self, function: Callable[[Creation], Creation | None]) -> None:
        """`function` as in `creation_hook`. Raises TypeError where it is none."""
        if not callable(function):
            raise TypeError(f"a creation hook is a function that takes the Creation, not {function!r}")
        self.function = function

    def __call__(self, creation: Creation) -> Creation | None:
        return self.function(creation)

    def remove(self) -> None:
        """Ask it no more. Idempotent."""
        global _hooks
        with _lock:
            _hooks = tuple(hook for hook in _hooks if hook is not self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<creation hook {getattr(self.function, '__qualname__', self.function)}>"


def creation_hook(function: Callable[[Creation], Creation | None]) -> CreationHook:
    """Let a function see the creation of every domain of this process from now on.

    It gets a `Creation` and returns None, to leave it as it is, or another one, made with its `replace`. What it raises
    refuses the domain: whoever wanted it gets StartFailed, with that as its cause. Use it as a decorator, in a ``with``
    statement, or keep what it returns for `CreationHook.remove`.
    """
    global _hooks
    hook = CreationHook(function)
    with _lock:
        _hooks = (*_hooks, hook)
    return hook


def ask(name: str, level: str, options: Options) -> tuple[str, Options]:
    """Show a domain that is to be made to the hooks; return its name and options as they want them.

    Raises StartFailed where one refuses, TypeError for an answer that is none, and ValueError for an option out of
    range.
    """
    if not _hooks:
        return name, options
    fields = {field.name for field in dataclasses.fields(Creation)} - {"name", "level"}
    creation = Creation(name=name, level=level, **{field: getattr(options, field) for field in fields})
    above = _asking.get()
    for hook in _hooks:
        if hook in above:
            continue
        token = _asking.set((*above, hook))
        try:
            answer = hook(creation)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            raise StartFailed(f"domain {creation.name!r} may not be made: {hook!r} refuses it: {words}") from error
        finally:
            _asking.reset(token)
        if answer is not None and not isinstance(answer, Creation):
            raise TypeError(f"{hook!r} returned {answer!r}; it returns None, or what creation.replace(...) gives")
        creation = answer or creation
    changes = {field: getattr(creation, field) for field in fields}
    return str(creation.name), dataclasses.replace(options, **changes)
