"""What a domain is made with: `Setup`, `Watchdog`, and the times that its life may take.

Plain data. What becomes of it is in `start` (the set-up) and `vitals` (the watchdog).

A domain inherits from its creator what is not given: the interpreter with what is installed in it, `sys.path`, the
environment variables, the working directory, the configuration and its base. In a host the creator is the program; in
a guest it is the guest's own domain. Preloads, initializer, entry point and temporary folder belong to one domain and
are not inherited; a temporary folder is, in that the variables are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cloister.domain.entry import way_to_run
from cloister.domain.sizes import bytes_of
from cloister.environments.spec import checked

__all__ = ["Setup", "Watchdog"]

MAX_SPARES = 256
LONGEST_S = 1_000_000
"""11 days, in seconds. The system's `poll` waits no longer than 24."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How the inside of a domain is made. Everything that is not given is as in the creator."""

    python: str | os.PathLike[str] | None = None
    """The interpreter: the path of an executable, of 3.11 or later, of the same version or another; or a version such
    as ``"3.12"``, which is looked for on this machine. Nothing needs to be installed in its environment, and nothing of
    the host's becomes importable there but cloister. None: this one."""
    requirements: Sequence[str] | None = None
    """What is installed in an environment of its own, such as ``["numpy<2"]``: requirements as pip knows them, and
    paths of wheels and projects. It is made once with uv, kept in the user's cache, and shared by all domains that ask
    for the same. Nothing of the host's becomes importable there but cloister. The time for making it does not count as
    start time. None: no environment is made."""
    venv: str | os.PathLike[str] | None = None
    """The folder of a virtual environment that is there: its interpreter is used as `python` would be."""
    path: Sequence[str | os.PathLike[str]] = ()
    """Folders in which modules are searched first. Relative ones are resolved against the working directory of now."""
    env: Mapping[str, str] | None = None
    """All environment variables; None: those of the creator."""
    extra_env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that are added, or that replace those of the same name."""
    cwd: str | os.PathLike[str] | None = None
    """The working directory; None: that of the creator."""
    shadow_copy: bool = False
    """Whether the folders of `path` are copied for the domain when it starts, so that the originals can be replaced
    while it runs. `Domain.changed` tells what was, `Domain.reload` takes it."""
    temp: bool = False
    """Whether it has a temporary folder of its own, which is removed when it ends, however it ends: `tempfile` uses it,
    and what asks for ``TMPDIR``. Pipes whose names lie in the temporary folder are then its own too."""
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None
    """What the code in the domain finds as ``cloister.current_domain().config``; values that can be copied. Or a file
    that holds it: ``.toml``, ``.json`` or ``.ini``; a relative path is resolved against the application base. None: the
    configuration of the creator, which is empty in a host."""
    base: str | os.PathLike[str] | None = None
    """The application base. None: that of the creator; in a host the folder of the program, that is of ``__main__``,
    and without one (a prompt, a notebook) the working directory."""
    preload: Sequence[str] = ()
    """Modules that are imported before the initializer runs; one that fails to import fails the start. On Linux they
    are imported once for all domains that are alike, by a template of which these are forked; see `template`."""
    template: bool | None = None
    """Whether the domain may be forked from a template, which takes a millisecond instead of a program's start. None:
    where it preloads modules. It is so for the environment variable ``CLOISTER_TEMPLATE=1`` too, and for ``0`` never.
    A preload that leaves threads of Python's running fails the start of a domain that may be forked."""
    spares: int | None = None
    """How many forked guests a template keeps waiting for further domains like this, 0 to `MAX_SPARES`. None: as many
    as their use suggests, up to 4."""
    shared_memory: int | str = "1GiB"
    """How much shared memory this program makes for large buffers that go to and from the domain, in bytes or as
    ``"256MiB"``. What finds no room goes through the pipe; see `Status.large_by_pipe`. 0: all of it does. Arrays that
    this program makes with `cloister.arrays` do not count."""
    resolve: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """What is asked here when code in the domain finds no ``"module"``, ``"type"`` or ``"resource"``: a handler for
    each of these kinds; see `Domain.on_resolve`."""
    resolve_timeout: float = 10.0
    """Seconds that one handler may take to answer."""
    initializer: Callable[..., object] | str | None = None
    """Run once on the domain's main thread before it is ready: a callable, or ``"module:function"``. What it raises
    fails the start."""
    initargs: Sequence[Any] = ()
    """The arguments of the initializer; values that can be copied."""
    entry_point: str | os.PathLike[str] | None = None
    """The program that `Domain.run` runs: a module's name, as for ``python -m``; ``"module:function"``, as the script
    of an installed program, whose result is the exit code; the path of a file; or ``"path/to/file.py:function"``. A
    relative path is one against the application base. None: none."""
    main_loop: str | None = None
    """The message loop that the domain's main thread runs and that serves its calls: ``"asyncio"``, ``"qt"`` (PySide6
    or PyQt6), or ``"module:function"``, a function that gets a `cloister.MainLoop` and returns when that is stopping.
    It is made before the initializer runs. None: no loop, the main thread waits for calls."""

    def __post_init__(self) -> None:
        """Raises TypeError and ValueError for what can't be the path or the environment of a process."""
        for option in ("path", "initargs", "preload"):
            if isinstance(getattr(self, option), str | bytes):
                raise TypeError(f"Setup.{option} is a list, not the text {getattr(self, option)!r}")
        for name in list[Any](self.preload):
            if not isinstance(name, str) or not name or name.startswith("."):
                raise TypeError(f"Setup.preload: {name!r} is not the full name of a module")
        if self.spares is not None and not (type(self.spares) is int and 0 <= self.spares <= MAX_SPARES):
            raise ValueError(f"Setup.spares is a number from 0 to {MAX_SPARES}, not {self.spares!r}")
        bytes_of(self.shared_memory, "Setup.shared_memory")
        entry: Any = self.entry_point
        if entry is not None and not (isinstance(entry, str | os.PathLike) and entry):
            raise TypeError(f"Setup.entry_point is a module, 'module:function' or a path, not {entry!r}")
        if entry is not None:
            way_to_run(entry)
        for kind, handler in dict[str, Any](self.resolve).items():
            if kind not in ("module", "type", "resource"):
                raise ValueError(f"Setup.resolve: {kind!r} is none of 'module', 'type', 'resource'")
            if not callable(handler):
                raise TypeError(f"Setup.resolve: the handler of {kind!r} is called with a Lookup; not so {handler!r}")
        if not 0 <= self.resolve_timeout <= LONGEST_S:
            raise ValueError(f"Setup.resolve_timeout is seconds, 0 to {LONGEST_S:,}, not {self.resolve_timeout!r}")
        if self.requirements is not None:
            checked(self.requirements)
        if self.venv is not None and (self.python is not None or self.requirements is not None):
            raise ValueError("Setup.venv brings its own interpreter and packages: leave python and requirements out")
        if self.config is not None and not isinstance(self.config, str | os.PathLike | Mapping):
            raise TypeError(f"Setup.config is a mapping, or the path of a file, not a {type(self.config).__name__}")
        loop: Any = self.main_loop
        if loop is not None and not (isinstance(loop, str) and (loop in ("asyncio", "qt") or ":" in loop[1:-1])):
            raise ValueError(f"Setup.main_loop is 'asyncio', 'qt' or 'module:function', not {loop!r}")
        for option in ("env", "extra_env"):
            for name, value in (getattr(self, option) or {}).items():
                if not isinstance(name, str) or not isinstance(value, str):
                    raise TypeError(f"Setup.{option}: names and values are texts, not {name!r}: {value!r}")
                if not name or "=" in name or "\0" in name + value:
                    raise ValueError(
                        f"Setup.{option}: {name!r}: a name is not empty and has no '=', and there is no NUL in either"
                    )

    @property
    def foreign(self) -> bool:
        """Whether the guest runs in another environment than the creator, perhaps on another version of Python."""
        return self.python is not None or self.venv is not None or self.requirements is not None


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
