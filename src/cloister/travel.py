"""What travels down with a call besides its arguments: marked context variables, and the W3C trace context.

Values go from a host into its guests, never up: a guest changes nothing in its host's context. A guest that is the host
of domains of its own passes on what it has marked itself. Where nothing is marked and nothing is traced, a call pays
for a look at a tuple and at `sys.modules`.

Any thread may enter.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final, TypeVar

__all__ = ["TRACER", "is_packed", "pack", "take", "trace_context", "tracing", "travels"]

T = TypeVar("T")

TRACER: Final = "opentelemetry.trace"
"""The module whose current span travels, where the program has imported it."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

marked: tuple[tuple[str, ContextVar[Any]], ...] = ()
"""The variables that travel, with their names on the way."""

noted = False
"""Whether a variable travels, or this process has ever had a trace context of its own or of a caller's."""

_arrived: ContextVar[dict[str, Any]] = ContextVar("cloister.arrived")
"""The values that came with the call of this context and had no variable here yet, by their names."""

_trace: ContextVar[dict[str, str] | None] = ContextVar("cloister.trace", default=None)


def travels(variable: ContextVar[T], name: str | None = None) -> ContextVar[T]:
    """Let the values of a context variable travel into domains, with every call; return the variable.

    Both sides mark a variable under the same name, at best in a module that both import; `name` is that of the variable
    where it is not given. A value must be one that can be copied, else the call is a MarshalError. What a guest sets
    stays in its call. A name that the guest has not marked is ignored there. Raises ValueError where another variable
    has the name, TypeError for what is no context variable.
    """
    global marked, noted
    if not isinstance(variable, ContextVar):
        raise TypeError(f"a ContextVar can travel, not {variable!r}, which is a {type(variable).__name__}")
    chosen = variable.name if name is None else name
    for known, other in marked:
        if known == chosen and other is not variable:
            raise ValueError(f"another context variable travels as {chosen!r}; give this one a name of its own")
    if (chosen, variable) not in marked:
        marked, noted = (*marked, (chosen, variable)), True
    arrived = _arrived.get(None)
    if arrived is not None and chosen in arrived:  # the module that marks it is imported by the call itself
        variable.set(arrived.pop(chosen))
    return variable


@contextlib.contextmanager
def tracing(traceparent: str, tracestate: str = "") -> Iterator[None]:
    """Give the calls inside a W3C trace context, where OpenTelemetry has no span that is current.

    Raises ValueError where `traceparent` is not of the form of the standard.
    """
    global noted
    if not _TRACEPARENT.fullmatch(str(traceparent)):
        raise ValueError(f"a traceparent is version-trace-parent-flags in hexadecimal, not {traceparent!r}")
    noted = True
    token = _trace.set(_carrier(traceparent, tracestate))
    try:
        yield
    finally:
        _trace.reset(token)


def trace_context() -> dict[str, str]:
    """The W3C trace context of the running code: ``traceparent``, and ``tracestate`` where there is one; else empty.

    It is that of OpenTelemetry's current span, or else what came with the call that runs, or what `tracing` gave.
    """
    return dict(_current_span() or _trace.get() or {})


def is_packed() -> bool:
    """Whether anything may travel: where not, `pack` has nothing to do."""
    return noted or TRACER in sys.modules


def pack(options: dict[str, Any]) -> None:
    """Add what travels to the options of a call into a domain."""
    values = {}
    for name, variable in marked:
        try:
            values[name] = variable.get()
        except LookupError:
            pass  # it has no value here
    if values:
        options["context"] = values
    trace = _current_span() or _trace.get()
    if trace:
        options["trace"] = trace


def take(options: dict[str, Any]) -> None:
    """Take over what came with a call of the host, in the context that serves it. Called in a guest."""
    if "context" not in options and "trace" not in options:
        return
    values = options.get("context")
    if type(values) is dict:
        left = dict(values)
        for name, variable in marked:
            if name in left:
                variable.set(left.pop(name))
        _arrived.set(left)
    trace = options.get("trace")
    if type(trace) is dict:
        global noted
        noted = True
        _trace.set(trace)
        _attach(trace)


def _carrier(traceparent: str, tracestate: str) -> dict[str, str]:
    return {"traceparent": traceparent, **({"tracestate": tracestate} if tracestate else {})}


def _current_span() -> dict[str, str] | None:
    """The trace context of OpenTelemetry's current span; None where there is none."""
    module = sys.modules.get(TRACER)
    current: Any = getattr(module, "get_current_span", None)  # None while the module is being imported
    if current is None:
        return None
    span = current().get_span_context()
    if not span.is_valid:
        return None
    parent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"
    return _carrier(parent, span.trace_state.to_header() if span.trace_state else "")


def _attach(trace: dict[str, str]) -> None:
    """Make the caller's span the parent of those that are started here, where OpenTelemetry is installed."""
    if TRACER not in sys.modules and not _can_trace():
        return
    from opentelemetry import context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context.attach(TraceContextTextMapPropagator().extract(trace))


_importable: list[bool] = []


def _can_trace() -> bool:
    if not _importable:
        _importable.append(importlib.util.find_spec("opentelemetry") is not None)
    return _importable[0]
