"""Debuggers and coverage reach into a domain, as the how-to guide says."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloister.pipes import connect

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent.parent / "examples" / "debugging"
INVOICE = FOLDER / "plugins" / "invoice.py"
LIMIT_S = 20


@contextmanager
def running(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run an example beside the test; the rest of its group is killed at the end."""
    command = [sys.executable, str(FOLDER / program), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a program, and return what it printed."""
    printed, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    return printed


def test_pdb_over_a_pipe_stops_at_a_breakpoint_in_a_domain() -> None:
    """A breakpoint in a domain waits for a debugger; a variable is shown and changed there; the call goes on."""
    with running("debug_pdb.py") as program, connect("pdb", timeout=LIMIT_S) as pipe:
        answers: list[str] = []
        for command in ["p net", "rate = 1.0", "continue"]:
            while (text := pipe.read_string(timeout=LIMIT_S)) != "(Pdb) ":
                answers.append(text)
            pipe.write_string(command, timeout=LIMIT_S)
        assert "30.0" in "".join(answers).split()
        assert finish(program) == "total: 60.0\n"


def test_the_terminal_of_pdb_shows_what_the_domain_says() -> None:
    """The client program prints the place and the answers, sends what is typed, and ends with the domain."""
    with running("debug_pdb.py") as program, running("pipe_pdb.py") as client:
        printed, _ = client.communicate("p net\ncontinue\n", timeout=LIMIT_S)
        assert "invoice.py" in printed
        assert "(Pdb) 30.0" in printed
        assert finish(program) == "total: 36.3\n"


class Editor:
    """The least of an editor: it speaks the Debug Adapter Protocol with a domain."""

    def __init__(self, port: int, server: subprocess.Popen[str]) -> None:
        while server.poll() is None:
            try:
                # From another address: a port of this one that nobody listens on yet may connect to itself.
                self._socket = socket.create_connection(("127.0.0.1", port), LIMIT_S, ("127.0.0.2", 0))
                break
            except ConnectionRefusedError:
                continue  # it is starting; the time limit of the test ends this
        self._file = self._socket.makefile("rwb")
        self._number = 0

    def send(self, command: str, **arguments: Any) -> None:
        """Send a request."""
        self._number += 1
        body = json.dumps({"seq": self._number, "type": "request", "command": command, "arguments": arguments}).encode()
        self._file.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._file.flush()

    def wait_for(self, name: str) -> dict[str, Any]:
        """Read until the event or the answer of this name; return its body."""
        heard: list[dict[str, Any]] = []
        while True:
            length = 0
            while line := self._file.readline().strip():
                length = int(line.rpartition(b":")[2])
            assert length, f"the adapter closed before {name}, after {heard}"
            message: dict[str, Any] = json.loads(self._file.read(length))
            heard.append(message)
            if message.get("event", message.get("command")) == name:
                return message.get("body") or {}

    def close(self) -> None:
        """Leave."""
        self._file.close()
        self._socket.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the editor comes from an address that only Linux has by itself")
def test_an_editor_attaches_to_a_domain_and_stops_in_it() -> None:
    """debugpy in a domain: an editor attaches, its breakpoint is hit, a variable is read, the call ends well."""
    pytest.importorskip("debugpy", reason="the guides' libraries are installed with `make environment`")
    line = INVOICE.read_text(encoding="utf-8").splitlines().index("    return round(amount, 2)") + 1
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with running("debug_debugpy.py", str(port)) as program:
        editor = Editor(port, program)
        try:
            editor.send("initialize", adapterID="cloister")
            editor.send("attach", justMyCode=True)
            editor.wait_for("initialized")
            editor.send("setBreakpoints", source={"path": str(INVOICE)}, breakpoints=[{"line": line}])
            editor.wait_for("setBreakpoints")
            editor.send("configurationDone")
            thread = editor.wait_for("stopped")["threadId"]
            editor.send("stackTrace", threadId=thread)
            frame = editor.wait_for("stackTrace")["stackFrames"][0]
            editor.send("evaluate", expression="amount", frameId=frame["id"])
            assert (frame["name"], editor.wait_for("evaluate")["result"]) == ("rounded", "2.499")
            editor.send("disconnect")
            assert finish(program) == "rounded: -2.5\n"
        finally:
            editor.close()


def test_coverage_counts_the_lines_that_ran_in_a_domain(tmp_path: Path) -> None:
    """With the configuration shown, the lines of a plug-in that ran in its domain are covered, the others are not."""
    pytest.importorskip("coverage")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment["COVERAGE_FILE"] = str(tmp_path / "data")
    coverage = [sys.executable, "-m", "coverage"]
    printed = ""
    for command in (["run", "--rcfile", "coverage.ini", "covered.py"], ["combine", "-q"], ["json", "-q", "-o", "-"]):
        printed = subprocess.run(
            [*coverage, *command],
            cwd=FOLDER,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            check=True,
        ).stdout
    covered = json.loads(printed)["files"]["plugins/invoice.py"]
    source = INVOICE.read_text(encoding="utf-8").splitlines()
    assert "    return round(amount, 2)" in [source[line - 1] for line in covered["executed_lines"]]
    assert "    net = sum(amounts)" in [source[line - 1] for line in covered["missing_lines"]]
