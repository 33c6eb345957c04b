"""What Windows must be asked through ctypes: events, users, and who is at the other end of a pipe.

Here is what `_winapi`, the part of Python under `subprocess` and `multiprocessing`, leaves out. Reading, writing and
connecting go through `_winapi` itself: it keeps the memory of an operation alive until the system has let go of it.
Not here: any rule of ours. Every function takes and returns plain handles (int), and raises OSError with `winerror`.
Any thread may enter.
"""

from __future__ import annotations

import sys

assert sys.platform == "win32"  # before the imports: a type checker for another platform leaves the rest out

import _winapi
import ctypes
import math
from collections.abc import Sequence
from ctypes import wintypes

from cloister.pipes.deadline import seconds_left

__all__ = [
    "Security",
    "create_event",
    "current_user",
    "default_owner",
    "has_waits",
    "is_server_end",
    "owner_of",
    "peer_pid",
    "reset_event",
    "room_to_write",
    "set_event",
    "wait_any",
]

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")

# A handle is as wide as a pointer: without the types, ctypes would cut it to 32 bits.
_kernel32.CreateEventW.argtypes = [wintypes.LPVOID, wintypes.BOOL, wintypes.BOOL, wintypes.LPCWSTR]
_kernel32.CreateEventW.restype = wintypes.HANDLE
_kernel32.SetEvent.argtypes = [wintypes.HANDLE]
_kernel32.ResetEvent.argtypes = [wintypes.HANDLE]
_kernel32.LocalFree.argtypes = [wintypes.HLOCAL]
_kernel32.LocalFree.restype = wintypes.HLOCAL
_kernel32.GetNamedPipeInfo.argtypes = [wintypes.HANDLE, *[ctypes.POINTER(wintypes.DWORD)] * 4]
_kernel32.GetNamedPipeClientProcessId.argtypes = [wintypes.HANDLE, ctypes.POINTER(wintypes.ULONG)]
_kernel32.GetNamedPipeServerProcessId.argtypes = [wintypes.HANDLE, ctypes.POINTER(wintypes.ULONG)]
_advapi32.OpenProcessToken.argtypes = [wintypes.HANDLE, wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE)]
_advapi32.GetTokenInformation.argtypes = [
    wintypes.HANDLE,
    ctypes.c_int,
    wintypes.LPVOID,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.DWORD),
]
_advapi32.ConvertSidToStringSidW.argtypes = [wintypes.LPVOID, ctypes.POINTER(wintypes.LPWSTR)]
_advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW.argtypes = [
    wintypes.LPCWSTR,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.LPVOID),
    ctypes.POINTER(wintypes.DWORD),
]
_advapi32.GetSecurityInfo.argtypes = [
    wintypes.HANDLE,
    ctypes.c_int,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.LPVOID),
    *[wintypes.LPVOID] * 3,
    ctypes.POINTER(wintypes.LPVOID),
]
_advapi32.GetSecurityInfo.restype = wintypes.DWORD
_ntdll.NtQueryInformationFile.argtypes = [
    wintypes.HANDLE,
    wintypes.LPVOID,
    wintypes.LPVOID,
    wintypes.ULONG,
    ctypes.c_int,
]
_ntdll.NtQueryInformationFile.restype = ctypes.c_long

_TOKEN_QUERY = 0x0008
_TOKEN_USER, _TOKEN_OWNER = 1, 4  # of TOKEN_INFORMATION_CLASS; the result of both begins with a pointer to a SID
_SDDL_REVISION_1 = 1
_SE_KERNEL_OBJECT = 6
_OWNER_SECURITY_INFORMATION = 0x1
_PIPE_SERVER_END = 0x1
_FILE_MODE_INFORMATION, _FILE_PIPE_LOCAL_INFORMATION = 16, 24
_WRITE_QUOTA_AVAILABLE = 7  # of the ten ULONGs of FILE_PIPE_LOCAL_INFORMATION
_IS_WINE = hasattr(_ntdll, "wine_get_version")
_FILE_SYNCHRONOUS_IO = 0x10 | 0x20  # FILE_SYNCHRONOUS_IO_ALERT, FILE_SYNCHRONOUS_IO_NONALERT


def _must(succeeded: int) -> None:
    """Raise the error of the call that has just failed."""
    if not succeeded:
        raise ctypes.WinError(ctypes.get_last_error())


# -- events ----------------------------------------------------------------------------------------------------------


def create_event() -> int:
    """A nameless event, not set, not inherited; a wait that it ends sets it back."""
    handle: int | None = _kernel32.CreateEventW(None, False, False, None)
    _must(handle or 0)
    assert handle is not None
    return handle


def set_event(event: int) -> None:
    """End the wait for `event`, the present one or the next."""
    _must(_kernel32.SetEvent(event))


def reset_event(event: int) -> None:
    """Forget that `event` was set."""
    _must(_kernel32.ResetEvent(event))


def wait_any(handles: Sequence[int], deadline: float | None) -> int | None:
    """Wait until one of at most 63 `handles` is set; the index of the first that is, or None at the deadline.

    A Ctrl-C on the main thread raises KeyboardInterrupt.
    """
    while True:
        left = seconds_left(deadline)
        try:
            found = _winapi.WaitForMultipleObjects(handles, False, math.ceil(left * 1000))
        except InterruptedError:  # Ctrl-C: the handler of the signal runs now, and may raise
            continue
        if found != _winapi.WAIT_TIMEOUT:
            return found - _winapi.WAIT_OBJECT_0
        if left == 0:
            return None


