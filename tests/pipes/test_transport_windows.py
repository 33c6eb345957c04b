"""Named pipes on real Windows handles: the server, and what the conformance suite can't see from outside.

It runs where Windows, or Wine, runs: `python tools/wine_tests.py` does the latter.
"""

from __future__ import annotations

import sys

import pytest

if sys.platform != "win32":
    pytest.skip("needs Windows; under Wine: run python tools/wine_tests.py", allow_module_level=True)
assert sys.platform == "win32"  # for type checkers, which do not know that skip ends the module

import ctypes
import multiprocessing.connection
import os
import threading
import time
from typing import Any

from cloister import pipes
from cloister.errors import BadName, NameTaken, NotConnected, PipeBusy, PipeCancelled, PipeError, PipeTimeout
from cloister.pipes.kernel_windows import current_user, room_to_write
from tests.pipes.ends import Background, fresh_name

ON_WINE = hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")
JOIN_S = 10.0


def count_handles() -> int:
    """How many handles this process has open."""
    count = ctypes.c_ulong()
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.GetProcessHandleCount(ctypes.c_void_p(kernel32.GetCurrentProcess()), ctypes.byref(count))
    return count.value


def test_close_ends_an_accept_that_waits_for_ever() -> None:
    """S17: an accept without a time limit ends within 100 ms of the server's close."""
    server = pipes.PipeServer(fresh_name())
    accepting = Background(server.accept)
    while not server._listener._gate._inside:  # type: ignore[attr-defined]  # the gate is this platform's own
        time.sleep(0.001)
    closed_at = time.monotonic()
    server.close()
    with pytest.raises(PipeCancelled):
        accepting.result()
    assert time.monotonic() - closed_at < 0.1


def test_clients_that_came_before_accept_are_accepted_at_once() -> None:
    """S18: several clients connect before the first accept; each is accepted without a wait, and talks to its own."""
    name = fresh_name()
    with pipes.PipeServer(name) as server:
        clients = [pipes.connect(name, 0) for _ in range(8)]
        accepted = [server.accept(0) for _ in clients]
        for number, client in enumerate(clients):
            client.write_message(b"%d" % number)
        assert sorted(pipe.read_message(1) for pipe in accepted) == [b"%d" % n for n in range(8)]
        for pipe in clients + accepted:
            pipe.close()


def test_a_connection_wins_over_a_close_that_came_at_the_same_time() -> None:
    """S20: a client that is there when the server closes during an accept is accepted."""
    for _ in range(50):
        name = fresh_name()
        server = pipes.PipeServer(name)
        accepting = Background(server.accept)
        with pipes.connect(name, 5) as client:
            server.close()
            with accepting.result() as pipe:
                pipe.write_message(b"here")
                assert client.read_message(1) == b"here"


def test_a_client_waits_for_a_free_instance() -> None:
    """With all instances in use a client is told so at the end of its time, and is served when one is free in time."""
    name = fresh_name()
    with pipes.PipeServer(name, max_instances=1) as server:
        with pipes.connect(name, 1) as first, server.accept(1) as pipe:
            with pytest.raises(PipeBusy, match="no free instance"):
                pipes.connect(name, 0.05)
            with pytest.raises(PipeTimeout):
                server.accept(0)
            waiting = Background(pipes.connect, name, 5)
            pipe.close()
            first.close()
        with waiting.result() as second, server.accept(1) as pipe:
            second.write_message(b"served")
            assert pipe.read_message(1) == b"served"


@pytest.mark.skipif(ON_WINE, reason="Wine 8 ignores FILE_FLAG_FIRST_PIPE_INSTANCE")
def test_a_live_name_is_taken() -> None:
    """A second server of the same name is refused while the first lives, and then not any more."""
    name = fresh_name()
    with pipes.PipeServer(name), pytest.raises(NameTaken, match=name):
        pipes.PipeServer(name)
    pipes.PipeServer(name).close()


