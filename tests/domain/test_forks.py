"""A host that forks: the domains of the parent are left alone by the child, which may have its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from cloister.domain.domain import Domain
from tests.domain.journal import MODULES

Make = Callable[..., Domain]

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_child(run: Callable[[], object]) -> str:
    """Fork, run something in the child, end the child without ceremony; return what it returned or raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = repr(run())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return said


@pytest.mark.parametrize("use", ["call", "create", "submit", "proxy", "wait_ready", "unload", "kill"])
def test_use_in_a_forked_child_raises_and_the_parent_goes_on(make: Make, use: str) -> None:
    """In a forked child every use of the parent's domain raises WrongProcess; in the parent it is as before."""
    domain = make("parents")
    counter = domain.create("collections:Counter", "hello")
    domain.submit("troubles:pid").result(10)
    uses: dict[str, Callable[[], object]] = {
        "call": lambda: domain.call("troubles:pid"),
        "create": lambda: domain.create("collections:Counter"),
        "submit": lambda: domain.submit("troubles:pid"),
        "proxy": lambda: counter["l"],
        "wait_ready": domain.wait_ready,
        "unload": domain.unload,
        "kill": domain.kill,
    }
    said = in_child(uses[use])
    assert said.startswith("WrongProcess: domain 'parents' belongs to the parent"), said
    assert counter["l"] == 2
    assert domain.submit("troubles:pid").result(10) == domain.pid


def test_forked_child_keeps_no_descriptor_of_the_parents_domains(make: Make) -> None:
    """A forked child has closed every pipe, socket and pidfd that leads to the parent's guests."""

    def kinds() -> list[str]:
        links = []
        for name in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{name}").partition(":")[0])
            except OSError:
                continue
        return sorted(links)

    before = kinds()
    domain = make()
    domain.call("troubles:pid")
    domain.submit("troubles:pid").result(10)
    said = in_child(lambda: [kind for kind in kinds() if kind in ("socket", "anon_inode", "pipe")])
    allowed = [kind for kind in before if kind in ("socket", "anon_inode", "pipe")] + ["pipe"]  # the child's own word
    assert len(eval(said)) <= len(allowed), (said, allowed)


def test_fork_while_other_threads_call_is_safe(make: Make) -> None:
    """A fork in the middle of the calls of other threads hangs neither the child nor the parent."""
    domain = make()
    domain.wait_ready(10)
    done = threading.Event()
    counts = [0, 0, 0]

    def call(index: int) -> None:
        while not done.is_set():
            domain.call("troubles:add", 1, 1)
            counts[index] += 1

    threads = [threading.Thread(target=call, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: domain.call("troubles:pid")).startswith("WrongProcess")
    finally:
        done.set()
        for thread in threads:
            thread.join(10)
    assert all(counts)


def test_forked_child_has_domains_of_its_own(make: Make) -> None:
    """A child of a host that has domains makes one of its own, and unloads it."""
    parents = make("parents")
    parents.call("troubles:pid")

    def work() -> object:
        with Domain("childs", echo=False) as domain:
            return domain.call("operator:add", 20, 22)

    assert in_child(work) == "42"
    assert parents.call("troubles:add", 1, 1) == 2


PRELOADING = f"""
import os, sys
from cloister import Domain, Setup, WrongProcess
shared = Domain("preloaded", setup=Setup(path=[{MODULES!r}]))
shared.call("troubles:print_at_exit")
children = []
for number in range(4):
    child = os.fork()
    if child == 0:
        try:
            shared.call("troubles:pid")
        except WrongProcess:
            pass
        else:
            os._exit(9)
        with Domain(f"worker{{number}}", setup=Setup(path=[{MODULES!r}])) as own:
            assert own.call("troubles:add", number, 1) == number + 1
        sys.exit(number)  # in good order, with all exit hooks
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert codes == [0, 1, 2, 3], codes
assert shared.call("troubles:add", 1, 1) == 2
print("served", flush=True)
"""


def test_preloading_server_with_four_workers() -> None:
    """As under gunicorn's preload: four forked workers end in good order, each with a domain of its own, and the
    parent's domain serves on, and runs its exit hooks once, at the parent's end."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELOADING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["served", "exit hook of preloaded"]


def test_leaving_a_with_block_in_a_forked_child_is_silent(make: Make) -> None:
    """Leaving a `with` block in a forked child does nothing to the parent's domain, and raises nothing."""
    domain = make()
    domain.call("troubles:pid")
    assert in_child(lambda: domain.__exit__(None, None, None)) == "None"
    assert domain.call("troubles:add", 1, 1) == 2
