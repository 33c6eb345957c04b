"""The page that a host and its guest share: signs of life, and stacks as `faulthandler` leaves them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

if sys.platform != "linux":
    pytest.skip("only Linux has such a page", allow_module_level=True)

from cloister.pipes.page_linux import Page, rewind


@contextmanager
def both_sides() -> Iterator[tuple[Page, Page, int]]:
    """The host's page, the guest's page, and the descriptor that the guest's fault handler writes to."""
    host, fd = Page.create()
    yield host, Page(fd), fd
    os.close(fd)


def test_beat_is_seen_by_the_other_side() -> None:
    """A sign of life is there with its number, its time on the clock of both, and the CPU time."""
    with both_sides() as (host, guest, _):
        assert host.beat() == (0, 0, 0)
        before = time.monotonic_ns()
        assert guest.note_beat(7, 123)
        number, at, cpu = host.beat()
        assert (number, cpu) == (7, 123)
        assert before <= at <= time.monotonic_ns()


def test_beats_leave_the_lanes_alone() -> None:
    """The first and the last slot do not touch what lies beside them."""
    with both_sides() as (host, guest, fd):
        for lane in (0, Page.slots - 1):
            guest.cpus[8 * lane + 1] = 0xFFFF
            guest.cancels[2 * lane + 1] = 2**64 - 1
        assert host.beat() == (0, 0, 0)
        assert host.take_stacks() == ""
        os.write(fd, b"stacks")
        assert host.cancels[2 * Page.slots - 1] == 2**64 - 1


def test_stacks_are_taken_once_whether_the_guest_rewinds_or_not() -> None:
    """What was written is told once; the next is found at the start, or behind it where the guest was too busy."""
    with both_sides() as (host, _, fd):
        assert host.take_stacks() == ""
        os.write(fd, b"first\n")
        assert host.take_stacks() == "first"
        assert host.take_stacks() == ""
        os.write(fd, b"it did not rewind")
        assert host.take_stacks() == "it did not rewind"
        rewind(fd)
        os.write(fd, b"it did")
        assert host.take_stacks() == "it did"
        assert host.take_stacks() == ""


def test_stacks_may_fill_the_page() -> None:
    """Text to the last byte is taken whole; after it nothing is found, and nothing fails."""
    with both_sides() as (host, _, fd):
        written = 0
        while True:
            try:
                count = os.write(fd, b"x" * 65536)
            except OSError:
                break
            if not count:
                break
            written += count
        assert len(host.take_stacks()) == written
        assert host.take_stacks() == ""
