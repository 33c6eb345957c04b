"""A fresh domain in the place of one that is there: `Domain.reload`, and the objects that are made again with it.

In this order: the new one starts, with the options and handlers of the old; what was made as durable is made again in
it, in the order in which it was made first; only when all of that has worked, calls go to the new one, the old one is
unloaded, and the durable proxies stand for the new objects. Where anything fails, the new one is killed and the old one
goes on as if nothing had been asked.

While a proxy changes sides another thread may use it. It finds its peer first and its number then; so the numbers
change only after the old domain answers nothing any more, and the peer after the number. Any thread may enter.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cloister import calling
from cloister.errors import DomainUnloaded
from cloister.objects import targets
from cloister.objects.proxies import is_proxy
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    from cloister.domain.known import DomainBase

__all__ = ["Durables", "Exchange", "reload"]


@dataclass(slots=True)
class _Durable:
    proxy: weakref.ref[Any]
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Durables:
    """How the durable objects of one domain were made. An entry goes with its proxy."""

    def __init__(self) -> None:
        self._made: dict[int, _Durable] = {}

    def note(self, proxy: Any, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note how an object was made. What is no proxy is no concern of a reload: it is here already."""
        if is_proxy(proxy):
            made, number = self._made, id(proxy)
            made[number] = _Durable(weakref.ref(proxy, lambda _: made.pop(number, None)), target, args, kwargs)

    def all(self) -> list[tuple[Any, _Durable]]:
        """Each proxy that is still held, with how it was made."""
        return [(proxy, each) for each in list(self._made.values()) if (proxy := each.proxy()) is not None]


class Exchange:
    """One exchange of a domain for a fresh one. Who makes it waits in between, in its own style of calling."""

    def __init__(self, domain: DomainBase) -> None:
        """Start the new one, and wait for nothing. Raises DomainUnloaded, and what the start raises."""
        self._domain = domain if domain._view_of is None else domain._view_of
        self.old = old = self._domain._life
        if old.foreign:
            raise old.error()
        if old.unloaded:
            raise DomainUnloaded(f"domain {old.name!r} was unloaded; make a new one")
        self.new = self._domain._begin(old.name, replace(old.options, handlers=tuple(old.subscriptions)))
        self._again: list[tuple[Any, Any, _Durable]] = []

    def take_over(self) -> None:
        """Let the new one have what belongs to the domain and not to its code."""
        self.new.resolving.take_over(self.old.resolving)
        self.new.keep_alive(self._domain)
        self.new.peer.imports.expect_as(self.old.peer.imports)

    def remake(self) -> Generator[tuple[Any, ...], Any, None]:
        """What to ask the new one for, when it is ready: the arguments of one ``create`` after the other.

        It is sent what each of them made.
        """
        replaced: dict[int, Any] = {}
        for proxy, made in self.old.durables.all():
            plain = targets.to_plain(made.target, self.new.peer.version)
            args = [replaced.get(id(value), value) for value in made.args]
            kwargs = {name: replaced.get(id(value), value) for name, value in made.kwargs.items()}
            fresh = yield plain, args, kwargs
            if not is_proxy(fresh):
                raise TypeError(f"{proxy!r} is durable, but what its maker makes now is copied: {type(fresh).__name__}")
            replaced[id(proxy)] = fresh
            self._again.append((proxy, fresh, made))

    def move(self) -> DomainUnloaded | None:
        """Let calls go to the new one; the old one is unloaded next.

        Returns what to raise where that was done by others meanwhile; then it is the new one that is unloaded next.
        """
        gone = self.old.unloaded
        self._domain._move_to(self.new)
        return DomainUnloaded(f"domain {self.old.name!r} was unloaded while it was reloaded") if gone else None

    def adopt(self) -> None:
        """The old one answers nothing any more: let the durable proxies stand for the new objects."""
        for proxy, fresh, made in self._again:
            self.new.peer.imports.adopt(proxy, fresh)
            self.new.durables.note(proxy, made.target, made.args, made.kwargs)


def reload(domain: DomainBase) -> None:
    """Put a fresh domain in the place of this one; see above. Raises what the start and the makers raise."""
    lock: threading.Lock = (domain._view_of or domain).__dict__.setdefault("_reloading", threading.Lock())
    with lock:
        exchange = Exchange(domain)
        new = exchange.new
        try:
            exchange.take_over()
            new.wait_ready(calling.deadline.get())
            orders = exchange.remake()
            made: Any = None
            with contextlib.suppress(StopIteration):
                while True:
                    made = new.peer.call(SERVICE, "create", orders.send(made), None)
        except BaseException:
            new.kill()
            raise
        unloaded = exchange.move()
        if unloaded is not None:
            new.unload()
            raise unloaded
        exchange.old.unload()
        exchange.adopt()
