"""A guest has no terminal: Ctrl-C goes to the host only."""

from __future__ import annotations

import os
import pty
import sys
import time
from collections.abc import Callable

from cloister.domain.domain import Domain
from tests.domain.journal import MODULES

Make = Callable[..., Domain]

PROGRAM = f"""
import os, sys, time
from cloister import Domain, Setup
domain = Domain("quiet", setup=Setup(path=[{MODULES!r}]))
found = domain.call("troubles:terminal")
assert os.isatty(0) and os.isatty(1)
print("READY", found["tty"], found["isatty"], found["stdin"], flush=True)
try:
    domain.call("troubles:sleep", 20)
except KeyboardInterrupt:
    print("INTERRUPTED", flush=True)
print("ALIVE", domain.call("troubles:add", 20, 22), flush=True)
domain.unload()
print("REASON", domain.report.reason.value, flush=True)
"""


def test_guest_has_a_session_of_its_own_and_no_terminal(make: Make) -> None:
    """S11: the guest leads its own session and group, has no terminal, and reads nothing from stdin."""
    domain = make()
    found = domain.call("troubles:terminal")
    assert found["session"] == found["group"] == domain.pid != os.getsid(0)
    assert (found["tty"], found["stdin"]) == (False, b"")


def read_until(terminal: int, word: str, text: str = "") -> str:
    """Read what a program shows on its terminal until a word appears."""
    deadline = time.monotonic() + 15
    while word not in text:
        assert time.monotonic() < deadline, text
        text += os.read(terminal, 4096).decode()
    return text


def test_control_c_goes_to_the_host_only() -> None:
    """S11: Ctrl-C on the terminal of the host interrupts its call; the guest hears nothing of it, and serves on."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM])
    try:
        text = read_until(terminal, "READY")
        assert "READY False [False, False, False] b''" in read_until(terminal, "\n", text)
        time.sleep(0.2)  # the host is in its call by now; if it were not, the test would still hold
        os.write(terminal, b"\x03")
        text = read_until(terminal, "REASON")
        assert "INTERRUPTED" in text
        assert "ALIVE 42" in text
        assert "unloaded" in read_until(terminal, "unloaded", text)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
