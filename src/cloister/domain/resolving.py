"""What the host answers when code in a domain looks for something that is not there: a module, a type, a resource.

The guest asks only after its own search has failed, and only where somebody here wants to be asked. Handlers are asked
in their order; the first answer wins. Each runs on a thread of cloister's and not on the one that waits for the answer,
so that one that hangs costs the guest its import and nobody a thread. It has the context of that one: what it calls is
called for the same logical thread. In a guest, what its own domains look for is
handed on to its host, so a domain inherits the handlers of its creators.

Any thread may enter. What the guest does with an answer is in `cloister.guest.lookups`.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from cloister import calling
from cloister.domain import events
from cloister.domain.crew import Crew
from cloister.errors import ProtocolError
from cloister.guest import lookups

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["Found", "Lookup", "Resolving"]

KINDS: Final = ("module", "type", "resource")
MAX_NAME: Final = 4096
"""Characters of a name that a guest may ask for."""

_crew = Crew(16, "cloister-resolve")
"""Runs handlers."""
_asides = Crew(16, "cloister-lookup")
"""Waits for handlers, where the host has an event loop."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was looked for in a domain, and not found there."""

    domain: str
    """The domain's name."""
    kind: Literal["module", "type", "resource"]
    name: str
    """``acme.shop`` for a module, ``acme.shop:Shop`` for a type, ``acme:data/logo.png`` for a resource. It comes from
    the guest: look it up, don't join it to a path unseen."""
    requested_by: str
    """The name of the module whose code asked, as the guest says; empty where nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where it is: an answer to a `Lookup`; exactly one of these."""

    path: str | os.PathLike[str] | None = None
    """A file; or a folder or archive that has the module in it. For a resource, the file."""
    source: str | None = None
    """The source text of the module, or of one that has the type in it."""
    name: str | None = None
    """What is to be imported instead: a module, for a type ``module:name``."""
    data: bytes | None = None
    """The resource itself."""

    def __post_init__(self) -> None:
        given = [name for name in ("path", "source", "name", "data") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"Found takes exactly one of path, source, name and data, not {given or 'none'}")

    def to_plain(self, kind: str) -> list[Any]:
        """For the guest. Raises TypeError for what can't answer this kind of question."""
        if self.path is not None:
            return ["path", os.path.abspath(self.path)]
        if self.data is not None and kind == "resource":
            return ["data", bytes(self.data)]
        if kind == "resource" or self.data is not None:
            raise TypeError(f"{self} does not answer the question for a {kind}")
        return ["source", self.source] if self.source is not None else ["name", self.name]


Handler = Callable[[Lookup], Found | os.PathLike[str] | None]


class Resolving:
    """The handlers of one domain."""

    def __init__(self, life: Life) -> None:
        setup = life.options.setup
        self._life = life
        self._handlers: list[tuple[str, Handler]] = list(setup.resolve.items())
        self._limit = setup.resolve_timeout
        self._answering: set[tuple[int, str, str, int]] = set()
        """Which handler is answering which question of which logical thread."""
        self._waiting: set[Future[Any]] = set()
        if self._handlers or lookups.ask is not None:
            life.watching.want("lookups")

    def take_over(self, other: Resolving) -> None:
        """Add the handlers that another domain of the same set-up was given later."""
        for kind, handler in other._handlers[len(self._handlers) :]:
            self.add(kind, handler)

    def add(self, kind: str, handler: Handler) -> None:
        """Add a handler, after the others; from the return on the guest asks. Raises ValueError, TypeError, and as a
        call does."""
        if kind not in KINDS:
            raise ValueError(f"what is resolved is one of {', '.join(KINDS)}, not {kind!r}")
        if not callable(handler):
            raise TypeError(f"who is asked for a {kind} is called with a Lookup; {handler!r} can't be called")
        self._handlers.append((kind, handler))
        self._life.watching.want("lookups")

    def resolve(self, kind: Any, name: Any, requested_by: Any) -> Any:
        """Answer a guest: [[how, what] or None, the failures of handlers as a text]. Its words are not trusted."""
        if kind not in KINDS or type(name) is not str or type(requested_by) is not str or len(name) > MAX_NAME:
            raise ProtocolError("a lookup is a kind, a name, and the name of who asks")
        lookup = Lookup(self._life.name, kind, name, requested_by[:MAX_NAME])
        failures: list[str] = []
        for wanted, handler in list(self._handlers):
            if wanted == kind:
                try:
                    answer = self._ask(handler, lookup)
                except Exception as error:
                    failures.append(f"{type(error).__name__}: {error}")
                else:
                    if answer is not None:
                        return [answer, ""]
        if lookups.ask is not None:
            answer, said = lookups.ask(kind, name, lookup.requested_by)
            failures += [said] if said else []
            if answer is not None:
                return [answer, ""]
        self._life.tell(
            events.ResolveFailed(self._life.name, self._life.process.pid, kind, name, lookup.requested_by), len(name)
        )
        return [None, "; ".join(failures)]

    def resolve_aside(self, kind: Any, name: Any, requested_by: Any) -> Future[Any]:
        """As `resolve`, on a thread of cloister's: for a host that must not wait."""
        future: Future[Any] = Future()
        context = _context_of_asker()
        _asides.run(partial(context.run, _run, future, self.resolve, kind, name, requested_by))
        return future

    def end(self) -> None:
        """The domain has ended: nobody waits for an answer any more."""
        for future in list(self._waiting):
            with contextlib.suppress(InvalidStateError):
                future.set_exception(RuntimeError("the domain has ended"))

    def _ask(self, handler: Handler, lookup: Lookup) -> list[Any] | None:
        """The answer of one handler. It runs for the logical thread that asks; where it looks for the very same itself,
        by what it calls over there, it is not asked again."""
        question = (id(handler), lookup.kind, lookup.name, calling.logical_thread())
        if question in self._answering:
            return None
        future: Future[Any] = Future()
        context = _context_of_asker()
        self._waiting.add(future)
        if self._life.over:
            self.end()
        try:
            _crew.run(partial(context.run, _run, future, self._call, handler, question, lookup))
            error = future.exception(self._limit)
        except TimeoutError:
            raise TimeoutError(f"a handler gave no answer within {self._limit:g} s") from None
        finally:
            self._waiting.discard(future)
        if error is not None and not isinstance(error, Exception):  # `sys.exit()`: this program is not its to end
            raise RuntimeError(f"a handler raised {type(error).__name__}: {error}")
        answer = future.result()
        if answer is None:
            return None
        if isinstance(answer, os.PathLike):
            answer = Found(path=answer)
        if not isinstance(answer, Found):
            raise TypeError(f"a handler answers with Found(...), a Path or None, not {answer!r}")
        return answer.to_plain(lookup.kind)

    def _call(self, handler: Handler, question: tuple[int, str, str, int], lookup: Lookup) -> Any:
        self._answering.add(question)
        try:
            return handler(lookup)
        finally:
            self._answering.discard(question)


def _context_of_asker() -> contextvars.Context:
    """A copy of this context, for another thread that runs for the same logical one."""
    context = contextvars.copy_context()
    logical, strand = calling.logical_thread(), calling.strand()
    context.run(calling.join, logical, None if strand == logical else strand)
    return context


def _run(future: Future[Any], function: Callable[..., Any], *args: Any) -> None:
    with contextlib.suppress(InvalidStateError):  # the domain has ended meanwhile
        try:
            value = function(*args)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)
