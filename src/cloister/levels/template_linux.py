"""Starting guests from templates: the host's side. The process, and its protocol, is `cloister.guest.template_linux`.

A template serves domains that are *alike*: the same program, environment and standing before the kernel, and where it
preloads modules, the same places to find them. It is started beside the first domain that wants one, by preload, or the
second; until it is ready, and whenever anything about it fails, a domain is started by exec as if there were none, so
that what is wrong with a set-up is told by that domain and in the same words. No start waits for one, unless it is
asked to (`ready`).

A guest that was forked and waits for its descriptors is a `_Spare`. A start takes one, or asks for one and waits: a
fork takes about a millisecond. Spares are asked for when one is taken, one at first, more where they are used up faster
than they come. The template's process is ours to reap, its guests are its own; they outlive it.

Any thread may enter; a lock per template is held while it is talked to, and a finalizer that starts a domain in the
middle of that gets none. A forked child of the host closes all of it at once.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

assert sys.platform == "linux"

import resource

from cloister.errors import CloisterError
from cloister.guest import descriptors
from cloister.guest.template_linux import BIRTH_HEADER, MAX_PACKET, REPORTS, REQUESTS
from cloister.levels import lifeline
from cloister.levels.process_posix import Ending, Process, ending_of, launch, output_pipes
from cloister.pipes.duplex import LaneEnd, close_quietly, control_pair
from cloister.wire.values import Codec

__all__ = ["MAX_SPARES", "Likeness", "close_all", "fork", "likeness", "ready"]

MAX_SPARES: Final = 4
"""The most spares that a template keeps by itself."""
MAX_TEMPLATES: Final = 4
"""The most templates of one host; the one that was not used for the longest time goes."""
MAX_SEEN: Final = 256
"""How many kinds of domains are remembered of which one was started."""
FORK_S: Final = 10.0
"""How long a fork may take before the template is given up."""
ENDED_S: Final = 0.5
"""How long a template may take to tell how a guest ended, after that has ended."""
CLOSE_S: Final = 2.0
_TEMPORARY: Final = ("TMPDIR", "TEMP", "TMP")
"""Variables in which domains may differ that are alike: they are set after the fork."""
_STANDING: Final = (b"Gid:", b"Uid:", b"Groups:", b"NoNewPrivs:", b"Seccomp:", b"Seccomp_filters:", b"Cap")
"""The lines of /proc/self/status in which a guest must be like its host."""
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


@dataclass(slots=True)
class _Spare:
    """A guest that was forked, and waits for its descriptors."""

    number: int
    pid: int
    pidfd: int
    control: socket.socket

    @property
    def lives(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Let it go: it ends when its control channel does."""
        self.control.close()
        close_quietly(self.pidfd)


class _Gone(Exception):
    """The template has ended, or can't be talked to."""


