"""Guests that keep no rules: each ends with a reason in bounded time; the host and its other domains go on."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, DomainCrashed, DomainUnloaded, MarshalError
from cloister.report import Reason, Report
from cloister.wire.messages import Kind

Start = Callable[..., cloister.Domain]

BOUND_S = 10.0
"""Nothing that a guest sends holds up its caller for longer; most of it is over in a few milliseconds."""


@pytest.fixture(scope="module")
def neighbour() -> Iterator[cloister.Domain]:
    """A domain that does nothing wrong, and is served all the while."""
    with cloister.Domain("neighbour") as domain:
        assert domain.call("operator:add", 1, 1) == 2
        yield domain


@pytest.fixture
def served(neighbour: cloister.Domain) -> Iterator[None]:
    """Call the neighbour again and again while a test runs; no call of it may fail or take long."""
    done, slowest, failures = threading.Event(), [0.0], []

    def work() -> None:
        try:
            while not done.wait(0.02):
                begun = time.monotonic()
                assert neighbour.with_options(timeout=BOUND_S).call("operator:add", 1, 1) == 2
                slowest[0] = max(slowest[0], time.monotonic() - begun)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    done.set()
    thread.join(BOUND_S)
    assert not thread.is_alive()
    assert failures == []
    assert slowest[0] < BOUND_S / 2


def attack(domain: cloister.Domain, function: str, *args: Any) -> Report:
    """Let a guest attack while the host waits for its answer; return the report that the caller is given."""
    begun = time.monotonic()
    with pytest.raises(DomainCrashed) as caught:
        domain.call(f"hostile:{function}", *args)
    assert time.monotonic() - begun < BOUND_S
    assert caught.value.report is not None
    return caught.value.report


ATTACKS: dict[str, tuple[Any, ...]] = {
    "random bytes on the lane": ("random_bytes", 1, False),
    "other random bytes on the lane": ("random_bytes", 2, False),
    "random bytes on the control channel": ("random_bytes", 3, True),
    "other random bytes on the control channel": ("random_bytes", 4, True),
    "lying length on the lane": ("lying_length", False),
    "lying length on the control channel": ("lying_length", True),
    "lying buffers": ("lying_buffers",),
    "nesting of 200 levels and no end": ("deep_nesting", 100_000, False),
    "deep nesting on the control channel": ("deep_nesting", 100_000, True),
    "huge container": ("huge_container",),
    "answer to a call that nobody made": ("on_lane", int(Kind.REPLY), [77, None]),
    "exception for a call that nobody made": ("on_lane", int(Kind.RAISE), [77, None]),
    "malformed exception": ("on_lane", int(Kind.RAISE), [1, {"type": 5}]),
    "answer that is none": ("on_lane", int(Kind.REPLY), [1]),
    "number that is none": ("on_lane", int(Kind.REPLY), ["1", 2]),
    "call out of turn": ("on_lane", int(Kind.CALL), [9, 1, "add", [], None, None]),
    "call of an object that was never handed out": ("on_lane", int(Kind.CALL), [1, 4711, "add", [], None, None]),
    "unknown kind on the lane": ("on_lane", 99, []),
    "control message on the lane": ("on_lane", int(Kind.READY), []),
    "lane message on the control channel": ("on_control", int(Kind.CALL), [1, 1, "add", [], None, None]),
    "unknown kind on the control channel": ("on_control", 99, []),
    "second greeting": ("on_control", int(Kind.HELLO), [1, "0.1.0", "3.11.7", 1]),
    "greeting of another version": ("on_control", int(Kind.HELLO), [999, "9.9", "3.11.7", 1]),
    "greeting that is none": ("on_control", int(Kind.HELLO), []),
    "host's message on the control channel": ("on_control", int(Kind.STOP), [1]),
    "release of an unknown object": ("on_control", int(Kind.RELEASE), [[[4711, 1]]]),
    "release that is none": ("on_control", int(Kind.RELEASE), [5]),
    "beat that is none": ("on_control", int(Kind.BEAT), ["beat"]),
    "last words that are none": ("on_control", int(Kind.LAST_WORDS), [1, 2]),
    "last words with an unknown reason": ("on_control", int(Kind.LAST_WORDS), ["bored", 1, ""]),
    "event that is none": ("on_control", int(Kind.EVENT), []),
    "wait that is none": ("on_control", int(Kind.WAIT), [1, 2]),
    "wait for nobody's strand": ("on_control", int(Kind.WAIT), [1, 2, ["x"], 3]),
    "confirmation that is none": ("on_control", int(Kind.STILL), [1]),
    "reference to an object of the host's that was never handed out": ("reference", [1, 4711]),
    "reference with code": ("reference", [2, "name", "os:system"]),
    "reference of an unknown kind": ("reference", [9, 9]),
    "reference with an undescribed type": ("reference", [0, 1, 4711, None]),
    "reference without fields": ("reference", []),
    "descriptor sent upwards": ("send_descriptors",),
    "lane that is closed while the host waits": ("close_lane",),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_domain_that_breaks_the_rules_ends_with_bad_message(
    what: str, start: Start, served: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """A guest that breaks the rules ends with the reason `bad message`; its caller is told, its neighbour is served."""
    domain = start()
    report = attack(domain, *ATTACKS[what])
    assert report.reason is Reason.BAD_MESSAGE, report
    assert report.detail
    with pytest.raises(DomainCrashed):
        domain.call("operator:add", 1, 1)
    assert "Traceback" not in capfd.readouterr().err


def test_half_a_frame_ends_with_the_time_of_the_call(start: Start, served: None) -> None:
    """A guest that stops in the middle of an answer holds its caller alone, up to the time-out; the domain lives."""
    domain = start()
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.2).call("hostile:half_a_frame")
    assert domain.with_options(timeout=BOUND_S).call("operator:add", 1, 1) == 2


def test_stopped_guest_is_ended_with_the_domain(start: Start, served: None) -> None:
    """A guest that has stopped itself answers no call and no request to end: time-out and unload are bounded."""
    domain = start(stop_timeout=0.2)
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.2).call("hostile:stop_itself")
    begun = time.monotonic()
    domain.unload()
    assert time.monotonic() - begun < BOUND_S
    assert domain.report is not None


def test_guest_that_reads_nothing_holds_only_its_callers(start: Start, served: None) -> None:
    """A guest that reads neither lane nor control channel: calls end at their time-out, unload is bounded."""
    domain = start(stop_timeout=0.2)

    def hold() -> None:
        with pytest.raises(DomainUnloaded):
            domain.call("hostile:read_nothing")

    holder = threading.Thread(target=hold)
    holder.start()
    time.sleep(0.1)
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.2).call("operator:add", b"x" * 1_000_000, b"")
    begun = time.monotonic()
    domain.unload()
    assert time.monotonic() - begun < BOUND_S
    holder.join(BOUND_S)
    assert not holder.is_alive()


def test_closed_control_channel_does_not_hang_the_host(start: Start, served: None) -> None:
    """A guest that closes its control channel and lives on is ended with the domain, in bounded time."""
    domain = start(stop_timeout=0.2)
    try:
        with pytest.raises((CallTimeout, DomainCrashed)):
            domain.with_options(timeout=0.3).call("hostile:close_control")
    finally:
        begun = time.monotonic()
        domain.kill()
        assert time.monotonic() - begun < BOUND_S


def test_release_of_more_than_was_received_ends_the_domain(start: Start) -> None:
    """O13: An object that was handed out once and released twice ends the domain, and stays alive until then."""
    domain = start()
    domain.call("errands:echo", len)
    report = attack(domain, "on_control", int(Kind.RELEASE), [[[1, 1_000_000]]])
    assert report.reason is Reason.BAD_MESSAGE


def test_flood_of_lane_requests_ends_the_domain(start: Start, served: None) -> None:
    """A guest that asks for lane after lane ends with `bad message`, and gives back what it had."""
    assert attack(start(), "many_tickets", 10_000).reason is Reason.BAD_MESSAGE


FLOODS: dict[str, tuple[int, list[Any]]] = {
    "events": (int(Kind.EVENT), ["somewhere", None]),
    "log records": (int(Kind.LOG), ["noise", 10, "x" * 200, 0.0, "p", 1, "f", "t", None]),
    "beats": (int(Kind.BEAT), [1, 1, []]),
    "waits": (int(Kind.WAIT), [1, 2, [3], 4]),
}


@pytest.mark.parametrize("what", FLOODS)
def test_flood_on_the_control_channel_grows_nothing(what: str, start: Start, served: None) -> None:
    """A flood of small messages is taken or thrown away, or ends the domain; the host's memory has a bound."""
    domain = start(echo=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        domain.with_options(timeout=BOUND_S).call("hostile:flood_from_threads", *FLOODS[what])
        assert domain.with_options(timeout=BOUND_S).call("operator:add", 1, 1) == 2
    except DomainCrashed:
        assert domain.report is not None
        assert domain.report.reason is Reason.BAD_MESSAGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_calls_without_end_are_served_one_by_one(start: Start, served: None) -> None:
    """A guest that calls and calls without reading the answers blocks nobody but itself."""
    domain = start()
    with pytest.raises((CallTimeout, DomainCrashed)):
        domain.with_options(timeout=0.3).call("hostile:many_calls", 100_000)


def test_released_object_is_an_error_of_the_call_alone(start: Start) -> None:
    """A guest that calls an object which it has released gets a MarshalError there; the domain goes on."""
    domain = start()

    class Counter:
        def next(self) -> int:
            return 1

    assert domain.call("errands:call", lambda: domain.call("errands:echo", 3)) == 3
    with pytest.raises(MarshalError):
        domain.call("errands:echo", Counter())
    assert domain.call("errands:add", 1, 1) == 2