# -- users -----------------------------------------------------------------------------------------------------------


class _SecurityAttributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES."""

    _fields_ = (
        ("length", wintypes.DWORD),
        ("descriptor", wintypes.LPVOID),
        ("inherit", wintypes.BOOL),
    )


class Security:
    """Who may open an object that is about to be made, from a text in SDDL; freed with the object.

    Raises OSError for a text that is no security descriptor.
    """

    def __init__(self, sddl: str) -> None:
        self._attributes = _SecurityAttributes(ctypes.sizeof(_SecurityAttributes), None, False)
        descriptor = wintypes.LPVOID()
        _must(
            _advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(
                sddl, _SDDL_REVISION_1, ctypes.byref(descriptor), None
            )
        )
        self._attributes.descriptor = descriptor.value

    @property
    def address(self) -> int:
        """Where the SECURITY_ATTRIBUTES lie; good for as long as this object lives."""
        return ctypes.addressof(self._attributes)

    def __del__(self) -> None:
        """Free the descriptor, which the system has allocated."""
        if self._attributes.descriptor:
            _kernel32.LocalFree(self._attributes.descriptor)


def current_user() -> str:
    """The security identifier of the user who runs this process, such as ``S-1-5-21-…-1001``."""
    return _of_token(_TOKEN_USER)


def default_owner() -> str:
    """Who owns what this process makes: the user, or for an elevated administrator the group Administrators."""
    return _of_token(_TOKEN_OWNER)


def owner_of(handle: int) -> str:
    """The security identifier of the owner of an object; the handle needs the right READ_CONTROL."""
    owner, descriptor = wintypes.LPVOID(), wintypes.LPVOID()
    code = _advapi32.GetSecurityInfo(
        handle,
        _SE_KERNEL_OBJECT,
        _OWNER_SECURITY_INFORMATION,
        ctypes.byref(owner),
        None,
        None,
        None,
        ctypes.byref(descriptor),
    )
    if code:
        raise ctypes.WinError(code)
    try:
        return _text_of(owner)
    finally:
        _kernel32.LocalFree(descriptor)


def _of_token(what: int) -> str:
    token = wintypes.HANDLE()
    _must(_advapi32.OpenProcessToken(_winapi.GetCurrentProcess(), _TOKEN_QUERY, ctypes.byref(token)))
    assert token.value is not None
    try:
        size = wintypes.DWORD()
        _advapi32.GetTokenInformation(token, what, None, 0, ctypes.byref(size))  # fails, and says how much it needs
        room = ctypes.create_string_buffer(size.value)
        _must(_advapi32.GetTokenInformation(token, what, room, size, ctypes.byref(size)))
        return _text_of(wintypes.LPVOID.from_buffer(room))
    finally:
        _winapi.CloseHandle(token.value)


def _text_of(sid: wintypes.LPVOID) -> str:
    text = wintypes.LPWSTR()
    _must(_advapi32.ConvertSidToStringSidW(sid, ctypes.byref(text)))
    try:
        return text.value or ""
    finally:
        _kernel32.LocalFree(ctypes.cast(text, wintypes.LPVOID))


# -- pipes -----------------------------------------------------------------------------------------------------------


def is_server_end(handle: int) -> bool:
    """Whether `handle` is the server's end of a pipe. Raises OSError when it is no pipe."""
    flags = wintypes.DWORD()
    _must(_kernel32.GetNamedPipeInfo(handle, ctypes.byref(flags), None, None, None))
    return bool(flags.value & _PIPE_SERVER_END)


def peer_pid(handle: int) -> int | None:
    """The process that opened the other end, or None where the system does not tell."""
    pid = wintypes.ULONG()
    ask = _kernel32.GetNamedPipeClientProcessId if is_server_end(handle) else _kernel32.GetNamedPipeServerProcessId
    return pid.value or None if ask(handle, ctypes.byref(pid)) else None


def has_waits(handle: int) -> bool:
    """Whether `handle` was opened without FILE_FLAG_OVERLAPPED, so that every operation on it blocks its thread."""
    mode = (wintypes.ULONG * 1)()
    return _query(handle, _FILE_MODE_INFORMATION, mode) and bool(mode[0] & _FILE_SYNCHRONOUS_IO)


def room_to_write(handle: int) -> int:
    """How many bytes can certainly be written to a pipe without a wait; 0 where the system does not tell.

    A peer that waits in a read makes it less than there is (the size of its read is taken off), never more.
    """
    answer = (wintypes.ULONG * 10)()
    if _IS_WINE or not _query(handle, _FILE_PIPE_LOCAL_INFORMATION, answer):  # Wine tells the size, full or not
        return 0
    return int(answer[_WRITE_QUOTA_AVAILABLE])


def _query(handle: int, what: int, answer: ctypes.Array[wintypes.ULONG]) -> bool:
    """Have the system fill `answer`; whether it did."""
    status = (ctypes.c_void_p * 2)()  # IO_STATUS_BLOCK
    code: int = _ntdll.NtQueryInformationFile(handle, status, answer, ctypes.sizeof(answer), what)
    return code >= 0
