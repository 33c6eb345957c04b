"""What a guest is before its environment is there: it makes the environment, then becomes the guest.

The host starts this program instead of the guest, and orders on the control channel what to make. It is made here and
not in the host so that it ends with the domain: who unloads or kills the domain, or the host, also ends uv. The exec
keeps the process, its number and its descriptors; the host sees one domain that greets later. The variables of the
guest come with the order, because uv needs those of the host.
"""

from __future__ import annotations

import os
import socket
import sys

from cloister.environments.build import build
from cloister.environments.spec import Spec
from cloister.errors import CloisterError
from cloister.guest import descriptors, lifeline
from cloister.guest.control import Control
from cloister.wire.messages import Kind

__all__ = ["main"]

EXIT_FAILED = 1


def main() -> None:
    """Make the environment that the host orders, and become a guest in it."""
    for fd in range(descriptors.CONTROL, descriptors.FIRST_FREE):
        try:
            os.set_inheritable(fd, False)  # nothing for uv
        except OSError:
            pass  # no page on this platform
    lifeline.tie(os.dup(descriptors.LIFELINE))
    control = Control(socket.socket(fileno=os.dup(descriptors.CONTROL)))
    try:
        order = control.receive_setup(Kind.BUILD)
    except EOFError:
        sys.exit(EXIT_FAILED)
    try:
        python = build(Spec.from_plain(order["spec"]), lambda line: control.send(Kind.BUILDING, "line", line))
        for fd in range(descriptors.CONTROL, descriptors.FIRST_FREE):
            try:
                os.set_inheritable(fd, True)
            except OSError:
                pass
        os.execve(python, [python, *order["arguments"]], order["environment"])  # noqa: S606 - nothing to quote
    except (CloisterError, OSError) as error:
        control.send(Kind.BUILDING, "failed", str(error))
        sys.exit(EXIT_FAILED)
