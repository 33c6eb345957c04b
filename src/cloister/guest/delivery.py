"""Where a thread may be interrupted, and how an exception gets there.

Code of a domain may be a host too: it makes domains, waits for them, submits to them. Python raises what another thread
sends between any two steps, also between the step that takes a lock and the one that sees to its return, and nobody
gives it back then. At the level ``thread`` such locks are the program's. So nothing is raised where cloister works for
a host, or where the libraries work that guard what threads share: `threading`, futures, queues, logging. Who wants to
interrupt looks where the thread stands, and comes back later where that is such a place; the way of a call pays
nothing for it.

A thread may be interrupted

- in any other code: of the user, of other libraries, of the guest that calls them. What the guest's serving code calls
  is the user's, whichever way leads there; that is the rule, and `_OWN` names what is left out. A function that the
  work for a host calls in its middle (a done-callback in a `cancel`, a handler of an event) is a part of that work;
- where it waits for the answer of a domain, or for a condition: whoever waits there is ready for that;
- where it has slept at one instruction for `STANDS_S`: it waits for something else then, and works on nothing. Whether
  it sleeps, Linux tells; elsewhere a thread that stands is taken to.

**The look and the sending are one step.** Between two steps of Python code another thread may run, and be where it must
not be torn by then. So the place is compared once more, and the exception sent, by one expression of functions in C,
during which nobody else has the interpreter lock. The exception arrives with the next step at that place, or at the
very beginning of what is called there. A Python without that lock has no such step, and there a rare tear remains.

The handler of a signal is on the thread itself: it needs the look alone. One thread at a time uses a `Delivery`.
"""

from __future__ import annotations

import ctypes
import operator
import os
import sys
import threading
import time
from functools import cache
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

from cloister.guest.coroutines import Coroutines, guarded
from cloister.lanes.frame_lane import FrameLane

if TYPE_CHECKING:
    from types import CodeType, FrameType

__all__ = ["STANDS_S", "Delivery"]

STANDS_S: Final = 0.1
"""How long a thread stands at one instruction until that is a wait. What works for a host goes on in microseconds."""

RUNS: Final = object()
"""Said of a thread that runs, or could."""

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)

_WAITS: Final = {FrameLane._read.__code__, FrameLane._wait_until.__code__, FrameLane._send_rest.__code__}
"""What waits for a lane, and holds nothing meanwhile."""


def _file_of(function: Any) -> str:
    """The name that the code of a module has; in a frozen program it is no path."""
    name: str = function.__code__.co_filename
    return name


_ROOT: Final = os.path.dirname(os.path.dirname(_file_of(_file_of))) + os.sep
"""How the names of cloister's files begin."""
_OWN: Final = tuple(
    os.path.join(_ROOT, *name)
    for name in (
        ["domain", ""],
        ["executor", ""],
        ["lanes", ""],
        ["levels", ""],
        ["waits.py"],
        ["guest", "control.py"],
        ["guest", "coroutines.py"],
        ["guest", "host.py"],
        ["guest", "interrupts.py"],
        ["guest", "pool.py"],
        ["guest", "shared.py"],
        ["guest", "threads.py"],
    )
)
"""How the names of those begin that work for a host, or serve one."""
_LENT: Final = tuple(
    os.path.join(_ROOT, *name)
    for name in (
        ["domain", "creation.py"],
        ["domain", "default.py"],
        ["domain", "mapping.py"],
        ["contexts", ""],
        ["objects", ""],
        ["wire", ""],
    )
)
"""How the names of those begin that call the user's code, and hold nothing meanwhile that it could tear. So does all of
the guest that is not in `_OWN`."""
_GUEST: Final = os.path.join(_ROOT, "guest", "")
_RUNS_USERS: Final = {Coroutines.run.__code__, guarded.__code__}
"""What runs coroutines of the user's, in a file of `_OWN`."""
_PROGRAMS: Final = tuple(os.path.join(_ROOT, name, "") for name in ("cli", "integrations"))
"""How the names of those begin that use the library as a user's program does; the demo's modules are among them."""
_THREADING: Final = _file_of(threading.Event.set)
_GUARDS: Final = {
    os.path.join(os.path.dirname(_THREADING), *name)
    for name in (
        ["threading.py"],
        ["queue.py"],
        ["concurrent", "futures", "_base.py"],
        ["logging", "__init__.py"],
        ["weakref.py"],
        ["_weakrefset.py"],
    )
}
"""The libraries that guard what threads share; and those whose code runs where an exception goes nowhere."""


@cache
def _waiting_at() -> frozenset[int]:
    """The instructions at which `threading.Condition.wait` waits."""
    import dis

    found, seen = set(), False
    for step in dis.get_instructions(threading.Condition.wait):
        if step.argval == "acquire":
            seen = True
        elif seen and step.opname.startswith("CALL"):
            found.add(step.offset)
            seen = False
    return frozenset(found)


