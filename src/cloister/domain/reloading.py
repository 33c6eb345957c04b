"""A fresh domain in the place of one that is there: `Domain.reload`, and the objects that are made again with it.

In this order: the new one starts, with the options and handlers of the old; what was made as durable is made again in
it, in the order in which it was made first; only when all of that has worked, calls go to the new one, the old one is
unloaded, and the durable proxies stand for the new objects. Where anything fails, the new one is killed and the old one
goes on as if nothing had been asked.

While a proxy changes sides another thread may use it. It finds its peer first and its number then; so the numbers
change only after the old domain answers nothing any more, and the peer after the number. Any thread may enter.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cloister import calling
from cloister.errors import DomainUnloaded
from cloister.objects import targets
from cloister.objects.proxies import is_proxy
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    from cloister.domain.domain import Domain
    from cloister.domain.life import Life

__all__ = ["Durables", "reload"]


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


def reload(domain: Domain) -> None:
    """Put a fresh domain in the place of this one; see above. Raises what the start and the makers raise."""
    lock: threading.Lock = domain.__dict__.setdefault("_reloading", threading.Lock())
    with lock:
        old = domain._life
        if old.foreign:
            raise old.error()
        if old.unloaded:
            raise DomainUnloaded(f"domain {old.name!r} was unloaded; make a new one")
        new = domain._begin(old.name, replace(old.options, handlers=tuple(old.subscriptions)))
        try:
            new.resolving.take_over(old.resolving)
            new.keep_alive(domain)
            new.peer.imports.expect_as(old.peer.imports)
            new.wait_ready(calling.deadline.get())
            again = _make_again(old, new)
        except BaseException:
            new.kill()
            raise
        gone = old.unloaded  # by another thread, in the meantime
        domain._move_to(new)
        if gone:
            new.unload()
            raise DomainUnloaded(f"domain {old.name!r} was unloaded while it was reloaded")
        old.unload()
        for proxy, fresh, made in again:
            new.peer.imports.adopt(proxy, fresh)
            new.durables.note(proxy, made.target, made.args, made.kwargs)


def _make_again(old: Life, new: Life) -> list[tuple[Any, Any, _Durable]]:
    again: list[tuple[Any, Any, _Durable]] = []
    replaced: dict[int, Any] = {}
    for proxy, made in old.durables.all():
        plain = targets.to_plain(made.target, new.peer.version)
        args = [replaced.get(id(value), value) for value in made.args]
        kwargs = {name: replaced.get(id(value), value) for name, value in made.kwargs.items()}
        fresh = new.peer.call(SERVICE, "create", (plain, args, kwargs), None)
        if not is_proxy(fresh):
            raise TypeError(f"{proxy!r} is durable, but what its maker makes now is copied: {type(fresh).__name__}")
        replaced[id(proxy)] = fresh
        again.append((proxy, fresh, made))
    return again
