"""The end of one domain: its steps while it is asked for, how it is noticed, and the report.

Who asks for it is in `life`, what callers are told in `diagnosis`, the last moments before it in `farewell`. Every step
of a stop is bounded in time: ask, `stop_timeout`; dump the stacks, `DUMP_S`; kill. All but `ask` belongs to the
watcher's thread.
"""

from __future__ import annotations

import selectors
import time
from functools import partial
from typing import TYPE_CHECKING

from cloister.domain import diagnosis, events, living
from cloister.domain.crew import workers
from cloister.domain.guard import DUMP_S
from cloister.domain.state import State
from cloister.levels.descendants import GUEST_TELLS, looks_fast
from cloister.levels.watcher import watcher
from cloister.report import Reason, Report
from cloister.wire.messages import Kind

if TYPE_CHECKING:
    from cloister.domain.life import Life
    from cloister.levels.process import Ending

__all__ = ["End"]

STATUS_S = 0.5
"""How long it may take to learn how a process ended that has ended: a template has to tell it, or the kernel does a
moment later. What is not known then stays unknown."""
LET_GO_S = 0.001
"""How long whoever was in a call has this interpreter for itself, before a domain that has crashed is let go of."""
_POLL_S = 0.02
_STATUS_POLL_S = 0.001


class End:
    """The end of one life."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._noticed = 0.0
        """When it was first seen that the process has ended; 0: not yet."""
        self._gone = False
        self._has_children = self._noted = False
        """The guest has told that it has processes of its own; and that it still has when it was told to stop."""

    def watch(self) -> None:
        """Notice it from now on, and let it come where the domain is not ready in time."""
        process, life = self._life.process, self._life
        for index, fd in enumerate(process.output):
            watcher.watch(fd, selectors.EVENT_READ, partial(self._on_output, index))
        if process.pidfd >= 0:
            watcher.watch(process.pidfd, selectors.EVENT_READ, self._come)
        elif life.inside:
            life.inside.when_ended(partial(watcher.soon, self._come))
        else:
            self._poll()
        if not life.building:
            self.limit_start(life.started)

    def _on_output(self, index: int) -> None:
        output = self._life.process.output
        if not self._life.output.read(index, output[index]):
            watcher.unwatch(output[index])

    # -- of a start that takes too long ------------------------------------------------------------------------------

    def limit_start(self, now: float) -> None:
        """Let its start have `start_timeout` seconds from now on."""
        self._life.at(now + self._life.options.start_timeout, self._start_is_late)

    def _start_is_late(self) -> None:
        life = self._life
        if life.state is State.STARTING:
            life.speaker.dump()
            life.at(time.monotonic() + DUMP_S, self._kill_unless_ready)

    def _kill_unless_ready(self) -> None:
        life = self._life
        if life.state is State.STARTING:
            life.end_for(Reason.START_TIMEOUT, f"it was not ready within {life.options.start_timeout:g} s")

    # -- that was asked for ------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Ask the guest to end; every further step follows by itself. Any thread."""
        life = self._life
        if not life.python:  # nothing of the user's has run in it yet
            life.process.kill()
            return
        if not life.inside:  # nothing can kill it there
            life.at(time.monotonic() + life.options.stop_timeout, self._dump_then_kill)
        if GUEST_TELLS and not self._has_children:
            pass
        elif watcher.here:
            workers.run(life.process.remember_descendants)
        else:  # a thread for it would take longer
            life.process.remember_descendants()
        life.peer.end(life.error, keep=not life.inside)  # what its calls come to is not to be heard any more
        self._say_stop()

    def _say_stop(self) -> None:
        self._life.speaker.send(Kind.STOP, int(self._life.options.stop_timeout * 1000))

    def note_children(self) -> None:
        """The guest has processes of its own: they end with it, and it goes on to its end where it is to. Watcher's
        thread."""
        self._has_children = True
        if self._noted or self._life.state is not State.STOPPING:
            return
        self._noted = True
        if looks_fast():
            self._look_and_say_stop()
        elif self._life.begin_use():
            workers.run(self._look_on_a_thread)

    def _look_on_a_thread(self) -> None:
        try:
            self._look_and_say_stop()
        finally:
            self._life.end_use()

    def _look_and_say_stop(self) -> None:
        self._life.process.remember_descendants()
        self._say_stop()

    def _dump_then_kill(self) -> None:
        self._life.at(time.monotonic() + DUMP_S, self._kill)
        self._life.speaker.dump()

    def _kill(self) -> None:
        life = self._life
        if not life.process.has_ended():
            life.stops_late(f"it did not end within {life.options.stop_timeout:g} s after it was asked to")
            life.process.kill()

    # -- that has come -----------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        """Where there is no pidfd: look for the end every now and then."""
        if self._life.process.has_ended():
            self._come()
        else:
            self._life.at(time.monotonic() + _POLL_S, self._poll)

    def hurry(self) -> None:
        """Somebody waits until nothing is left. Any thread."""
        if self._life.over and not watcher.here:
            watcher.soon(self._let_go)

    def _come(self) -> None:
        """The process has ended: learn why, and tell whoever waits in a call. All else can wait until they are gone.

        Python would let them go only when this thread has nothing more to do.
        """
        life = self._life
        ending = None if life.over else self._ending()
        if ending is None:
            return
        if life.has_ended(self._report(ending)):
            self._look_away()
            watcher.at(time.monotonic() + LET_GO_S, self._let_go)
        else:
            self._let_go()

    def _let_go(self) -> None:
        """Let go of all that the domain has here, and tell everybody."""
        life, process, report = self._life, self._life.process, self._life.report
        if self._gone or report is None:
            return
        self._gone = True
        self._look_away()
        life.waits.end()
        life.resolving.end()
        life.guest_threads.close()
        life.peer.end(life.error)
        life.speaker.close()
        life.peer.segments.close()
        process.close()
        # Where there is nothing to clear, no thread is begun for it: whoever waits is to know soon.
        if len(life.peer.exports):
            life.queue.put(life.peer.exports.clear, always=True)
        if life.preparation.folders:
            life.queue.put(life.preparation.remove, always=True)
        life.tell(events.Exited(life.name, process.pid, report))
        living.remove(life)
        life.moments.ended()
        life.stops.end(report)
        try:
            life.let_go(over=True)
        finally:
            watcher.leave()

    def _look_away(self) -> None:
        """Watch nothing of it any more; what is left in its pipes is taken for the report."""
        process = self._life.process
        for fd in (process.control.fileno(), *process.output, process.pidfd):
            watcher.unwatch(fd)

    def _ending(self) -> Ending | None:
        """How the process has ended; None where that is not known yet: then this comes again, for up to `STATUS_S`."""
        process, now = self._life.process, time.monotonic()
        ending = process.try_reap()
        if ending is not None:
            return ending
        first = not self._noticed
        if first:
            self._look_away()
            self._noticed = now
        give_up = self._noticed + STATUS_S
        if now >= give_up:
            return process.reap()
        if not process.when_told(self._come):
            self._life.at(min(now + _STATUS_POLL_S, give_up), self._come)
        elif first:
            self._life.at(give_up, self._come)
        return None

    def _report(self, ending: Ending) -> Report:
        life, process = self._life, self._life.process
        calls = life.peer.calls()
        life.listener.drain()
        for index, fd in enumerate(process.output):
            life.output.finish(index, fd)
        if life.inside and life.inside.failure:
            life.output.tail.append(life.inside.failure)
        oom = diagnosis.killed_for_memory(ending, life.oom_kills)
        reason, code, detail = diagnosis.reason(life.doom, life.last_words, ending, oom)
        wanted = reason is not Reason.UNLOADED
        return Report(
            domain=life.name,
            pid=process.pid,
            reason=reason,
            exit_code=code,
            signal=ending.signal,
            detail=detail,
            calls=calls,
            stacks=(life.speaker.take_stacks() or life.stacks) if wanted else "",
            output=tuple(life.output.tail),
            seconds=time.monotonic() - life.started,
            cpu_seconds=ending.cpu_seconds,
            peak_memory=ending.peak_memory,
        )
