"""What a host may ask of a guest beside calling its objects: create, call, run a program, evaluate, hand out a copy.

These are the functions of target 0. They run on the thread that serves the call, the main thread for the first lane.
How code is named and found is in `cloister.objects.targets`; how a program is run, in `cloister.guest.program`.
"""

from __future__ import annotations

import builtins
import linecache
import runpy
import sys
import time
import types
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cloister.guest import allocations, loaded, local, raised
from cloister.guest.coroutines import is_coroutine
from cloister.guest.interrupts import Interrupted, StopRequested
from cloister.guest.program import run_file, run_function, run_program
from cloister.objects import targets
from cloister.objects.marks import Shared
from cloister.wire.registry import DEFAULT_REGISTRY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from cloister.guest.host import HostPeer

__all__ = ["NAMESPACE", "Service"]

NAMESPACE: Final = "__cloister__"
"""The module in which `exec` and `eval` run. It can be imported, because dataclasses and pickles look theirs up."""
PORTION_NS: Final = 1_000_000
"""A chunk of a map is done in portions of about this time, so that it can be stopped in between."""
KEPT_SOURCES: Final = 1000
"""How many of the last sources of `exec` and `eval` tracebacks can show."""


class Service:
    """The functions, and the namespace of `exec` and `eval`."""

    def __init__(self, namespace: str = NAMESPACE) -> None:
        """`namespace` is the name of the module in which `exec` runs, among the modules of this interpreter."""
        self.peer: HostPeer
        module = sys.modules[namespace] = types.ModuleType(namespace)
        self._label = namespace.strip("_")
        self.namespace: dict[str, Any] = module.__dict__
        self._sources: deque[str] = deque()
        self._compiled = 0
        self.functions: dict[str, Callable[..., Any]] = {
            "create": self.create,
            "create_handle": self.create_handle,
            "call": self.call,
            "map": self.map,
            "unwrap": self.unwrap,
            "exec": self.exec,
            "eval": self.eval,
            "run_module": self.run_module,
            "run_path": self.run_path,
            "run_function": self.run_function,
            "ping": lambda: None,
            "load": loaded.load,
            "modules": loaded.modules,
            "set_data": local.set_data,
            "get_data": local.get_data,
            "watch": self.watch,
            "allocated": allocations.allocated,
        }

    def create(self, target: list[Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Make an object: a copy travels where its type is marked by value, a proxy otherwise."""
        made = targets.from_plain(target)(*args, **kwargs)
        return _made_later(made, _handed_out) if is_coroutine(made) else _handed_out(made)

    def create_handle(self, target: list[Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Make an object and hand out its id alone: nothing of its type travels."""
        made = targets.from_plain(target)(*args, **kwargs)
        return _made_later(made, self._number) if is_coroutine(made) else self._number(made)

    def _number(self, made: object) -> int:
        exports = self.peer.exports
        return exports.hand_out(made, exports.view(type(made))).number

    def call(self, target: list[Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a function."""
        return targets.from_plain(target)(*args, **kwargs)

    def map(self, target: list[Any], columns: list[list[Any]]) -> Any:
        """Call a function once for each row of the columns; return the results, and the exceptions by their places.

        Flat lists, because a list for each item would take longer than most functions do.
        """
        results: list[Any] = []
        failures: dict[int, Any] = {}
        items = builtins.map(targets.from_plain(target), *columns)  # it goes on after an exception
        count, portion, me = len(columns[0]), 1, self.peer.runs_here()
        while True:
            try:
                # In portions: between two calls of a function that is written in C no interrupt comes in.
                while (upto := len(results) + portion) < count:
                    since = time.monotonic_ns()
                    results.extend(islice(items, portion))  # what came before an exception stays in the list
                    if len(results) < upto:
                        break
                    if me is not None and me.unwanted == me.number:
                        raise Interrupted  # who looks at this thread sees it here, where it is not interrupted
                    portion = 2 * portion if time.monotonic_ns() - since < PORTION_NS else max(1, portion // 2)
                else:
                    results.extend(items)
                if len(results) == count:
                    if results and is_coroutine(results[0]):
                        return _mapped_later(results, failures, self.peer.describe)
                    return [results, failures]
                raise StopIteration  # the function itself has raised it, which looks like the end
            except (Interrupted, StopRequested):
                _close(results)
                raise
            except BaseException as error:
                failures[len(results)] = self.peer.describe(error)
                results.append(None)

    def watch(self, what: list[str]) -> None:
        """Ask the host for what is not found here (``lookups``), tell it of loaded modules (``modules``) and of raised
        exceptions (``raised``)."""
        if "lookups" in what:
            from cloister.guest import lookups  # not before it is wanted: it loads a part of importlib, as `loads` does

            lookups.watch_lookups(self.peer)
        if "modules" in what:
            from cloister.guest import loads

            loads.watch_loads(lambda name, file: self.peer.report_event("module_loaded", [name, file]))
        if "raised" in what:
            raised.watch_raised(lambda described: self.peer.report_event("raised", list(described)))

    def unwrap(self, value: Any) -> Any:
        """Return the object itself; the call asks for a copy."""
        return value

    def exec(self, source: str) -> None:
        """Run statements in the namespace of this domain."""
        exec(self._compile(source, "exec"), self.namespace)  # noqa: S102 - that is what it is for

    def eval(self, source: str) -> Any:
        """Evaluate an expression in the namespace of this domain."""
        return eval(self._compile(source.strip(), "eval"), self.namespace)  # noqa: S307 - that is what it is for

    def _compile(self, source: str, mode: str) -> Any:
        """Compile, and keep the source where tracebacks find it."""
        self._compiled += 1
        name = f"<{self._label} {mode} {self._compiled}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        self._sources.append(name)
        if len(self._sources) > KEPT_SOURCES:
            linecache.cache.pop(self._sources.popleft(), None)
        return compile(source, name, mode)

    def forget(self) -> None:
        """Take the namespace, and the sources that tracebacks show, out of an interpreter that lives on."""
        sys.modules.pop(self.namespace["__name__"], None)
        for name in self._sources:
            linecache.cache.pop(name, None)

    def run_module(self, name: str, args: list[str]) -> int:
        """Run a module as a program; return its exit code."""
        return run_program(lambda: runpy.run_module(name, run_name="__main__", alter_sys=True), name, args)

    def run_function(self, target: str, args: list[str]) -> int:
        """Call ``module:function`` as the script of an installed program does; return its exit code."""
        return run_function(target, args)

    def run_path(self, path: str, args: list[str]) -> int:
        """Run a file as a program; return its exit code."""
        return run_file(path, args)


def _handed_out(made: object) -> object:
    return made if type(made) in DEFAULT_REGISTRY.by_type else Shared(made)


async def _made_later(made: Awaitable[object], hand_out: Callable[[object], Any]) -> Any:
    """What a factory makes that is an ``async def``."""
    return hand_out(await made)


async def _mapped_later(
    results: list[Any], failures: dict[int, Any], describe: Callable[[BaseException], Any]
) -> list[Any]:
    """As `Service.map` for an ``async def``: the items run one after the other, on the loop."""
    rest = list(enumerate(results))[::-1]
    try:
        while rest:
            index, made = rest.pop()
            if is_coroutine(made):
                try:
                    results[index] = await made
                except Exception as error:
                    failures[index] = describe(error)
                    results[index] = None
    finally:  # where it was cancelled
        _close(made for _, made in rest)
    return [results, failures]


def _close(results: Iterable[Any]) -> None:
    """Close the coroutines that nobody will await, so that they don't complain of it."""
    for made in results:
        if is_coroutine(made):
            made.close()
