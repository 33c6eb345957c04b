"""What travels down with a call: marked context variables and the trace context, on every lane, and never up."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

import cloister
from cloister import travel
from cloister.errors import MarshalError

JOIN_S = 20.0
Make = Callable[..., cloister.Domain]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

user: ContextVar[str] = ContextVar("user")
unmarked: ContextVar[str] = ContextVar("unmarked", default="here")


@pytest.fixture(autouse=True)
def marks() -> Iterator[None]:
    """Forget what a test has marked."""
    before = travel.marked, travel.noted
    yield
    travel.marked, travel.noted = before


def in_context(function: Callable[[], Any], value: str) -> Any:
    """Run a function where the variable has a value."""

    def run() -> Any:
        user.set(value)
        return function()

    return copy_context().run(run)


@pytest.mark.parametrize("limit", [None, 1])
def test_marked_variable_travels_on_every_lane(make: Make, limit: int | None) -> None:
    """A variable that both sides mark under one name has its value over there; one that is not marked has not."""
    cloister.travels(user, "tests.user")
    domain = make(max_concurrency=limit)
    # The module that marks it over there is imported by the first call itself.
    assert in_context(lambda: domain.call("contexts_over_there:who"), "Ada") == "Ada"
    assert in_context(lambda: domain.call("contexts_over_there:who"), "Bob") == "Bob"
    assert domain.call("contexts_over_there:who") is None
    assert in_context(lambda: domain.submit("contexts_over_there:who"), "Eve").result(JOIN_S) == "Eve"
    assert in_context(lambda: list(domain.map("contexts_over_there:who_is", range(3))), "Kim") == ["Kim"] * 3
    assert domain.call("contexts_over_there:other") == "there"


def test_what_a_guest_sets_stays_there(make: Make) -> None:
    """A guest's value changes neither the host's, in a call-back or after it, nor that of its own next call."""
    cloister.travels(user, "tests.user")
    domain = make()

    def work() -> tuple[object, str, object]:
        seen = domain.call("contexts_over_there:set_and_call", "Mallory", lambda: user.get())
        return seen, user.get(), domain.call("contexts_over_there:who")

    assert in_context(work, "Ada") == ("Ada", "Ada", "Ada")


def test_nested_calls_have_the_value_of_where_they_are_made(make: Make) -> None:
    """Host, A, host, B: B has the host's value; a thread of the guest's own carries none."""
    cloister.travels(user, "tests.user")
    a, b = make("a"), make("b")

    def work() -> object:
        return a.call("troubles:call_back", lambda: b.call("contexts_over_there:who"))

    assert in_context(work, "Ada") == "Ada"
    names = in_context(lambda: a.call("callers:from_thread", lambda: b.call("contexts_over_there:who")), "Ada")
    assert names[0] is None


def test_marks_are_checked(make: Make) -> None:
    """What is no context variable, a name that is taken, and a value that can't travel are errors that say so."""
    with pytest.raises(TypeError, match="a ContextVar can travel"):
        cloister.travels("user")  # type: ignore[arg-type]  # that is the test
    assert cloister.travels(user) is user
    assert cloister.travels(user) is user
    with pytest.raises(ValueError, match="travels as 'user'"):
        cloister.travels(unmarked, "user")
    domain = make()
    with pytest.raises(MarshalError, match="user"):
        in_context(lambda: domain.call("troubles:add", 1, 1), threading.Lock())  # type: ignore[arg-type]  # that is the test
    assert in_context(lambda: domain.call("troubles:add", 1, 1), "unknown over there") == 2


def test_trace_context_travels_without_opentelemetry(make: Make) -> None:
    """A trace context that was set by hand can be read over there, and only in the calls inside."""
    domain = make()
    assert domain.call("cloister:trace_context") == cloister.trace_context() == {}
    with cloister.tracing(PARENT, "vendor=1"):
        assert domain.call("cloister:trace_context") == {"traceparent": PARENT, "tracestate": "vendor=1"}
        assert domain.submit("cloister:trace_context").result(JOIN_S)["traceparent"] == PARENT
    assert domain.call("cloister:trace_context") == {}
    for wrong in ("", "00-0-0-00", PARENT.upper(), "ff" + PARENT[2:]):
        with pytest.raises(ValueError, match="traceparent"), cloister.tracing(wrong):
            pass


def test_spans_of_opentelemetry_have_their_parents_in_the_host(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real OpenTelemetry: a span that is started over there is a child of the one that is current here."""
    pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    domain = make()
    try:
        tracer = TracerProvider().get_tracer("tests")
        with tracer.start_as_current_span("outer") as span:
            context = span.get_span_context()
            over_there = domain.call("contexts_over_there:traced")
            assert cloister.trace_context()["traceparent"].split("-")[1] == f"{context.trace_id:032x}"
        assert over_there == (context.trace_id, context.span_id, True)
        assert trace.get_current_span().get_span_context().is_valid is False
        assert domain.call("cloister:trace_context") == {}
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
            monkeypatch.delitem(sys.modules, name)
