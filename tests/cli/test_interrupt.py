"""Ctrl-C during the demo: one line, nothing left over, exit code 130, on a terminal and without one."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND

pytestmark = pytest.mark.slow

_LIMIT = 25.0
"""Seconds for a run that is interrupted, on a machine that does much else."""


@pytest.fixture(autouse=True)
def _libraries() -> None:
    for library in ("PIL", "polars", "pypdf"):
        pytest.importorskip(library, reason="the demo's modules read with it: pip install 'cloister[demo]'")


def read_until(fd: int, wanted: Callable[[str], bool]) -> str:
    """Read from a descriptor until the text is as wanted or there is no more."""
    data, deadline = b"", time.monotonic() + _LIMIT
    while not wanted(data.decode(errors="replace")):
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            pytest.fail(f"it said nothing more after: {data!r}")
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break  # what a terminal says when its last program has gone
        if not piece:
            break
        data += piece
    return data.decode(errors="replace")


def plain(text: str) -> str:
    """Text without the marks of a terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def last_words(text: str) -> str:
    """What the demo wrote last."""
    return plain(text).split("cloister demo: ")[-1].strip()


@contextmanager
def on_a_terminal(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The demo on a terminal of its own, and our end of that; `folder` is its place for temporary files."""
    import fcntl
    import pty
    import termios

    pytest.importorskip("rich", reason="the live table is drawn with it")
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *words],
        stdin=child,
        stdout=child,
        stderr=child,
        env={**os.environ, "TMPDIR": str(folder), "TERM": "xterm"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as program:
        os.close(child)
        try:
            yield program, parent
        finally:
            os.close(parent)


def test_ctrl_c_on_a_terminal_ends_the_demo_with_one_line(tmp_path: Path) -> None:
    """S11: a live table is shown; ^C reaches the server alone, which ends with one line and 130 and leaves nothing."""
    with on_a_terminal(tmp_path) as (program, terminal):
        before = read_until(terminal, lambda text: "16-access-tuesday.log" in text)
        os.write(terminal, b"\x03")
        after = read_until(terminal, lambda _: False)
        code = program.wait(_LIMIT)
    assert "reading" in before, "no table of domains was shown"
    assert code == 130
    assert re.fullmatch(r"interrupted after \d+ files; nothing is left over", last_words(before + after))
    assert "Traceback" not in before + after
    assert list(tmp_path.iterdir()) == []


def test_the_tables_on_a_terminal_say_what_the_plain_lines_say(tmp_path: Path) -> None:
    """The moving table gives way to the table of the files, and a file's name can't give orders to the terminal."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "[bold]torn.gz").write_bytes(b"rubbish")
    (folder / "orders.json").write_text("[]")
    with on_a_terminal(tmp_path, "--folder", str(folder)) as (program, terminal):
        shown = plain(read_until(terminal, lambda _: False))
        assert program.wait(_LIMIT) == 0
    summary = shown[shown.index("what happened, and why") :]
    assert re.search(r"\[bold\]torn.gz +backups +died +exited with code 3: its last line was", summary)
    assert re.search(r"orders.json +records +answered +0 order\(s\), 0 in all", summary)
    assert re.search(r"without domains +one process did 0 of 2 files, then exited with code 3", summary)
    assert re.search(r"left over +nothing: ", summary)


@pytest.mark.parametrize("moment", ["made 44 files", "bitmaps", "20-signed-again.tif"])
def test_an_interrupt_at_any_moment_ends_the_demo_with_130(tmp_path: Path, moment: str) -> None:
    """SIGINT before the first domain is ready, while files are read, or in the comparison at the end: the same end."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as program:
        assert program.stdout is not None
        read_until(program.stdout.fileno(), lambda text: moment in text)
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=_LIMIT)
    assert program.returncode == 130
    assert re.fullmatch(r"cloister demo: interrupted after \d+ files; nothing is left over\n", errors.decode())
    assert list(tmp_path.iterdir()) == []
