"""The levels, and what each one can't be asked for.

Asking a level for what it can't enforce is an error at creation, never a silent downgrade. What a level promises is in
`status`, how a guest comes to be at it in `cloister.levels`. Pure but for the question which Python this is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cloister.domain import events
from cloister.errors import LevelUnavailable
from cloister.levels import interpreter

if TYPE_CHECKING:
    from cloister.domain.options import Options
    from cloister.domain.setup import Setup

__all__ = ["LEVELS", "check", "check_event", "refuse"]

LEVELS: Final = ("thread", "interpreter", "process")
"""From the weakest wall to the strongest."""

_PROCESS_ALONE: Final = {
    "python": "an interpreter of its own choice",
    "requirements": "packages of its own",
    "venv": "packages of its own",
    "env": "environment variables of its own",
    "extra_env": "environment variables of its own",
    "cwd": "a working directory of its own",
    "temp": "a temporary folder of its own",
    "main_loop": "a main thread of its own",
}
"""Options of `Setup` that mean a process, with what they give."""
_OWN_MODULES: Final = {
    "path": "a search path of its own",
    "shadow_copy": "modules of its own",
    "resolve": "imports of its own",
}
"""Options of `Setup` that mean modules of one's own."""
_EVENTS: Final = {
    events.Output: ("output of its own", ("process",)),
    events.ResolveFailed: ("imports of its own", ("interpreter", "process")),
}
"""Events that not every level can tell: what they need, and the levels that have it."""


def check(level: str, options: Options) -> None:
    """Raise LevelUnavailable where there is no such level here, or it can't enforce one of the options."""
    if level not in LEVELS:
        known = ", ".join(map(repr, LEVELS))
        raise LevelUnavailable(f"there is no level {level!r} here; this version has {known}")
    if level == "process":
        return
    if level == "interpreter":
        interpreter.require()
    for option, gift in _PROCESS_ALONE.items():
        if _given(options.setup, option):
            refuse(level, f"Setup({option}=...)", gift, "process")
    if options.watchdog.policy == "kill":
        refuse(level, "Watchdog(policy='kill')", "a domain that can be killed", "process")
    if not options.echo:
        refuse(level, "echo=False", "output of its own", "process")
    for kind, _ in options.handlers:
        check_event(level, kind)
    if level == "thread":
        for option, gift in _OWN_MODULES.items():
            if _given(options.setup, option):
                refuse(level, f"Setup({option}=...)", gift, "interpreter' or 'process")


def check_event(level: str, kind: type[events.Event]) -> None:
    """Raise LevelUnavailable where this level tells no events of this very type."""
    gift, levels = _EVENTS.get(kind, ("", LEVELS))
    if level not in levels:
        refuse(level, f"a handler of {kind.__name__}", gift, "' or '".join(levels))


def refuse(level: str, option: str, gift: str, instead: str) -> None:
    """Raise LevelUnavailable: `option` asks for `gift`, which only the levels of `instead` give."""
    raise LevelUnavailable(
        f"{option} asks for {gift}, which the level {level!r} can't give; leave it out, or use level '{instead}'"
    )


def _given(setup: Setup, option: str) -> bool:
    value = getattr(setup, option)
    return value is not None and value is not False and (option == "env" or bool(value) or option == "cwd")
