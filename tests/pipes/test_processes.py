"""Pipes between processes: handing an end over, forks, children, signals."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from cloister import pipes
from cloister.errors import NotConnected, PipeCancelled, PipeClosed, PipeError, PipeTimeout, WrongProcess
from tests.pipes import descriptors
from tests.pipes.ends import Background, fresh_name

ECHO = """
import sys
from cloister import pipes

with pipes.from_fd(int(sys.argv[1])) as pipe:
    for message in pipe:
        pipe.write_message(message)
"""


def in_child(function: object) -> int:
    """Run a function in a forked child; its exit code, 0 for a true result."""
    assert callable(function)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if function() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- handing over -----------------------------------------------------------------------------------------------------


def test_an_end_is_handed_to_a_child_process() -> None:
    """detach() and from_fd() carry an end into a child; the end of the child is the end of the pipe."""
    here, there = pipes.pair()
    fd = there.detach()
    assert there.closed
    with here:
        with subprocess.Popen([sys.executable, "-c", ECHO, str(fd)], pass_fds=[fd]) as child:
            os.close(fd)
            here.write_message(b"hello")
            assert here.read_message(20) == b"hello"
            child.kill()
        with pytest.raises(PipeClosed):
            here.read_message(5)


def test_a_named_pipe_meets_another_process() -> None:
    """A client in another process is served, and its pid is known."""
    name = fresh_name()
    program = f"from cloister import pipes\nwith pipes.connect({name!r}, 5) as p: p.write_string(p.read_string() + '!')"
    with (
        pipes.PipeServer(name) as server,
        subprocess.Popen([sys.executable, "-c", program]) as child,
        server.accept(20) as pipe,
    ):
        assert pipe.peer.pid == child.pid
        pipe.write_string("안녕")
        assert pipe.read_string(5) == "안녕!"


def test_an_end_that_holds_a_part_of_a_message_stays() -> None:
    """What was read ahead would be missed over there, so detach() refuses, and the pipe goes on."""
    left, right = pipes.pair()
    with left, right:
        left.write_bytes(b"\x05\0\0\0he")
        with pytest.raises(PipeError):
            right.read_message(0)
        with pytest.raises(PipeError, match="part of a message"):
            right.detach()
        left.write_bytes(b"llo")
        assert right.read_message(1) == b"hello"
        fd = right.detach()
        with pytest.raises(NotConnected):
            right.detach()
        os.close(fd)


def test_bytes_read_ahead_without_messages_stay_too() -> None:
    """Also with framing 'raw', where no byte belongs to a message, detach() loses none."""
    left, right = pipes.pair(framing="raw", max_message=3)
    with left, right:
        left.write_bytes(b"abcdef")
        assert right.read_message(1) == b"abc"
        with pytest.raises(PipeError, match="read ahead"):
            right.detach()
        assert right.read_message(1) == b"def"
        os.close(right.detach())


def test_detaching_needs_a_descriptor() -> None:
    """With a full table detach() fails with the system's number, and the pipe stays."""
    left, right = pipes.pair()
    with left, right:
        with descriptors.only_free(0), pytest.raises(PipeError, match="ulimit"):
            left.detach()
        left.write_message(b"x")
        assert right.read_message(1) == b"x"


def test_what_is_no_pipe_is_not_adopted_and_not_closed() -> None:
    """from_fd() refuses what is no connected Unix stream socket, and leaves it open."""
    reader, writer = os.pipe()
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    lonely = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    for fd in (reader, datagram.fileno(), lonely.fileno()):
        with pytest.raises(PipeError, match=r"adopted|no end of a pipe"):
            pipes.from_fd(fd)
        os.fstat(fd)
    with pytest.raises(PipeError, match="adopted"):
        pipes.from_fd(9999)
    for fd in (reader, writer):
        os.close(fd)
    datagram.close()
    lonely.close()


def test_no_child_inherits_a_descriptor() -> None:
    """Pipes, servers and locks are closed in every child that is started."""
    name = fresh_name()
    program = "import os; print(len(os.listdir('/proc/self/fd')))"

    def count() -> bytes:
        return subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, close_fds=False, check=True, timeout=20
        ).stdout

    before = count()
    left, right = pipes.pair()
    with pipes.PipeServer(name) as server, pipes.connect(name, 5), server.accept(5), left, right:
        assert count() == before


# -- forks ------------------------------------------------------------------------------------------------------------


