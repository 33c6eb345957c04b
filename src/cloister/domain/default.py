"""The default domain: this process itself, with the interface of a domain; `current_domain` and `domains`.

In a host it is named ``default`` and has the id 0. In a guest, `current_domain()` is the guest's own domain, seen from
inside. Everything runs here, on the calling thread; nothing is copied and nothing is a proxy. What happens to it is in
`own_events`. `domains` are the others: those that this process has made and that have not ended. Any thread may enter.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cloister.domain import living, own_events
from cloister.domain.options import check_event, program_args
from cloister.errors import CannotUnload
from cloister.guest import loaded, local, lookups
from cloister.guest.program import run_file, run_program
from cloister.objects import targets
from cloister.objects.handles import LocalHandle

if TYPE_CHECKING:
    import os

    from cloister.domain.events import Event
    from cloister.domain.known import DomainBase
    from cloister.domain.life import Life

__all__ = ["CurrentDomain", "current_domain", "domains"]

E = TypeVar("E", bound="Event")
R = TypeVar("R")
T = TypeVar("T")


class CurrentDomain:
    """The domain that the running code is in."""

    @property
    def name(self) -> str:
        """Its name; ``default`` in a host."""
        return local.here().name

    @property
    def id(self) -> int:
        """Its number among the domains of its host; 0 is the default domain."""
        return local.here().identity

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration that its creator gave with `Setup(config=...)`; empty in a host."""
        return local.here().config

    @property
    def is_default(self) -> bool:
        """Whether this is the default domain: the process is a host, or no domain at all."""
        return local.here().identity == 0

    def create(self, target: Callable[..., T] | str, /, *args: Any, **kwargs: Any) -> T:
        """Make an object here, on this thread. Raises ImportError for a name that leads nowhere."""
        made: T = _resolved(target)(*args, **kwargs)
        return made

    def create_handle(self, target: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> LocalHandle:
        """Make an object here; `unwrap()` of the handle gives the object itself."""
        return LocalHandle(_resolved(target)(*args, **kwargs))

    def call(self, target: Callable[..., T] | str, /, *args: Any, **kwargs: Any) -> T:
        """Call a function here, on this thread."""
        result: T = _resolved(target)(*args, **kwargs)
        return result

    def run_module(self, name: str, args: Sequence[str] = ()) -> int:
        """Run a module as a program on this thread; return its exit code. ``SystemExit(n)`` is n."""
        return run_program(
            lambda: runpy.run_module(name, run_name="__main__", alter_sys=True), name, program_args(args)
        )

    def run_path(self, path: str | os.PathLike[str], args: Sequence[str] = ()) -> int:
        """Run a file as a program on this thread; return its exit code."""
        return run_file(str(path), program_args(args))

    def load(self, name: str) -> None:
        """Import a module here. Raises what the import raises."""
        loaded.load(name)

    def modules(self) -> dict[str, str | None]:
        """The names of all modules that are loaded here, with their files; None for one that has none."""
        return loaded.modules()

    def set_data(self, slot: str, value: Any) -> None:
        """Put a value into a data slot of this domain; its creator reads it with `Domain.get_data`."""
        local.set_data(slot, value)

    def get_data(self, slot: str) -> Any:
        """The value of a data slot of this domain; None where nothing is in it."""
        return local.get_data(slot)

    def resource(self, package: str, name: str) -> bytes:
        """The bytes of a file that lies in a package; `name` may have folders, with slashes.

        Where it is not there, a guest asks the handlers that its creator has for ``"resource"``. Raises
        FileNotFoundError.
        """
        return lookups.find_resource(package, name)

    @overload
    def on(self, event: type[E], /) -> Callable[[Callable[[E], R]], Callable[[E], R]]: ...
    @overload
    def on(self, event: type[E], handler: Callable[[E], R], /) -> Callable[[E], R]: ...
    def on(self, event: Any, handler: Any = None, /) -> Any:
        """Call `handler` for each event of this type that happens to this domain; without one it is a decorator.

        Of `Unloading`, where the handler runs while everything still works, and the stop waits for it (the default
        domain is never unloaded); `ProcessExit`, which comes at the end of the process, however it is brought about in
        order; `UnhandledException`, `ModuleLoaded`, `ExceptionRaised`. Returns the handler. Raises TypeError for
        another type and for what can't be called, LevelUnavailable where this Python can't tell it.
        """
        if handler is None:
            check_event(event, inside=True)
            return partial(self.on, event)
        own_events.add(event, handler)
        return handler

    def off(self, event: type[E], handler: Callable[[E], object], /) -> None:
        """Call a handler of `on` no more. Raises LookupError for one that is not there."""
        if not own_events.remove(event, handler):
            raise LookupError(f"{handler!r} is no handler of {event.__name__} in {self!r}")

    def unload(self) -> None:
        """In a guest: have this domain unloaded, in order, and end what runs on this thread.

        The creator is asked, so everything goes as with its own `unload`: the handlers of `Unloading` run, calls end
        with DomainUnloaded, this one too, then the exit hooks run. Returns only in a handler of `on`, which the end
        waits for.
        Raises CannotUnload in the default domain, which ends with its process.
        """
        if self.is_default:
            raise CannotUnload("the default domain can't be unloaded; it ends with the process")
        local.here().notices.unload(wait=not own_events.handling())

    def __repr__(self) -> str:
        return f"<the current domain, {self.name!r}>"


_current = CurrentDomain()


def current_domain() -> CurrentDomain:
    """The domain that the running code is in: the default domain in a host, its own domain in a guest.

    Raises RuntimeError while a template imports the modules of `Setup.preload`: it is no domain.
    """
    if local.here().identity < 0:
        raise RuntimeError("a template has no domain: this module asks for its own while it is imported")
    return _current


def domains() -> list[DomainBase]:
    """The domains that the code of this domain has made and that have not ended, in the order in which they were made.

    The current domain is not among them: it is `current_domain()`. Never waits.
    """
    lives = sorted(living.made_here(), key=lambda life: life.identity)
    return [domain for domain in map(_domain_of, lives) if domain is not None]


def _domain_of(life: Life) -> DomainBase | None:
    """The domain of a life; None where it has ended, or nobody holds it."""
    with life.using() as there:  # it may end in this moment
        if not there or life.over:
            return None
        keep = life.peer.imports.keep
        return None if keep is None else keep()


def _resolved(target: Callable[..., Any] | str) -> Callable[..., Any]:
    function: Callable[..., Any] = targets.resolve(target) if isinstance(target, str) else target
    return function
