"""Real .NET programs and our pipes meet by name: S51, and what .NET does worse on Linux than we do.

The programs are in Peer.cs; tools/dotnet_peer.py gets their runtime and compiles them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from cloister.errors import MessageTooLarge, NameTaken, PipeClosed, PipeTimeout
from cloister.pipes import FramingName, PipeServer, connect
from tests.peers.programs import LIMIT_S, Program, exchange, text_at

pytestmark = pytest.mark.slow

TOOL = Path(__file__).parents[2] / "tools" / "dotnet_peer.py"

Peers: TypeAlias = Callable[[str, str, str, int], Program]

# What the .NET side is told, and what we say for it.
FORMATS: list[tuple[str, FramingName, str]] = [
    ("utf-8-lines", "line", "utf-8"),
    ("utf-16-lines", "line", "utf-16-le"),
    ("utf-8-lines-marked", "line", "utf-8"),
    ("utf-16-lines-marked", "line", "utf-16-le"),
    ("stream-string", "stream-string", "utf-16-le"),
]
each_format = pytest.mark.parametrize(("format_", "framing", "encoding"), FORMATS, ids=[f[0] for f in FORMATS])

_numbers = itertools.count()


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The command that starts a .NET peer. Where there is none: a failure in CI, elsewhere a skip that says why."""
    done = subprocess.run([sys.executable, str(TOOL), "--offline"], capture_output=True, text=True, check=False)
    if done.returncode:
        why = f"no .NET peers: {done.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    return shlex.split(done.stdout)


@pytest.fixture
def start(command: list[str]) -> Iterator[Peers]:
    """Start .NET peers: ``start(role, name, format, number)``. They end with the test."""
    with contextlib.ExitStack() as running:

        def start_one(role: str, name: str, format_: str, number: int) -> Program:
            return running.enter_context(Program([*command, role, name, format_, str(number)]))

        yield start_one


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"peer-{next(_numbers)}"


def socket_file(name: str) -> Path:
    """Where a .NET server's socket lies; one that is killed leaves it there."""
    return Path(tempfile.gettempdir(), f"CoreFxPipe_{name}")


@each_format
def test_dotnet_client_and_our_server_exchange_a_thousand_texts(
    start: Peers, name: str, format_: str, framing: FramingName, encoding: str
) -> None:
    """S51: a NamedPipeClientStream meets our server by name; 1,000 Korean and emoji texts arrive each way, in order."""
    with PipeServer(name, style="dotnet", framing=framing, encoding=encoding) as server:
        peer = start("connect", name, format_, 1000)
        with server.accept(timeout=LIMIT_S) as pipe:
            assert exchange(pipe, 1000) == [text_at(i) for i in range(1000)]
            assert pipe.peer.pid == peer.process.pid
        assert peer.finish() == "exchanged 1000"


@each_format
def test_our_client_and_dotnet_server_exchange_a_thousand_texts(
    start: Peers, name: str, format_: str, framing: FramingName, encoding: str
) -> None:
    """S51: our client meets a NamedPipeServerStream by name, waiting until it appears; 1,000 texts arrive each way."""
    peer = start("serve", name, format_, 1000)
    with connect(name, LIMIT_S, style="dotnet", framing=framing, encoding=encoding) as pipe:
        assert exchange(pipe, 1000) == [text_at(i) for i in range(1000)]
        assert pipe.peer.pid == peer.process.pid
    assert peer.finish().endswith("exchanged 1000")


def test_dotnet_client_that_came_first_waits_for_our_server(start: Peers, name: str) -> None:
    """S51: a .NET client that is started before our server is served when the server appears."""
    peer = start("connect", name, "utf-8-lines", 3)
    with PipeServer(name, style="dotnet", framing="line") as server, server.accept(timeout=LIMIT_S) as pipe:
        assert exchange(pipe, 3) == [text_at(i) for i in range(3)]
        pipe.close()
        assert peer.finish() == "exchanged 3"


