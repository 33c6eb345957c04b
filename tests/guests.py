"""How the guests of the tests are started, and which of them coverage looks into.

Where a test is not about the start, its guests are forked from a template that stays for the whole run, which takes a
tenth of the time of a start by exec. It has no spares, so that every guest belongs to the test that wanted it. What
is about the start, or about whole programs, is named here, and there guests are started by exec, as they are for a
user who says nothing. Where ``CLOISTER_TEMPLATE`` is set, it decides for all tests.

Guests of a template are alike in their environment; pytest keeps the name of the test there, so it is hidden.

Coverage looks into the guests of a few areas, which run all of their code; it doubles the time of a start. In lanes,
contexts and objects it found one in twenty of the lines that were left, and doubled their time. Up to
Python 3.11 it could not be everywhere: an exception that is on its way to a thread stops every *traced* thread of its
process until it has arrived there (the interpreter looks for it at the start of each function, and starts the function
anew). So where a test cancels a call that sleeps, a traced guest would answer nobody until the sleep is over.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import cloister

__all__ = ["TEMPLATES", "begin_template", "by_exec", "end", "end_pool", "end_templates", "kind_of_start"]

TEMPLATES = sys.platform == "linux" and os.environ.get("CLOISTER_TEMPLATE") != "0"
"""Whether there are templates in this run, for tests that are about them."""

_FORKED = {
    *("aio", "conformance", "contexts", "domain", "environments", "executor", "guest", "inspection"),
    *("lanes", "levels", "objects"),
}
"""The areas whose guests are forked."""

_BY_EXEC = {
    *("test_creation.py", "test_host_death.py", "test_keyboard_interrupt.py", "test_limits_reached.py"),
    *("test_kills.py", "test_preload.py", "test_start.py", "test_stop.py", "test_template.py"),
}
"""Files of these areas whose guests are started by exec all the same: the start is what they are about."""

_TRACED = {"cli", "environments", "guest", "inspection", "integrations", "levels", "typing"}
"""The areas in which coverage looks into guests, and into programs that tests start."""

if sys.version_info >= (3, 12):
    _TRACED |= {"aio", "executor"}  # they cancel calls that sleep

_DECIDED = "CLOISTER_TEMPLATE" in os.environ
_WANTED = sys.platform == "linux" and not _DECIDED


def _area(path: Path) -> str:
    return path.parent.name


@pytest.fixture(scope="module", autouse=True)
def kind_of_start(request: pytest.FixtureRequest, ground_of_the_run: Path) -> Iterator[None]:
    """Say for the tests of one file how their guests begin."""
    area = _area(request.path)
    with pytest.MonkeyPatch.context() as patch:
        if area not in _TRACED:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        if _WANTED and area in _FORKED and request.path.name not in _BY_EXEC:
            from cloister.levels import template_process_linux

            patch.setenv("CLOISTER_TEMPLATE", "1")
            patch.setattr(template_process_linux, "MAX_SPARES", 0)
        yield
    end_templates()


@pytest.fixture
def by_exec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the guests of this test by exec, whatever was decided: a template, and its spares, have what it counts."""
    monkeypatch.setenv("CLOISTER_TEMPLATE", "0")


def end(domain: cloister.Domain) -> None:
    """End a domain at once; where coverage looks into it, in good order: what it saw it writes down at its end."""
    if _is_traced() and domain.report is None:
        status = domain.status()
        if status.state == "ready" and not (status.calls or status.running):
            domain._life.unload()
    domain.kill()


def end_pool(pool: cloister.DomainPoolExecutor) -> None:
    """As `end`, for the workers of a pool."""
    if _is_traced() and not pool._force.under_way():
        pool.shutdown(cancel_futures=True)
    pool.kill_workers()
    pool.shutdown()


def _is_traced() -> bool:
    return "COVERAGE_PROCESS_CONFIG" in os.environ


def begin_template() -> object:
    """Have the template of the run ready, where the tests of this file want it. Returns which one it is."""
    if not _WANTED or os.environ.get("CLOISTER_TEMPLATE") != "1":
        return None
    from cloister.domain.setup import Setup
    from cloister.domain.start import warm_up

    warm_up(Setup(), 30)
    return _templates()


def end_templates(kept: object = None) -> None:
    """End the templates, which stay for further domains on purpose, unless they are those that may stay."""
    template = sys.modules.get("cloister.levels.template")
    if template is not None and (kept is None or kept != _templates()):
        template.close_all()


def _templates() -> object:
    from cloister.levels import template_linux

    return [(one.pid, one.gone) for one in [*template_linux._templates.values(), *template_linux._leaving]]
