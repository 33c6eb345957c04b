"""How a guest is started from a `Setup`: its command, its environment, its pipes, its set-up message.

Where a virtual environment is asked for that is not there yet, the process begins as `cloister.guest.builder`, which
makes it and then becomes the guest.

How a process comes to be is in `cloister.levels`, what becomes of it in `life`. What the user got wrong is a
StartFailed that says so. Any thread may enter.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import cloister
from cloister.domain import configuration
from cloister.domain.setup import Setup, Watchdog
from cloister.environments import store
from cloister.environments.build import find_uv
from cloister.environments.pythons import find_python, is_version
from cloister.environments.spec import spec_of
from cloister.errors import EnvironmentFailed, LevelUnavailable, StartFailed
from cloister.levels import interpreter, lifeline, process, template, thread
from cloister.levels.inside import Inside
from cloister.levels.process import Process
from cloister.objects import targets
from cloister.pipes.duplex import LaneEnd, close_quietly, control_pair, lane_pair
from cloister.pipes.page import Page
from cloister.wire.packing import PRIVATE_NAME, msgpack_directory

__all__ = ["Plan", "begin_inside", "initializer_message", "plan", "setup_message", "spawn_guest", "warm_up"]

_BOOT = """\
import sys
sys.path[:] = [entry for entry in sys.path if entry]
if sys.version_info < (3, 11):
    sys.exit("cloister needs Python 3.11 or later in a domain; this is " + sys.version.split()[0])
from importlib.util import module_from_spec, spec_from_file_location
def load(name, folder):
    spec = spec_from_file_location(name, folder + "/__init__.py", submodule_search_locations=[folder])
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
load("cloister", sys.argv[1])
if sys.argv[2]:
    from cloister.wire.packing import load_msgpack
    load_msgpack(directory=sys.argv[2])
sys.argv[:] = [""]
from cloister.guest.%s import main
main()
"""
"""The program of a guest. It loads cloister from the host's folder without making anything else there importable, and
nothing from the working directory, which ``-c`` puts on the path. Any Python can read it, to say that it is too old."""


_FOLDER = os.path.dirname(os.path.abspath(cloister.__file__))

FIRST_S = 10.0
"""How long the first domain of its kind waits for a template with ``CLOISTER_TEMPLATE=first``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the process of a guest begins."""

    command: list[str]
    environment: dict[str, str]
    order: dict[str, Any] | None = None
    """What it is to build first, for `cloister.guest.builder`; None where nothing is to be built."""
    in_use: str | None = None
    """The file by which it says that it uses an environment of the cache."""
    template: list[str] | None = None
    """The command of a template that can fork it; None where it is not to be forked."""

    def with_temp(self, folder: str) -> Plan:
        """The same with a temporary folder of its own."""
        own = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folder)
        if self.order is None:
            return replace(self, environment={**self.environment, **own})
        return replace(self, order={**self.order, "environment": {**self.order["environment"], **own}})


def plan(name: str, setup: Setup, level: str = "process") -> Plan:
    """Look at what is there, and say how the guest begins.

    Raises StartFailed where there is no interpreter, EnvironmentFailed where an environment can't be made at all,
    LevelUnavailable on Windows.
    """
    if level != "process":
        return Plan([], {})
    try:
        variables = _environment(setup)
        if setup.requirements is None:
            return Plan(_command(setup, None), variables, template=_template_command(setup, None))
        spec = spec_of(setup.requirements, None if setup.python is None else os.fspath(setup.python), os.environ)
        in_use, python = store.in_use_file(spec.key), store.find(spec.key)
        if python is not None:
            return Plan(_command(setup, python), variables, None, in_use, _template_command(setup, python))
        if getattr(sys, "frozen", False):
            raise EnvironmentFailed("a frozen application can't build an environment; make one, and give Setup.venv")
        find_uv()
        arguments = _command(setup, spec.python)[1:]
        order = {"spec": spec.to_plain(), "arguments": arguments, "environment": variables}
        return Plan(_command(Setup(), None, "builder"), dict(os.environ), order, in_use)
    except StartFailed as error:
        raise type(error)(f"domain {name!r}: {error.args[0]}") from error.__cause__


def _command(setup: Setup, python: str | None, program: str = "boot") -> list[str]:
    if sys.platform == "win32":
        raise LevelUnavailable("the process level is not there on Windows yet; the named pipes of cloister.pipes are")
    folder = _FOLDER
    if not setup.foreign:
        if not sys.executable:
            raise StartFailed("this program does not know its Python interpreter; name one with Setup(python=...)")
        if getattr(sys, "frozen", False):
            return [sys.executable]  # the application itself, which serves where the environment says so
        borrowed = msgpack_directory() if PRIVATE_NAME in sys.modules else ""  # this is a guest that has none itself
        return [*_own_command(sys.executable, program, borrowed)]
    return [python or _interpreter(setup), "-c", _BOOT % program, folder, msgpack_directory()]


@functools.cache
def _own_command(executable: str, program: str, borrowed: str) -> tuple[str, ...]:
    """The command of this interpreter."""
    return (executable, *_flags(), "-c", _BOOT % program, _FOLDER, borrowed)


@functools.cache
def _flags() -> list[str]:
    """The options of this interpreter, as a command line has them."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,unused-ignore]  # multiprocessing uses it too
    return flags


