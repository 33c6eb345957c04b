"""Who is at the other end of a connected Unix socket, as the kernel says. Any thread may enter."""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # before the imports: a type checker for Windows leaves the rest out

import socket
import struct

from cloister.pipes.transport import Peer

__all__ = ["peer_of"]

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
_XUCRED = struct.Struct("=II")  # struct xucred begins with cr_version, cr_uid (sys/ucred.h)
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2  # sys/un.h of macOS; Python has no names for them
_XUCRED_BYTES = 76


def peer_of(sock: socket.socket) -> Peer:
    """The peer at the time of `connect`, `listen` or `socketpair`. Raises OSError when the kernel won't say."""
    if sys.platform == "linux":
        pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return Peer(pid or None, uid)  # 0: a process outside of our pid namespace
    _, uid = _XUCRED.unpack_from(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES))
    return Peer(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID) or None, uid)
