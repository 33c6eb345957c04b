"""The orderly end of a guest: nothing that was to be done or written is lost, though nothing is taken apart."""

from __future__ import annotations

import gzip
import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import cloister
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.levels.process_posix import Process
from tests.domain.journal import MODULES
from tests.guests import TEMPLATES
from tests.patience import wait_until

Make = Callable[..., Domain]

pytestmark = pytest.mark.parametrize("template", [False, True], ids=["exec", "fork"])


@pytest.fixture
def domain(make: Make, template: bool) -> Domain:
    """A domain that was started by exec, or forked with the module imported."""
    if template and not TEMPLATES:
        pytest.skip("no templates here")
    setup = Setup(path=[MODULES], preload=["leaving"] if template else [], template=template)
    assert cloister.warm_up(setup, 30) or not template
    return make(setup=setup)


def test_files_left_open_are_written_out(domain: Domain, tmp_path: Path) -> None:
    """What is in the buffer of a file that nobody has closed is on the disk after the unload, compressed or not."""
    plain, packed = tmp_path / "plain.txt", tmp_path / "packed.gz"
    domain.call("leaving:keep_open", str(plain), "text")
    domain.call("leaving:keep_open_compressed", str(packed), "text")
    domain.unload()
    assert plain.read_text() == "text"
    assert gzip.decompress(packed.read_bytes()) == b"text"


def test_threads_end_before_exit_hooks_run(domain: Domain, tmp_path: Path) -> None:
    """Threads that are no daemons are waited for; then exit hooks run, the last one first."""
    trace = tmp_path / "trace"
    for word in ("last", "first "):
        domain.call("leaving:trace_at_exit", str(trace), word)
    domain.call("leaving:trace_later", str(trace), "thread ", 0.05)
    domain.unload()
    assert trace.read_text() == "thread first last"


def test_what_was_printed_without_an_end_of_line_is_heard(domain: Domain) -> None:
    """The last words of a guest's output arrive, though no line ends them."""
    domain.exec("import sys; sys.stdout.write('half a line')")
    heard: list[str] = []
    domain.on(cloister.events.Output, lambda event: heard.append(event.line))
    domain.unload()
    assert heard == ["half a line"]


def test_one_object_that_has_gone_keeps_no_file_from_being_written(domain: Domain, tmp_path: Path) -> None:
    """Files are found among all objects, also where one of those raises when it is asked what it is."""
    plain = tmp_path / "plain.txt"
    domain.call("leaving:keep_open", str(plain), "text")
    domain.exec("import sys, weakref; gone = type('Gone', (), {})(); proxy = weakref.proxy(gone); del gone")
    domain.exec("sys.stdout = type('Rubbish', (), {})()")  # and what took the place of a stream is none
    domain.unload()
    assert plain.read_text() == "text"


@pytest.mark.parametrize(
    "code",
    [
        "import weakref\nclass It: pass\nit = It()\nweakref.finalize(it, done)",
        "import threading\nthreading._register_atexit(done)",
        "import io\nclass Last(io.RawIOBase):\n writable = lambda self: True\n write = lambda self, data: done() or 1\n"
        "file = io.BufferedWriter(Last())\nfile.write(b'x')",
        "import logging\nclass Last(logging.Handler):\n flush = lambda self: done()\nhandler = Last()",
        "import io, sys\nclass Last(io.StringIO):\n def flush(self):\n  done()\nsys.stdout = Last()",
    ],
    ids=["finalizer", "hook of threads", "file", "handler of logging", "stdout"],
)
def test_an_end_that_something_waits_for_is_not_hurried(domain: Domain, tmp_path: Path, code: str) -> None:
    """Whatever Python would do at its end is done: finalizers, hooks of threads, files, handlers, one's own stdout.

    Each of these alone keeps a forked guest from ending on the spot.
    """
    trace = tmp_path / "trace"
    domain.exec(f"def done(path={str(trace)!r}):\n import os\n os.close(os.open(path, os.O_CREAT | os.O_WRONLY))")
    domain.exec(code)
    domain.unload()
    assert trace.exists()


