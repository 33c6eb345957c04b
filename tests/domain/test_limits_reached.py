"""What a domain takes of its host, and limits of the system that are reached: a clear error, and the rest goes on."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloister.domain import shortage
from cloister.domain.domain import Domain
from cloister.domain.shortage import DESCRIPTORS
from tests.patience import wait_until

Make = Callable[..., Domain]

NOBODY = """
import ctypes, resource, os, sys

RESOURCE, ADMIN = 24, 21  # root, and who has these, may have as many processes as the machine has
libc = ctypes.CDLL(None, use_errno=True)
for number in (RESOURCE, ADMIN):
    assert libc.prctl(24, number, 0, 0, 0) == 0
os.setresuid(60123, 0, 0)  # a user who has nothing else
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
for which in range(3):
    sets[which] &= ~(1 << RESOURCE | 1 << ADMIN)
assert libc.capset(header, sets) == 0
"""

FILL = """
living, refused = [], []
while len(refused) < 2:
    try:
        domain = cloister.Domain("one of many", echo=False)
        domain.wait_ready(60)
        living.append(domain)
    except cloister.StartFailed as error:
        refused.append(" ".join(str(error).split()))
print(*refused, sep="\\n")
"""

REPLACE = """
living.pop().unload()
with cloister.Domain("in its place", echo=False) as domain:
    print(domain.call("operator:add", 1, 1))
for domain in living:
    domain.unload()
"""

FEW_PROCESSES = f"""{NOBODY}
resource.setrlimit(resource.RLIMIT_NPROC, (10, 10))

import cloister
{FILL}
print(len(living), [domain.call("operator:add", 1, 1) for domain in living])
{REPLACE}"""

USED_UP = f"""
import os, resource, sys

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # it ends its process where it gets no thread
{{prepare}}

import cloister
import numpy as np
{FILL}
assert living, refused
numbers = np.arange(100_000, dtype="f8")  # through shared memory, or the pipe where that takes too many descriptors
print([float(domain.call("numpy:sum", numbers)) == numbers.sum() for domain in living] == [True] * len(living))
print((living[0].call("numpy:negative", numbers) == -numbers).all())
{REPLACE}"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts descriptors in /proc/self/fd")
@pytest.mark.usefixtures("by_exec")
def test_domain_takes_few_descriptors_and_no_thread(make: Make) -> None:
    """S34: ten domains that have answered a call take at most seven descriptors each, and no thread of this process."""

    def held() -> tuple[int, int]:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    make("first").call("operator:add", 1, 1)
    wait_until(lambda: threading.active_count() <= 2)  # this one and the watcher
    descriptors, threads = held()
    for number in range(10):
        assert make(f"number {number}").call("operator:add", number, 1) == number + 1
    wait_until(lambda: threading.active_count() <= 2)
    now, threads_now = held()
    assert now - descriptors <= 10 * DESCRIPTORS
    assert threads_now <= threads


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may become a user with no process")
@pytest.mark.usefixtures("by_exec")
def test_no_process_left_is_a_clear_error_and_the_others_go_on() -> None:
    """Where RLIMIT_NPROC is reached a start is StartFailed, with the numbers; others answer, an end makes room."""
    done = subprocess.run(
        [sys.executable, "-c", FEW_PROCESSES], check=True, capture_output=True, text=True, timeout=200
    )
    *refused, served, last = done.stdout.splitlines()
    count, _, answers = served.partition(" ")
    assert int(count) >= 2
    assert answers == str([2] * int(count))
    assert len(refused) == 2
    for words in refused:
        assert "Resource temporarily unavailable" in words or "can't start new thread" in words
        assert "RLIMIT_NPROC, ulimit -u: 10 for this user" in words
        assert "a thousand take 2,000" in words
    assert last == "2"


def test_advice_is_given_for_what_is_used_up_only() -> None:
    """Descriptors, processes and threads each have their numbers; another error has no advice."""
    assert "of this process" in shortage.advice(OSError(24, "Too many open files"), 3)
    assert "3 domains live" in shortage.advice(OSError(24, "Too many open files"), 3)
    assert "2,000" in shortage.advice(BlockingIOError(11, "Resource temporarily unavailable"), 3)
    assert "2,000" in shortage.advice(RuntimeError("can't start new thread"), 3)
    assert shortage.advice(FileNotFoundError(2, "No such file"), 3) == ""
    assert shortage.advice(RuntimeError("something else"), 3) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is locked")
