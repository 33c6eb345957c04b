"""What the guest says on its control channel, taken in on the watcher's thread: each message moves its domain on.

Which messages there are is in `cloister.wire.messages`. Whatever is malformed, out of turn, or too much ends the domain
with the reason ``bad message``. What may run code of the user's is given to other threads: the set-up (an initializer
is pickled), releases (destructors), log records and events (handlers).
"""

from __future__ import annotations

import logging
import selectors
import time
from typing import TYPE_CHECKING, Any

from cloister.domain import events, shortage, start
from cloister.domain.crew import workers
from cloister.errors import CloisterError, EnvironmentFailed, ProtocolError
from cloister.levels.watcher import watcher
from cloister.objects import targets
from cloister.report import Reason
from cloister.wire.messages import Kind, Role
from cloister.wire.version import check_version

if TYPE_CHECKING:
    from cloister.domain.life import Life

__all__ = ["Listener"]

CLOSED_PATIENCE_S = 1.0
"""How long a guest may live on after it has closed its control channel. One that ends closes it a moment before."""

_LAST_WORDS = {word.value: word for word in (Reason.RAISED, Reason.OUT_OF_MEMORY, Reason.HOST_GONE, Reason.EXITED)}
"""The reasons that a guest may give for its own end."""

MAX_TEXT = 4096
"""Characters of each text that describes an exception which a guest has raised."""

_log = logging.getLogger("cloister")


