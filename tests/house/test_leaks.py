"""The leak fixture itself: every kind of thing that a test can leave behind is found and named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent.parent / "conftest.py"

# Each leaves one thing behind; the words after the sign must be in the message.
LEAKY = {
    "a child process": ("_kept.append(subprocess.Popen(['cat'], stdin=subprocess.PIPE))", "(cat): cat, child of"),
    "a zombie": ("_kept.append(subprocess.Popen(['true']))", "ended but never waited for"),
    "an orphan": ("_leave_orphan()", "(cat): cat -, child of"),
    "a thread": (
        "threading.Thread(target=threading.Event().wait, name='stray', daemon=True).start()",
        "thread stray, in wait()",
    ),
    "a thread without a name": (
        "n = len(sys._current_frames()); _thread.start_new_thread(threading.Event().wait, ());"
        " [0 for _ in iter(lambda: len(sys._current_frames()) > n, True)]",
        "in wait() at",
    ),
    "a descriptor": ("_kept.append(os.open('/etc/hostname', os.O_RDONLY))", "/etc/hostname"),
    "a pipe": ("_kept.append(os.pipe())", "pipe:["),
    "a memory file": ("_kept.append(os.memfd_create('segment'))", "/memfd:segment"),
    "a mapping": ("_kept.append(mmap.mmap(-1, 4096))", "shared memory /dev/zero (deleted)"),
    "a socket file": (
        "s = socket.socket(socket.AF_UNIX); s.bind(os.environ['TMPDIR'] + '/left.sock'); s.close()",
        "socket ",
    ),
    "a runtime file": (
        "os.makedirs(os.environ['XDG_RUNTIME_DIR'] + '/cloister/deep', exist_ok=True)",
        "/cloister/deep",
    ),
    "a temporary directory": ("tempfile.mkdtemp(prefix='stray-')", "directory "),
    "a file in shared memory": ("_kept.append(_shm())", "/dev/shm/"),
}

PREAMBLE = """
import _thread, mmap, os, socket, subprocess, sys, tempfile, threading
from pathlib import Path
_kept = []
def _shm():
    path = Path('/dev/shm') / f'cloister-leak-{os.getpid()}'
    path.touch()
    return path
_until_the_run_ends = os.pipe()[0]
def _leave_orphan():
    # A shell gives what it starts in the background no standard input, so the pipe takes another way.
    words = ['sh', '-c', 'exec 3<&0; cat - <&3 >/dev/null 2>&1 & echo $!']
    run = subprocess.run(words, check=True, stdin=_until_the_run_ends, stdout=subprocess.PIPE, text=True)
    orphan = Path('/proc', run.stdout.strip(), 'cmdline')
    while orphan.read_bytes() != b'cat\\0-\\0':
        pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the leaks are found through /proc")
@pytest.mark.slow
def test_every_kind_of_leak_fails_its_test_and_is_named(pytester: pytest.Pytester) -> None:
    """A test that leaves something behind gets an error that names the thing, and its neighbours do not."""
    names = list(LEAKY)
    tests = [f"def test_{number}(): {LEAKY[name][0]}" for number, name in enumerate(names)]
    try:
        result = _run(pytester, [*tests, "def test_clean(): pass"])
    finally:
        for file in Path("/dev/shm").glob("cloister-leak-*"):
            file.unlink()
    assert result.parseoutcomes()["passed"] == len(names) + 1
    assert result.parseoutcomes()["errors"] == len(names) + 1  # one more for the run as a whole, which still has them
    messages = result.stdout.str().split("ERROR at teardown of ")
    for number, name in enumerate(names):
        (message,) = [text for text in messages if text.startswith(f"test_{number} ")]
        assert LEAKY[name][1] in message, f"{name} is not named in:\n{message}"


@pytest.mark.skipif(sys.platform != "linux", reason="the leaks are found through /proc")
def test_what_ends_by_itself_in_time_is_no_leak(pytester: pytest.Pytester) -> None:
    """A thread and a child that end shortly after the test, and what only a cycle of references holds, pass."""
    result = _run(
        pytester,
        [
            "def test_thread(): threading.Timer(0.02, _kept.append, [1]).start()",
            "def test_cycle():\n    class Holder: pass\n    h = Holder(); h.h = h; h.f = socket.socketpair()[0].dup()",
            "def test_unused_devices(): _kept.append(os.open('/dev/urandom', os.O_RDONLY))",
        ],
        patience_s=2.0,
    )
    assert result.parseoutcomes() == {"passed": 3}, result.stdout.str()


def _run(pytester: pytest.Pytester, tests: list[str], patience_s: float = 0.05) -> pytest.RunResult:
    pytester.makeconftest(f"{CONFTEST.read_text(encoding='utf-8')}\nleaks.PATIENCE_S = {patience_s}\n")
    pytester.makepyfile(PREAMBLE + "\n".join(tests))
    pytester.makeini(f"[pytest]\npythonpath = {CONFTEST.parent.parent}\n")
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", timeout=25)