class Delivery:
    """What is on its way to one thread, the one that makes this."""

    __slots__ = ("_native", "_place", "_since")

    def __init__(self, by_signal: bool = False) -> None:
        """`by_signal`: the look is that of a handler, during which the thread always runs."""
        self._native = 0 if by_signal else threading.get_native_id()
        self._place: tuple[object, ...] = ()
        """Where it stood when it was looked at last, where it could not be interrupted."""
        self._since = 0.0

    def fits(self, frame: FrameType, at: int, patient: bool = False, lasting: bool = False) -> bool:
        """Whether a thread may be interrupted that stands in this frame, at this instruction of it.

        To be asked again soon where not. `patient`: also not while it imports, or runs a finalizer. `lasting`: not
        while it runs a finalizer.
        """
        if _starts_a_thread(frame) or ((patient or lasting) and _passes(frame, imports=patient)):
            return False
        if not _is_at_work(frame, at):
            self._place = ()
            return True
        now, place = time.monotonic(), (id(frame), at, *_switches(self._native))
        if place != self._place:
            self._place, self._since = place, now
        return place[-1] is not RUNS and now - self._since >= STANDS_S

    def send(self, thread: int, error: type[BaseException], patient: bool = False, lasting: bool = False) -> bool:
        """Raise an exception in a thread of this interpreter; False where it is to be tried again soon."""
        frame = sys._current_frames().get(thread)
        if frame is None:
            return True  # it has ended
        at = frame.f_lasti
        return self.fits(frame, at, patient, lasting) and _send_where(thread, frame, at, error)


if sys.platform == "linux":

    def _switches(native: int) -> tuple[object, ...]:
        """How often the kernel has taken a thread from its processor, and whether it waits for one or has one now.

        Who waits for the interpreter lock, or comes back to the same place again and again, is told so from who sleeps.
        """
        try:
            with open(f"/proc/self/task/{native}/status", "rb") as status:
                lines = status.read().splitlines()
        except OSError:
            return ()
        state = next((line for line in lines if line.startswith(b"State:")), b"")
        return (*(line for line in lines if b"ctxt_switches" in line), RUNS if b"R" in state else state)

else:  # another platform

    def _switches(native: int) -> tuple[object, ...]:
        """Nothing is known."""
        return ()


def _is_at_work(frame: FrameType, at: int) -> bool:
    """Whether cloister works there for a host, or serves one; or a library guards something."""
    code = frame.f_code
    if code.co_filename in _GUARDS:
        return code is not threading.Condition.wait.__code__ or at not in _waiting_at()
    outer: FrameType | None = frame
    ours = foreign = False
    while outer is not None:
        code = outer.f_code
        file = code.co_filename
        if not file.startswith(_ROOT) or file.startswith(_PROGRAMS):
            if ours:
                return False  # what is ours was called by other code, and works for nobody else
            foreign = True
        elif code in _WAITS or (foreign and _calls_users(code)):
            return False
        elif file.startswith(_OWN):
            return True
        else:
            ours, foreign = True, False
        outer = outer.f_back
    return False


def _calls_users(code: CodeType) -> bool:
    """Whether what is called there, and is not cloister's, is the user's."""
    file = code.co_filename
    if file.startswith(_LENT) or code in _RUNS_USERS:
        return True
    return file.startswith(_GUEST) and not file.startswith(_OWN)


def _passes(frame: FrameType | None, imports: bool) -> bool:
    """Whether a finalizer runs in this frame or further out, or, with `imports`, a module is being imported there.

    A module that is torn can leave others behind that never work again; what is raised in a finalizer goes nowhere.
    """
    while frame is not None:
        code = frame.f_code
        name = code.co_name
        if name == "__del__":
            return True
        if imports and name == "_find_and_load" and code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _starts_a_thread(frame: FrameType) -> bool:
    """Whether the thread waits for one that it has started. Until that one runs, Python 3.11 may take it for this one:
    both have the same number, and it would get the exception."""
    outer: FrameType | None = frame
    while outer is not None and outer.f_code.co_filename == _THREADING:
        if outer.f_code.co_name == "start":
            return True
        outer = outer.f_back
    return False


def _send_where(thread: int, frame: FrameType, at: int, error: type[BaseException]) -> bool:
    """Send it if the thread stands in this very frame at this instruction. One step; see above."""
    frames = map(operator.methodcaller("get", thread), map(operator.call, [sys._current_frames]))
    if_there = compress([thread], map(operator.is_, frames, [frame]))
    if_still = compress(if_there, map(operator.eq, map(getattr, [frame], ["f_lasti"]), [at]))
    return any(map(_set_async_exc, if_still, [error]))
