"""Domains with preloaded modules: forked from a template that has imported them, and not to be told from others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.domain import end, events
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.errors import DomainCrashed, StartFailed
from cloister.levels import template
from cloister.report import Reason
from tests.domain.journal import MODULES, Journal, is_running
from tests.guests import TEMPLATES
from tests.patience import wait_until

Make = Callable[..., Domain]

pytestmark = pytest.mark.skipif(not TEMPLATES, reason="no templates here")


def warm(*preload: str, path: str | os.PathLike[str] = MODULES, **options: Any) -> Setup:
    """A set-up whose template is ready."""
    setup = Setup(path=[path], preload=list(preload), template=True, **options)
    assert cloister.warm_up(setup, 30)
    return setup


def parent(domain: Domain) -> int:
    """The process that has made a domain's."""
    number: int = domain.call("os:getppid")
    return number


def test_domains_that_are_alike_are_forked_from_one_process(make: Make) -> None:
    """Guests of one template have the same parent, which is not the host; their modules are imported by then."""
    setup = warm("colorsys")
    one, other = make("one", setup=setup), make("other", setup=setup)
    assert parent(one) == parent(other) != os.getpid()
    assert one.eval("'colorsys' in __import__('sys').modules")
    assert one.pid != other.pid
    assert one.call("os:getsid", 0) == one.call("os:getpgrp") == one.pid
    assert one.call("os:getcwd") == os.getcwd()
    assert one.eval("__import__('sys').argv") == [""]
    assert one.eval("__import__('os').path.realpath('/proc/self/fd/0')") == os.devnull


def test_first_domain_without_a_template_is_started_by_exec(make: Make) -> None:
    """No start waits for a template: the first domain is this process's own child, and works."""
    if os.environ.get("CLOISTER_TEMPLATE") == "first":
        pytest.skip("it waits, as it was told to")
    domain = make(setup=Setup(path=[MODULES], preload=["colorsys"]))
    assert parent(domain) == os.getpid()


