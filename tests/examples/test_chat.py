"""The two ends of the chat, in Python and in C#, talk with each other."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent.parent
CHAT = CHECKOUT / "examples" / "chat"
LIMIT_S = 20


@pytest.fixture(scope="module")
def csharp() -> list[str]:
    """The command of the C# end. Where there is no .NET: a failure in CI, elsewhere a skip that says why."""
    tool = [sys.executable, str(CHECKOUT / "tools" / "dotnet_peer.py"), "--offline", str(CHAT / "Chat.cs")]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    if done.returncode:
        why = f"no .NET here: {done.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    return shlex.split(done.stdout)


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start one end."""
    # Without the switch, .NET's runtime leaves the sockets of its debugger behind.
    environment = {**os.environ, "COMPlus_EnableDiagnostics": "0", "PYTHONIOENCODING": "utf-8"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, encoding="utf-8")


def test_python_and_csharp_chat_over_a_named_pipe(csharp: list[str]) -> None:
    """S51: what is typed at each end appears at the other, in its own letters; both programs end well."""
    with start([sys.executable, "-W", "error", str(CHAT / "chat.py")]) as ours, start(csharp) as theirs:
        try:
            assert theirs.stdin is not None
            theirs.stdin.write("안녕하세요 🏰\nhow are you?\n")
            theirs.stdin.close()
            theirs.stdin = None  # `communicate` would flush it
            assert ours.communicate("hello from Python\n¿y tú?\n", timeout=LIMIT_S) == (
                "C#: 안녕하세요 🏰\nC#: how are you?\n",
                "",
            )
            assert theirs.communicate(timeout=LIMIT_S) == ("Python: hello from Python\nPython: ¿y tú?\n", "")
        finally:
            ours.kill()
            theirs.kill()
    assert (ours.returncode, theirs.returncode) == (0, 0)
