"""How code that runs for a caller who does not want it any more is stopped.

The host names a call, by lane and number; a request for a call that is over is ignored, and a call that has not begun
is not begun. Two ways lead there:

- a call on the *main thread*: the host writes the number into the shared page and sends `INTERRUPT`. The handler runs
  on the main thread, so it sees exactly which call it interrupts. It breaks a sleep, a blocking read and a runaway
  regular expression at once, which a message alone would not.
- a call on *another thread*: the control thread raises an asynchronous exception there. It arrives with the next step
  of Python code, so a sleep or a native call ends first.

Only the user's code is interrupted. While a call waits for an answer of the host, the exception waits too, because it
would tear what is being read: the host that wants to stop a call is not in the middle of answering it. It waits where
a lock could be torn, which is in `delivery`. And it waits, for at most `IMPORT_S`, while a module is imported: one that
is torn in the middle can leave others behind that never work again, and the next call would meet them.

An exception that is raised in the middle of a finalizer is lost there: Python prints it and goes on. So the guest hears
of that, and the call is told to stop once more (`hear_lost`).

The end of the domain is raised on the main thread by the same rules: not where something could be torn, and not in a
finalizer, for as long as a part of the time that the stop has. The signal is repeated until then.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from cloister.guest.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import FrameType

    from cloister.pipes.page import Page

__all__ = [
    "DUMP",
    "INTERRUPT",
    "LOOKS",
    "STOP_SHARE",
    "Interrupted",
    "Running",
    "StopRequested",
    "hear_lost",
    "install",
]

if sys.platform == "linux":
    INTERRUPT: Final[int] = signal.SIGRTMIN + 6
    """The signal that interrupts the main thread. Real-time signals are not used by Python, and rarely by others."""
    DUMP: Final[int] = signal.SIGRTMIN + 7
    """The signal that makes `faulthandler` write all stacks. Its handler is C and needs no interpreter lock."""
elif sys.platform != "win32":  # another platform
    INTERRUPT = signal.SIGUSR1
    DUMP = signal.SIGUSR2
else:  # another platform
    INTERRUPT = DUMP = 0


class Interrupted(BaseException):
    """The caller does not want the answer any more. Not an `Exception`, so that code which catches those lets it by."""


class StopRequested(BaseException):
    """The domain is to end: raised on the main thread, so that its exit hooks run."""


IMPORT_S: Final = 10.0
"""How long an import is let alone. The host's caller does not wait for it; the thread over here is busy that long."""

STOP_SHARE: Final = 0.5
"""The part of the time for a stop during which the end is raised only where nothing is torn."""

LOOKS: Final = 16
"""Turns of an empty loop in which an exception that is on its way arrives: Python looks for one in each. Taking it back
would be wrong: `PyThreadState_SetAsyncExc` with NULL leaves Python 3.11 and 3.12 looking for ever, which is slow, and
under a tracer of 3.11 never ends."""