def test_no_server_is_not_connected_and_a_bad_name_is_told_at_once() -> None:
    """S13: without a server the client fails in its time; a name that Windows can't have fails before any wait."""
    with pytest.raises(NotConnected, match="no server"):
        pipes.connect(fresh_name(), 0.05)
    with pytest.raises(BadName, match="slash"):
        pipes.connect(r"a\b", style="dotnet")


def test_both_ends_tell_who_the_peer_is() -> None:
    """Each end of a named pipe and of a pair tells the process at the other end; the place carries the user."""
    name = fresh_name()
    with pipes.PipeServer(name) as server:
        assert current_user() in server.path
        with pipes.connect(name, 1) as client, server.accept(1) as pipe:
            assert client.peer.pid == pipe.peer.pid == os.getpid()


def test_a_write_outlives_its_thread() -> None:
    """S27: a message whose write timed out in a thread that has ended is completed by the next write, untorn."""
    left, right = pipes.pair()
    message = bytes(1_000_000)
    with left, right:
        writing = Background(left.write_message, message, timeout=0.1)
        with pytest.raises(PipeTimeout) as caught:
            writing.result()
        assert caught.value.begun
        reading = Background(right.read_message, 10)
        left.flush(10)
        assert reading.result() == message


def test_what_was_written_is_read_after_a_close() -> None:
    """A message that the peer has not made room for yet arrives whole although the writer has closed its end."""
    left, right = pipes.pair()
    with right:
        message = bytes(100_000)
        left.write_message(message, timeout=0.1)
        left.close()
        assert right.read_message(5) == message


def test_a_pipe_can_be_waited_for_together_with_another() -> None:
    """S50: `fileno()` lets one wait for a pipe and for something else together."""
    left, right = pipes.pair()
    ours, theirs = multiprocessing.Pipe()
    both: list[Any] = [right, ours]  # Any: the types of `wait` do not know that it takes whatever has a fileno()
    with left, right, ours, theirs:
        theirs.send("an event of our own")
        assert multiprocessing.connection.wait(both, 5) == both[1:]
        ours.recv()
        left.write_message(b"data")
        assert multiprocessing.connection.wait(both, 5) == both[:1]
        assert right.read_message(1) == b"data"


def test_a_detached_end_is_adopted() -> None:
    """An end that was detached goes on where it is adopted; what is no pipe is refused and stays open."""
    left, right = pipes.pair()
    with left:
        with pipes.from_fd(right.detach()) as adopted:
            assert right.closed
            left.write_message(b"hello")
            assert adopted.read_message(1) == b"hello"
        descriptor = os.open(os.devnull, os.O_RDONLY)
        try:
            with pytest.raises(PipeError, match="can't be adopted"):
                pipes.from_fd(12345)
            os.fstat(descriptor)
        finally:
            os.close(descriptor)


def test_a_full_pipe_has_no_certain_room() -> None:
    """What is written without a thread of its own never has to wait: there is no more room than was told."""
    left, right = pipes.pair()
    with left, right:
        before = room_to_write(left.fileno())
        left.write_bytes(bytes(1000))
        after = room_to_write(left.fileno())
        assert (before, after) == ((0, 0) if ON_WINE else (65536, 64536))
        right.read_bytes(1000, timeout=1)


def test_handles_stay_flat_over_many_connections() -> None:
    """S31: connections that are opened, used, timed out, cancelled and closed leave no handle behind."""
    name = fresh_name()

    def once() -> None:
        with pipes.connect(name, 1) as client, server.accept(1) as pipe:
            client.write_message(b"x")
            assert pipe.read_message(1) == b"x"
            with pytest.raises(PipeTimeout):
                pipe.read_message(0)
            reading = Background(pipe.read_message)
            client.close()
            with pytest.raises(PipeError):
                reading.result()

    with pipes.PipeServer(name) as server:
        for _ in range(20):
            once()
        before = count_handles()
        for _ in range(200):
            once()
        assert count_handles() <= before + 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cloister")]