def _template_command(setup: Setup, python: str | None) -> list[str] | None:
    wish = _wish()
    wanted = bool(setup.preload) or wish in ("1", "first") if setup.template is None else setup.template
    frozen = not setup.foreign and getattr(sys, "frozen", False)
    if not wanted or wish == "0" or sys.platform != "linux" or frozen:
        return None
    return _command(setup, python, "template_linux")


def _wish() -> str:
    """What the user of the program says about templates, whatever their set-ups say."""
    return os.environ.get("CLOISTER_TEMPLATE", "")


def _interpreter(setup: Setup) -> str:
    if setup.venv is not None:
        folder = os.path.abspath(setup.venv)
        python = store.python_in(folder)
        if not os.access(python, os.X_OK):
            raise StartFailed(f"there is no virtual environment in {folder!r} (Setup.venv): {python!r} does not run")
        return python
    assert setup.python is not None
    python = os.fspath(setup.python)
    if is_version(python):
        found = find_python(python)
        if found is None:
            raise StartFailed(
                f"there is no Python {python} on the PATH and beside this one; give the path of one with Setup.python"
            )
        return found
    if not os.access(python, os.X_OK) or os.path.isdir(python):
        raise StartFailed(
            f"there is no Python interpreter at {python!r}; Setup.python is the path of an executable, or a version"
        )
    return python


def _environment(setup: Setup) -> dict[str, str]:
    """The environment variables of a guest."""
    variables = _own_variables() if setup.env is None else dict(setup.env)
    if setup.foreign and setup.env is None:
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__"):
            variables.pop(name, None)  # they speak of this interpreter, not of that one
    variables.update(setup.extra_env)
    if not setup.foreign and getattr(sys, "frozen", False):
        variables["CLOISTER_FROZEN_GUEST"] = "1"
    return variables


_read: tuple[Any, dict[str, str]] = {}, {}
"""The variables of this process, as the system has them and as texts, when they were last read."""


def _own_variables() -> dict[str, str]:
    """The variables of this process. Python decodes each of them whenever it is asked for, so they are kept."""
    global _read
    there: Any = getattr(os.environ, "_data", None)  # CPython's
    if there is None:
        return dict(os.environ)
    known, variables = _read
    if known != there:
        known = there.copy()
        variables = {os.fsdecode(name): os.fsdecode(value) for name, value in known.items()}
        _read = known, variables
    return variables.copy()


def spawn_guest(plan: Plan, setup: Setup, message: dict[str, Any]) -> tuple[Process, Page, LaneEnd]:
    """Start a guest and return at once: its process, the page shared with it, and the host's end of its first lane.

    `message` is its set-up message. Raises OSError where the program can't be started or descriptors are used up;
    nothing is left then.
    """
    tie = lifeline.reader()
    return _forked(plan, setup, message) or process.begin(plan.command, plan.environment, tie)


