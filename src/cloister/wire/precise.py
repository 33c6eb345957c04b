"""Decimal, Fraction and UUID as leaves; the payloads are in the table of `scalars`.

Each module of the standard library is imported with the first value that needs it. Pure; any thread may enter.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.limits import WireLimits
from cloister.wire.scalars import int_from_bytes, int_to_bytes

if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction
    from uuid import UUID

    from cloister.wire.decoding import Decoding
    from cloister.wire.encoding import Encoding

__all__ = ["READERS", "writer_of"]

DECIMAL_CODE: Final = 8
FRACTION_CODE: Final = 9
UUID_CODE: Final = 10

_LENGTH: Final = struct.Struct(">I")


def _exponent_is_within(value: Decimal, text: str, limits: WireLimits) -> bool:
    # Without an E the exponent is not larger than the text is long.
    if "E" not in text:
        return True
    lowest = limits.decimal_exponent + limits.decimal_digits
    return abs(value.adjusted()) <= limits.decimal_exponent and abs(int(value.as_tuple().exponent)) <= lowest


def _write_decimal(value: Decimal, encoding: Encoding) -> object:
    text = str(value)
    limits = encoding.limits
    if len(text) > limits.decimal_digits or not _exponent_is_within(value, text, limits):
        raise MarshalError(
            f"this decimal has more than {limits.decimal_digits:,} digits or an exponent beyond "
            f"{limits.decimal_exponent:,}. Round it, or raise the limits decimal_digits and decimal_exponent"
        )
    return encoding.ext(DECIMAL_CODE, text.encode("ascii"))


def _read_decimal(payload: bytes, decoding: Decoding) -> Decimal:
    from decimal import Decimal

    if len(payload) > decoding.limits.decimal_digits:
        raise ProtocolError(f"bad value: a decimal of {len(payload):,} characters exceeds the limit")
    text = payload.decode("ascii")
    value = Decimal(text)
    if str(value) != text or not _exponent_is_within(value, text, decoding.limits):
        raise ProtocolError("bad value: a decimal is not in its normal form, or beyond the limit")
    return value


def _write_fraction(value: Fraction, encoding: Encoding) -> object:
    numerator, denominator = int_to_bytes(value.numerator), int_to_bytes(value.denominator)
    limit = encoding.limits.fraction_bytes
    if len(numerator) > limit or len(denominator) > limit:
        raise MarshalError(
            f"a part of this fraction exceeds the limit of {limit:,} bytes. Use limit_denominator(), send its two "
            "integers, or raise the limit fraction_bytes"
        )
    return encoding.ext(FRACTION_CODE, _LENGTH.pack(len(numerator)) + numerator + denominator)


def _read_fraction(payload: bytes, decoding: Decoding) -> Fraction:
    from fractions import Fraction

    size = _LENGTH.unpack_from(payload)[0]
    numerator, denominator = payload[4 : 4 + size], payload[4 + size :]
    limit = decoding.limits.fraction_bytes
    if len(numerator) > limit or len(denominator) > limit:
        raise ProtocolError(f"bad value: a part of a fraction exceeds the limit of {limit:,} bytes")
    above, below = int_from_bytes(numerator), int_from_bytes(denominator)
    value = Fraction(above, below)
    if value.denominator != below:
        raise ProtocolError("bad value: a fraction is not in its lowest terms")
    return value


def _write_uuid(value: UUID, encoding: Encoding) -> object:
    return encoding.ext(UUID_CODE, value.bytes)


def _read_uuid(payload: bytes, decoding: Decoding) -> UUID:
    from uuid import UUID

    return UUID(bytes=payload)


READERS: Final[dict[int, Callable[[bytes, Decoding], object]]] = {
    DECIMAL_CODE: _read_decimal,
    FRACTION_CODE: _read_fraction,
    UUID_CODE: _read_uuid,
}


def writer_of(kind: type) -> Callable[[Any, Encoding], object] | None:
    """Give the writer of Decimal, Fraction or UUID, or None."""
    # The type exists, so its module has been imported; the import below finds it.
    if kind.__module__ == "decimal":
        from decimal import Decimal

        return _write_decimal if kind is Decimal else None
    if kind.__module__ == "fractions":
        from fractions import Fraction

        return _write_fraction if kind is Fraction else None
    from uuid import UUID

    return _write_uuid if kind is UUID else None