@pytest.mark.parametrize(
    "code",
    [
        "class Meta(type):\n __hash__ = None\nclass It(metaclass=Meta): pass\nit = It()",
        "from cloister.guest import departure\ndef fail():\n raise MemoryError\ndeparture.gc.get_objects = fail",
        "from cloister.guest import departure\ndef fail():\n raise MemoryError\ndeparture._is_nothing_left = fail",
    ],
    ids=["class without a hash", "no memory for the objects", "no memory to look"],
)
def test_what_can_not_be_looked_at_does_not_keep_a_guest_from_its_end(domain: Domain, code: str) -> None:
    """The look whether anything is left ends in an orderly stop, whatever it meets: nothing is killed."""
    domain.exec(code)
    domain.unload()
    assert domain.report is not None
    assert domain.report.reason is cloister.Reason.UNLOADED


@pytest.mark.parametrize("where", ["before", "in place of that of logging"])
def test_exit_hooks_from_before_the_imports_run(make: Make, template: bool, tmp_path: Path, where: str) -> None:
    """An exit hook that the start of Python itself has registered (`sitecustomize`, a `.pth` file) runs in a guest, and
    so does one that stands where the one of `logging` was."""
    if template and not TEMPLATES:
        pytest.skip("no templates here")
    trace, early = tmp_path / "trace", where == "before"
    hook = f"import atexit\ndef done():\n open({str(trace)!r}, 'w').close()\natexit.register(done)"
    (tmp_path / "sitecustomize.py").write_text(hook if early else "")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    setup = Setup(path=[MODULES], extra_env={"PYTHONPATH": path}, template=template)
    assert cloister.warm_up(setup, 30) or not template
    domain = make(setup=setup)
    domain.wait_ready()
    if not early:
        domain.exec("import atexit, logging\natexit.unregister(logging.shutdown)")
        domain.exec(hook)
    domain.unload()
    assert trace.exists()


def test_an_end_that_nothing_waits_for_is_not_held_up(domain: Domain, template: bool, tmp_path: Path) -> None:
    """A forked guest with nothing to do ends without the steps of an orderly end; one that was started by exec takes
    them, because of the hooks of its libraries."""
    trace = tmp_path / "trace"
    domain.exec(
        "from cloister.guest import departure\n"
        f"def step(before=departure._close_files, path={str(trace)!r}):\n open(path, 'w').close()\n before()\n"
        "departure._close_files = step"
    )
    domain.call("math:sqrt", 4)
    domain.unload()
    # Coverage, where it looks into guests, has an exit hook there.
    assert trace.exists() is (not template or "COVERAGE_PROCESS_CONFIG" in os.environ)


def test_children_are_looked_for_where_that_takes_long(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel keeps no lists of children, the thread that watches all domains does not look for them."""
    threads: list[str] = []
    look = Process.remember_descendants

    def note(process: Process) -> None:
        threads.append(threading.current_thread().name)
        look(process)

    monkeypatch.setattr("cloister.domain.end.looks_fast", lambda: False)
    monkeypatch.setattr(Process, "remember_descendants", note)
    domain.exec("import subprocess\nchild = subprocess.Popen(['sleep', '100'])")
    domain.unload()
    assert domain.report is not None
    assert domain.report.reason is cloister.Reason.UNLOADED
    assert threads
    assert "cloister-watcher" not in threads


def test_children_of_a_guest_that_has_no_time_to_tell_end_with_it(domain: Domain) -> None:
    """The same where the guest ends in the moment in which it is told to stop: it has told with a beat."""
    child = domain.eval("__import__('subprocess').Popen(['sleep', '100'], start_new_session=True).pid")
    pidfd = os.pidfd_open(child) if sys.platform == "linux" else -1
    if sys.platform == "linux":
        wait_until(lambda: domain._life._end._has_children)
        domain.exec("import os\nfrom cloister.guest import departure\ndeparture.has_children = lambda: os._exit(3)")
        domain.unload()
        try:
            assert select.select([pidfd], [], [], 30)[0]
        finally:
            os.close(pidfd)


def test_children_in_sessions_of_their_own_end_with_an_unload(domain: Domain) -> None:
    """A process that the guest's code has started ends with the domain, also where it has left its group."""
    child = domain.eval("__import__('subprocess').Popen(['sleep', '100'], start_new_session=True).pid")
    pidfd = os.pidfd_open(child) if sys.platform == "linux" else -1
    domain.unload()
    if sys.platform == "linux":
        try:
            assert select.select([pidfd], [], [], 30)[0]
        finally:
            os.close(pidfd)
