"""The other ways to call into another process, each as a context that gives a function to call.

Here is how each is started, and what all of them call: `add`, or the method of an `Adder`. What is asked of them is in
the bench files. One whose library is missing raises `NotHere`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.managers import BaseManager
from typing import Any, TypeAlias

from benchmarks.harness import need

__all__ = [
    "ADD",
    "ADDER",
    "LIGHT",
    "Adder",
    "Maker",
    "Sleeper",
    "add",
    "connection",
    "execnet",
    "manager",
    "pyro",
    "rpyc",
    "spawned",
    "waiting_manager",
    "zmq",
]

Call: TypeAlias = Callable[[int], Any]
Maker: TypeAlias = tuple[Callable[[], contextlib.AbstractContextManager[Call]], int]
"""What gives a thread its own way to call, and the process at the other end."""

ADD = f"{__name__}:add"
ADDER = f"{__name__}:Adder"
LIGHT = "operator:neg"
"""What imports nothing, where starts and sizes are measured."""


class Adder:
    """What is called."""

    def add(self, number: int) -> int:
        return number + 1


def add(number: int) -> int:
    return number + 1


spawned = multiprocessing.get_context("spawn")


class Sleeper:
    """Something that is waited for."""

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Manager(BaseManager):
    pass


_Manager.register("Adder", Adder)
_Manager.register("Sleeper", Sleeper)


@contextlib.contextmanager
def manager() -> Iterator[Maker]:
    """A manager of multiprocessing; a proxy has a connection for each thread."""
    with _Manager(ctx=spawned) as made:
        adder = made.Adder()  # type: ignore[attr-defined]  # made by register
        yield lambda: contextlib.nullcontext(adder.add), made._process.pid  # type: ignore[attr-defined]  # no public way


@contextlib.contextmanager
def waiting_manager() -> Iterator[tuple[Any, int]]:
    """A manager that is going to be killed: a proxy of a `Sleeper`, and its process."""
    made = _Manager(ctx=spawned)
    made.start()
    yield made.Sleeper(), made._process.pid  # type: ignore[attr-defined]  # made by register; no public way
    made.shutdown()


def _answer(link: Any) -> None:
    with contextlib.suppress(EOFError):
        while True:
            link.send(add(link.recv()))


@contextlib.contextmanager
def connection() -> Iterator[Maker]:
    """A pipe of multiprocessing, with a loop at its other end; for one thread."""
    ours, theirs = spawned.Pipe()
    process = spawned.Process(target=_answer, args=(theirs,))
    process.start()
    theirs.close()

    def call(number: int) -> Any:
        ours.send(number)
        return ours.recv()

    try:
        assert process.pid is not None
        yield lambda: contextlib.nullcontext(call), process.pid
    finally:
        ours.close()
        process.join()


_RPYC = """
import sys, rpyc
from rpyc.utils.server import ThreadedServer
class Service(rpyc.Service):
    def exposed_add(self, number): return number + 1
server = ThreadedServer(Service, socket_path=sys.argv[1])
server._listen()  # so that it can be told when a client may come
print(flush=True)
server.start()
"""

_PYRO = """
import sys, Pyro5.api
@Pyro5.api.expose
class Adder:
    def add(self, number): return number + 1
daemon = Pyro5.api.Daemon(unixsocket=sys.argv[1])
print(daemon.register(Adder(), "adder"), flush=True)
daemon.requestLoop()
"""

_ZMQ = """
import sys, zmq
socket = zmq.Context().socket(zmq.REP)
socket.bind("ipc://" + sys.argv[1])
print(flush=True)
while True: socket.send_pyobj(socket.recv_pyobj() + 1)
"""

_EXECNET = """
for number in channel: channel.send(number + 1)
"""


@contextlib.contextmanager
def _server(program: str) -> Iterator[tuple[str, str, int]]:
    """Run a server at a socket; give the socket's path, what the server printed, and its pid."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield path, process.stdout.readline().strip(), process.pid
            finally:
                process.terminate()


@contextlib.contextmanager
def rpyc() -> Iterator[Maker]:
    """RPyC over a Unix socket; a connection for each thread."""
    factory = need("rpyc.utils.factory")

    @contextlib.contextmanager
    def connect() -> Iterator[Call]:
        with contextlib.closing(factory.unix_connect(path)) as link:
            yield link.root.add

    with _server(_RPYC) as (path, _line, pid):
        yield connect, pid


@contextlib.contextmanager
def pyro() -> Iterator[Maker]:
    """Pyro5 over a Unix socket; a proxy for each thread. A call has the attribute `batch`, for many in one message."""
    api = need("Pyro5.api")

    @contextlib.contextmanager
    def connect() -> Iterator[Call]:
        with api.Proxy(uri) as adder:

            def call(number: int) -> Any:
                return adder.add(number)

            call.batch = lambda: api.BatchProxy(adder)  # type: ignore[attr-defined]  # for bench_pipelined
            yield call

    with _server(_PYRO) as (_path, uri, pid):
        yield connect, pid


@contextlib.contextmanager
def zmq() -> Iterator[Maker]:
    """A REQ and a REP socket of zmq, with pickles; for one thread."""
    module = need("zmq")

    @contextlib.contextmanager
    def connect() -> Iterator[Call]:
        with module.Context() as context, context.socket(module.REQ) as socket:
            socket.connect(f"ipc://{path}")

            def call(number: int) -> Any:
                socket.send_pyobj(number)
                return socket.recv_pyobj()

            yield call

    with _server(_ZMQ) as (path, _line, pid):
        yield connect, pid


@contextlib.contextmanager
def execnet() -> Iterator[Maker]:
    """A channel of execnet to a process that it has started; for one thread."""
    module = need("execnet")
    group = module.Group()
    gateway = group.makegateway("popen")
    pid = gateway.remote_exec("import os; channel.send(os.getpid())").receive()
    channel = gateway.remote_exec(_EXECNET)

    def call(number: int) -> Any:
        channel.send(number)
        return channel.receive()

    call.channel = channel  # type: ignore[attr-defined]  # for bench_pipelined
    try:
        yield lambda: contextlib.nullcontext(call), pid
    finally:
        group.terminate(timeout=2)