def test_limit_of_locked_memory_is_named_where_memory_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that locks its memory gets no thread where that limit is reached, and the system says EAGAIN too."""
    import resource

    used_up = BlockingIOError(11, "Resource temporarily unavailable")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (8192 * 1024, 8192 * 1024))
    said = shortage._said
    assert "MEMLOCK" not in shortage.advice(used_up, 3)
    status = "Name:\tx\nVmLck:\t    8100 kB\nVmPin:\t       0 kB\n"
    monkeypatch.setattr(shortage, "_said", lambda path: status if path.endswith("/status") else said(path))
    words = "RLIMIT_MEMLOCK, ulimit -l: 8,192 KiB, of which this process has locked 8,100"
    assert words in shortage.advice(used_up, 3)
    assert words in shortage.advice(RuntimeError("can't start new thread"), 3)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "MEMLOCK" not in shortage.advice(used_up, 3)


def used_up(prepare: str) -> list[str]:
    """Start domains until something is used up; return why two were refused, after the others have served."""
    done = subprocess.run(
        [sys.executable, "-c", USED_UP.format(prepare=prepare)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *refused, sums, echo, last = done.stdout.splitlines()
    assert (sums, echo, last) == ("True", "True", "2")
    assert len(refused) == 2
    return refused


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux has")
@pytest.mark.usefixtures("by_exec")
def test_no_descriptor_left_is_a_clear_error_and_the_others_go_on() -> None:
    """S34: where RLIMIT_NOFILE is reached a start is StartFailed, with the limit; others answer, an end makes room."""
    for words in used_up("resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))"):
        assert "Too many open files" in words
        assert "raise the limit of 48 (ulimit -n" in words


@pytest.fixture
def groups() -> Iterator[Path]:
    """A control group, within one that allows it and what is in it six processes and threads more than now."""
    root = Path("/sys/fs/cgroup")
    root = root / "pids" if (root / "pids" / "cgroup.procs").exists() else root
    outer = root / f"cloister-test-{os.getpid()}"
    inner = outer / "inner"
    try:
        outer.mkdir()
        (outer / "pids.max").write_text("7")
        inner.mkdir()
    except OSError as error:
        with contextlib.suppress(OSError):
            outer.rmdir()
        pytest.skip(f"no control group for processes can be made here: {error}")
    yield inner
    wait_until(lambda: not (inner / "cgroup.procs").read_text())
    inner.rmdir()
    outer.rmdir()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has control groups")
@pytest.mark.usefixtures("by_exec")
def test_full_control_group_is_named_with_its_limit(groups: Path) -> None:
    """S34: the group that allows the fewest processes is named, also where it is one around that of this process."""
    for words in used_up(f"open('{groups}/cgroup.procs', 'w').write(str(os.getpid()))"):
        assert "Resource temporarily unavailable" in words or "can't start new thread" in words
        assert f"pids.max of a control group: 7, in {groups.parent}" in words


SMALL_PIPES = (
    NOBODY
    + """
soft = int(open("/proc/sys/fs/pipe-user-pages-soft").read())
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
pipes = [os.pipe() for _ in range(soft // 16 + 8)]
import fcntl
assert fcntl.fcntl(pipes[-1][0], fcntl.F_GETPIPE_SZ) <= 8192, "the quota is not used up"
"""
)
FULL_SHARED_MEMORY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None):
    sys.exit(77)
if libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=4k"):
    sys.exit(77)
try:
    with open("/dev/shm/full", "wb") as file:
        file.write(bytes(8192))
except OSError:
    pass
else:
    sys.exit("it is not full")
"""
FEW_ADDRESSES = """
import resource

def LATER():
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), -1))
"""
SERVES = """
import cloister
import numpy as np

with cloister.Domain("small", echo=False) as domain:
    numbers = np.arange(2_000_000, dtype="f8")
    domain.call("numpy:sum", numbers[:10])
    globals().get("LATER", int)()
    print(float(domain.call("numpy:sum", numbers)) == numbers.sum())
    print(domain.call("builtins:len", bytes(1_000_000)), len(domain.call("builtins:bytes", 300_000)))
    print(domain.call("operator:add", 1, 1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("prepare", [SMALL_PIPES, FULL_SHARED_MEMORY, FEW_ADDRESSES], ids=["pipes", "shm", "addresses"])
def test_results_are_right_where_the_system_is_short(prepare: str) -> None:
    """A user whose quota for pipes is used up, a full /dev/shm, and a host without addresses for a segment: all data
    arrives, and calls go on."""
    if prepare is not FEW_ADDRESSES and os.geteuid() != 0:
        pytest.skip("only root may become another user, or mount")
    done = subprocess.run(
        [sys.executable, "-c", prepare + SERVES], capture_output=True, text=True, timeout=100, check=False
    )
    if done.returncode == 77:
        pytest.skip("no namespace for mounts can be had here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True", "1000000 300000", "2"]


NO_ANONYMOUS_FILES = """
import ctypes, errno, platform, struct, sys

number = {"x86_64": 319, "aarch64": 279}.get(platform.machine())
if number is None:
    sys.exit(77)

def refuse():
    step = struct.Struct("HBBI").pack  # load the number of the call; where it is this one, an error, else allow it
    filter = step(0x20, 0, 0, 0) + step(0x15, 0, 1, number) + step(6, 0, 0, 0x50000 | errno.EPERM)
    program = ctypes.create_string_buffer(filter + step(6, 0, 0, 0x7FFF0000))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]

    libc = ctypes.CDLL(None)
    whole = Program(4, ctypes.addressof(program))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(whole), 0, 0):
        sys.exit(77)
"""
REFUSED_AT_ONCE = f"""
import cloister
{NO_ANONYMOUS_FILES}
refuse()
for template in (False, True):
    try:
        cloister.Domain("one", setup=cloister.Setup(template=template)).wait_ready(30)
    except cloister.StartFailed as error:
        print(error)
"""
REFUSED_LATER = f"{NO_ANONYMOUS_FILES}\nLATER = refuse\n{SERVES}"


@pytest.mark.skipif(sys.platform != "linux", reason="filters of Linux")
def test_anonymous_files_are_refused() -> None:
    """Where a policy refuses memfd_create a start fails with the reason and the way out; a domain that is there goes on
    through its pipe."""
    for program, check in ((REFUSED_AT_ONCE, None), (REFUSED_LATER, ["True", "1000000 300000", "2"])):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
        if done.returncode == 77:
            pytest.skip("no filter can be set here")
        assert done.returncode == 0, done.stderr
        if check is None:
            assert done.stdout.count("memfd_create is refused here: let the seccomp filter allow it") == 2
        else:
            assert done.stdout.splitlines() == check