def test_our_server_does_not_steal_the_name_of_a_live_dotnet_server(start: Peers, name: str) -> None:
    """A name at which a .NET server waits is taken (.NET itself would steal it); that server still gets its client."""
    peer = start("serve", name, "utf-8-lines", 3)
    peer.wait_until_listening()
    with connect(name, LIMIT_S, style="dotnet", framing="line") as pipe:
        with pytest.raises(NameTaken, match=name):
            PipeServer(name, style="dotnet", framing="line")
        assert exchange(pipe, 3) == [text_at(i) for i in range(3)]
    assert peer.finish() == "exchanged 3"


def test_our_server_takes_over_the_file_of_a_killed_dotnet_server(start: Peers, name: str) -> None:
    """What a killed .NET server leaves is no obstacle: our server takes its place, and a .NET client meets it."""
    killed = start("serve", name, "utf-8-lines", 3)
    killed.wait_until_listening()
    left = socket_file(name)
    killed.kill()
    assert left.is_socket()
    with PipeServer(name, style="dotnet", framing="line") as server:
        assert Path(server.path) == left
        assert stat.S_IMODE(left.stat().st_mode) == 0o600
        peer = start("connect", name, "utf-8-lines", 3)
        with server.accept(timeout=LIMIT_S) as pipe:
            assert exchange(pipe, 3) == [text_at(i) for i in range(3)]
        assert peer.finish() == "exchanged 3"
    assert not left.exists()


def test_dotnet_client_waits_for_a_free_instance_of_our_server(start: Peers, name: str) -> None:
    """A .NET client that comes while all instances are in use is served when one is free, and not before."""
    with PipeServer(name, style="dotnet", framing="line", max_instances=1) as server:
        with connect(name, LIMIT_S, style="dotnet", framing="line"), server.accept(timeout=LIMIT_S):
            peer = start("connect", name, "utf-8-lines", 3)
            with pytest.raises(PipeTimeout):
                server.accept(timeout=0.5)
        with server.accept(timeout=LIMIT_S) as pipe:
            assert pipe.peer.pid == peer.process.pid
            assert exchange(pipe, 3) == [text_at(i) for i in range(3)]
        assert peer.finish() == "exchanged 3"


@each_format
def test_dotnet_client_sends_over_our_limit_and_then_within_it(
    start: Peers, name: str, format_: str, framing: FramingName, encoding: str
) -> None:
    """S25, S26: a text from .NET that is over our limit is refused without being stored; the next one is whole."""
    with PipeServer(name, style="dotnet", framing=framing, encoding=encoding, max_message=1000) as server:
        peer = start("shout", name, format_, 20_000)
        with server.accept(timeout=LIMIT_S) as pipe:
            with pytest.raises(MessageTooLarge, match="1000"):
                pipe.read_string(timeout=LIMIT_S)
            assert pipe.read_string(timeout=LIMIT_S) == "after"
        peer.finish()


def test_our_text_over_what_dotnet_can_count_is_refused_before_a_byte_is_sent(start: Peers, name: str) -> None:
    """S25, S26: 65,536 UTF-16 bytes have no two-byte length; they are refused here, and the conversation goes on."""
    peer = start("serve", name, "stream-string", 3)
    with connect(name, LIMIT_S, style="dotnet", framing="stream-string", encoding="utf-16-le") as pipe:
        with pytest.raises(MessageTooLarge, match="65536"):
            pipe.write_string("한" * 32_768)
        assert exchange(pipe, 3) == [text_at(i) for i in range(3)]
    assert peer.finish().endswith("exchanged 3")


def test_our_reader_learns_of_the_death_of_a_dotnet_server(start: Peers, name: str) -> None:
    """S23: when a .NET server is killed in a conversation, our read ends with `PipeClosed`, after what it had sent."""
    peer = start("serve", name, "utf-8-lines", 10)
    with connect(name, LIMIT_S, style="dotnet", framing="line") as pipe:
        assert [pipe.read_string(timeout=LIMIT_S) for _ in range(10)] == [text_at(i) for i in range(10)]
        peer.kill()
        with pytest.raises(PipeClosed):
            pipe.read_string(timeout=LIMIT_S)
    socket_file(name).unlink()
