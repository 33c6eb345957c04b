"""A Node program meets a pipe of ours by its path, and speaks our framing; the program is peer.js."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cloister.pipes import PipeServer
from tests.peers.programs import LIMIT_S, Program, exchange, text_at

pytestmark = pytest.mark.slow


def test_node_client_reads_and_writes_our_length_frames() -> None:
    """`net.connect({path})` meets our server; 1,000 Korean and emoji texts go there and come back, in order."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine: run apt-get install nodejs")
    with (
        PipeServer("node-peer") as server,
        Program([node, str(Path(__file__).with_name("peer.js")), server.path, "1000"]) as peer,
    ):
        with server.accept(timeout=LIMIT_S) as pipe:
            assert pipe.peer.pid == peer.process.pid
            assert exchange(pipe, 1000) == [text_at(i) for i in range(1000)]
        assert peer.finish() == "exchanged 1000"
