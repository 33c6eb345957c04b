"""Long work in pieces, with a helper: all of it is done once, whatever happens to either thread."""

from __future__ import annotations

import _thread
import ctypes
import threading
from collections.abc import Callable

import pytest

from cloister.pipes import pieces

SIZE = pieces.LONG + 4321


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on any machine where a helper helps."""
    monkeypatch.setattr(pieces, "_processors", lambda: 2)


def collecting(into: list[tuple[int, int]]) -> Callable[[int, int], None]:
    """Work that only notes what it was asked for."""
    return lambda begin, end: into.append((begin, end))


def whole(done: list[tuple[int, int]], size: int) -> bool:
    """Whether the parts cover all of it, each byte once."""
    parts = sorted(done)
    return [begin for begin, _ in parts] == [0, *(end for _, end in parts[:-1])] and parts[-1][1] == size


@pytest.mark.parametrize("size", [1, pieces.LONG - 1, pieces.LONG, SIZE, SIZE + pieces.PIECE])
def test_every_byte_is_done_once(size: int) -> None:
    """Whatever the size, the parts are those of the whole; what is short is done at once."""
    done: list[tuple[int, int]] = []
    pieces.do(collecting(done), size)
    assert whole(done, size)
    assert (len(done) == 1) == (size < pieces.LONG)


def test_both_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper takes pieces while this thread is at its own."""
    both = threading.Barrier(2)
    threads = set()

    def work(begin: int, _: int) -> None:
        threads.add(_thread.get_ident())
        if begin < 2 * pieces.PIECE:
            both.wait(30)

    pieces.do(work, SIZE)
    assert len(threads) == 2


def test_without_a_helper_this_thread_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started nothing differs."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    done: list[tuple[int, int]] = []
    pieces.do(collecting(done), SIZE)
    assert whole(done, SIZE)


def test_interruption_when_the_helper_has_just_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception from another thread that comes as the wait is over is raised; nobody waits for ever."""

    class Interruption(Exception):
        """What is thrown in."""

    class Lock:
        """A lock; who has waited for it is interrupted at that moment."""

        def __init__(self) -> None:
            self.lock, self.count = threading.Lock(), 0

        def acquire(self) -> None:
            self.count += 1
            if self.count == 2:
                waiting.set()
            self.lock.acquire()
            if self.count == 2:
                me = ctypes.c_ulong(_thread.get_ident())
                ctypes.pythonapi.PyThreadState_SetAsyncExc(me, ctypes.py_object(Interruption))

        def release(self) -> None:
            self.lock.release()

    raised: list[BaseException] = []

    def run() -> None:
        mine, both = _thread.get_ident(), threading.Barrier(2)

        def work(begin: int, _: int) -> None:
            if begin < 2 * pieces.PIECE:
                both.wait(30)
            if _thread.get_ident() != mine:
                waiting.wait(30)

        try:
            pieces.do(work, SIZE)
        except Interruption as error:
            raised.append(error)

    waiting = threading.Event()
    monkeypatch.setattr(_thread, "allocate_lock", Lock)
    caller = threading.Thread(target=run, daemon=True)
    caller.start()
    caller.join(10)
    assert not caller.is_alive()
    assert len(raised) == 1


@pytest.mark.parametrize("here", [True, False])
def test_failure_on_either_side_is_raised(here: bool) -> None:
    """What the work raises is raised, here or there, when nobody is at it any more."""
    mine, both = _thread.get_ident(), threading.Barrier(2)
    begun, ended = [], []

    def work(begin: int, _: int) -> None:
        begun.append(begin)
        if begin < 2 * pieces.PIECE:
            both.wait(30)
        if (_thread.get_ident() == mine) == here:
            ended.append(begin)
            raise OSError(12, "no memory")
        ended.append(begin)

    with pytest.raises(OSError, match="no memory"):
        pieces.do(work, SIZE)
    assert sorted(begun) == sorted(ended)