def test_use_in_a_forked_child_raises_and_the_owner_goes_on() -> None:
    """A forked child has no part in its parent's pipes and servers: WrongProcess, whatever is tried but close()."""
    name = fresh_name()
    with pipes.PipeServer(name, max_instances=1) as server:
        client = pipes.connect(name, 5)
        served = server.accept(5)
        uses = [
            lambda: client.read_message(0),
            lambda: client.write_message(b"x"),
            client.fileno,
            client.cancel,
            client.detach,
            lambda: server.accept(0),
            server.fileno,
            server.cancel,
        ]

        def try_everything() -> bool:
            refused = 0
            for use in uses:
                try:
                    use()
                except WrongProcess as error:
                    refused += "forked child" in str(error)
            served.close()
            client.close()
            server.close()
            return refused == len(uses)

        assert in_child(try_everything) == 0
        client.write_message(b"still ours")
        assert served.read_message(1) == b"still ours"
        served.close()
        with pipes.connect(name, 5), server.accept(5):
            pass
        client.close()


def test_a_forked_child_does_not_keep_pipes_and_names_alive() -> None:
    """While a forked child lives on, the end of the parent's pipe is seen, and the name can be served again."""
    name = fresh_name()
    hold, release = os.pipe()
    server = pipes.PipeServer(name)
    client = pipes.connect(name, 5)
    served = server.accept(5)
    pid = os.fork()
    if not pid:
        os.close(release)
        os.read(hold, 1)  # until the parent lets go
        os._exit(0)
    try:
        served.close()
        with pytest.raises(PipeClosed):
            client.read_message(1)
        server.close()
        with pipes.PipeServer(name):
            pass
    finally:
        client.close()
        os.close(hold)
        os.close(release)
        os.waitpid(pid, 0)


def test_a_fork_while_another_thread_waits_is_harmless() -> None:
    """A thread that waits in a read when the process forks goes on; the child can exit."""
    left, right = pipes.pair()
    with left, right:
        reader = Background(right.read_message)
        while not right._transport._gate._inside:  # type: ignore[attr-defined]  # of the POSIX transport
            time.sleep(0.001)
        assert in_child(lambda: right.closed) == 0
        left.write_message(b"x")
        assert reader.result() == b"x"


def test_a_fork_while_another_thread_waits_does_not_hang_the_child() -> None:
    """A pipe and a server that another thread used at the fork raise in the child, which waits for no lock of it."""
    left, right = pipes.pair()
    name = fresh_name()
    with left, right, pipes.PipeServer(name) as server:
        with pytest.raises(PipeTimeout):
            left.write_message(bytes(2_000_000), timeout=0)
        used = [Background(left.read_message), Background(left.flush), Background(server.accept)]
        gate = left._transport._gate  # type: ignore[attr-defined]  # of the POSIX transport
        while gate._inside < 2 or not server._listener._gate._inside:  # type: ignore[attr-defined]  # likewise
            time.sleep(0.001)

        def child() -> bool:
            for use in (left.read_message, left.read_bytes, left.flush, lambda: left.write_message(b""), server.accept):
                with pytest.raises(WrongProcess):
                    use()
            return True

        assert in_child(child) == 0
        left.cancel()
        server.cancel()
        for each in used:
            with pytest.raises(PipeCancelled):
                each.result()


def test_messages_that_were_read_ahead_are_not_given_twice() -> None:
    """What the parent has taken in already is the parent's: a forked child does not see it."""
    left, right = pipes.pair()
    with left, right:
        for message in (b"1", b"2"):
            left.write_message(message)
        assert right.read_message(1) == b"1"

        def child() -> bool:
            with pytest.raises(WrongProcess):
                right.read_message(0)
            return True

        assert in_child(child) == 0
        assert right.read_message(1) == b"2"


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_signal_handler_ends_the_read_of_its_own_thread(end: str) -> None:
    """cancel() and close() in a signal handler end the very read that the signal interrupted, without a deadlock."""
    left, right = pipes.pair()
    old = signal.signal(signal.SIGUSR1, lambda *_: getattr(right, end)())
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(PipeCancelled):
            right.read_message(10)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, old)
        left.close()
        right.close()


def test_a_signal_without_consequence_does_not_end_a_read() -> None:
    """A read that a signal interrupts goes on waiting, for the rest of its time."""
    left, right = pipes.pair()
    old = signal.signal(signal.SIGUSR1, lambda *_: left.write_message(b"from the handler"))
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        assert right.read_message(10) == b"from the handler"
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, old)
        left.close()
        right.close()


def test_one_s_own_event_and_a_pipe_are_waited_for_together() -> None:
    """S50: select() on a pipe and an event of one's own returns for whichever comes."""
    mine, ring = os.pipe()
    left, right = pipes.pair()
    try:
        both: list[Any] = [right, mine]
        assert select.select(both, [], [], 0)[0] == []
        left.write_message(b"x")
        assert select.select(both, [], [], 5)[0] == [right]
        right.read_message(0)
        os.write(ring, b"x")
        assert select.select(both, [], [], 5)[0] == [mine]
    finally:
        for fd in (mine, ring):
            os.close(fd)
        left.close()
        right.close()
