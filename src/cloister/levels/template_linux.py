"""Starting guests from templates: which domains share one, and which there are. Each is a `template_process_linux`.

A template serves domains that are *alike*: the same program, environment and standing before the kernel, and where it
preloads modules, the same places to find them. It is started beside the first domain that wants one, by preload, or the
second; until it is ready, and whenever anything about it fails, a domain is started by exec as if there were none, so
that what is wrong with a set-up is told by that domain and in the same words. No start waits for one, unless it is
asked to (`ready`).

A start takes a guest that was forked before, a spare, or asks for one and waits: a fork takes about a millisecond.
Spares are asked for when one is taken, one at first, more where they are used up faster than they come.

Any thread may enter. A forked child of the host closes all of it at once.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

assert sys.platform == "linux"

import resource

from cloister.levels.process_posix import Process
from cloister.levels.template_endings_linux import Guest
from cloister.levels.template_process_linux import MAX_SPARES, Birth, Template, begin
from cloister.pipes.duplex import LaneEnd
from cloister.pipes.page import Page

__all__ = ["MAX_SPARES", "Likeness", "close_all", "fork", "likeness", "ready", "refill"]

MAX_TEMPLATES: Final = 4
"""The most templates of one host; the one that was not used for the longest time goes."""
MAX_SEEN: Final = 256
"""How many kinds of domains are remembered of which one was started."""
IDLE_S: Final = 60.0
"""How long a template stays when nobody asks and no guest of its lives."""
CLOSE_S: Final = 2.0
_BYTES: Final = 4096
_TEMPORARY: Final = ("TMPDIR", "TEMP", "TMP")
"""Variables in which domains may differ that are alike: they are set after the fork."""
_STANDING: Final = re.compile(rb"^(?:Gid|Uid|Groups|NoNewPrivs|Seccomp|Seccomp_filters|Cap\w+):.*", re.MULTILINE)
"""The lines of /proc/self/status in which a guest must be like its host."""
_UMASK: Final = re.compile(rb"^Umask:\s*(\d+)", re.MULTILINE)
_NAMESPACES: Final = ("mnt", "net", "pid_for_children", "user", "ipc", "uts", "cgroup", "time_for_children")
_LIMITS: Final = tuple(number for name, number in sorted(vars(resource).items()) if name.startswith("RLIMIT_"))


@dataclass(frozen=True, slots=True)
class Likeness:
    """What domains have in common that one template serves, and what one of them has of its own."""

    key: Hashable
    command: Sequence[str]
    environment: Mapping[str, str]
    order: Mapping[str, Any]
    umask: int
    cpus: tuple[int, ...]


_lock = threading.RLock()  # a finalizer may start a domain while it is held
_seen: OrderedDict[Hashable, None] = OrderedDict()
_failed: OrderedDict[Hashable, str] = OrderedDict()
"""Why there is no template of a kind, and never will be."""
_templates: OrderedDict[Hashable, Template] = OrderedDict()
_leaving: list[Template] = []
"""Those that wait for their last guests."""


def likeness(
    command: Sequence[str], environment: Mapping[str, str], found: Mapping[str, Any], preload: Sequence[str]
) -> Likeness | None:
    """Say what a domain has in common with others; None where this system has no templates.

    `command` is that of the template; `found` says where modules are found: ``path``, ``search`` and ``cwd``. Where
    nothing is preloaded, that is each domain's own.
    """
    status = _told("status")
    if not status:
        return None
    standing = _STANDING.findall(status)
    umask = _UMASK.search(status)
    modules: tuple[Any, ...] = ()
    order = {"path": found["path"], "search": found["search"], "cwd": found["cwd"], "preload": list(preload)}
    order["idle_s"] = IDLE_S
    if preload:
        places = None if found["path"] is None else tuple(found["path"])
        modules = (tuple(preload), places, tuple(found["search"]), found["cwd"] or os.getcwd())
    shared = frozenset(item for item in environment.items() if item[0] not in _TEMPORARY)
    limits = tuple(resource.getrlimit(number) for number in _LIMITS)
    where = (_root(), _told("cgroup"), *(_linked(f"ns/{name}") for name in _NAMESPACES))
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    key = (tuple(command), shared, modules, tuple(standing), limits, nice, where)
    mask = 0o022 if umask is None else int(umask[1], 8)
    return Likeness(key, command, environment, order, mask, tuple(sorted(os.sched_getaffinity(0))))


def _root() -> tuple[int, int] | None:
    try:
        root = os.stat("/")
    except OSError:
        return None
    return root.st_dev, root.st_ino


def _told(name: str) -> bytes:
    """What the kernel says of this thread; empty where it does not."""
    try:
        fd = os.open(f"/proc/thread-self/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        said = b""
        while more := os.read(fd, _BYTES):
            said += more
        return said
    except OSError:
        return b""
    finally:
        os.close(fd)


def _linked(name: str) -> str:
    try:
        return os.readlink(f"/proc/thread-self/{name}")
    except OSError:
        return ""


def fork(like: Likeness, keep: int | None) -> tuple[Process, Page, LaneEnd] | None:
    """Fork a guest: its process, the page shared with it, the host's end of its first lane. None where none is ready.

    A template is begun where one is worth its while. `keep` is how many spares to keep, None what its use suggests.
    """
    try:
        template = _template(like)
        if template is None or not template.wait_ready(None):
            return None
        own = {name: like.environment.get(name) for name in _TEMPORARY}
        variables = {name: value for name, value in own.items() if value != template.environment.get(name)}
        birth = Birth({"umask": like.umask, "cpus": list(like.cpus), "variables": variables})
    except OSError:
        return None  # what keeps a template from starting most often keeps the domain too, and is told there
    try:
        spare = template.take(keep, birth)
    finally:
        birth.close()
    if spare is None:
        return None
    try:
        template.endings.expect(spare.number)
        wiring = spare.wiring
        parent = Guest(template.endings, spare.number)
        return Process(spare.pid, spare.pidfd, wiring.control, wiring.output, parent), wiring.page, wiring.lane
    except BaseException:  # an interruption; nobody has it then
        template.endings.forget(spare.number)
        spare.close()
        raise


def refill() -> None:
    """Ask for the spares that starts have used up; when they have begun what they are waited for."""
    for template in list(_templates.values()):
        template.refill()


def ready(like: Likeness, timeout: float | None) -> str:
    """Begin a template for domains like this, and wait until it is ready. Empty, or why it is not.

    Raises OSError where its process can't be started.
    """
    limit = time.monotonic() + (1e6 if timeout is None else timeout)
    template = _template(like, keen=True)
    if template is None:
        with _lock:
            return _failed.get(like.key, "") or "it can't be had here"
    if template.wait_ready(limit):
        return ""
    if not template.gone:
        template.failure = "the time was up"
        template.close()
    _template(like)  # it is taken out
    return template.failure or "it ended while it imported its modules"


def _template(like: Likeness, keen: bool = False) -> Template | None:
    """The template for domains like this; None where there is none yet. `keen`: one is begun in any case."""
    oldest = None
    with _lock:
        _leaving[:] = [template for template in _leaving if not template.reap(0)]
        template = _templates.get(like.key)
        if template is not None and template.gone:
            del _templates[like.key]
            _leaving.append(template)
            if not template.is_ready:
                _remember(_failed, like.key, template.failure)
                keen = False
            template = None
        if template is not None:
            _templates.move_to_end(like.key)
            return template
        if like.key in _failed and not keen:
            return None
        if not (keen or like.order["preload"] or like.key in _seen):
            _remember(_seen, like.key, None)
            return None
        _failed.pop(like.key, None)
        template = _templates[like.key] = begin(like.command, like.environment, like.order)
        if len(_templates) > MAX_TEMPLATES:
            _, oldest = _templates.popitem(last=False)
            _leaving.append(oldest)
    if oldest is not None:
        oldest.close()  # others need not wait for whoever talks to it
    return template


def _remember(where: OrderedDict[Hashable, Any], key: Hashable, value: Any) -> None:
    where[key] = value
    while len(where) > MAX_SEEN:
        where.popitem(last=False)


def close_all() -> None:
    """End all templates, once the domains have ended; bounded, and raises nothing."""
    with _lock:
        leaving = [*_leaving, *_templates.values()]
        _leaving.clear()
        _templates.clear()
        _seen.clear()
        _failed.clear()
    for template in leaving:
        template.close()
    limit = time.monotonic() + CLOSE_S
    for template in leaving:
        if not template.reap(max(0.0, limit - time.monotonic())):
            template.kill()
            template.reap(CLOSE_S)


def _disown_all() -> None:
    global _lock
    _lock = threading.RLock()
    for template in [*_leaving, *_templates.values()]:
        template.disown()
    _leaving.clear()
    _templates.clear()
    _seen.clear()
    _failed.clear()


os.register_at_fork(after_in_child=_disown_all)
