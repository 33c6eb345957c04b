"""Templates as the kernel sees them: what makes domains alike, how many there are, and how they end."""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

import pytest

from cloister.domain import start
from cloister.domain.setup import Setup, Watchdog
from cloister.levels import template
from tests.domain.journal import is_running, wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.environ.get("CLOISTER_TEMPLATE") == "0", reason="no templates here"
)


if sys.platform == "linux":
    from cloister.levels import template_linux


def like(**options: Any) -> template.Likeness:
    """What a domain of this set-up has in common with others."""
    setup = Setup(template=True, **options)
    begin = start.plan("subject", setup)
    message = start.setup_message("subject", 1, setup, Watchdog(), begin)
    assert begin.template is not None
    found = template.likeness(begin.template, begin.environment, message, setup.preload)
    assert found is not None
    return found


def test_what_makes_domains_alike() -> None:
    """The same set-up is alike; variables and preloads make a difference, a temporary folder makes none."""
    assert like().key == like().key == like(extra_env={"TMPDIR": "/elsewhere"}).key
    kinds: list[dict[str, Any]] = [
        {},
        {"extra_env": {"A": "1"}},
        {"preload": ["json"]},
        {"preload": ["json"], "path": ["/tmp"]},
    ]
    assert len({like(**kind).key for kind in kinds}) == len(kinds)
    assert like(path=["/tmp"]).key == like().key  # nothing is imported, so each finds its own


def test_limits_of_this_process_make_a_difference() -> None:
    """A host with other resource limits than its template's does not fork from it."""
    before = like().key
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0 if soft else min(1, hard) if hard >= 0 else 1, hard))
    try:
        assert like().key != before
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def children() -> set[int]:
    """The processes that this one has made."""
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}


def test_there_are_only_so_many_templates() -> None:
    """The template that was not used for the longest time ends when there are too many; `close_all` ends all."""
    before = children()
    for number in range(5):
        assert template.ready(like(extra_env={"NUMBER": str(number)}), 30) == ""
    made = children() - before
    wait_until(lambda: sum(is_running(pid) for pid in made) == 4)
    template.close_all()
    assert not any(is_running(pid) for pid in made)


def test_program_that_is_no_template_is_given_up(tmp_path: Any) -> None:
    """A program that does not answer is killed when the time is up, and so said."""
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    before = children()
    assert template.ready(like(python=program), 0.1) == "the time was up"
    template.close_all()
    assert children() <= before


def test_template_that_nobody_needs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template without guests ends by itself when nobody has asked for its time; the next start makes another."""
    monkeypatch.setattr(template_linux, "IDLE_S", 0.0)
    before = children()
    assert template.ready(like(preload=["colorsys"]), 30) == ""
    made = children() - before
    assert made
    wait_until(lambda: not any(is_running(pid) for pid in made))
    monkeypatch.undo()
    assert template.fork(like(preload=["colorsys"]), 0) is None
    assert template.ready(like(preload=["colorsys"]), 30) == ""
    assert children() - before - made
    template.close_all()
