"""Calls into a real domain: nested, timed out, interrupted, from many threads, one way; also one byte at a time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister import calling
from cloister.domain.functions import one_way
from cloister.errors import CallTimeout, DomainCrashed, RemoteError

JOIN_S = 20.0
Start = Callable[..., cloister.Domain]


def on_threads(count: int, job: Callable[[int], Any]) -> list[Any]:
    """Run a job on so many threads at once; return the results, or raise what one of them raised."""
    results: list[Any] = [None] * count
    failures: list[BaseException] = []

    def run(index: int) -> None:
        try:
            results[index] = job(index)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
        assert not thread.is_alive()
    if failures:
        raise failures[0]
    return results


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


# -- nesting -----------------------------------------------------------------------------------------------------------


def test_calls_and_call_backs_nest_to_depth_fifty(domain: cloister.Domain) -> None:
    """Host and guest call each other 50 deep, all on the thread that waits, and the domain goes on."""
    threads = set()

    def up(depth: int) -> int:
        threads.add(threading.get_ident())
        return 0 if depth == 0 else domain.call("errands:descend", up, depth - 1) + 1

    assert domain.call("errands:descend", up, 50) == 50
    assert threads == {threading.get_ident()}
    assert domain.call("errands:add", 1, 2) == 3


def test_endless_nesting_is_a_recursion_error(start: Start) -> None:
    """Nesting that never ends is a RecursionError at the call; the domain and its lane stay usable."""
    domain = start()

    def up(depth: int) -> int:
        return int(domain.call("errands:descend", up, depth + 1))

    with pytest.raises(RecursionError):
        domain.call("errands:descend", up, 1)
    assert domain.call("errands:add", 1, 2) == 3
    assert domain.call("errands:thread_name") == "MainThread"


def test_thousand_calls_each_way_interleave(domain: cloister.Domain) -> None:
    """S12: Parent to child and child to parent, 1,000 calls each way, interleaved; none is lost."""
    with_inner = [domain.call("errands:call", lambda n: n * 2, number) for number in range(500)]
    assert with_inner == [number * 2 for number in range(500)]
    assert domain.call("errands:call_many", lambda n: domain.call("errands:add", n, 1), 500) == sum(range(1, 501))


def test_thread_of_the_guests_own_calls_the_host(domain: cloister.Domain) -> None:
    """A thread that the guest has made calls the host on a lane of its own, and may be called back on it."""
    served: list[str] = []

    def answer() -> int:
        served.append(threading.current_thread().name)
        return int(domain.call("errands:add", 2, 3))

    assert domain.call("errands:call_from_thread", answer, 3) == [5, 5, 5]
    assert threading.current_thread().name not in served


# -- time-out and interruption -----------------------------------------------------------------------------------------

HELD_UP: list[tuple[Any, ...]] = [
    ("errands:sleep", 60),
    ("errands:blocking_read",),
    ("errands:python_loop",),
    ("errands:runaway_expression",),
]
"""What a main thread may be in when its call is not wanted any more."""


def test_main_thread_is_interrupted_in_whatever_it_does(domain: cloister.Domain) -> None:
    """LIMITS 1b: A call whose time is up ends at once, and so does what the main thread does, native code included."""
    for target, *args in HELD_UP:
        begun = time.monotonic()
        with pytest.raises(CallTimeout):
            domain.with_options(timeout=0.1).call(target, *args)
        assert time.monotonic() - begun < 2
        assert domain.with_options(timeout=JOIN_S).call("errands:thread_name") == "MainThread", target


def test_nested_call_that_times_out_leaves_the_outer_call_alone(domain: cloister.Domain) -> None:
    """LIMITS 1b: An inner call whose time is up raises there; the call around it goes on and is answered."""

    def inner(target: str, *args: Any) -> str:
        with pytest.raises(CallTimeout):
            domain.with_options(timeout=0.1).call(target, *args)
        return "went on"

    for target, *args in HELD_UP:
        begun = time.monotonic()
        assert domain.call("errands:call", inner, target, *args) == "went on"
        assert time.monotonic() - begun < 5
        assert domain.call("errands:thread_name") == "MainThread", target


def test_call_on_another_thread_is_interrupted(domain: cloister.Domain) -> None:
    """A call that another thread than the main one serves is interrupted; its thread ends with its lane."""
    domain.call("errands:add", 1, 1)
    before = domain.call("errands:threads")

    def time_out(_: int) -> None:
        with pytest.raises(CallTimeout):
            domain.with_options(timeout=0.1).call("errands:python_loop")

    on_threads(2, time_out)
    deadline = time.monotonic() + JOIN_S
    while domain.call("errands:threads") > before:
        assert time.monotonic() < deadline, "the loops go on"


def test_interruption_that_a_finalizer_swallows_is_repeated(start: Start) -> None:
    """A call is stopped also where it is told so in the middle of a finalizer, on the main thread and on another."""
    domain = start()
    domain.call("errands:add", 1, 1)

    def time_out(_: int) -> None:
        with pytest.raises(CallTimeout):
            domain.with_options(timeout=0.2).call("errands:loop_after_finalizer", 0.6)

    time_out(0)
    assert domain.with_options(timeout=JOIN_S).call("errands:thread_name") == "MainThread"
    before = domain.call("errands:threads")
    on_threads(1, time_out)
    deadline = time.monotonic() + JOIN_S
    while domain.call("errands:threads") > before:
        assert time.monotonic() < deadline, "the loop goes on"
        time.sleep(0.01)


def test_interruption_that_was_put_off_reaches_native_code(start: Start) -> None:
    """Where the signal comes at a moment that would tear something, and native code has the interpreter after it, the
    host repeats it."""
    domain = start()
    domain.exec(
        "from cloister.guest.delivery import Delivery\n"
        "looks, fits = [], Delivery.fits\n"
        "def put_off(self, *args, **options):\n"
        "    looks.append(1)\n"
        "    return len(looks) > 2 and fits(self, *args, **options)\n"
        "Delivery.fits = put_off"
    )
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.1).call("errands:runaway_expression")
    assert domain.with_options(timeout=JOIN_S).call("errands:thread_name") == "MainThread"
    assert domain.eval("len(looks)") > 2


def test_interrupted_call_cleans_up_once(start: Start) -> None:
    """A call that is told to stop runs its clean-up undisturbed, and only then is the nested time-out raised."""
    domain = start()

    def inner() -> None:
        with pytest.raises(CallTimeout):
            domain.with_options(timeout=0.05).call("errands:cleaning_up", 0.2)

    domain.call("errands:call", inner)
    assert domain.call("errands:kept") == ["cleaned up"]


def test_code_that_swallows_the_interruption_cannot_call_the_host(start: Start) -> None:
    """Guest code that goes on after its caller has gone away is told so when it calls the host."""
    domain = start()
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.1).call("errands:swallow_and_call", lambda: None)
    assert domain.with_options(timeout=JOIN_S).call("errands:kept")[0] in ("CallTimeout", "CallCancelled")


def test_interruption_of_a_call_that_is_over_is_ignored(start: Start) -> None:
    """Requests to stop that race with the end of their calls interrupt nothing else, on any thread."""
    domain = start()
    timed_out = 0

    def race(index: int) -> int:
        late = 0
        for number in range(400):
            try:
                # About as long as a call takes, so that the request often comes too late.
                with calling.timeout((number % 40) * 0.00002):
                    domain.call("errands:add", number, 1)
            except CallTimeout:
                late += 1
            assert domain.call("errands:add", number, index) == number + index
        return late

    timed_out = race(0) + sum(on_threads(2, race))
    assert 0 < timed_out < 1200
    assert domain.state.value == "ready"


def test_time_out_is_shared_by_nested_calls(domain: cloister.Domain) -> None:
    """`timeout` holds for all calls inside together, those of call-backs too, and shrinks on its way to the guest."""
    with calling.timeout(5):
        first = domain.call("errands:time_left")
        inner = domain.call("errands:call", lambda: domain.call("errands:time_left"))
    assert 0 < inner < first <= 5
    assert domain.call("errands:time_left") is None
    begun = time.monotonic()
    with pytest.raises(CallTimeout), calling.timeout(0.3):
        domain.call("errands:call", lambda: [domain.call("errands:sleep", 0.02) for _ in range(100)])
    assert time.monotonic() - begun < 3
    assert domain.call("errands:add", 1, 1) == 2


def test_earlier_of_two_time_outs_holds(domain: cloister.Domain) -> None:
    """A longer `timeout` inside a shorter one does not extend it, and a negative one is refused."""
    with calling.timeout(0.1), pytest.raises(CallTimeout):
        domain.with_options(timeout=60).call("errands:sleep", 60)
    with calling.timeout(0), pytest.raises(CallTimeout, match="before it was sent"):
        domain.call("errands:add", 1, 1)
    with pytest.raises(ValueError, match="from 0 up"), calling.timeout(-1):
        pass
    assert domain.call("errands:add", 1, 1) == 2


def test_time_out_of_the_guests_own_call(domain: cloister.Domain) -> None:
    """A guest that waits for the host under its own time-out goes on; the host's code is not interrupted."""
    release = threading.Event()
    finished: list[bool] = []

    def slow() -> None:
        finished.append(release.wait(0.3))

    assert domain.call("errands:call_within", slow, 0.05) == "time-out"
    assert domain.call("errands:call_within", lambda: None, 5) == "answer"
    assert finished == [False]


