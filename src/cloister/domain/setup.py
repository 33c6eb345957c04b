"""What a domain is made with: `Setup`, `Watchdog`, and the times that its life may take.

Plain data. What becomes of it is in `start` (the set-up) and `vitals` (the watchdog).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Setup", "Watchdog"]

LONGEST_S = 1_000_000
"""11 days, in seconds. The system's `poll` waits no longer than 24."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How the inside of a domain is made. Everything that is not given is as in the creator."""

    python: str | os.PathLike[str] | None = None
    """The interpreter: the path of an executable, of 3.11 or later, of the same version or another. Nothing needs to be
    installed in its environment, and nothing of the host's becomes importable there but cloister. None: this one."""
    path: Sequence[str | os.PathLike[str]] = ()
    """Folders in which modules are searched first. Relative ones are resolved against the working directory of now."""
    env: Mapping[str, str] | None = None
    """All environment variables; None: those of the creator."""
    extra_env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that are added, or that replace those of the same name."""
    cwd: str | os.PathLike[str] | None = None
    """The working directory; None: that of the creator."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What the code in the domain finds as ``cloister.current_domain().config``; values that can be copied."""
    initializer: Callable[..., object] | str | None = None
    """Run once on the domain's main thread before it is ready: a callable, or ``"module:function"``. What it raises
    fails the start."""
    initargs: Sequence[Any] = ()
    """The arguments of the initializer; values that can be copied."""

    def __post_init__(self) -> None:
        """Raises TypeError and ValueError for what can't be the path or the environment of a process."""
        for option in ("path", "initargs"):
            if isinstance(getattr(self, option), str | bytes):
                raise TypeError(f"Setup.{option} is a list, not the text {getattr(self, option)!r}")
        for option in ("env", "extra_env"):
            for name, value in (getattr(self, option) or {}).items():
                if not isinstance(name, str) or not isinstance(value, str):
                    raise TypeError(f"Setup.{option}: names and values are texts, not {name!r}: {value!r}")
                if not name or "=" in name or "\0" in name + value:
                    raise ValueError(
                        f"Setup.{option}: {name!r}: a name is not empty and has no '=', and there is no NUL in either"
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog:
    """How the signs of life of a domain are judged, and what follows when they fail."""

    beat: float = 2.0
    """Seconds between two beats of the guest, 0.01 to `LONGEST_S`. No code of the module is needed for them."""
    misses: int = 3
    """Beats that may be missing before the domain is called unresponsive, from 1 up."""
    policy: Literal["tell", "interrupt", "kill"] = "tell"
    """What follows. ``tell``: the event alone. ``interrupt``: what runs on the main thread is interrupted as well, as
    by a time-out. ``kill``: the domain is killed, with the reason ``watchdog``."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.beat <= LONGEST_S:
            raise ValueError(f"beat is the seconds between two beats, 0.01 to {LONGEST_S:,}, not {self.beat!r}")
        if self.misses < 1:
            raise ValueError(f"misses is a number from 1 up, not {self.misses!r}")
        if self.policy not in ("tell", "interrupt", "kill"):
            raise ValueError(f"policy is 'tell', 'interrupt' or 'kill', not {self.policy!r}")