class Running:
    """What one serving thread runs at this moment, and the way to interrupt it.

    The thread itself writes `number` and `away`, and looks at `cancelling` and `pending` after it has; the control
    thread does the same the other way round. So of a look and a change that cross, one sees the other.
    """

    __slots__ = (
        "_delivery",
        "_lock",
        "away",
        "cancelling",
        "lane",
        "left",
        "number",
        "one_way",
        "pending",
        "serving",
        "stop",
        "thread",
        "unwanted",
    )

    def __init__(self, lane: int, serving: Collection[int] = ()) -> None:
        """`serving`: the numbers of the calls that are served on the lane, nested ones too; its thread keeps them."""
        self.lane = lane
        self.serving = serving
        self.thread = threading.get_ident()
        self.number = 0
        """The number of the call that runs; 0 while none does."""
        self.away = False
        """The call waits for an answer of the host: our own code runs, which must not be torn."""
        self.pending = 0
        """The call that is to be interrupted when its answer is there."""
        self.left: set[int] = set()
        """Calls that were answered before they had ended: their coroutines have swallowed a cancel, and run on."""
        self.unwanted = 0
        """A call that was given up before it began, or after it was over."""
        self.cancelling = 0
        self.one_way = False
        """A call runs that nobody waits for."""
        self.stop: Callable[[], None] | None = None
        """How the call is stopped that runs as a task while this thread waits for it; None where it runs here."""
        self._lock = threading.RLock()  # a finalizer may run and call the host while it is held
        self._delivery = Delivery()

    def interrupt(self, number: int, patient: bool = False) -> bool:
        """Raise `Interrupted` in this thread's call, unless it is over. Called by the control thread.

        Returns True where something would be torn now, and it is to be called again. `patient`: also while it imports.
        """
        with self._lock:
            self.cancelling = number
            self.unwanted = number  # before the look: the thread sets its number, and then looks at this
            if self.number != number:
                if number in self.serving:  # a call that it has made itself is served in the middle of it
                    self.pending = number
            elif self.stop is not None:
                self.stop()
            elif self.away:
                self.pending = number
            else:
                sent = self._delivery.send(self.thread, Interrupted, patient)
                if not sent:
                    self.cancelling = 0
                return not sent
            self.cancelling = 0
            return False

    def interrupt_one_way(self) -> None:
        """Raise `Interrupted` in this thread, once: the domain ends. Called by the control thread, until that is so."""
        if self._delivery.send(self.thread, Interrupted):
            self.one_way = False

    def settle(self, number: int) -> None:
        """Swallow an interruption of a call that has just ended."""
        if self.cancelling == number:
            try:
                with self._lock:
                    pass  # whoever interrupts has done so, or has seen that the call is over
                for _ in range(LOOKS):
                    pass
            except Interrupted:
                pass
            self.cancelling = 0

    def wait_for(self, stop: Callable[[], None]) -> None:
        """The call goes on as a task, which `stop` stops. Raises `Interrupted` where that was on its way."""
        with self._lock:
            self.stop = stop
        if self.cancelling:
            for _ in range(LOOKS):
                pass

    def runs(self, number: int) -> bool:
        """Whether a call still runs, on this thread or as a task that was left behind."""
        return number in self.serving or number in self.left

    def leave(self) -> None:
        """The call is about to wait for the host. Raises `Interrupted` where that was on its way."""
        self.away = True
        if self.cancelling:
            with self._lock:
                pass  # whoever interrupts has not seen that this thread leaves, and has it by now

    def come_back(self) -> None:
        """The host has answered. Raises `Interrupted` where that was asked for meanwhile."""
        self.away = False
        if self.cancelling or self.pending:
            with self._lock:
                pending = self.pending
                if pending == self.number or pending not in self.serving:
                    self.pending = 0
            if pending and pending == self.number:
                raise Interrupted


