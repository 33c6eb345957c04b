"""All that leads from a host to one guest, made at once: both ends of each pipe, and the page that they share.

The host's ends become those of the domain, the guest's are placed under the numbers of `cloister.guest.descriptors`. On
any failure nothing is left. Any thread may enter.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass

from cloister.guest import descriptors
from cloister.pipes.duplex import LaneEnd, close_quietly, control_pair, lane_pair
from cloister.pipes.page import Page

assert sys.platform != "win32"

__all__ = ["Wiring", "wire"]


@dataclass(slots=True)
class Wiring:
    """The pipes of one guest."""

    control: socket.socket
    """The host's end of the control channel. Whoever reads and writes it closes it."""
    lane: LaneEnd
    """The host's end of the first lane."""
    output: tuple[int, int]
    """The read ends of its stdout and stderr; they do not block."""
    page: Page
    theirs: dict[int, int]
    """The guest's ends, by the numbers that they have there."""

    def placed(self) -> list[tuple[int, int]]:
        """The guest's ends, as (number here, number there)."""
        return [(fd, number) for number, fd in self.theirs.items()]

    def close_theirs(self) -> None:
        """Close the guest's ends here; it has them."""
        close_quietly(*self.theirs.values())
        self.theirs.clear()

    def close(self) -> None:
        """Close all ends: there will be no guest."""
        self.close_theirs()
        self.control.close()
        self.lane.close()
        close_quietly(*self.output)


def wire() -> Wiring:
    """Make the pipes of a guest. Raises OSError where descriptors or memory are used up."""
    opened: list[int] = []
    try:
        out_reader, out_writer = os.pipe()
        opened += (out_reader, out_writer)
        err_reader, err_writer = os.pipe()
        opened += (err_reader, err_writer)
        os.set_blocking(out_reader, False)
        os.set_blocking(err_reader, False)
        lane, its_lane = lane_pair()
        opened += (*lane, *its_lane)
        page, page_fd = Page.create()
        if page_fd >= 0:
            opened.append(page_fd)
        control, its_control = control_pair()
    except BaseException:
        close_quietly(*opened)
        raise
    theirs = {
        descriptors.CONTROL: its_control.detach(),
        descriptors.LANE_READER: its_lane.reader,
        descriptors.LANE_WRITER: its_lane.writer,
        1: out_writer,
        2: err_writer,
    }
    if page_fd >= 0:
        theirs[descriptors.PAGE] = page_fd
    return Wiring(control, lane, (out_reader, err_reader), page, theirs)
