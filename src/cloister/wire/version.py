"""The version of the protocol, and what happens when two sides do not speak the same one.

The number changes with anything that a peer could misread: a frame, a kind, the shape of a body, an encoded value. An
addition that an older peer may ignore (an option of a call) does not change it. Pure; any thread may enter.
"""

from __future__ import annotations

from typing import Final

from cloister.errors import ProtocolError, VersionMismatch

__all__ = ["PROTOCOL_VERSION", "check_version"]

PROTOCOL_VERSION: Final = 1


def check_version(theirs: object, cloister_version: object = "", *, peer: str = "the guest") -> None:
    """Accept a peer that says in its greeting that it speaks version `theirs`.

    `cloister_version` is the version of cloister that it runs, as it says; `peer` is what to call it.

    Raises `VersionMismatch` where it speaks another version, and `ProtocolError` where `theirs` is no version at all.
    """
    if type(theirs) is not int or theirs < 1:
        raise ProtocolError(f"{peer} did not say which version of the protocol it speaks")
    if theirs == PROTOCOL_VERSION:
        return
    runs = f" (cloister {cloister_version})" if type(cloister_version) is str and 0 < len(cloister_version) < 40 else ""
    older = f"cloister where {peer} runs" if theirs < PROTOCOL_VERSION else "cloister here"
    raise VersionMismatch(
        f"{peer}{runs} speaks version {theirs} of the protocol, this side speaks version {PROTOCOL_VERSION}. "
        f"Upgrade {older}"
    )
