"""The default domain: this process itself, with the interface of a domain; and `current_domain`.

In a host it is named ``default`` and has the id 0. In a guest, `current_domain()` is the guest's own domain, seen from
inside. Everything runs here, on the calling thread; nothing is copied and nothing is a proxy. Any thread may enter.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from cloister.domain.options import program_args
from cloister.errors import CannotUnload
from cloister.guest import loaded, local, lookups
from cloister.guest.program import run_file, run_program
from cloister.objects import targets
from cloister.objects.handles import LocalHandle

if TYPE_CHECKING:
    import os

__all__ = ["CurrentDomain", "current_domain"]

T = TypeVar("T")


class CurrentDomain:
    """The domain that the running code is in."""

    @property
    def name(self) -> str:
        """Its name; ``default`` in a host."""
        return local.name

    @property
    def id(self) -> int:
        """Its number among the domains of its host; 0 is the default domain."""
        return local.identity

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration that its creator gave with `Setup(config=...)`; empty in a host."""
        return local.config

    @property
    def is_default(self) -> bool:
        """Whether this is the default domain: the process is a host, or no domain at all."""
        return local.identity == 0

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

    def unload(self) -> None:
        """Raises CannotUnload: the default domain ends with its process, any other is unloaded by its creator."""
        if self.is_default:
            raise CannotUnload("the default domain can't be unloaded; it ends with the process")
        raise CannotUnload(f"domain {self.name!r} can't unload itself; its creator does, or the process exits")

    def __repr__(self) -> str:
        return f"<the current domain, {self.name!r}>"


_current = CurrentDomain()


def current_domain() -> CurrentDomain:
    """The domain that the running code is in: the default domain in a host, its own domain in a guest."""
    return _current


def _resolved(target: Callable[..., Any] | str) -> Callable[..., Any]:
    function: Callable[..., Any] = targets.resolve(target) if isinstance(target, str) else target
    return function