def test_keyboard_interrupt_costs_the_lane_and_not_the_domain(start: Start) -> None:
    """A KeyboardInterrupt while a call waits goes on upwards; the guest stops that call, and the next one is served."""
    domain = start()
    domain.call("errands:add", 1, 1)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        domain.call("errands:cleaning_up", 0)
    timer.join(JOIN_S)
    assert domain.with_options(timeout=JOIN_S).call("errands:thread_name") == "MainThread"
    assert domain.call("errands:kept") == ["cleaned up"]


def test_ctrl_c_ends_a_call_although_a_library_lets_the_kernel_restart_reads(start: Start) -> None:
    """A handler of SIGINT that was installed with SA_RESTART, as polars does it, makes no call deaf to Ctrl-C."""
    signal.siginterrupt(signal.SIGINT, False)
    domain = start()
    main = threading.main_thread().ident
    assert main is not None
    domain.wait_ready(JOIN_S)
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        domain.call("errands:cleaning_up", 0)
    timer.join(JOIN_S)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_eight_threads_call_one_domain_at_once(domain: cloister.Domain) -> None:
    """Eight host threads call one domain at the same time, each on a lane of its own, and all get their own answers."""
    barrier = threading.Barrier(8, timeout=JOIN_S)

    def work(index: int) -> list[int]:
        barrier.wait()
        return [domain.call("errands:call", lambda n: n + index, number) for number in range(20)]

    assert on_threads(8, work) == [[number + index for number in range(20)] for index in range(8)]


