"""The options of a domain and of its calls: what is wrong is refused where it is given, in words."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import cloister
from cloister.domain import guest_threads
from cloister.domain.options import Options, program_args
from tests.patience import wait_until

JOIN_S = 20.0
Make = Callable[..., cloister.Domain]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_concurrency": "1"}, TypeError, "max_concurrency is a whole number"),
        ({"max_concurrency": 0}, ValueError, "from 1 up"),
        ({"start_timeout": "1"}, TypeError, "start_timeout is a number of seconds"),
        ({"stop_timeout": -1}, ValueError, "stop_timeout is a number of seconds from 0 up"),
        ({"stop_timeout": 1e9}, ValueError, "every stop is bounded"),
        ({"handlers": (("Exited", print),)}, TypeError, "a type of cloister.events"),
        ({"handlers": ((cloister.events.Exited, None),)}, TypeError, "can't be called"),
    ],
)
def test_wrong_option_is_an_error_that_says_which(options: dict[str, Any], error: type[Exception], text: str) -> None:
    """Each option of the wrong type or out of range is refused with its name and what it should be."""
    with pytest.raises(error, match=text):
        Options(**options)


def test_wrong_arguments_of_programs_and_handlers(make: Make) -> None:
    """Arguments of a program that are no list of texts, and handlers of what is no event, are refused here."""
    domain = make()
    for wrong in ("abc", b"abc", [3]):
        with pytest.raises(TypeError, match="the arguments of a program"):
            domain.run_module("programs", wrong)  # type: ignore[arg-type]  # that is the test
        with pytest.raises(TypeError, match="the arguments of a program"):
            cloister.current_domain().run_path("x.py", wrong)  # type: ignore[arg-type]  # that is the test
    assert program_args(("a", "b")) == ["a", "b"]
    with pytest.raises(TypeError, match="a type of cloister"):
        domain.on("exited", print)  # type: ignore[call-overload]  # that is the test
    with pytest.raises(TypeError, match="number of seconds"):
        domain.wait_ready("1")  # type: ignore[arg-type]  # that is the test


def test_thread_of_a_guest_is_told_that_there_is_no_lane(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the guest's own that wants to call a host without descriptors fails at once, and says why."""
    domain = make()
    domain.wait_ready(JOIN_S)

    def none_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(guest_threads, "lane_pair", none_left)
    outcomes: list[object] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(domain.call("callers:error_from_thread", lambda: None)), daemon=True
    )
    thread.start()
    wait_until(lambda: outcomes, JOIN_S)
    thread.join(JOIN_S)
    assert "no lane for this thread" in str(outcomes[0])
    assert "Too many open files" in str(outcomes[0])
    monkeypatch.undo()
    assert domain.call("callers:from_thread", lambda: 3)[0] == 3
