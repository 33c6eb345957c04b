"""What a guest prints and logs reaches the host line by line, in bounds, and its tail is in the report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from cloister.domain import events, output
from cloister.domain.crew import Crew, Queue
from cloister.domain.domain import Domain
from cloister.domain.output import Output
from cloister.errors import DomainCrashed
from tests.domain.journal import Journal
from tests.patience import wait_until

Make = Callable[..., Domain]


def test_lines_are_shown_on_the_streams_of_the_host(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """What a guest prints appears line by line on `sys.stdout`, what native code writes to descriptor 2 on stderr."""
    domain = make(echo=True)
    domain.call("builtins:print", "from Python")
    domain.call("troubles:write", 2, b"from below\n")
    domain.unload()
    shown = capsys.readouterr()
    assert shown.out == "from Python\n"
    assert shown.err == "from below\n"


def test_echo_off_shows_nothing_and_keeps_the_event(
    make: Make, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `echo=False` nothing is shown; the event and the tail have the line."""
    domain = make(echo=False)
    domain.call("builtins:print", "quiet")
    domain.unload()
    assert capsys.readouterr().out == ""
    assert journal.lines() == ["quiet"]
    assert domain.report is not None
    assert domain.report.output == ("quiet",)


def test_lines_of_two_domains_are_never_mixed(make: Make) -> None:
    """Each domain has streams of its own: a line is told with the name of who wrote it, whole."""
    journals = [Journal(), Journal()]
    domains = [make(f"d{i}", on=journals[i].all) for i in range(2)]
    for _ in range(20):
        for index, domain in enumerate(domains):
            domain.call("troubles:write", 1, b"%d" % index * 100 + b"\n")
    for index, domain in enumerate(domains):
        domain.unload()
        assert journals[index].lines() == [str(index) * 100] * 20


def test_last_words_are_in_the_report_of_a_crash(make: Make) -> None:
    """The last lines before a crash are in the report, an unfinished one too."""
    domain = make()
    domain.call("troubles:write", 1, b"one\n")
    domain.call("troubles:write", 2, b"two\nthr")
    with pytest.raises(DomainCrashed) as caught:
        domain.call("troubles:exit_at_once", 1)
    assert caught.value.report is not None
    assert caught.value.report.output == ("one", "two", "thr")
    assert "    | two" in str(caught.value)


def test_flood_of_lines_ends_and_only_the_tail_is_kept(make: Make) -> None:
    """A guest that prints 20 MB delays nobody: calls are served meanwhile, and what is kept is bounded."""
    domain = make()
    thread = threading.Thread(target=domain.call, args=("troubles:write", 1, b"x" * 99 + b"\n", 200_000))
    thread.start()
    assert make("sibling", on={}).call("troubles:add", 1, 1) == 2
    thread.join(25)
    domain.unload()
    assert domain.report is not None
    assert len(domain.report.output) == output.TAIL_LINES


def test_line_without_end_is_cut_into_pieces(make: Make, journal: Journal) -> None:
    """A line of 100 KiB without an end arrives in pieces of 8 KiB, and nothing is lost."""
    domain = make()
    domain.call("troubles:write", 1, b"y" * 102_400)
    domain.unload()
    lines = journal.lines()
    assert "".join(lines) == "y" * 102_400
    assert {len(line) for line in lines[:-1]} == {output.MAX_LINE}


def test_binary_output_is_shown_escaped(make: Make, journal: Journal) -> None:
    """Bytes that are no UTF-8 are shown as escapes, and break nothing."""
    domain = make()
    domain.call("troubles:write", 1, b"\xff\xfe\x00\n")
    domain.unload()
    assert journal.lines() == ["\\xff\\xfe\x00"]


