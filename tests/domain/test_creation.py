"""The hooks that see, adjust and refuse the creation of domains."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

import cloister
from cloister.errors import StartFailed


def test_a_hook_sees_every_domain_on_the_thread_that_makes_it() -> None:
    """O14: a hook is shown each domain before it is started: name, level, options; once removed, none."""
    seen: list[tuple[str, str, Any, int]] = []

    @cloister.creation_hook
    def look(creation: cloister.Creation) -> None:
        seen.append((creation.name, creation.level, creation.setup.cwd, threading.get_ident()))

    try:
        with cloister.Domain("first", setup=cloister.Setup(cwd="/")) as first:
            assert first.name == "first"
    finally:
        look.remove()
        look.remove()
    with cloister.Domain("second"):
        pass
    assert seen == [("first", "process", "/", threading.get_ident())]
    assert "look" in repr(look)


def test_a_hook_adjusts_what_is_made() -> None:
    """O14: what a hook returns is what is made; each hook sees what the one before it made of it."""

    def rename(creation: cloister.Creation) -> cloister.Creation:
        return creation.replace(name=f"team/{creation.name}")

    def configure(creation: cloister.Creation) -> cloister.Creation:
        setup = dataclasses.replace(creation.setup, config={"seen as": creation.name})
        return creation.replace(setup=setup, max_concurrency=1)

    with cloister.creation_hook(rename), cloister.creation_hook(configure), cloister.Domain("billing") as domain:
        assert domain.name == "team/billing"
        assert domain.eval("dict(__import__('cloister').current_domain().config)") == {"seen as": "team/billing"}
        assert domain.eval("__import__('threading').current_thread().name") == "MainThread"


def test_a_hook_that_raises_refuses_the_domain() -> None:
    """O14: what a hook raises refuses the domain: StartFailed names the domain, the hook and the reason."""
    reason = PermissionError("no domains after six")

    def curfew(creation: cloister.Creation) -> None:
        raise reason

    with (
        cloister.creation_hook(curfew),
        pytest.raises(
            StartFailed, match=r"'late' may not be made: .*curfew.* PermissionError: no domains after"
        ) as raised,
    ):
        cloister.Domain("late")
    assert raised.value.__cause__ is reason
    with cloister.Domain("later") as later:
        assert later.call("operator:add", 1, 2) == 3


def test_a_bad_answer_of_a_hook_is_told() -> None:
    """O14: a hook that returns something else, or a bad, unknown or unchangeable option, is an error."""
    for answer, error, words in (
        (lambda creation: 3, TypeError, "returned 3"),
        (lambda creation: creation.replace(max_concurrency=0), ValueError, "max_concurrency"),
        (lambda creation: creation.replace(level="thread"), StartFailed, "can't change the level"),
        (lambda creation: creation.replace(nothing=1), StartFailed, "nothing"),
    ):
        hook: Any = answer
        with cloister.creation_hook(hook), pytest.raises(error, match=words):
            cloister.Domain("subject")
    with pytest.raises(TypeError, match="takes the Creation"):
        cloister.creation_hook(3)  # type: ignore[arg-type]  # that is the point


def test_a_hook_may_make_a_domain_itself() -> None:
    """O14: a domain that a hook makes is not shown to that hook, but to the others."""
    seen: list[str] = []

    def scan(creation: cloister.Creation) -> None:
        seen.append(creation.name)
        with cloister.Domain("scanner") as scanner:
            assert scanner.call("operator:add", 1, 1) == 2

    def look(creation: cloister.Creation) -> None:
        seen.append(f"{creation.name} seen")

    with cloister.creation_hook(scan), cloister.creation_hook(look), cloister.Domain("scanned"):
        pass
    assert seen == ["scanned", "scanner seen", "scanned seen"]