def begin_inside(level: str, name: str) -> tuple[Inside, Page | None, LaneEnd]:
    """Start a guest in this process: its place, the page shared with it, and the host's end of its first lane.

    A thread has no page: what is probed there holds up the other side, which needs the same interpreter lock.
    Raises OSError where descriptors are used up, and RuntimeError where no thread can be started; nothing is left then.
    """
    page, page_fd = (None, None) if level == "thread" else Page.create()
    mine: list[LaneEnd | socket.socket] = []
    try:
        host_lane, guest_lane = lane_pair()
        mine += [host_lane, guest_lane]
        control = control_pair()
        mine += [control[0]]
        mine.remove(guest_lane)  # from here on `begin` closes what is the guest's
        if page_fd is None:
            return thread.begin(name, control, guest_lane), None, host_lane
        theirs, page_fd = page_fd, None
        return interpreter.begin(name, control, guest_lane, theirs), page, host_lane
    except BaseException:
        for each in mine:
            each.close()
        if page_fd is not None:
            close_quietly(page_fd)
        raise


def _forked(plan: Plan, setup: Setup, message: dict[str, Any]) -> tuple[Process, Page, LaneEnd] | None:
    """A guest that a template has forked, as `spawn_guest`; None where there is none to do so."""
    like = _likeness(plan, setup, message)
    if like is None:
        return None
    if _wish() == "first":
        template.ready(like, FIRST_S)
    forked: tuple[Process, Page, LaneEnd] | None = template.fork(like, setup.spares)
    return forked


def _likeness(plan: Plan, setup: Setup, message: dict[str, Any]) -> template.Likeness | None:
    if plan.template is None or not message["shared"]:
        return None
    return template.likeness(plan.template, plan.environment, message, setup.preload)


def warm_up(setup: Setup, timeout: float | None = None) -> bool:
    """Begin the template of the domains that are made with this set-up, and wait until they can be forked.

    `timeout` is in seconds; None waits as long as the imports take. Returns False where such domains are not forked
    here: no Linux, nothing to preload and no ``template=True``, or it is switched off. Raises StartFailed where the
    template can't be made ready, and says why; domains are started without one then.
    """
    begin = plan("template", setup)
    message = setup_message("template", 0, setup, Watchdog(), begin)
    like = None if setup.shadow_copy and setup.preload else _likeness(begin, setup, message)
    if like is None:
        return False
    try:
        why = template.ready(like, timeout)
    except OSError as error:
        why = str(error)
    if why:
        raise StartFailed(f"no template could be made ready: {why}")
    return True


def setup_message(name: str, identity: int, setup: Setup, watchdog: Watchdog, plan: Plan) -> dict[str, Any]:
    """What the guest is told before anything of the user's runs.

    Raises StartFailed where a folder or the configuration is not there, or can't be read.
    """
    foreign = setup.foreign
    search = [os.path.abspath(folder) for folder in setup.path]
    for folder in search:
        if not os.path.exists(folder):
            raise StartFailed(
                f"domain {name!r}: the folder {folder!r} of Setup.path is not there; relative ones are resolved against"
                " the working directory"
            )
    cwd = None if setup.cwd is None else os.path.abspath(setup.cwd)
    if cwd is not None and not os.path.isdir(cwd):
        raise StartFailed(f"domain {name!r}: the folder {cwd!r} of Setup.cwd is not there")
    base = configuration.base_folder(name, setup.base)
    return {
        "name": name,
        "id": identity,
        "path": None if foreign else [os.path.abspath(entry) for entry in sys.path],
        "search": search,
        "cwd": cwd,
        "config": configuration.read(name, setup.config, base),
        "base": base,
        "main_loop": setup.main_loop,
        "preload": list(setup.preload),
        "shared": plan.template is not None and not (setup.preload and setup.resolve),
        "in_use": plan.in_use,
        "initializer": None,
        "beat": float(watchdog.beat),
        "log_level": logging.getLogger().getEffectiveLevel(),
        "cloudpickle": _cloudpickle_file() if foreign else None,
    }


def initializer_message(setup: Setup, version: tuple[int, int]) -> list[Any] | None:
    """The initializer, as code for a guest of this Python version. Raises MarshalError where it can't travel."""
    if setup.initializer is None:
        return None
    return [targets.to_plain(setup.initializer, version), list(setup.initargs)]


def _cloudpickle_file() -> str | None:
    spec = importlib.util.find_spec("cloudpickle")
    if spec is None or spec.origin is None:
        return None
    return os.path.join(os.path.dirname(spec.origin), "cloudpickle.py")
