"""The default domain: the process itself, which can be named and can't be unloaded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

import cloister
from cloister.errors import CannotUnload


def test_default_domain_is_named_in_a_fresh_program() -> None:
    """S32: at the start of a program its default domain's name and number, thread and logical thread are printed."""
    program = (
        "import cloister, os, threading; here = cloister.current_domain();"
        "print(here.name, here.id, here.is_default, threading.get_ident() > 0, cloister.logical_thread() >> 40)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    printed, _ = process.communicate(timeout=30)
    assert printed.split() == ["default", "0", "True", "True", str(process.pid)]
    assert process.returncode == 0


def test_default_domain_is_the_same_on_every_thread() -> None:
    """S32: every thread of the host is in the default domain, each with a logical thread of its own."""
    seen: list[tuple[str, int, int]] = []

    def look() -> None:
        here = cloister.current_domain()
        seen.append((here.name, here.id, cloister.logical_thread()))

    look()
    worker = threading.Thread(target=look)
    worker.start()
    worker.join(10)
    assert [entry[:2] for entry in seen] == [("default", 0)] * 2
    assert seen[0][2] != seen[1][2]


def test_default_domain_cannot_be_unloaded() -> None:
    """S33: unloading the default domain is CannotUnload, and the program goes on in it."""
    here = cloister.current_domain()
    with pytest.raises(CannotUnload, match="ends with the process"):
        here.unload()
    assert here.call("os:getpid") == os.getpid()


def test_default_domain_ends_with_the_process() -> None:
    """S33: the end of the process is the end of the default domain, with the exit code that the program gave."""
    program = "import cloister, sys; code = cloister.current_domain().call(int, '7'); sys.exit(code)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 7


def test_guest_is_in_its_own_domain() -> None:
    """S33: in a guest the current domain is its own, with its name and its number among those of its host."""
    with cloister.Domain("inside") as domain:
        domain.exec("import cloister; here = cloister.current_domain()")
        assert domain.eval("(here.name, here.id, here.is_default)") == ("inside", domain.id, False)


def test_domains_are_listed_while_they_live() -> None:
    """`domains()` has each domain of this process, in the order of their making, until it has ended, and no view."""
    before = cloister.domains()
    with cloister.Domain("one") as one, cloister.Domain("two") as two:
        one.with_options(timeout=1)
        assert [domain for domain in cloister.domains() if domain not in before] == [one, two]
        assert one.eval("__import__('cloister').domains()") == []
        two.unload()
        assert [domain for domain in cloister.domains() if domain not in before] == [one]
    assert cloister.domains() == before
