"""How much a peer may send: every bound of the wire in one place, each with its reason.

Here are numbers only. They are checked in `frames` (from the header, before the body is read) and in `values` (from the
length that a value states, before it is built). Both sides check what they send as well, so that a value that is too
large is an error at the call and not the end of a domain.

What has no number here: the nesting depth is the limit of the msgpack library (1,024 levels; its pure-Python form
stops at the recursion limit of the interpreter), and the length that a container states is never believed beyond the
bytes of its message. A message takes up to 72 times its length in memory when it is decoded, because an empty
list is one byte on the wire: lower `message_bytes` for a guest that you do not trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_LIMITS", "LASTING_BYTES", "OUT_OF_BAND_BYTES", "WireLimits"]

OUT_OF_BAND_BYTES: Final = 16 * 1024
"""Binary data of this length and more leaves the message: it is placed in shared memory, or travels as a buffer of its
own, without being copied into the message first. A longer message does not fit into a lane's pipe at once, and each
side then waits for the other one, which takes longer than shared memory does."""

LASTING_BYTES: Final = 64 * 1024
"""Arrays of this length and more arrive read-only, and stay where they were placed. Shorter ones are copied there, in a
few microseconds, so that many that are kept do not use up what is placed."""


@dataclass(frozen=True, slots=True)
class WireLimits:
    """The bounds of one conversation, all inclusive, none negative. What the host says counts for both sides."""

    frame_bytes: int = 256 * 1024 * 1024
    """All that follows a frame's header. A quarter of a gibibyte holds any picture and most tables; more belongs into
    shared memory. The header itself could say 4 GiB."""

    message_bytes: int = 64 * 1024 * 1024
    """A message without its buffers: numbers, strings and containers. Ten million numbers fit."""

    buffers: int = 1024
    """Buffers beside one message. As many pieces as one `writev` call takes on Linux."""

    integer_bytes: int = 64 * 1024
    """One integer: 157,826 decimal digits. Larger ones cost seconds to print or to divide."""

    fraction_bytes: int = 1024
    """The numerator and the denominator of a fraction, each. Reducing a fraction takes quadratic time."""

    decimal_digits: int = 100_000
    """The digits of a decimal."""

    decimal_exponent: int = 999_999
    """The size of the exponent of a decimal: that of Python's default context. ``int(Decimal("1e999999999"))`` would
    need minutes and hundreds of megabytes."""

    colliding_keys: int = 1024
    """Keys of one dict or set that may have the hash of another of its keys. Their cost is quadratic: 1,024 cost about
    10 ms, 30,000 would cost 10 s."""

    name_chars: int = 512
    """The name of a type, of a member, of a time zone."""


DEFAULT_LIMITS: Final = WireLimits()
