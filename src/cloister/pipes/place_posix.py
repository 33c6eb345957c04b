"""The place of a named pipe on POSIX: is it safe, does a server live there, and how a server claims it.

Here are the checks of folders and sockets, the lock that a living server holds, and the removal of what a dead one
left. Not here: the rules for names (`names`), and the socket itself (`listener_posix`).

A name is claimed by ``flock`` on the lock file beside it, held for the life of the server: the kernel gives it back
however the server ends, and no other server of this user can have it meanwhile. Servers that know nothing of the lock,
such as .NET's, are found by connecting. Only who has the claim removes a socket that answers nobody.

Any thread may enter.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # before the imports: a type checker for Windows leaves the rest out

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator

from cloister.errors import BadName, NameTaken, PipeError
from cloister.pipes.gate_posix import system_error
from cloister.pipes.names import SOCKET_PATH_BYTES, Place

__all__ = ["Claim", "check_socket", "is_claimed", "open_directory", "reachable", "remove_if_same", "set_mode"]

_CLAIM_TRIES = 20
_CLAIM_PAUSE_S = 0.005
"""A client that asks whether a server lives holds a shared lock for some 10 µs; a tenth of a second outlasts many."""

_PATH_ONLY: int = getattr(os, "O_PATH", os.O_RDONLY)
_LONGEST_PATH = SOCKET_PATH_BYTES if sys.platform == "linux" else 103


def open_directory(place: Place, *, make: bool) -> int:
    """Open the folder of our pipes, and of our locks, after looking at whom it belongs to; the caller closes it.

    `make`: create it (not its parents) with mode 0700 when it is missing. Raises FileNotFoundError when it is missing
    otherwise, `BadName` when it is not ours alone, and `PipeError` for what else the system reports.
    """
    directory = os.path.dirname(place.lock_path)
    if make:
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            raise BadName(
                errno.ENOENT,
                f"the folder {os.path.dirname(directory)!r} for pipes does not exist: make it, or set "
                "CLOISTER_RUNTIME_DIR to a folder of yours",
            ) from None
        except OSError as error:
            raise system_error(error, f"the folder {directory!r} for pipes can't be made") from None
    try:
        fd = os.open(directory, _PATH_ONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise BadName(error.errno, f"{directory!r} is no folder, or a symbolic link to one: remove it") from None
        raise system_error(error, f"the folder {directory!r} for pipes can't be opened") from None
    try:
        _check_directory(fd, directory)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_directory(fd: int, directory: str) -> None:
    found = os.fstat(fd)
    me = os.geteuid()
    if found.st_uid != me:
        raise BadName(
            errno.EPERM,
            f"the folder {directory!r} for pipes belongs to user {found.st_uid}, not to user {me}: set "
            "CLOISTER_RUNTIME_DIR to a folder of your own",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise BadName(
            errno.EPERM,
            f"the folder {directory!r} for pipes is open to others (mode {stat.S_IMODE(found.st_mode):04o}): only its "
            "owner may enter it; chmod 0700 it if you trust what is in it",
        )
    # Who may rename things in the parent could put another folder in the place of ours.
    above = os.stat(os.path.dirname(directory) or "/")
    if above.st_uid not in (me, 0) or (above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX):
        raise BadName(
            errno.EPERM,
            f"the folder {directory!r} for pipes lies in a folder where other users can replace it: set "
            "CLOISTER_RUNTIME_DIR to a folder in one of your own",
        )


def check_socket(place: Place, *, current_user_only: bool) -> os.stat_result:
    """Look at what lies at the pipe's path, without following a link.

    Raises FileNotFoundError for nothing, `BadName` for what is no socket, a symbolic link, or, with
    `current_user_only`, another user's, and `PipeError` for what else the system reports.
    """
    try:
        found = os.lstat(place.path)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise BadName(error.errno, f"the pipe path {place.path!r} leads through something that is no folder") from None
    except OSError as error:
        raise system_error(error, f"the pipe {place.path!r} can't be looked at") from None
    if not stat.S_ISSOCK(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not a socket"
        raise BadName(errno.EPERM, f"{place.path!r} is {kind}: it is no pipe, and is neither followed nor removed")
    if current_user_only and found.st_uid != os.geteuid():
        raise BadName(
            errno.EPERM,
            f"the pipe {place.path!r} belongs to user {found.st_uid}, not to user {os.geteuid()}: a client may say "
            "current_user_only=False if it trusts that user, a server needs another name",
        )
    return found


@contextlib.contextmanager
def reachable(place: Place) -> Iterator[str]:
    """A path of the pipe that is short enough for a socket address, for as long as the context lasts.

    Linux reaches the file through an open descriptor of its folder, so there a path of any length will do. Raises
    `BadName` elsewhere, FileNotFoundError when the folder is missing, `PipeError` when it can't be opened.
    """
    length = len(os.fsencode(place.path))
    if length <= _LONGEST_PATH:
        yield place.path
        return
    if sys.platform != "linux":
        raise BadName(
            f"the pipe path {place.path!r} has {length} bytes, and may have {_LONGEST_PATH} here: choose a shorter "
            "name, or set CLOISTER_RUNTIME_DIR to a shorter path"
        )
    fd = open_directory(place, make=False)
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(place.path)}"
    finally:
        os.close(fd)


def is_claimed(place: Place) -> bool:
    """Whether a server of this user lives at this place, listening or not. Never waits, never raises OSError."""
    try:
        fd = os.open(place.lock_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


class Claim:
    """The exclusive right to serve at a place, held from construction to `release`.

    Raises `NameTaken` when another server lives there, `BadName` when the place is not to be trusted, and `PipeError`
    for what else the system reports; then nothing is held.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        try:
            folder = open_directory(place, make=True)
        except FileNotFoundError:  # removed in the moment after it was made
            raise PipeError(errno.ENOENT, f"the folder of {place.lock_path!r} vanished: try again") from None
        os.close(folder)
        self._fd = self._lock()
        try:
            self._remove_stale()
        except BaseException:
            self.release()
            raise

    def _lock(self) -> int:
        path = self.place.lock_path
        for _ in range(_CLAIM_TRIES):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                    raise BadName(error.errno, f"{path!r} is no plain file: remove it") from None
                raise system_error(error, f"the lock {path!r} of the pipe can't be opened") from None
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise BadName(f"{path!r} is no plain file: remove it")
                if self._lock_once(fd):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            time.sleep(_CLAIM_PAUSE_S)
        raise NameTaken(errno.EADDRINUSE, f"the pipe name {self.place.name!r} is taken: {_owner(path)} serves it")

    def _lock_once(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # The server before us may have removed the file between our open and our lock: then nobody else sees it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.lstat(self.place.lock_path)):
                with contextlib.suppress(OSError):  # a full disk; the number only helps in messages
                    os.ftruncate(fd, 0)
                    os.write(fd, b"%d\n" % os.getpid())
                return True
        return False

    def _remove_stale(self) -> None:
        place = self.place
        try:
            found = check_socket(place, current_user_only=True)
            with reachable(place) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                refused = probe.connect_ex(path)
        except FileNotFoundError:
            return
        except PipeError:
            raise
        except OSError as error:
            raise system_error(error, f"the pipe {place.path!r} can't be looked at") from None
        if refused != errno.ECONNREFUSED:
            raise NameTaken(errno.EADDRINUSE, f"the pipe name {place.name!r} is taken: a server answers there")
        remove_if_same(place.path, found)

    def release(self) -> None:
        """Give the place up. A second time: no effect."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.place.lock_path)  # while it is held, so that nobody waits for a file without a name
            self.forget()

    def forget(self) -> None:
        """Close this process's copy of the lock, without giving the place up: for a forked child."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def set_mode(path: str, mode: int) -> None:
    """Let in whom `mode` lets in to a socket of ours. No link is followed.

    Raises OSError, with ENOTSOCK when somebody has put something else there.
    """
    if sys.platform != "linux":
        os.chmod(path, mode, follow_symlinks=False)
        return
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, "something else was put in its place")
        os.chmod(f"/proc/self/fd/{fd}", mode)  # fchmod() refuses a descriptor that is only a path
    finally:
        os.close(fd)


def remove_if_same(path: str, made: os.stat_result) -> None:
    """Remove a socket file, unless another one lies there by now. Missing already: no error."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.lstat(path), made):
            os.unlink(path)


def _owner(lock_path: str) -> str:
    """The server that holds a lock, for a message."""
    try:
        with open(lock_path, "rb") as file:
            return f"process {int(file.read(32))}"
    except (OSError, ValueError):
        return "another server"