@pytest.mark.parametrize("off", ["option", "variable"])
def test_template_can_be_switched_off(make: Make, monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    """With `Setup(template=False)` and with `CLOISTER_TEMPLATE=0` every domain is started by exec."""
    if off == "variable":
        monkeypatch.setenv("CLOISTER_TEMPLATE", "0")
    setup = Setup(path=[MODULES], preload=["colorsys"], template=False if off == "option" else None)
    assert not cloister.warm_up(setup)
    assert [parent(make(setup=setup)) for _ in range(3)] == [os.getpid()] * 3


def test_forked_guest_has_no_descriptor_of_its_siblings(make: Make) -> None:
    """A guest has 0 to 2, its control channel, lane, lifeline and page, and nothing of the template's or of others'."""
    setup = warm("colorsys", spares=2)
    count = "sorted(int(n) for n in __import__('os').listdir('/proc/self/fd'))"
    domains = [make(f"d{i}", setup=setup) for i in range(4)]
    alone = make("alone", setup=Setup(path=[MODULES], template=False))
    for domain in domains:  # a control thread that begins opens one in a moment
        wait_until(lambda domain=domain: len(domain.eval(count)) <= len(alone.eval(count)), 30)


@pytest.mark.parametrize(
    ("target", "args", "reason", "code", "number"),
    [
        ("troubles:segfault", (), Reason.SIGNAL, None, signal.SIGSEGV),
        ("troubles:exit_at_once", (3,), Reason.EXITED, 3, None),
        ("troubles:abort", (), Reason.SIGNAL, None, signal.SIGABRT),
    ],
)
def test_end_of_a_forked_guest_is_exact(
    make: Make, target: str, args: tuple[int, ...], reason: Reason, code: int | None, number: int | None
) -> None:
    """Signal, exit code, CPU time and memory of a guest that is another process's child are in its report."""
    domain = make(setup=warm("troubles"))
    child = domain.call("troubles:start_child")
    with pytest.raises(DomainCrashed) as caught:
        domain.call(target, *args)
    report = caught.value.report
    assert (report.reason, report.exit_code, report.signal) == (reason, code, number)
    assert report.cpu_seconds is not None
    assert report.peak_memory
    wait_until(lambda: not is_running(child))


@pytest.fixture
def stopped(make: Make) -> Iterator[tuple[Domain, int]]:
    """A domain whose template stands still, and the pid of that."""
    domain = make("forked", setup=warm("troubles", spares=0))
    mother = parent(domain)
    os.kill(mother, signal.SIGSTOP)
    try:
        yield domain, mother
    finally:
        os.kill(mother, signal.SIGCONT)


def test_template_that_stands_still_holds_up_no_other_end(
    make: Make, stopped: tuple[Domain, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S08: while nobody tells how one guest ended, the ends of others are told; its own is complete when it is."""
    domain, mother = stopped
    monkeypatch.setattr(end, "STATUS_S", 30)
    waiting = domain.submit("troubles:segfault")
    assert domain.pid is not None
    wait_until(lambda: domain._life.process.has_ended())
    with pytest.raises(DomainCrashed) as caught:
        make("other", setup=Setup(path=[MODULES], template=False)).call("troubles:exit_at_once", 4)
    assert caught.value.report.exit_code == 4
    assert not waiting.done()
    os.kill(mother, signal.SIGCONT)
    with pytest.raises(DomainCrashed) as caught:
        waiting.result(30)
    assert caught.value.report.signal == signal.SIGSEGV
    assert caught.value.report.cpu_seconds is not None


@pytest.mark.parametrize(("target", "code", "number"), [("exit_at_once", 3, None), ("segfault", None, signal.SIGSEGV)])
def test_end_is_exact_where_the_template_never_tells(
    stopped: tuple[Domain, int], monkeypatch: pytest.MonkeyPatch, target: str, code: int | None, number: int | None
) -> None:
    """S08: after a bounded time the kernel is asked how a guest ended whose parent does not say; no figures then."""
    domain, _ = stopped
    monkeypatch.setattr(end, "STATUS_S", 0.05)
    with pytest.raises(DomainCrashed) as caught:
        domain.call(f"troubles:{target}", *([] if code is None else [code]))
    report = caught.value.report
    assert (report.exit_code, report.signal, report.cpu_seconds) == (code, number, None)


def test_guests_outlive_their_template_which_is_replaced(make: Make) -> None:
    """A template that is killed takes no guest along; ends are known afterwards, and a new one takes over."""
    setup = warm("troubles")
    domain, other = make("one", setup=setup), make("other", setup=setup)
    first = parent(domain)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: parent(domain) != first)
    assert domain.call("troubles:add", 1, 1) == 2
    assert make("between", setup=setup).call("troubles:add", 1, 1) == 2
    assert cloister.warm_up(setup, 30)
    assert parent(make("later", setup=setup)) not in (first, os.getpid())
    with pytest.raises(DomainCrashed) as caught:
        domain.call("troubles:exit_at_once", 3)
    assert (caught.value.report.reason, caught.value.report.exit_code) in (
        (Reason.EXITED, 3),
        (Reason.UNKNOWN, None),
    )
    other.unload()


def test_module_that_leaves_a_thread_is_refused_by_name(make: Make, tmp_path: Path) -> None:
    """A preload that leaves a thread running fails the start, with and without a template, and is named."""
    (tmp_path / "lonely.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n"
    )
    setup = Setup(path=[tmp_path], preload=["colorsys", "lonely"])
    with pytest.raises(StartFailed, match=r"'lonely' of Setup\.preload left the thread 'poller'"):
        cloister.warm_up(setup, 30)
    with pytest.raises(StartFailed, match=r"'lonely' of Setup\.preload left the thread 'poller'"):
        make(setup=setup).wait_ready(10)
    alone = make(setup=Setup(path=[tmp_path], preload=["lonely"], template=False))
    assert alone.eval("'lonely' in __import__('sys').modules")


def test_nameless_thread_is_found_too(tmp_path: Path) -> None:
    """A thread that `threading` does not know is refused as well."""
    (tmp_path / "raw.py").write_text(
        "import _thread, time\nruns = []\n\ndef wait():\n    runs.append(1)\n    time.sleep(100)\n\n"
        "_thread.start_new_thread(wait, ())\nwhile not runs: time.sleep(0.001)\n"
    )
    with pytest.raises(StartFailed, match=r"'raw' .* a thread without a name"):
        cloister.warm_up(Setup(path=[tmp_path], preload=["raw"]), 30)


@pytest.mark.parametrize(
    "text",
    ["raise ValueError('no good')", "import os; os._exit(3)", "import os; os.abort()", "raise SystemExit"],
    ids=["raises", "exits", "crashes", "leaves"],
)
def test_module_that_fails_is_told_by_the_domain(make: Make, tmp_path: Path, text: str) -> None:
    """Whatever ends a template's import ends the domain's start in the words of a domain without one."""
    (tmp_path / "bad.py").write_text(text)
    setup = Setup(path=[tmp_path], preload=["bad"])
    with pytest.raises(StartFailed):
        cloister.warm_up(setup, 30)
    with pytest.raises(StartFailed) as caught:
        make(setup=setup).wait_ready(10)
    assert "template" not in str(caught.value)


def test_module_that_asks_for_its_domain_is_imported_by_each(make: Make, tmp_path: Path) -> None:
    """A module that reads its domain's configuration while it is imported gets the right one: it is not shared."""
    (tmp_path / "curious.py").write_text("import cloister\nNAME = cloister.current_domain().name\n")
    for name in ("one", "other", "third"):
        domain = make(name, setup=Setup(path=[tmp_path], preload=["curious"]))
        assert domain.eval("__import__('curious').NAME") == name


def test_each_guest_prints_what_its_preload_has_printed(make: Make, tmp_path: Path, journal: Journal) -> None:
    """The output of an import is that of each domain, as if it had made the import itself."""
    (tmp_path / "loud.py").write_text("import sys\nprint('hear')\nprint('hear too', file=sys.stderr)\n")
    setup = warm("loud", path=tmp_path)
    for name in ("one", "other"):
        make(name, setup=setup).wait_ready(10)
    wait_until(lambda: journal.lines() == ["hear"] * 2 and journal.lines("stderr") == ["hear too"] * 2)


def test_random_state_and_names_are_each_guests_own(make: Make) -> None:
    """No two guests of a template draw the same numbers, names, identities or keys."""
    pytest.importorskip("numpy")
    setup = warm("random", "numpy.random", "uuid", "tempfile", "secrets", "ssl", "multiprocessing", spares=2)
    source = (
        "[str(f()) for f in (__import__('random').random, __import__('numpy').random.rand, __import__('uuid').uuid1,"
        " __import__('uuid').uuid4, lambda: next(__import__('tempfile')._get_candidate_names()),"
        " lambda: __import__('ssl').RAND_bytes(8),"
        " lambda: __import__('multiprocessing').current_process().authkey.hex(),"
        " lambda: bytes(__import__('multiprocessing').current_process().authkey))]"
    )
    drawn = [make(f"d{i}", setup=setup).eval(source) for i in range(4)]
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == 4


def test_locks_and_handlers_of_a_preload_serve_in_each_guest(make: Make) -> None:
    """Locks, a signal handler, children and threads that a preloaded module uses work after the fork, in each alone."""
    setup = warm("inherited", spares=1)
    domains = [make(f"d{i}", setup=setup) for i in range(2)]
    for domain in domains:
        assert domain.call("inherited:signals") == 1
        assert domain.call("inherited:locked_by_a_thread")
        assert domain.call("inherited:child") == 3
    assert len({domain.call("inherited:token") for domain in domains}) == 2


def test_hash_seed_is_shared(make: Make) -> None:
    """What can't be otherwise: the seed of Python's hashes is that of the template."""
    setup = warm("colorsys")
    assert make("one", setup=setup).eval("hash('seed')") == make("other", setup=setup).eval("hash('seed')")


def test_native_pool_survives_the_fork(make: Make) -> None:
    """OpenBLAS's threads, used in the template, are there again in each guest: a product of matrices is right."""
    numpy = pytest.importorskip("numpy")
    (Path(os.environ["TMPDIR"]) / "pooled.py").write_text(
        "import numpy\nbefore = numpy.ones((400, 400)) @ numpy.ones((400, 400))\n"
    )
    setup = warm("pooled", path=os.environ["TMPDIR"])
    try:
        for name in ("one", "other"):
            product = make(name, setup=setup).eval(
                "(lambda n: n.ones((600, 600)) @ n.ones((600, 600)))(__import__('numpy'))"
            )
            assert numpy.array_equal(product, numpy.full((600, 600), 600.0))
    finally:
        (Path(os.environ["TMPDIR"]) / "pooled.py").unlink()


def test_spares_wait_and_are_replaced(make: Make) -> None:
    """With two spares two guests wait; one that was killed is not given out."""
    setup = warm("colorsys", spares=2)
    first = make("first", setup=setup)
    mother = parent(first)

    def waiting() -> set[int]:
        with open(f"/proc/{mother}/task/{mother}/children") as file:
            return {int(pid) for pid in file.read().split()} - {first.pid}

    wait_until(lambda: len(waiting()) == 2)
    spares = sorted(waiting())
    os.kill(spares[0], signal.SIGKILL)
    wait_until(lambda: len(waiting()) == 1)
    second = make("second", setup=setup)
    assert second.pid == spares[1]
    assert second.call("os:getppid") == mother


def test_no_spares_where_none_are_wanted(make: Make) -> None:
    """With `spares=0` a template has no guests but those that serve."""
    setup = warm("colorsys", spares=0)
    domains = [make(f"d{i}", setup=setup) for i in range(2)]
    mother = parent(domains[0])
    with open(f"/proc/{mother}/task/{mother}/children") as file:
        assert {int(pid) for pid in file.read().split()} == {domain.pid for domain in domains}


def test_environment_is_part_of_the_likeness(make: Make) -> None:
    """A domain with other variables is not forked from the same template; one with another temporary folder is."""
    setup = warm("colorsys")
    other = make("other", setup=Setup(path=[MODULES], preload=["colorsys"], extra_env={"COLOUR": "red"}))
    assert other.eval("__import__('os').environ['COLOUR']") == "red"
    alike = make("alike", setup=Setup(path=[MODULES], preload=["colorsys"], temp=True))
    own = make("own", setup=setup)
    assert parent(other) != parent(own) == parent(alike)
    assert alike.eval("__import__('tempfile').gettempdir()") != own.eval("__import__('tempfile').gettempdir()")


def test_umask_and_processors_are_those_of_the_host_now(make: Make) -> None:
    """What a host has changed since the template was made, its next guest has as well."""
    setup = warm("colorsys")
    before, cpus = os.umask(0o027), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cpus)})
        domain = make(setup=setup)
        assert domain.eval("__import__('os').umask(0)") == 0o027
        assert domain.eval("__import__('os').sched_getaffinity(0)") == {min(cpus)}
    finally:
        os.umask(before)
        os.sched_setaffinity(0, cpus)
    assert parent(domain) != os.getpid()


