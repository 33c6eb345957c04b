"""Who of a pool gets which work, and what becomes of it: handed out, done, given back, or left behind by a dead worker.

An idle worker gets work first, then more workers are started, and what waits then is given ahead to workers whose work
is short. Whatever a worker has not begun may go to another one at any time; so the order in which work begins is that
of its submission only as long as there is one worker and none dies.

Which thread does what: whoever submits sends, where a worker has room; the reading thread of a worker takes its answers
in, completes futures, and sends it more; a starting thread does so for the first work of its worker. One thread at a
time sends to a worker, in the order of its queue. No lock is held while code of the user's runs: encoding arguments,
done-callbacks.

**Done-callbacks** run on the reading thread where the worker has nothing else to do, and it gets nothing until they are
through. Else they run on the thread of `callbacks`, because they might wait for what that worker has still to answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cloister.domain import broken_lanes
from cloister.errors import CallCancelled, DomainCrashed, ProtocolError
from cloister.executor.callbacks import Callbacks
from cloister.executor.clocks import stop
from cloister.executor.work import late
from cloister.lanes.frame_lane import LaneClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from cloister.executor.work import Work
    from cloister.executor.worker import Worker
    from cloister.executor.workforce import Workforce

__all__ = ["Handing"]

REFILL: Final = 8
"""A worker gets more when it has room for so much: together it costs less."""

_log = logging.getLogger("concurrent.futures")
"""Where a future tells what its done-callbacks raise."""


class Handing:
    """Hands out the work of one pool."""

    def __init__(self, force: Workforce, max_tasks: int | None) -> None:
        self._force, self._max_tasks = force, max_tasks
        self.callbacks = Callbacks(force.name)

    # -- with the lock -------------------------------------------------------------------------------------------------

    def match(self) -> list[Worker]:
        """Give work to the workers that have room, and have more started. Returns to whom something is to be sent."""
        force = self._force
        given: list[Worker] = []
        now = time.monotonic()
        while force.idle and (work := force.next_work()) is not None:
            worker = force.idle[-1]
            if not worker.queue:  # else Ctrl-C came when it had just been given some
                worker.take_first(force.pending, now)
                given.append(worker)
                work.begins()
            force.idle.remove(worker)
        force.hiring.hire()
        if force.pending:
            given += [worker for worker in force.workers if self._give_ahead(worker)]
        return given

    def _give_ahead(self, worker: Worker) -> bool:
        """Give a worker more of what waits, as long as there is room. Whether it got any."""
        force, given, now = self._force, False, time.monotonic()
        for _ in range(worker.room()):
            work = force.next_work()
            # What has a time to be over is not to wait behind something that has none.
            if work is None or work.limit is not None or self._is_used_up(worker):
                break
            worker.take_first(force.pending, now)
            given = True
            if work.first:
                work.begins()
        if given and len(worker.queue) > 1:
            self._force.clocks.watch_ahead()
        return given

    def _is_used_up(self, worker: Worker) -> bool:
        """Whether a worker has done, with what it has, all that it is to do."""
        return self._max_tasks is not None and worker.served + sum(w.count for w in worker.queue) >= self._max_tasks

    def _go_on(self, worker: Worker) -> tuple[list[Worker], list[Worker]]:
        """Some work of a worker is over: to whom something is to be sent now, and who is to leave."""
        force = self._force
        if worker.queue:
            self._force.clocks.watch(worker)
            more = (len(worker.queue) == 1 or worker.room() >= REFILL) and self._give_ahead(worker)
            left = worker.unsent and not worker.sending  # Ctrl-C has ended who was to send it
            return [worker] if more or left else [], []
        leaving = []
        if worker.doomed:  # it is being killed, and was quicker
            force.drop(worker)
        elif self._is_used_up(worker):
            force.drop(worker)
            leaving.append(worker)
        elif worker not in force.idle:
            force.idle.append(worker)
            worker.idle_since = time.monotonic()
        return self.match(), leaving

    def _put_back(self, works: Iterable[Work]) -> list[Work]:
        """Let other workers do this work, in its order, before all else. Returns what is to be cancelled instead."""
        force = self._force
        back = [work for work in works if not work.over]
        for work in back:
            work.taken_back()
        if force.killed or force.cancelling:
            return back
        force.pending.extendleft(reversed(back))
        return []

    # -- whoever has given work: sending, without the lock -------------------------------------------------------------

    def send(self, given: Iterable[Worker]) -> None:
        """Send what these workers were given, and what they get where some of it can't be sent."""
        try:
            todo = deque(given)
            while todo:
                worker = todo.popleft()
                for work in self._send(worker):
                    todo += self._over(worker, work)
        except BaseException:
            self.go_on_elsewhere()
            raise
        hiring = self._force.hiring
        if hiring.outcasts:
            with self._force.lock:
                outcasts, hiring.outcasts = hiring.outcasts, []
            self.fail(outcasts)

    def go_on_elsewhere(self) -> None:
        """Ctrl-C has come in the middle: let another thread give out what waits, and send what was given."""
        self.callbacks.run(self._go_on_here)

    def _go_on_here(self) -> None:
        force = self._force
        with force.lock:
            over = [(worker, work) for worker in force.workers if not worker.sending for work in worker.left()]
        for worker, work in over:
            self.send(self._over(worker, work))
        with force.lock:
            self.match()
            left = [worker for worker in force.workers if worker.unsent]
        self.send(left)

    def _send(self, worker: Worker) -> list[Work]:
        """Send a worker what it was given, unless another thread does. Returns what was not to be sent: it is over."""
        lock, unsent = self._force.lock, worker.unsent
        over: list[Work] = []
        while True:
            mine = False
            try:
                with lock:
                    if worker.sending or not unsent:
                        return over
                    mine = worker.sending = True
                while unsent:
                    work = unsent[0]
                    if not self._send_one(worker, work):
                        over.append(work)
                    with lock:
                        if unsent and unsent[0] is work:
                            unsent.popleft()
                    if worker.dead:
                        self._gone(worker)
            finally:
                if mine:
                    worker.sending = False

    def _send_one(self, worker: Worker, work: Work) -> bool:
        """Send a worker a piece of work. False where it is over without that."""
        if work.over:
            return False
        try:
            if not work.number:  # else Ctrl-C came after it was sent, and before it was taken out of what is not
                worker.send(work, partial(self._answered, worker, work))
        except LaneClosed:
            self._gone(worker)
        except Exception as error:
            work.fail(error)
            return False
        except BaseException as error:
            # Ctrl-C: it was sent, and has a number, or it was not, and is sent by another thread. Where the same comes
            # there, it is what encoding the arguments raises.
            if not work.torn or work.number:
                work.torn = True
                raise
            work.fail(error)
            return False
        else:
            if work.over and work.worker is worker:
                worker.interrupt(work.number)  # it was given up in the middle of this, or is done already
            self._force.clocks.watch(worker)
        return True

    def _over(self, worker: Worker, work: Work, answered: bool = False) -> list[Worker]:
        """A piece of work is over, by an answer or without one: complete the future. Returns who is to be sent more."""
        force, future = self._force, work.future
        with force.lock:
            mine, work.over = not work.over, True
            if work.worker is worker and work in worker.queue:
                worker.over(work, work.number != 0)
            held = mine and future.has_callbacks and not worker.queue and not force.pending
            if held:
                worker.delivering = True
            given, leaving = ([], []) if held else self._go_on(worker)
        if held:
            try:
                self._deliver(work)
            finally:
                with force.lock:
                    worker.delivering = False
                    given, leaving = self._go_on(worker)
        stop(leaving)
        if not worker.queue:
            force.clocks.watch_idle(worker)
        if mine and not held:
            if answered:
                self.send(given)  # first, so that the worker need not wait
                given = []
            self._deliver(work, hops=True)
        return given

    # -- completing ----------------------------------------------------------------------------------------------------

    def _deliver(self, work: Work, hops: bool = False) -> None:
        """Complete a future. Its callbacks run here, or where it `hops`, on the thread for callbacks."""
        future = work.future
        future.hops = hops
        self._delivering(work.deliver)
        if not future.hopped:
            self._force.settle(work)

    def run_callbacks(self, work: Work, run: Callable[[], object]) -> None:
        """Run the callbacks of a future that hops."""

        def job() -> None:
            try:
                self._delivering(run)
            except BaseException:
                _log.critical("a done-callback of a task has raised what would end the thread", exc_info=True)
            finally:
                self._force.settle(work)

        work.future.hopped = True
        self.callbacks.run(job)

    def _delivering(self, run: Callable[[], object]) -> None:
        """Do something on a thread on which a shutdown does not wait."""
        delivering, me = self._force.delivering, threading.get_ident()
        outer = me in delivering
        delivering.add(me)
        try:
            run()
        finally:
            if not outer:
                delivering.discard(me)

    def fail(self, works: list[Work]) -> None:
        """The pool is broken: nobody will do this work."""
        for work in works:
            work.fail(self._force.hiring.breakdown())
            self._deliver(work)

    # -- the reading thread of a worker --------------------------------------------------------------------------------

    def _answered(self, worker: Worker, work: Work, answer: Future[Any]) -> None:
        if worker.dead or work.worker is not worker:
            return  # it was told before what became of its work
        error = answer.exception()
        if error is not None and worker.lost(error):
            self._died(worker, error)
        elif work.given_back:
            self._came_back(worker, work)
        else:
            try:
                if error is None:
                    work.answer(answer.result())
                else:
                    work.fail(error)
            except ProtocolError as bad:
                self._died(worker, broken_lanes.bad_message(worker.life, bad, work.service))
                return
            worker.served += work.count
            self._force.hiring.went_well()
            self.send(self._over(worker, work, answered=True))

    def _came_back(self, worker: Worker, work: Work) -> None:
        """A worker has given back what it had not begun."""
        with self._force.lock:
            worker.over(work, False)
            cancelled = self._put_back([work])
            given, leaving = self._go_on(worker)
            given += self.match()
        stop(leaving)
        self.send(given)
        for each in cancelled:
            each.future.cancel()

    def _died(self, worker: Worker, crash: BaseException) -> None:
        """A worker has died, or was ended: its work is over, or goes to others."""
        force = self._force
        error = crash
        if not isinstance(crash, DomainCrashed):
            error = CallCancelled(f"pool {force.name!r} was ended before the task was done")
            error.__cause__ = crash
        noted = worker.noted()
        worker.let_go()
        back: list[Work] = []
        over: list[Work] = []
        with force.lock:
            worker.dead = True
            force.drop(worker)
            sent = [work for work in worker.queue if work.number]
            for place, work in enumerate(sent):
                item = _item(work, place, noted)
                worker.queue.remove(work)
                if work.over:
                    continue
                own = late(crash) if worker.late is work and isinstance(crash, DomainCrashed) else error
                if force.killed and (item != 0 or work.first):
                    work.fail(own)
                elif work.left(item, crash, own):
                    back.append(work)
                    continue
                work.over = True
                over.append(work)
            cancelled = self._put_back(back)
            failed: list[Work] = []
            if not worker.served and not (noted and noted[0]):
                failed = force.hiring.failed(crash)
            given = self.match()
            sending = worker.sending
        self.send(given)
        if not sending:  # else whoever sends finds out by itself what was not sent yet
            self._gone(worker)
        for work in over:
            self._deliver(work)
        for work in cancelled:
            work.future.cancel()
        self.fail(failed)

    # -- any thread ----------------------------------------------------------------------------------------------------

    def _gone(self, worker: Worker) -> None:
        """A worker has died before it could be sent all that it was given: that goes to others.

        What was sent is told by its reading thread, unless there is nothing of it.
        """
        force = self._force
        error = worker.life.error()
        failed: list[Work] = []
        with force.lock:
            force.drop(worker)
            # Once it is known to be dead, what was sent before is with others already.
            unsent = [work for work in worker.queue if worker.dead or not work.number]
            for work in unsent:
                worker.queue.remove(work)
                work.sendings -= work.first
            worker.unsent.clear()
            cancelled = self._put_back(unsent)
            if not worker.queue and not worker.dead:
                worker.dead = True
                if not worker.served:
                    failed = force.hiring.failed(error)
            given = self.match()
        self.send(given)
        for work in cancelled:
            work.future.cancel()
        self.fail(failed)


def _item(work: Work, place: int, noted: tuple[int, int] | None) -> int | None:
    """Which item of a dead worker's work had begun last, 0 for none, None where it is not known.

    `place` is that of the work among what it had, `noted` what it has noted. Its answers come in their order, and leave
    it before it begins the next piece: so without a note the first one alone may have begun.
    """
    if noted is None:
        return None if place == 0 else 0
    number, item = noted
    if work.number == number:
        return item
    return 0 if work.number > number else work.count
