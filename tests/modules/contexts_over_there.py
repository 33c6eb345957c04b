"""What guests see of a host's context variables and traces. Only guests import this."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import cloister

user: ContextVar[str | None] = cloister.travels(ContextVar("the_user", default=None), "tests.user")
unmarked: ContextVar[str] = ContextVar("unmarked", default="there")


def who() -> str | None:
    """The value of the variable that travels."""
    return user.get()


def who_is(_: Any) -> str | None:
    """The same for `map`."""
    return user.get()


def other() -> str:
    """The value of one that does not."""
    return unmarked.get()


def set_and_call(value: str, function: Callable[[], Any]) -> Any:
    """Set the variable here, then call the host."""
    user.set(value)
    return function()


def traced() -> tuple[int, int, bool]:
    """The trace and the parent of a span that is started here, and whether the parent is elsewhere."""
    from opentelemetry.sdk.trace import TracerProvider

    with TracerProvider().get_tracer("over there").start_as_current_span("inner") as span:
        parent = getattr(span, "parent", None)
        assert parent is not None
        return span.get_span_context().trace_id, parent.span_id, parent.is_remote
