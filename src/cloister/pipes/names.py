"""From the name of a pipe to its place: the rules, and nothing that touches the system.

Here are the rules of both styles and the errors that state them. Not here: whether anything lies at that place,
who owns it, and whether it may be trusted; `transport_posix` and `transport_windows` look. Pure: the environment,
the user and the platform are arguments.

====================  ================================================  ===========================================
style                 POSIX                                             Windows
====================  ================================================  ===========================================
``"cloister"``        ``DIRECTORY/NAME.pipe``, ``DIRECTORY/NAME.lock``  ``\\\\.\\pipe\\cloister-USER-NAME``
``"dotnet"``          ``${TMPDIR:-/tmp}/CoreFxPipe_NAME``; an absolute  ``\\\\.\\pipe\\NAME``
                      path is used as it is
====================  ================================================  ===========================================

DIRECTORY is ``$CLOISTER_RUNTIME_DIR``, else ``$XDG_RUNTIME_DIR/cloister``, else ``/tmp/cloister-UID``. Every server
of cloister also holds a lock for its life, also one with a .NET name: its lock lies in DIRECTORY.

Any thread may enter.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from cloister.errors import BadName

__all__ = [
    "SOCKET_PATH_BYTES",
    "Place",
    "Style",
    "check_name",
    "posix_place",
    "runtime_directory",
    "windows_place",
]

Style: TypeAlias = Literal["cloister", "dotnet"]

SOCKET_PATH_BYTES = 107
"""The longest path of a socket on Linux: ``sun_path`` has 108 bytes, the last is NUL (unix(7)); 103 on macOS."""

NAME_BYTES = 80
"""The longest name in our style, on every platform: with ``.pipe`` behind it and ``/proc/self/fd/1234567/`` before it,
the way that Linux offers to a socket in any folder, it is the path of a socket."""

WINDOWS_PIPE_CHARACTERS = 256
"""The longest path of a Windows pipe, with ``\\\\.\\pipe\\`` (CreateNamedPipeW)."""

_RESERVED = frozenset({"anonymous"})  # .NET refuses this one name, in any case, on every platform; so do we


class Place(NamedTuple):
    """Where a pipe lies on this machine."""

    name: str
    """The name as the user gave it; for messages."""
    style: Style
    path: str
    """The path of the socket, or of the Windows pipe."""
    lock_path: str
    """The lock that a living server holds; empty on Windows, where the first instance of a pipe is the lock."""
    private: bool
    """True where the folder of `path` is ours, and must belong to this user alone."""


def check_name(name: str, style: Style = "cloister") -> None:
    """Accept a name that can be a pipe's in this style, on every platform.

    Raises `BadName` with the rule that the name breaks, ValueError for an unknown style, and TypeError for a name
    that is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"a pipe's name is a str, not {type(name).__name__}")
    if style not in ("cloister", "dotnet"):
        raise ValueError(f"style is 'cloister' or 'dotnet', not {style!r}")
    if not name:
        raise BadName("a pipe's name can't be empty: give it at least one character")
    if name.lower() in _RESERVED:
        raise BadName(f"the pipe name {name!r} is reserved: choose another one")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise BadName(f"the pipe name {name!r} has a lone surrogate: use characters that UTF-8 can write") from None
    if not name.isprintable():
        raise BadName(f"the pipe name {name!r} has a control or other unprintable character: leave it out")
    if style == "dotnet":
        if name.startswith("/"):
            if name.endswith("/"):
                raise BadName(f"the pipe path {name!r} names a folder: give the path of the socket in it")
            return
        if "/" in name:
            raise BadName(f"the pipe name {name!r} has a '/': use a name without one, or an absolute path")
        return
    if "/" in name or "\\" in name:
        raise BadName(f"the pipe name {name!r} has a slash: a name is one word, not a path")
    if name.startswith("."):
        raise BadName(f"the pipe name {name!r} starts with a dot: such a file is hidden, or a folder")
    if len(encoded) > NAME_BYTES:
        raise BadName(
            f"the pipe name {name[:20]!r}… has {len(encoded)} bytes in UTF-8: at most {NAME_BYTES} are allowed"
        )


def runtime_directory(environ: Mapping[str, str], uid: int) -> str:
    """The folder of this user's pipes and locks, an absolute path; it need not exist.

    An empty variable counts as not set. Raises `BadName` for a relative path: two programs with different working
    folders would not meet there.
    """
    for variable, ending in (("CLOISTER_RUNTIME_DIR", ""), ("XDG_RUNTIME_DIR", "cloister")):
        value = environ.get(variable)
        if value:
            if not value.startswith("/"):
                raise BadName(f"{variable} is {value!r}: it must be an absolute path")
            return posixpath.join(value, ending) if ending else value
    return f"/tmp/cloister-{uid}"  # noqa: S108 - the folder is checked to be ours, with mode 0700, before any use


def posix_place(name: str, style: Style, environ: Mapping[str, str], uid: int) -> Place:
    """The place of a pipe on Linux and macOS.

    Raises `BadName` where the name breaks a rule of its style. The length of a path in our style is not checked here:
    Linux has a way around the limit.
    """
    check_name(name, style)
    directory = runtime_directory(environ, uid)
    if style == "cloister":
        stem = posixpath.join(directory, name)
        return Place(name, style, f"{stem}.pipe", f"{stem}.lock", private=True)
    path = name
    if not name.startswith("/"):
        path = posixpath.join(environ.get("TMPDIR") or "/tmp", f"CoreFxPipe_{name}")  # noqa: S108 - .NET's own rule
        if not path.startswith("/"):
            raise BadName(f"TMPDIR is {environ['TMPDIR']!r}: for a pipe of style 'dotnet' it must be an absolute path")
    encoded = path.encode(errors="surrogateescape")  # a folder's name may be no UTF-8; os.environ shows it so
    length = len(encoded)
    if length > SOCKET_PATH_BYTES:
        raise BadName(
            f"the pipe path {path!r} has {length} bytes: a .NET peer can open at most {SOCKET_PATH_BYTES}; "
            "choose a shorter name, or set TMPDIR to a shorter path on both sides"
        )
    # A fixed length, and no character of the path in it: the lock of "/a/b" must not be a folder "a".
    digest = hashlib.sha256(encoded).hexdigest()[:32]
    return Place(name, style, path, posixpath.join(directory, f"dotnet-{digest}.lock"), private=False)


def windows_place(name: str, style: Style, user: str) -> Place:
    r"""The place of a pipe on Windows; `user` is the user's security identifier, such as ``S-1-5-21-…-1001``.

    Names of pipes are global on Windows and know no upper or lower case, so ours carry the user. Raises `BadName`
    where the name breaks a rule.
    """
    check_name(name, style)
    if "\\" in name or name.startswith("/"):
        raise BadName(f"the pipe name {name!r} has a slash: on Windows a name is one word, not a path")
    path = "\\\\.\\pipe\\" + (f"cloister-{user}-{name}" if style == "cloister" else name)
    if len(path) > WINDOWS_PIPE_CHARACTERS:
        raise BadName(
            f"the pipe path {path!r} has {len(path)} characters: at most {WINDOWS_PIPE_CHARACTERS} are allowed"
        )
    return Place(name, style, path, "", private=True)
