"""Where a thread is interrupted: in the user's code and where it waits, and nowhere that a lock could be torn."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from types import CodeType
from typing import Any

import pytest

from cloister.guest import delivery
from cloister.guest.control import Control
from cloister.guest.delivery import Delivery
from cloister.guest.interrupts import Interrupted
from cloister.pipes.duplex import control_pair
from cloister.wire import frames
from cloister.wire.messages import Kind
from cloister.wire.values import Codec

JOIN_S = 30.0


def _in_file(source: str, *name: str) -> dict[str, Any]:
    """Functions, as if a file of cloister had them."""
    made: dict[str, Any] = {}
    code: CodeType = compile(source, os.path.join(delivery._ROOT, *name), "exec")
    exec(code, made)
    return made


def _interrupt(work: Callable[[], object], ready: threading.Event) -> BaseException | None:
    """Run something on a thread, interrupt it once it is ready, and return what ended it."""
    ended: list[BaseException | None] = []
    senders: list[Delivery] = []

    def run() -> None:
        senders.append(Delivery())
        try:
            work()
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(JOIN_S)
    assert thread.ident is not None
    end = time.monotonic() + JOIN_S
    while not senders[0].send(thread.ident, Interrupted):
        assert time.monotonic() < end, "it was never to be interrupted"
        time.sleep(0.0001)
    thread.join(JOIN_S)
    assert not thread.is_alive()
    return ended[0]


def test_what_works_for_a_host_is_not_torn() -> None:
    """A lock that cloister takes and gives back in two steps is free after each of many interruptions."""
    take = _in_file(
        "def take(lock):\n    for _ in range(20):\n        lock.acquire()\n        lock.release()\n", "domain", "x.py"
    )["take"]
    for _ in range(60):
        lock, ready = threading.Lock(), threading.Event()

        def work(lock: Any = lock, ready: threading.Event = ready) -> None:
            while True:
                take(lock)
                ready.set()
                sum(range(100))

        assert isinstance(_interrupt(work, ready), Interrupted)
        assert not lock.locked()


def test_what_a_library_guards_is_not_torn() -> None:
    """So is the lock of an event that is set all the time: the library takes it in two steps of Python."""
    for _ in range(20):
        event, ready = threading.Event(), threading.Event()

        def work(event: threading.Event = event, ready: threading.Event = ready) -> None:
            while True:
                event.set()
                ready.set()
                sum(range(100))  # where it may be interrupted

        assert isinstance(_interrupt(work, ready), Interrupted)
        assert event._cond.acquire(blocking=False)  # type: ignore[attr-defined]  # the lock in question


def test_whoever_waits_is_interrupted() -> None:
    """A thread that waits for an event gets the exception when its wait is over, and the event can be used."""
    event, ready = threading.Event(), threading.Event()

    def work() -> None:
        ready.set()
        while True:
            event.wait(0.01)

    assert isinstance(_interrupt(work, ready), Interrupted)
    event.set()
    assert event.wait(0)


def test_what_stands_still_is_interrupted() -> None:
    """Where cloister itself waits for something in the kernel the exception is sent after a while, and not before."""
    read = _in_file("import os\ndef read(fd):\n    return os.read(fd, 1)\n", "domain", "x.py")["read"]
    reader, writer = os.pipe()
    try:
        ready = threading.Event()
        senders: list[Delivery] = []
        ended: list[BaseException] = []

        def run() -> None:
            senders.append(Delivery())
            ready.set()
            try:
                read(reader)
            except Interrupted as error:
                ended.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(JOIN_S)
        assert thread.ident is not None
        begin = time.monotonic()
        while not senders[0].send(thread.ident, Interrupted):
            assert time.monotonic() - begin < JOIN_S
            time.sleep(0.001)
        assert time.monotonic() - begin >= delivery.STANDS_S
        os.write(writer, b"x")
        thread.join(JOIN_S)
        assert [type(error) for error in ended] == [Interrupted]
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("file", [("objects", "dispatch.py"), ("domain", "mapping.py"), ("wire", "values.py")])
def test_the_users_code_is_interrupted_wherever_it_is_called(file: tuple[str, ...]) -> None:
    """Code that a host's map, a served call or the codec has called is the user's, though cloister is around it."""
    call = _in_file("def call(function):\n    return function()\n", *file)["call"]
    host = _in_file("def serve(function):\n    return function()\n", "guest", "host.py")["serve"]
    ready = threading.Event()

    def spin() -> None:
        while True:
            ready.set()

    assert isinstance(_interrupt(lambda: host(lambda: call(_plain(spin))), ready), Interrupted)


def _plain(spin: Callable[[], None]) -> Callable[[], None]:
    return spin


def test_orders_that_come_with_the_set_up_are_obeyed() -> None:
    """A stop that arrives in one piece with the set-up waits for no further message."""
    seen: list[int] = []

    class Ended(Control):
        def _obey(self, frame: frames.Frame) -> None:
            seen.append(frame.kind)
            raise EOFError

        def _hang_bell(self) -> None:
            """There is nobody who would ring it."""

        def _end_with_host(self) -> None:
            seen.append(0)

    host, guest = control_pair()
    try:
        codec = Codec()
        for kind, body in ((Kind.SETUP, {"beat": 1}), (Kind.STOP, 0)):
            host.sendall(b"".join(frames.serialize(kind, codec.encode([body]))))
        control = Ended(guest)
        assert control.receive_setup() == {"beat": 1}
        control._begin.release()
        control._run()
        assert seen == [int(Kind.STOP), 0]
    finally:
        host.close()
        guest.close()
