"""Serving a name: accept, busy, close, races."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloister import pipes
from cloister.errors import NameTaken, NotConnected, PipeBusy, PipeCancelled, PipeClosed, PipeError, PipeTimeout
from tests.patience import wait_until
from tests.pipes import descriptors
from tests.pipes.ends import Background, fresh_name


@pytest.fixture(params=["cloister", "dotnet"])
def server(request: pytest.FixtureRequest) -> Iterator[pipes.PipeServer]:
    """A server of each style, without a limit."""
    with pipes.PipeServer(fresh_name(), style=request.param) as it:
        yield it


def connect(server: pipes.PipeServer, timeout: float | None = 5) -> pipes.Pipe:
    """A client of this server, whatever its style."""
    return pipes.connect(server.name, timeout, style=server._place.style)


def wait_until_accepting(server: pipes.PipeServer) -> None:
    """Return when another thread waits in accept."""
    wait_until(lambda: server._listener._gate._inside)  # type: ignore[attr-defined]  # of the POSIX listener


# -- accept and close -------------------------------------------------------------------------------------------------


def test_a_client_that_came_before_is_accepted_at_once(server: pipes.PipeServer) -> None:
    """S18: a client that connected before accept began is accepted without a wait, and can have written."""
    with connect(server) as client:
        client.write_message(b"early")
        with server.accept(timeout=0) as served:
            assert served.read_message(0) == b"early"


def test_close_wakes_an_accept_that_waits_for_ever(server: pipes.PipeServer) -> None:
    """S17: an accept without a time limit ends within 100 ms of the close in another thread."""
    accepting = Background(server.accept)
    wait_until_accepting(server)
    begin = time.monotonic()
    server.close()
    with pytest.raises(PipeCancelled):
        accepting.result()
    assert time.monotonic() - begin < 0.1
    with pytest.raises(NotConnected):
        server.accept()


def test_cancel_wakes_every_accept_and_the_server_goes_on(server: pipes.PipeServer) -> None:
    """cancel() ends accepts that wait, one waiting for its turn too, and the next client is served."""
    accepting = [Background(server.accept) for _ in range(2)]
    wait_until_accepting(server)
    while not all(each._thread.is_alive() for each in accepting):
        time.sleep(0.001)
    time.sleep(0.02)  # until the second waits for its turn; it is cancelled at any later moment too, see below
    server.cancel()
    for each in accepting:
        with pytest.raises(PipeCancelled):
            each.result()
    with connect(server), server.accept(5):
        pass


def test_an_accept_ends_at_its_time(server: pipes.PipeServer) -> None:
    """An accept without a client ends at its time-out, and waiting threads keep theirs."""
    begin = time.monotonic()
    with pytest.raises(PipeTimeout):
        server.accept(timeout=0.1)
    assert 0.1 <= time.monotonic() - begin < 0.3
    accepting = Background(server.accept)
    wait_until_accepting(server)
    with pytest.raises(PipeTimeout, match="another thread"):
        server.accept(timeout=0.05)
    with connect(server), accepting.result():
        pass


def test_a_connection_wins_over_a_close(server: pipes.PipeServer) -> None:
    """S20: when a client and the close have both come before the accept looks, the client is served."""
    gate = server._listener._gate  # type: ignore[attr-defined]  # of the POSIX listener
    with connect(server) as client:
        since = gate.generation
        gate.enter(since)  # an accept is inside, and has not looked yet
        server.close()
        gate._inside += 1  # what follows enters a second time, in the name of the first
        gate._behind += 1
        try:
            wins = _accept_entered(server, since)
        finally:
            gate.leave(since)
        with wins:
            client.write_message(b"served")
            assert wins.read_message(5) == b"served"


def _accept_entered(server: pipes.PipeServer, since: int) -> pipes.Pipe:
    """Accept with a gate that was entered before the close."""
    listener = server._listener
    gate = listener._gate  # type: ignore[attr-defined]  # of the POSIX listener
    enter = gate.enter
    gate.enter = lambda _: None
    try:
        return pipes.Pipe(listener.accept(None, since), server._format)
    finally:
        gate.enter = enter


def test_waiting_for_several_events_is_waiting_for_one(server: pipes.PipeServer) -> None:
    """S21, S50: a select on the server's descriptor, with an event of one's own, tells of the same client as accept."""
    mine, ring = os.pipe()
    try:
        both: list[Any] = [server, mine]
        assert select.select(both, [], [], 0)[0] == []
        os.write(ring, b"x")
        assert select.select(both, [], [], 5)[0] == [mine]
        with connect(server) as client:
            assert select.select([server], [], [], 5)[0] == [server]
            with server.accept(0) as served:
                both = [served, server]
                assert select.select(both, [], [], 0)[0] == []
                client.write_message(b"x")
                assert select.select([served], [], [], 5)[0] == [served]
                assert served.read_message(0) == b"x"
    finally:
        os.close(mine)
        os.close(ring)
    with pytest.raises(PipeTimeout):
        server.accept(0)


def test_open_pipes_survive_the_close_of_their_server(server: pipes.PipeServer) -> None:
    """Closing the server ends neither the pipes that it accepted nor their clients."""
    with connect(server) as client, server.accept(5) as served:
        server.close()
        client.write_message(b"still here")
        assert served.read_message(5) == b"still here"


def test_a_client_in_the_queue_sees_the_end_of_a_closed_server(server: pipes.PipeServer) -> None:
    """A client that nobody accepted before the close is told, and does not hang."""
    with connect(server) as client:
        server.close()
        with pytest.raises(PipeClosed):
            client.read_message(5)


def test_no_inet_socket_is_opened_by_either_side(server: pipes.PipeServer) -> None:
    """S16: every socket that client and server have is a Unix socket."""
    before = _sockets()
    with connect(server), server.accept(5):
        families = [socket.socket(fileno=os.dup(fd)) for fd in _sockets() - before]
        try:
            assert [each.family for each in families] == [socket.AF_UNIX] * 2
        finally:
            for each in families:
                each.close()


def _sockets() -> set[int]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(entry).startswith("socket:"):
                found.add(int(entry.name))
        except FileNotFoundError:
            continue
    return found


def test_the_peer_is_told_on_both_sides(server: pipes.PipeServer) -> None:
    """Both ends know the pid and the uid of the other."""
    with connect(server) as client, server.accept(5) as served:
        assert client.peer == served.peer == (os.getpid(), os.geteuid())


def test_names_and_states_can_be_printed(server: pipes.PipeServer) -> None:
    """repr() and the properties tell name, path and state."""
    assert server.name in repr(server)
    assert Path(server.path).is_socket()
    server.close()
    assert server.closed
    assert "closed" in repr(server)
    server.close()
    with pytest.raises(NotConnected):
        server.fileno()


# -- connect ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["cloister", "dotnet"])
def test_connect_fails_in_its_time_when_nobody_serves(style: pipes.Style) -> None:
    """S13: without a server the client gets NotConnected at its time-out."""
    begin = time.monotonic()
    with pytest.raises(NotConnected, match=r"no server listens.*waited 0\.2 s"):
        pipes.connect("nobody", 0.2, style=style)
    assert 0.2 <= time.monotonic() - begin < 0.4
    with pytest.raises(NotConnected, match="no server listens"):
        pipes.connect("nobody", 0, style=style)


def test_a_child_without_a_server_exits_with_an_error() -> None:
    """S13: a process that can't connect ends with a non-zero code and says why."""
    child = subprocess.run(
        [sys.executable, "-c", "from cloister import pipes; pipes.connect('nobody', 0.2)"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert child.returncode != 0
    assert b"NotConnected" in child.stderr
    assert b"no server listens" in child.stderr


def test_connect_waits_for_the_server_to_appear() -> None:
    """A client that comes first waits until the server is there."""
    name = fresh_name()
    waiting = Background(pipes.connect, name, 5)
    with pipes.PipeServer(name) as server, server.accept(5) as served, waiting.result() as client:
        served.write_message(b"hello")
        assert client.read_message(5) == b"hello"


def test_connect_refuses_impossible_options() -> None:
    """Impossible options are errors before anything is opened."""
    impossible: list[dict[str, Any]] = [
        {"framing": "json"},
        {"descriptors": 254},
        {"descriptors": 1, "framing": "line"},
    ]
    for options in impossible:
        with pytest.raises(ValueError, match=r"framing|descriptors"):
            pipes.connect("x", 0, **options)
    with pytest.raises(ValueError, match="max_instances"):
        pipes.PipeServer("x", max_instances=0)


# -- instances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["cloister", "dotnet"])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_one_client_more_than_the_limit_is_told_that_the_server_is_busy(most: int, style: pipes.Style) -> None:
    """With max_instances, exactly so many clients get in, accepted or not; the next gets PipeBusy, definitely."""
    name = fresh_name()
    with pipes.PipeServer(name, style=style, max_instances=most) as server:
        clients = [pipes.connect(name, 5, style=style) for _ in range(most)]
        served = []
        for _ in range(most):
            with pytest.raises(PipeBusy, match="all of its instances"):
                pipes.connect(name, 0, style=style)
            served.append(server.accept(0))
        with pytest.raises(PipeBusy, match=r"waited 0\.05 s"):
            pipes.connect(name, 0.05, style=style)
        with pytest.raises(PipeTimeout, match="instances"):
            server.accept(0.01)
        assert server.fileno() == -1
        served.pop().close()
        clients.append(pipes.connect(name, 5, style=style))
        served.append(server.accept(0))
        for pipe in [*clients, *served]:
            pipe.close()


def test_a_client_waits_for_a_free_instance() -> None:
    """A client of a busy server gets in as soon as an instance is free, within its time."""
    name = fresh_name()
    with pipes.PipeServer(name, max_instances=1) as server:
        first = pipes.connect(name, 5)
        served = server.accept(5)
        waiting = Background(pipes.connect, name, 5)
        accepting = Background(server.accept, 5)
        wait_until_accepting(server)
        served.close()
        with waiting.result() as second, accepting.result() as served:
            served.write_message(b"your turn")
            assert second.read_message(5) == b"your turn"
        first.close()


def test_never_more_instances_than_the_limit() -> None:
    """Many clients at a server with two instances: all are served in the end, never more than two at a time."""
    name, most, clients = fresh_name(), 2, 12
    inside, peak, lock = 0, 0, threading.Lock()

    def be_served(pipe: pipes.Pipe) -> None:
        nonlocal inside, peak
        with lock:
            inside += 1
            peak = max(peak, inside)
        pipe.write_message(pipe.read_message(5))
        with lock:
            inside -= 1
        pipe.close()

    def ask() -> bytes:
        with pipes.connect(name, 10) as pipe:
            pipe.write_message(b"hello")
            return pipe.read_message(10)

    with pipes.PipeServer(name, max_instances=most) as server:
        asking = [Background(ask) for _ in range(clients)]
        serving = [Background(be_served, server.accept(10)) for _ in range(clients)]
        assert [each.result() for each in asking] == [b"hello"] * clients
        for each in serving:
            each.result()
    assert peak <= most


def test_a_freed_instance_that_could_not_listen_is_made_by_the_next_accept() -> None:
    """When the descriptor table was full at the moment when an instance was freed, the next accept makes it."""
    name = fresh_name()
    with pipes.PipeServer(name, max_instances=1) as server:
        client = pipes.connect(name, 5)
        served = server.accept(5)
        path = Path(server.path)
        path.unlink()
        path.mkdir()  # nothing can be bound there
        served.close()
        with pytest.raises(PipeError):
            server.accept(0)
        path.rmdir()
        with pytest.raises(PipeTimeout):
            server.accept(0)
        with pipes.connect(name, 5), server.accept(5):
            pass
        client.close()


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_full_descriptor_table_fails_the_accept_and_the_server_accepts_again(server: pipes.PipeServer) -> None:
    """S19: a failed accept is reported with the system's number and advice; the client is served afterwards."""
    with connect(server) as client:
        for free in (0, 1):
            with descriptors.only_free(free), pytest.raises(PipeError, match="ulimit -n") as caught:
                server.accept(0)
            assert caught.value.errno in descriptors.FULL
        client.write_message(b"patient")
        with server.accept(5) as served:
            assert served.read_message(5) == b"patient"


def test_a_server_with_more_than_a_thousand_descriptors_accepts(server: pipes.PipeServer) -> None:
    """Descriptors with numbers beyond what select() takes are served as any other."""
    most = 1100
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < most + 50:
        pytest.skip("this user may not have so many")
    with descriptors.at_most(most + 50), contextlib.ExitStack() as fillers:
        for _ in range(most - descriptors.count()):
            fillers.callback(os.close, os.dup(2))
        with connect(server) as client, server.accept(5) as served:
            assert served.fileno() > 1024
            client.write_message(b"x")
            assert served.read_message(5) == b"x"
        with pipes.PipeServer(fresh_name(), max_instances=1) as high:
            for _ in range(2):
                with connect(high), high.accept(5):
                    pass


def test_a_full_descriptor_table_fails_every_opening_cleanly() -> None:
    """However few descriptors are free, opening fails with the system's number and leaves nothing, or succeeds."""

    def serve_one() -> None:
        name = fresh_name()
        with pipes.PipeServer(name, max_instances=1) as server, pipes.connect(name, 0), server.accept(0):
            pass

    def make_pair() -> None:
        left, right = pipes.pair()
        left.close()
        right.close()

    for opening in (serve_one, make_pair):
        before = descriptors.count()
        for free in range(50):
            try:
                with descriptors.only_free(free):
                    opening()
                break
            except PipeError as error:
                reported = error.errno
            assert reported in descriptors.FULL
            assert descriptors.count() == before
        else:
            pytest.fail("it never succeeded")
        assert free > 1
        assert descriptors.count() == before


@pytest.mark.slow
def test_ten_thousand_openings_and_closings_race_without_a_trace() -> None:
    """S31: clients and server open and close as they like, 10,000 times; the descriptors are flat."""
    name = fresh_name()
    before = descriptors.count()
    count = 10_000

    def visit(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(count // 2):
            with pipes.connect(name, 10) as client:
                if chance.random() < 0.1:
                    with contextlib.suppress(PipeClosed):  # the server was quicker
                        client.write_message(b"x")

    with pipes.PipeServer(name) as server:
        visitors = [Background(visit, seed) for seed in (1, 2)]
        for _ in range(count // 2 * 2):
            server.accept(10).close()
        for visitor in visitors:
            visitor.result()
    assert descriptors.count() == before


@pytest.mark.slow
def test_a_server_that_closes_under_its_clients_leaves_no_trace() -> None:
    """S31: servers that open, accept and close in a race with their clients: documented errors only, no trace."""
    name = fresh_name()
    before = descriptors.count()
    stop = threading.Event()

    def visit() -> int:
        met = 0
        while not stop.is_set():
            try:
                with pipes.connect(name, 0) as client:
                    met += 1
                    client.write_message(b"x", 0)
            except (NotConnected, PipeBusy, PipeClosed):
                continue
        return met

    visitors = [Background(visit) for _ in range(2)]
    try:
        for round_number in range(300):
            limit = (None, 1, 2)[round_number % 3]
            with pipes.PipeServer(name, max_instances=limit) as server:
                closing = Background(server.close)
                while True:
                    try:
                        server.accept().close()
                    except (PipeCancelled, NotConnected):
                        break
                closing.result()
    finally:
        stop.set()
        met = [visitor.result() for visitor in visitors]
    assert sum(met) > 0
    assert descriptors.count() == before


def test_a_forgotten_server_and_pipe_warn_and_are_closed() -> None:
    """What was never closed gives a ResourceWarning, and does not leak."""
    name = fresh_name()
    server = pipes.PipeServer(name)
    with pytest.warns(ResourceWarning, match="never closed"):
        del server
    left, right = pipes.pair()
    right.close()
    with pytest.warns(ResourceWarning, match="never closed"):
        del left
    with pipes.PipeServer(name):
        pass


def test_a_second_server_is_refused_and_the_first_goes_on(server: pipes.PipeServer) -> None:
    """A living name is never stolen: NameTaken names the process, and clients of the first are served."""
    with pytest.raises(NameTaken, match=f"process {os.getpid()}"):
        pipes.PipeServer(server.name, style=server._place.style)
    with connect(server) as client, server.accept(5) as served:
        client.write_message(b"x")
        assert served.read_message(5) == b"x"
    server.close()
    with pipes.PipeServer(server.name, style=server._place.style):
        pass
