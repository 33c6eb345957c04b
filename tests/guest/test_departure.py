"""The orderly end of a guest: nothing that was to be done or written is lost, though nothing is taken apart."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

import cloister
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from tests.domain.journal import MODULES
from tests.guests import TEMPLATES

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