def test_log_records_arrive_with_level_name_and_exception(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A record of the guest goes to the logger of the same name here, with its level and the text of its exception."""
    caplog.set_level(logging.DEBUG)
    domain = make("thumbnails")
    domain.call("troubles:log", "acme.images", logging.WARNING, "low on paper")
    domain.call("troubles:log_an_error", "acme.disk")
    domain.unload()
    warning, error = (record for record in caplog.records if record.name.startswith("acme"))
    assert (warning.name, warning.levelno, warning.getMessage()) == ("acme.images", logging.WARNING, "low on paper")
    assert (warning.processName, warning.process) == ("thumbnails", domain.pid)
    assert (error.name, error.levelno) == ("acme.disk", logging.ERROR)
    assert error.exc_text is not None
    assert "KeyError: 'lost'" in error.exc_text


def test_log_level_of_the_host_holds_in_the_guest(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What the host would not log does not travel."""
    with caplog.at_level(logging.ERROR):
        domain = make()
        domain.call("troubles:log", "acme", logging.WARNING, "not this")
        domain.call("troubles:log", "acme", logging.ERROR, "but this")
        domain.unload()
    assert [record.getMessage() for record in caplog.records] == ["but this"]


def test_handler_that_raises_is_logged_and_hinders_nobody(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A handler of the user's that raises is logged; later events and calls go on."""
    seen: list[str] = []

    def handler(event: events.Output) -> None:
        seen.append(event.line)
        raise RuntimeError("in a handler")

    domain = make(on={events.Output: handler})
    domain.call("builtins:print", "a\nb")
    domain.unload()
    assert seen == ["a", "b"]
    assert caplog.text.count("RuntimeError: in a handler") == 2


def test_handler_that_hangs_delays_its_own_domain_only(make: Make) -> None:
    """A handler that does not return keeps neither its domain's calls nor another domain's events waiting."""
    free = threading.Event()
    domain = make(on={events.Ready: lambda _: free.wait(20)})
    other = Journal()
    try:
        assert domain.call("troubles:add", 1, 1) == 2
        make("other", on=other.all).call("builtins:print", "hello")
        wait_until(lambda: other.lines() == ["hello"])
        begin = time.monotonic()
        domain.unload()
        assert time.monotonic() - begin < 4
    finally:
        free.set()


class Receiver:
    """What `Output` needs of a life."""

    def __init__(self, max_jobs: int) -> None:
        self.name = "flooded"
        self.process = SimpleNamespace(pid=1)
        self.queue = Queue(Crew(1, "test-output"), max_jobs, 1 << 30)
        self.told: list[str] = []

    def tell(self, event: events.Output, _size: int) -> None:
        """Take an event."""
        self.told.append(event.line)


def test_lines_that_come_too_fast_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that can't be shown in time are left out of what is shown, and how many is said."""
    receiver: Any = Receiver(max_jobs=10)
    gate = threading.Event()
    receiver.queue.put(lambda: gate.wait(10))
    shown = Output(receiver, echo=True)
    for number in range(100):
        shown._line(0, b"%d" % number)
    gate.set()
    receiver.queue.wait_empty(10)
    shown._line(0, b"later")
    assert receiver.queue.wait_empty(10)
    text = capsys.readouterr().out
    assert "lines of domain 'flooded' not shown]" in text
    assert text.endswith("later\n")
    assert len(text.splitlines()) < 20


def test_guest_brings_a_bounded_number_of_loggers() -> None:
    """A guest that logs under ever new names makes a thousand loggers here at most; its records arrive all the same."""
    receiver: Any = Receiver(max_jobs=10_000)
    shown = Output(receiver, echo=False)
    before = len(logging.root.manager.loggerDict)
    for number in range(3 * output.MAX_LOGGERS // 2):
        shown.log([f"flood{number}", logging.DEBUG, "", 0.0, "", 1, "", "", None])
    assert receiver.queue.wait_empty(10)
    assert len(logging.root.manager.loggerDict) - before <= output.MAX_LOGGERS + 2


@pytest.mark.parametrize(
    "record",
    [[], ["x", "high", "", 0.0, "", 1, "", "", None], ["x", 10, "", "soon", "", 1, "", "", None]],
    ids=["empty", "level", "time"],
)
def test_malformed_log_record_is_refused(record: list[object]) -> None:
    """A record that is none raises what the listener turns into a bad message."""
    receiver: Any = Receiver(max_jobs=10)
    with pytest.raises((TypeError, ValueError)):
        Output(receiver, echo=False).log(record)