class Listener:
    """Listens to one guest."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._writing: bool | None = None
        """Whether the watcher tells when the channel takes more; None where it was not asked yet."""
        self._set_up = False
        self._version = targets.VERSION

    def set_up_early(self) -> None:
        """Send the set-up now, before the guest has greeted, where that is right whatever it says. Any thread."""
        life = self._life
        setup = life.options.setup
        if not (setup.foreign or life.building or life.inside or setup.initializer or life.watching.anything):
            self._set_up = True
            self._send_setup()

    def watch(self) -> None:
        """Listen from now on; also write what waits. Does nothing after the end."""
        life, channel = self._life, self._life.speaker.channel
        if life.over or channel.closed:
            return
        writing = channel.flush()
        if writing is not self._writing:
            self._writing = writing
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            watcher.watch(life.process.control.fileno(), wanted, self._on_ready)

    def drain(self) -> None:
        """Take in what a guest that has ended left in the channel. Half a message is no error then."""
        try:
            for frame in self._life.speaker.channel.receive(reads=64):
                self._take(frame.kind, self._life.speaker.channel.decode(frame))
        except CloisterError:
            pass

    def _on_ready(self) -> None:
        life = self._life
        try:
            for frame in life.speaker.channel.receive():
                self._take(frame.kind, life.speaker.channel.decode(frame))
        except CloisterError as error:
            life.end_for(Reason.BAD_MESSAGE, str(error))
            watcher.unwatch(life.process.control.fileno())
            return
        if life.speaker.channel.closed:
            if life.ready and life.process.ends_now():
                return  # the watcher is told next, and there is nothing to do before
            watcher.unwatch(life.process.control.fileno())
            life.at(time.monotonic() + CLOSED_PATIENCE_S, self._on_closed)
        else:
            self.watch()

    def _on_closed(self) -> None:
        life = self._life
        if life.over or life.stopping or life.process.has_ended():
            return
        error = life.speaker.channel.error
        detail = "it closed its control channel" if error is None else f"its control channel failed: {error}"
        _log.error("domain %r: %s", life.name, detail)
        life.end_for(Reason.BAD_MESSAGE, detail)

    def _take(self, kind: int, body: Any) -> None:
        try:
            self._obey(kind, body)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise ProtocolError(f"a message of kind {kind} is malformed: {error}") from None

    def _obey(self, kind: int, body: Any) -> None:
        life = self._life
        if not life.python and kind != Kind.HELLO and not (life.building and kind == Kind.BUILDING):
            raise ProtocolError(f"a frame of kind {kind} came before the greeting")
        match kind:
            case Kind.HELLO:
                self._greeted(*body)
            case Kind.BUILDING if not life.python:
                self._built(*body)
            case Kind.READY:
                life.became_ready()
            case Kind.FAILED:
                life.failed(life.peer.rebuild(body[0]))
            case Kind.BEAT:
                number, cpu, running = body
                life.guard.beat(int(number), cpu / 1e9, [(int(lane), int(call)) for lane, call in running])
            case Kind.RELEASE:
                self._work(lambda: self._release(body[0]))
            case Kind.LOG:
                life.output.log(body)
            case Kind.EVENT:
                self._happened(*body)
            case Kind.WANT_LANE:
                life.guest_threads.open_lane(int(body[0]), Role(body[1]) if len(body) > 1 else Role.GUEST)
            case Kind.WANT_SEGMENT:
                ticket, size = body
                life.peer.segments.wanted(int(ticket), int(size), self._work)
            case Kind.HAVE_SEGMENT:
                life.peer.segments.had(int(body[0]))
            case Kind.DROP_SEGMENT:
                life.peer.segments.dropped(body[0])
            case Kind.OVER:
                lane, number = body
                life.speaker.over(int(lane), int(number))
                life.stops.over(int(lane), int(number))
            case Kind.WAIT:
                number, *wait = body
                life.waits.heard(int(number), wait)
            case Kind.STILL:
                number, question = body
                life.waits.stands(int(number), int(question))
            case Kind.FAREWELL:
                life.farewell.heard(bool(body[0]))
            case Kind.UNLOAD:
                life.stop()
            case Kind.CHILDREN:
                life.has_children()
            case Kind.LAST_WORDS:
                reason, code, text = body
                if life.last_words is None:  # after a set-up that failed the guest exits, which is not why
                    life.last_words = (_LAST_WORDS[reason], int(code), str(text)[-16384:])
                    life.leaves()
            case _:
                raise ProtocolError(f"a frame of kind {kind} has no place on a control channel")

    def _happened(self, name: Any, what: Any) -> None:
        life = self._life
        if name == "module_loaded":
            module, file = map(str, what)
            life.tell(events.ModuleLoaded(life.name, life.process.pid, module, file), len(module) + len(file))
        elif name == "raised":
            line = int(what[3])
            kind, message, file, function, thread = (str(text)[:MAX_TEXT] for text in (*what[:3], *what[4:]))
            raised = events.ExceptionRaised(
                life.name, life.process.pid, kind, message, file, line, function=function, thread=thread
            )
            life.tell(raised, 256 + len(message) + len(file))
        else:
            life.unheard(str(name), life.peer.rebuild(what))

    def _built(self, stage: str, text: str) -> None:
        life = self._life
        if stage == "failed":
            life.failed(EnvironmentFailed(str(text)))
        else:
            _log.info("domain %r: %s", life.name, text)
            life.tell(events.Building(life.name, life.process.pid, str(text)), len(text))

    def _greeted(self, version: Any, own: Any, python: Any, _pid: Any) -> None:
        life = self._life
        if life.python:
            raise ProtocolError("it greeted twice")
        check_version(version, own)
        major, minor, *_ = map(int, python.split(".")[:2])
        life.python = python[:32]
        life.peer.version = self._version = (major, minor)
        if life.building:
            life.built()
        life.tell(events.Connected(life.name, life.process.pid, life.python))
        if not self._set_up:
            self._work(self._send_setup)
        if workers.starved:
            self._give_up(RuntimeError(f"{shortage.NO_THREAD} for its set-up{shortage.of_processes()}"))

    def _work(self, job: Any) -> None:
        """Let a thread of ours do a job, which needs the parts of the life."""
        life = self._life

        def run() -> None:
            try:
                job()
            finally:
                life.end_use()

        if not life.begin_use():
            return
        if not life.work.put(run, 1):
            life.end_use()
            raise ProtocolError("it says more than this program can take in")

    def _send_setup(self) -> None:
        life = self._life
        if life.over:
            return  # what fails now is not why
        try:
            life.preparation.setup["initializer"] = start.initializer_message(life.options.setup, self._version)
            life.preparation.setup["watch"] = life.watching.for_setup()
            life.speaker.send(Kind.SETUP, life.preparation.setup)
        except Exception as error:  # also what a reducer of the user's raises
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._life.failed(error)
        self._life.end_for(Reason.START_FAILED, f"{type(error).__name__}: {error}")

    def _release(self, dropped: Any) -> None:
        try:
            self._life.peer.exports.release(dropped)
        except ProtocolError as error:
            self._life.end_for(Reason.BAD_MESSAGE, str(error))