def test_host_thread_stays_on_one_guest_thread(domain: cloister.Domain) -> None:
    """All calls of one host thread are served by one thread over there: the first's by the main thread."""
    assert {domain.call("errands:thread_name") for _ in range(3)} == {"MainThread"}
    names = on_threads(3, lambda _: {domain.call("errands:thread_name") for _ in range(3)})
    assert [len(name) for name in names] == [1, 1, 1]
    assert len(set.union(*names)) == 3
    assert "MainThread" not in set.union(*names)


def test_logical_thread_is_the_same_on_both_sides(domain: cloister.Domain) -> None:
    """S37: The logical thread that is seen over there is the caller's, in call-backs and submitted calls too."""
    own = calling.logical_thread()
    assert domain.call("errands:logical_thread") == own
    assert domain.call("errands:call", lambda: domain.call("errands:logical_thread")) == own
    assert domain.submit("errands:logical_thread").result(JOIN_S) == own
    others = on_threads(2, lambda _: (calling.logical_thread(), domain.call("errands:logical_thread")))
    assert all(here == there != own for here, there in others)
    (theirs,) = domain.call("errands:call_from_thread", calling.logical_thread)
    assert theirs not in (own, *(here for here, _ in others))


@pytest.mark.parametrize("limit", [None, 2])
def test_logical_thread_is_the_caller_s_after_a_call_that_was_not_sent(start: Start, limit: int | None) -> None:
    """S37: where the first call of a thread could not be sent, the next one says whose it is."""
    domain = start(max_concurrency=limit)

    def fail_first(_: int) -> tuple[int, int]:
        with pytest.raises(cloister.MarshalError):
            domain.call("math:sqrt", threading.Lock())
        return calling.logical_thread(), domain.call("errands:logical_thread")

    found = on_threads(2, fail_first)
    assert all(here == there for here, there in found)
    assert domain.call("errands:logical_thread") == calling.logical_thread()


@pytest.mark.slow
def test_lane_ends_with_its_thread(start: Start) -> None:
    """Two thousand short-lived threads, each with a call, leave neither descriptors here nor threads over there."""
    domain = start()
    domain.call("errands:add", 1, 1)
    on_threads(1, lambda _: domain.call("errands:add", 1, 1))
    before = open_descriptors()
    for _ in range(500):
        on_threads(4, lambda index: domain.call("errands:add", index, 1))
    assert open_descriptors() <= before
    deadline = time.monotonic() + JOIN_S
    while domain.call("errands:threads") > 4:
        assert time.monotonic() < deadline, "threads of lanes are left over there"


def test_limit_of_one_puts_every_call_on_the_main_thread(reads: str, start: Start) -> None:
    """With `max_concurrency=1` all calls of all threads, submitted ones too, run on the main thread, one at a time."""
    domain = start(max_concurrency=1)
    names = on_threads(4, lambda _: domain.call("errands:thread_name"))
    names += [domain.call("errands:thread_name"), domain.submit("errands:thread_name").result(JOIN_S)]
    assert set(names) == {"MainThread"}
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.1).call("errands:sleep", 60)
    assert domain.call("errands:thread_name") == "MainThread"
    assert domain.call("errands:call", lambda: domain.call("errands:thread_name")) == "MainThread"