def test_handlers_of_loaded_modules_hear_of_preloads(make: Make) -> None:
    """Who wants to be told of each module that is loaded is told of the preloaded ones."""
    heard: list[str] = []
    warm("colorsys")
    setup = Setup(path=[MODULES], preload=["colorsys"])
    make(setup=setup, on={events.ModuleLoaded: lambda event: heard.append(event.module)}).wait_ready(10)
    wait_until(lambda: "colorsys" in heard)


HOST = f"""
import os, time, cloister
from cloister import Domain, Setup
setup = Setup(path=[{MODULES!r}], preload=["troubles"], spares=2)
cloister.warm_up(setup)
domain = Domain("orphan", setup=setup)
domain.wait_ready()
mother = domain.call("os:getppid")
assert mother != os.getpid()
child = domain.call("troubles:start_child")
"""


def all_gone(pids: list[int]) -> bool:
    """Whether none of them runs."""
    return not any(is_running(pid) for pid in pids)


def test_all_ends_with_a_killed_host() -> None:
    """S15: host killed: its template, its guests, their children and the spares are gone."""
    program = (
        HOST
        + """
children = f"/proc/{mother}/task/{mother}/children"
while len(open(children).read().split()) < 3: time.sleep(0.01)
print(mother, domain.pid, child, *open(children).read().split(), flush=True)
time.sleep(60)
"""
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pids = [int(pid) for pid in host.stdout.readline().split()]
        assert len(pids) >= 6
        host.kill()
    wait_until(lambda: all_gone(pids), 5)


@pytest.mark.parametrize(
    "last", ["", "domain.unload()", "os.kill(mother, 9)", "os.kill(mother, 19)", "cloister.Domain('x', setup=setup)"]
)
def test_nothing_is_left_at_exit(last: str) -> None:
    """A host that ends in order leaves nothing, whatever state its template is in, and does not hang."""
    program = HOST + "print(mother, domain.pid, child, flush=True)\n" + last
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    wait_until(lambda: all_gone(pids), 5)


def test_forked_child_of_the_host_makes_its_own() -> None:
    """A fork of the host has none of the parent's templates and spares, and may have its own; the parent's go on."""
    program = (
        HOST
        + """
pid = os.fork()
if pid == 0:
    mine = Domain("mine", setup=setup)
    assert mine.call("os:getppid") == os.getpid()
    mine.unload()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert Domain("more", setup=setup).call("os:getppid") == mother
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("value", [-1, 1.5, True, 100_000])
def test_bad_number_of_spares_is_refused(value: Any) -> None:
    """A number of spares that can't be is a ValueError at once."""
    with pytest.raises(ValueError, match=r"Setup\.spares"):
        Setup(spares=value)


def test_template_that_answers_no_more_is_given_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a template is stopped, a start waits for a bounded time and goes on without it."""
    from cloister.levels import template_linux, template_process_linux

    monkeypatch.setattr(template_process_linux, "FORK_S", 0.2)
    monkeypatch.setattr(template_linux, "CLOSE_S", 0.2)
    setup = warm("colorsys", spares=0)
    mother = parent(make("one", setup=setup))
    os.kill(mother, signal.SIGSTOP)
    try:
        assert parent(make("two", setup=setup)) == os.getpid()
    finally:
        os.kill(mother, signal.SIGCONT)
    template.close_all()