class MainThread:
    """What the handlers of the main thread's signals know."""

    def __init__(self) -> None:
        self.page: Page | None = None
        """Where the host writes which calls it gives up; None before there is a page, and where there is none."""
        self.running: Running | None = None
        """The main thread's state while it serves a lane."""
        self.wanted: tuple[int, int] | None = None
        """(lane, number) of a call to interrupt, as the control thread has heard."""
        self.told: tuple[int, int] | None = None
        """The last call that was told to stop: once is enough, it may be cleaning up."""
        self._let_alone = (0, 0, 0.0)
        """A call, by lane and number, that imports, and until when it may go on."""
        self._delivery = Delivery(by_signal=True)
        self.stopping = False
        """Set before `INTERRUPT` is sent to end the domain."""
        self.stop_until = 0.0
        """Until when that waits for a moment at which nothing is torn; of `time.monotonic`."""
        self.past_stop = False
        """The main thread has left its loop; it is not to be interrupted again."""
        self.signalled = True
        """A signal reaches it, and ends whatever it does."""
        self.has_loop = False
        """It runs a message loop, which is told to end and never torn: only a call that it serves is interrupted."""

    def on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        """Raise in whatever the main thread does, where that was asked for."""
        running = self.running
        if self.stopping and not self.past_stop:
            if self._is_loops() or not self._may_end(frame):
                return  # in the second case the signal is repeated
            self.past_stop = True
            raise StopRequested
        if running is None:
            return
        number = self.asked_for(running.lane)
        if not number or (running.lane, number) == self.told:
            return
        if number == running.number and running.stop is None and not running.away and self._is_let_alone(number, frame):
            self.wanted = (running.lane, number)  # the signal is repeated
            return
        self.told = (running.lane, number)
        if number != running.number:
            running.unwanted = number
            if number in running.serving:
                running.pending = number
        elif running.stop is not None:
            running.stop()
        elif running.away:
            running.pending = number
        else:
            raise Interrupted

    def _is_loops(self) -> bool:
        """Whether the main thread runs a message loop, and no call in it."""
        running = self.running
        return self.has_loop and (running is None or not running.number or running.stop is not None)

    def _may_end(self, frame: FrameType | None) -> bool:
        """Whether the main thread may be told now that the domain ends."""
        fits = frame is None or self._delivery.fits(frame, frame.f_lasti, lasting=True)
        return fits or time.monotonic() >= self.stop_until

    def _is_let_alone(self, number: int, frame: FrameType | None) -> bool:
        """Whether a call is not to be torn where it is; while it imports, for a while."""
        running = self.running
        if running is None or frame is None or self._delivery.fits(frame, frame.f_lasti, patient=True):
            return False
        now = time.monotonic()
        if self._let_alone[:2] != (running.lane, number):
            self._let_alone = (running.lane, number, now + IMPORT_S)
        return now < self._let_alone[2] or not self._delivery.fits(frame, frame.f_lasti)

    def lost(self, error: type[BaseException]) -> None:
        """The exception has come to nothing: the signal is to be repeated. On the main thread."""
        if issubclass(error, StopRequested):
            self.past_stop = False
        else:
            self.wanted, self.told = self.told, None

    def serves(self, lane: int) -> bool:
        """Whether the main thread serves this lane, and a signal can name a call on it. Any thread may ask."""
        running, page = self.running, self.page
        return running is not None and running.lane == lane and page is not None and lane < page.slots

    def want(self, lane: int, number: int) -> None:
        """Note which call is to be interrupted; one that has not begun does not begin. Control thread."""
        running = self.running
        if running is not None and running.lane == lane:
            running.unwanted = number
        self.wanted = (lane, number)

    def insist(self) -> bool:
        """Repeat the signal where a call is to be interrupted and still runs, or the domain is to end and the main
        thread does not know it; False where that is done. Control thread.

        The host's signal may come in the instant between Python's look for signals and a system call that then blocks,
        or to another thread of the process. It is tried first, because it needs no interpreter lock.
        """
        wanted, running = self.wanted, self.running
        if not (self.stopping and not self.past_stop and not self._is_loops()):
            if wanted is None:
                return False
            if wanted == self.told or running is None or running.lane != wanted[0] or running.number > wanted[1]:
                self.wanted = None
                return False
        if sys.platform == "win32":
            raise NotImplementedError
        try:
            signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)
        except OSError:
            pass  # it is blocked there, and more of them wait than may
        return True

    def asked_for(self, lane: int) -> int:
        """The call of a lane that the host wants to be interrupted, once; 0 for none."""
        page, wanted = self.page, self.wanted
        if wanted is not None and wanted[0] == lane:
            return wanted[1]
        if page is None or lane >= page.slots:
            return 0
        number: int = page.cancels[2 * lane + 1]
        page.cancels[2 * lane + 1] = 0
        return number


def hear_lost(main: Callable[[type[BaseException]], None], other: Callable[[], None]) -> None:
    """Call `main` or `other`, on the thread that was to be interrupted, where a finalizer has swallowed that. `main`
    is told what it was: the end of the domain is raised there alone."""
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        here = threading.current_thread() is threading.main_thread()
        if here and issubclass(unraisable.exc_type, Interrupted | StopRequested):
            main(unraisable.exc_type)
        elif issubclass(unraisable.exc_type, Interrupted):
            other()
        else:
            before(unraisable)

    sys.unraisablehook = hook


def install() -> MainThread:
    """Install the handler of `INTERRUPT`; only the main thread may."""
    main = MainThread()
    if INTERRUPT:
        signal.signal(INTERRUPT, main.on_interrupt)
    return main