def test_limit_bounds_how_many_calls_run_at_once(start: Start) -> None:
    """With a limit of two, never more than two calls of many threads are inside, and all are served."""
    domain = start(max_concurrency=2)
    inside, most, lock = 0, 0, threading.Lock()

    def watch() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1

    on_threads(6, lambda _: domain.call("errands:call", watch))
    assert most == 2


def test_wait_for_a_limited_lane_has_an_end(start: Start) -> None:
    """A call that finds all lanes in use ends at its time-out, or with the domain; it was never sent then."""
    domain = start(max_concurrency=1)
    inside, release = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        release.wait(JOIN_S)

    holder = threading.Thread(target=lambda: domain.call("errands:call", hold))
    holder.start()
    assert inside.wait(JOIN_S)
    with pytest.raises(CallTimeout, match="in use"):
        domain.with_options(timeout=0.05).call("errands:keep", "never")
    release.set()
    holder.join(JOIN_S)
    assert domain.call("errands:kept") == []


# -- one way -----------------------------------------------------------------------------------------------------------


def test_one_way_calls_return_at_once_and_keep_their_order(domain: cloister.Domain) -> None:
    """O10: One-way calls do not wait, and are served in order before a later call of the same thread."""
    touched = domain.create("errands:Touched")
    begun = time.monotonic()
    for number in range(4):
        one_way(touched.touch_late)(number)
    assert time.monotonic() - begun < 0.15
    one_way(touched.touch)("last")
    assert touched.all() == [0, 1, 2, 3, "last"]


def test_lane_that_can_not_be_opened_leaves_its_place_free(start: Start) -> None:
    """Where opening the only lane fails, the caller gets that error, and the next call has the place."""
    domain = start(max_concurrency=1)
    rack: Any = domain._life.peer._rack
    opens = rack._open

    def refuse() -> Any:
        rack._open = opens
        raise OSError(24, "Too many open files")

    rack._open = refuse
    with pytest.raises(OSError, match="Too many open files"):
        domain.call("operator:add", 1, 1)
    assert domain.with_options(timeout=30).call("operator:add", 1, 1) == 2
    assert not rack.resource.holders


def test_one_way_order_holds_where_lanes_are_limited(start: Start) -> None:
    """O10: Also where a call may take any of several lanes, it comes after the one-way calls of its thread."""
    domain = start(max_concurrency=2)
    touched = domain.create("errands:Touched")

    def work(index: int) -> None:
        for number in range(5):
            one_way(touched.touch_late)((index, number))
            touched.touch((index, "after", number))

    on_threads(3, work)
    notes = touched.all()
    for index in range(3):
        mine = [note[1:] for note in notes if note[0] == index]
        assert mine == [step for number in range(5) for step in ((number,), ("after", number))]


def test_exception_of_a_one_way_call_is_an_event(start: Start) -> None:
    """O10: What a one-way call raises becomes an event with the place and the exception."""
    told: list[Any] = []
    heard = threading.Event()

    def note(event: Any) -> None:
        told.append(event)
        heard.set()

    domain = start(on={cloister.events.UnhandledException: note})
    touched = domain.create("errands:Touched")
    one_way(touched.fail)()
    assert heard.wait(JOIN_S)
    assert isinstance(told[0].error, ValueError)
    assert touched.all() == []


def test_one_way_call_may_call_the_host(domain: cloister.Domain) -> None:
    """A call-back of a one-way call takes a lane of its own, because nobody reads the one on which it came."""
    touched = domain.create("errands:Touched")
    served: list[int] = []

    def answer(value: int) -> int:
        served.append(threading.get_ident())
        return value * 2

    one_way(touched.tell)(answer, 4)
    one_way(touched.tell)(answer, 5)
    assert touched.all() == [8, 10]
    assert threading.get_ident() not in served


# -- the end -----------------------------------------------------------------------------------------------------------


def test_waiting_thread_learns_of_the_end_though_a_grandchild_holds_the_pipes(start: Start) -> None:
    """LIMITS 1b: A guest that dies and leaves a child with all its descriptors gives no end of file; the caller is
    woken.
    """
    domain = start()
    begun = time.monotonic()
    with pytest.raises(DomainCrashed) as caught:
        domain.call("errands:die_leaving_a_child")
    assert time.monotonic() - begun < 5
    assert caught.value.report is not None
    assert caught.value.report.signal == 9
    with pytest.raises(DomainCrashed):
        domain.call("errands:add", 1, 1)


def test_exception_of_the_guest_leaves_the_lane_usable(domain: cloister.Domain) -> None:
    """A hundred calls that raise, on one lane, between calls that do not."""
    for number in range(100):
        with pytest.raises(ValueError, match="no"):
            domain.call("errands:raise_error", "no")
        assert domain.call("errands:add", number, 1) == number + 1
    with pytest.raises(RemoteError):
        domain.exec("raise SystemExit(3)")
    assert domain.call("errands:add", 1, 1) == 2