@dataclass(eq=False, slots=True)
class _Template:
    """One template's process, from its start to its end."""

    pid: int
    pidfd: int
    requests: socket.socket
    reports: socket.socket
    lock: threading.RLock = field(default_factory=threading.RLock)
    busy: bool = False
    """The lock is held; who holds it may be this very thread, further down."""
    is_ready: bool = False
    gone: bool = False
    failure: str = ""
    """Why it could not be made ready."""
    last: int = 0
    """The number of the last guest that was asked for."""
    wanted: int = 0
    """How many spares are kept."""
    coming: dict[int, socket.socket] = field(default_factory=dict)
    """Guests that were asked for, by number, with the host's ends of their control channels."""
    spares: deque[_Spare] = field(default_factory=deque)
    guests: set[int] = field(default_factory=set)
    """The numbers of those that have begun to serve, and of whose ends nobody has asked yet."""
    told: dict[int, Ending] = field(default_factory=dict)
    """How guests have ended, by number, until it is asked for."""

    # -- any thread, one at a time -----------------------------------------------------------------------------------

    def take(self, keep: int | None) -> _Spare | None:
        """A guest that waits for its descriptors; None where there is none to be had. `keep`: how many spares."""
        with self.lock:
            if self.busy:
                return None
            self.busy = True
            try:
                return self._take(keep)
            except (_Gone, OSError, CloisterError):
                self.close()
                return None
            finally:
                self.busy = False

    def wait_ready(self, limit: float | None) -> bool:
        """Whether it has imported all. Waits until the time of `time.monotonic` comes; None: not at all."""
        with self.lock:
            if self.busy:
                return False
            self.busy = True
            try:
                while not self.is_ready and not self.gone:
                    if not self._receive(0 if limit is None else max(0.0, limit - time.monotonic())):
                        return False
            except (_Gone, OSError, CloisterError):
                self.close()
            finally:
                self.busy = False
            return not self.gone

    def _take(self, keep: int | None) -> _Spare | None:
        limit = time.monotonic() + FORK_S
        while self._receive(0):
            pass
        self._bury()
        short = not self.spares
        hurried = False
        while not self.spares:
            if not self.coming:
                self._ask(later=False)
            elif not hurried:
                self._send(["hurry"])
                hurried = True
            if not self._receive(max(0.0, limit - time.monotonic())):
                raise _Gone
            self._bury()
        taken = self.spares.popleft()
        if keep is not None:
            self.wanted = keep
        elif short:
            self.wanted = min(self.wanted + 1, MAX_SPARES)
        for _ in range(self.wanted - len(self.spares) - len(self.coming)):
            self._ask(later=True)
        return taken

    def _bury(self) -> None:
        """Leave out the spares that have ended."""
        while self.spares and not self.spares[0].lives:
            self.spares.popleft().close()

    def _ask(self, later: bool) -> None:
        mine, its = control_pair()
        self.last += 1
        try:
            self._send(["fork", self.last, later], its.fileno())
        except BaseException:
            mine.close()
            raise
        finally:
            its.close()
        self.coming[self.last] = mine

    def _send(self, message: list[Any], fd: int | None = None) -> None:
        socket.send_fds(self.requests, [Codec().encode(message)], [] if fd is None else [fd])

    def _receive(self, seconds: float) -> bool:
        """Take in a message; False where none comes in time. Raises `_Gone` and OSError."""
        poll = select.poll()
        poll.register(self.requests, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False
        data, received, _, _ = socket.recv_fds(self.requests, MAX_PACKET, 1, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise _Gone
        kind, *body = Codec().decode(data)
        if kind == "ready":
            self.is_ready = True
        elif kind == "failed":
            self.failure = str(body[0])
        elif kind == "born" and received:
            control = self.coming.pop(body[0], None)
            if control is None:
                close_quietly(*received)
            else:
                self.spares.append(_Spare(body[0], body[1], received[0], control))
        elif kind == "unborn":
            self.coming.pop(body[0]).close()
            raise OSError(body[1], os.strerror(body[1]))
        else:
            raise _Gone
        return True

    def close(self) -> None:
        """Let it end, as soon as its guests have. Idempotent."""
        with self.lock:
            self.gone = True
            if not self.is_ready:
                self.kill()  # it is importing, or no template at all
            self.requests.close()
            for control in self.coming.values():
                control.close()
            self.coming.clear()
            while self.spares:
                self.spares.popleft().close()

    # -- the watcher's thread ----------------------------------------------------------------------------------------

    def ending(self, number: int) -> Ending | None:
        """How a guest that has ended did so; None where the template does not say."""
        try:
            return self._ending(number)
        finally:
            self.guests.discard(number)
            self._close_reports()

    def _ending(self, number: int) -> Ending | None:
        limit = time.monotonic() + ENDED_S
        poll = select.poll()
        poll.register(self.reports, select.POLLIN)
        while number not in self.told:
            if not poll.poll(max(0.0, limit - time.monotonic()) * 1000):
                return None
            try:
                data = self.reports.recv(MAX_PACKET)
            except OSError:
                return None
            if not data:
                return None
            _, ended, status, seconds, peak = Codec().decode(data)
            self.told[ended] = ending_of(status, seconds, peak)
        return self.told.pop(number)

    # -- its end -----------------------------------------------------------------------------------------------------

    def reap(self, seconds: float) -> bool:
        """Let the kernel forget it; False where it has not ended in time."""
        if self.pidfd >= 0:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(seconds * 1000):
                return False
            try:
                os.waitpid(self.pid, 0)
            except ChildProcessError:
                pass  # another part of this program has taken its status
            close_quietly(self.pidfd)
            self.pidfd = -1
            self._close_reports()
        return True

    def _close_reports(self) -> None:
        if self.pidfd < 0 and not self.guests:
            self.reports.close()

    def kill(self) -> None:
        """End it at once; its guests go on."""
        if self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def disown(self) -> None:
        """Close what a forked child of the host has inherited of it."""
        self.lock = threading.RLock()
        self.close()
        self.reports.close()
        if self.pidfd >= 0:
            close_quietly(self.pidfd)
            self.pidfd = -1


_lock = threading.RLock()  # a finalizer may start a domain while it is held
_seen: OrderedDict[Hashable, None] = OrderedDict()
_failed: OrderedDict[Hashable, str] = OrderedDict()
"""Why there is no template of a kind, and never will be."""
_templates: OrderedDict[Hashable, _Template] = OrderedDict()
_leaving: list[_Template] = []
"""Those that wait for their last guests."""


def likeness(
    command: Sequence[str], environment: Mapping[str, str], found: Mapping[str, Any], preload: Sequence[str]
) -> Likeness | None:
    """Say what a domain has in common with others; None where this system has no templates.

    `command` is that of the template; `found` says where modules are found: ``path``, ``search`` and ``cwd``. Where
    nothing is preloaded, that is each domain's own.
    """
    standing, umask = [], 0o022
    try:
        with open("/proc/thread-self/status", "rb") as lines:
            for line in lines:
                if line.startswith(_STANDING):
                    standing.append(line)
                elif line.startswith(b"Umask:"):
                    umask = int(line.split()[1], 8)
    except OSError:
        return None
    modules: tuple[Any, ...] = ()
    order = {"path": found["path"], "search": found["search"], "cwd": found["cwd"], "preload": list(preload)}
    if preload:
        places = None if found["path"] is None else tuple(found["path"])
        modules = (tuple(preload), places, tuple(found["search"]), found["cwd"] or os.getcwd())
    shared = frozenset(item for item in environment.items() if item[0] not in _TEMPORARY)
    limits = tuple(resource.getrlimit(number) for number in _LIMITS)
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    key = (tuple(command), shared, modules, tuple(standing), limits, nice)
    return Likeness(key, command, environment, order, umask, tuple(sorted(os.sched_getaffinity(0))))


def fork(like: Likeness, keep: int | None, lane: LaneEnd, page: int | None) -> Process | None:
    """Fork a guest from a template; None where none is ready, and then nothing was done with the descriptors.

    A template is begun where one is worth its while. `keep` is how many spares to keep, None what its use suggests.
    `lane` and `page` are the guest's ends, which are closed here. Raises OSError where no descriptor is left.
    """
    try:
        template = _template(like)
    except OSError:
        return None  # what keeps a template from starting most often keeps the domain too, and is told there
    if template is None or not template.wait_ready(None):
        return None
    spare = template.take(keep)
    if spare is None:
        return None
    try:
        output, writers = output_pipes()
    except BaseException:
        spare.close()
        raise
    try:
        folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with_page = page is not None and page >= 0
            birth: dict[str, Any] = {
                "umask": like.umask,
                "cpus": list(like.cpus),
                "variables": {name: like.environment.get(name) for name in _TEMPORARY},
                "page": with_page,
            }
            fds = [lane.reader, lane.writer, *writers, folder]
            if page is not None and with_page:
                fds.append(page)
            body = Codec().encode(birth)
            data = BIRTH_HEADER.pack(len(body)) + body
            if socket.send_fds(spare.control, [data], fds) != len(data):
                raise OSError("a new socket did not take a message")
        finally:
            close_quietly(folder)
    except OSError:
        close_quietly(*output)
        spare.close()
        return None
    finally:
        close_quietly(*writers)
    close_quietly(lane.reader, lane.writer)
    if page is not None:
        close_quietly(page)
    template.guests.add(spare.number)
    return Process(spare.pid, spare.pidfd, spare.control, output, partial(template.ending, spare.number))


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


def _template(like: Likeness, keen: bool = False) -> _Template | None:
    """The template for domains like this; None where there is none yet. `keen`: one is begun in any case."""
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
        template = _templates[like.key] = _begin(like)
        while len(_templates) > MAX_TEMPLATES:
            _, oldest = _templates.popitem(last=False)
            oldest.close()
            _leaving.append(oldest)
        return template


def _remember(where: OrderedDict[Hashable, Any], key: Hashable, value: Any) -> None:
    where[key] = value
    while len(where) > MAX_SEEN:
        where.popitem(last=False)


def _begin(like: Likeness) -> _Template:
    """Start the process of a template. Raises OSError; nothing is left then."""
    opened: list[int] = []
    sockets: list[socket.socket] = []
    try:
        for _ in range(2):
            sockets += socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        placed = [
            (sockets[1].fileno(), REQUESTS),
            (sockets[3].fileno(), REPORTS),
            (lifeline.reader(), descriptors.LIFELINE),
        ]
        opened += os.pipe()  # its streams are made for pipes; it keeps what they say elsewhere
        placed += [(opened[1], 1), (opened[1], 2)]
        socket.send_fds(sockets[0], [Codec().encode(like.order)], [])
        pid = launch(like.command, like.environment, placed)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except BaseException:
        for one in sockets[::2]:
            one.close()
        raise
    finally:
        close_quietly(*opened)
        for one in sockets[1::2]:
            one.close()
    return _Template(pid, pidfd, sockets[0], sockets[2])


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
