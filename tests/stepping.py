"""Interrupts at each place where Python may run the handler of a signal: what a Ctrl-C does that comes at a bad moment.

Python looks for signals when it enters a function, jumps back in a loop, and after a call of something written in C has
returned; nowhere else. So what has no call in it is not torn, and a test that steps through these places sees all that
a real Ctrl-C may do, and each time the same.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

__all__ = ["Stepper", "each_interrupt", "stepped"]

stepped = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="from 3.13 on a function that runs already is not traced step by step"
)
"""For tests that step through."""

_LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD", "SEND", "YIELD_VALUE", "POP_JUMP_BACKWARD")
_LOOKING = frozenset(
    number for name, number in dis.opmap.items() if name.startswith(_LOOKS) and "INTRINSIC" not in name
)

_AFTER_AN_ERROR = dis.opmap["PUSH_EXC_INFO"]
"""Where a call that has raised leads to: Python does not look there, and an error there would stay handled for ever."""

_WHERE_IT_JUMPS = frozenset(number for name, number in dis.opmap.items() if name.startswith("POP_JUMP_BACKWARD"))


class Stepper:
    """Raises KeyboardInterrupt in the calling thread at the `step`-th place, counted from 1, in files of some paths."""

    def __init__(self, step: int, *paths: str) -> None:
        self.step, self.seen = step, 0
        self.where = ""
        self._paths = paths
        self._last: dict[FrameType, int] = {}
        """Where in its code each function was before."""

    def run(self, action: Callable[[], object]) -> bool:
        """Run this; whether it was interrupted."""
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # from 3.12 on it counts for all functions, and before `settrace` only
        sys.settrace(self._at_call)
        try:
            action()
        except KeyboardInterrupt:
            if not self.where:
                raise
        finally:
            sys.settrace(before)
            self._last.clear()
        assert sys.exc_info() == (None, None, None), "an error that was handled is still being handled"
        return bool(self.where)

    def _at_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if self.where or not any(path in frame.f_code.co_filename for path in self._paths):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._at_step

    def _at_step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode" and not self.where:
            here, last = frame.f_lasti, self._last.get(frame)
            self._last[frame] = here
            code = frame.f_code.co_code
            if last is not None and code[here] != _AFTER_AN_ERROR and self._looks(code[last], here < last):
                self.seen += 1
                if self.seen == self.step:
                    self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                    raise KeyboardInterrupt
        elif event == "return":
            self._last.pop(frame, None)
        return self._at_step

    def _looks(self, operation: int, back: bool) -> bool:
        """Whether Python looks for signals at the end of this operation."""
        return operation in _LOOKING and (back or operation not in _WHERE_IT_JUMPS)


def each_interrupt(action: Callable[[], object], *paths: str, start: int = 1) -> Iterator[Stepper]:
    """Run this again and again, and interrupt it once each time, one place later; end where it was not reached."""
    step = start
    while True:
        stepper = Stepper(step, *paths)
        if not stepper.run(action):
            return
        yield stepper
        step += 1
