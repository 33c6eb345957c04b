"""Dates, times, durations and zones as leaves; the payloads are in the table of `scalars`.

A zone is a `datetime.timezone` or a `zoneinfo.ZoneInfo` with a key, which the receiver looks up in its own database.
Any other tzinfo is an object with code of its own and has no copy. Pure but for that database; any thread may enter.
"""

from __future__ import annotations

import datetime
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError, ProtocolError

if TYPE_CHECKING:
    from cloister.wire.decoding import Decoding
    from cloister.wire.encoding import Encoding

__all__ = ["READERS", "writer_of"]

DATE_CODE: Final = 16
TIME_CODE: Final = 17
DATETIME_CODE: Final = 18
TIMEDELTA_CODE: Final = 19
ZONE_CODE: Final = 20

_DATE: Final = struct.Struct(">HBB")
_TIME: Final = struct.Struct(">BBBIB")
_DATETIME: Final = struct.Struct(">HBBBBBIB")
_TIMEDELTA: Final = struct.Struct(">iII")
_OFFSET: Final = struct.Struct(">q")

_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_UTC: Final = b"\0" + _OFFSET.pack(0)
_KEY_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/")


def _zone_bytes(zone: datetime.tzinfo | None) -> bytes:
    if zone is None:
        return b""
    if zone is datetime.UTC:
        return _UTC
    if type(zone) is datetime.timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # what pickle uses; typeshed leaves it out
        text = name[0].encode("utf-8", "surrogatepass") if name else b""
        return b"\0" + _OFFSET.pack(offset // _MICROSECOND) + text
    key = _key_of(zone)
    if key is not None:
        return b"\1" + key.encode("utf-8", "surrogatepass")
    raise MarshalError(
        f"a time zone of type {type(zone).__module__}.{type(zone).__qualname__} is not copied. "
        "Use datetime.timezone or a zoneinfo.ZoneInfo with a key, or astimezone(datetime.timezone.utc) before sending"
    )


def _key_of(zone: Any) -> str | None:
    """Give the key of a ZoneInfo, or None for any other zone, and for one that was made from a file."""
    zoneinfo: Any = sys.modules.get("zoneinfo")
    return zone.key if zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo else None


def _zone_from(payload: bytes, decoding: Decoding) -> datetime.tzinfo | None:
    if not payload:
        return None
    if payload == _UTC:
        return datetime.UTC
    if len(payload) > decoding.limits.name_chars:
        raise ProtocolError("bad value: the name of a time zone is too long")
    if payload[0] == 0:
        offset = datetime.timedelta(microseconds=_OFFSET.unpack_from(payload, 1)[0])
        name = payload[1 + _OFFSET.size :].decode("utf-8", "surrogatepass")
        return datetime.timezone(offset, name) if name else datetime.timezone(offset)
    if payload[0] != 1:
        raise ProtocolError(f"bad value: time zone kind {payload[0]} does not exist")
    key = payload[1:].decode("utf-8", "surrogatepass")
    # The database looks for a key in the file system and in a package: only what can be the name of a zone goes there.
    if not key or not _KEY_CHARACTERS.issuperset(key) or key[0] == "/" or "//" in key:
        raise ProtocolError("bad value: the key of a time zone has other characters than keys have")
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(key)
    except (LookupError, ValueError, OSError) as error:
        raise MarshalError(
            f"the time zone {key!r} arrived, which this machine does not know. Install the package tzdata, or send the "
            "time in UTC"
        ) from error


def _write_date(value: datetime.date, encoding: Encoding) -> object:
    return encoding.ext(DATE_CODE, _DATE.pack(value.year, value.month, value.day))


def _read_date(payload: bytes, decoding: Decoding) -> datetime.date:
    return datetime.date(*_DATE.unpack(payload))


def _write_time(value: datetime.time, encoding: Encoding) -> object:
    head = _TIME.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)
    return encoding.ext(TIME_CODE, head + _zone_bytes(value.tzinfo))


def _read_time(payload: bytes, decoding: Decoding) -> datetime.time:
    hour, minute, second, microsecond, fold = _TIME.unpack_from(payload)
    zone = _zone_from(payload[_TIME.size :], decoding)
    return datetime.time(hour, minute, second, microsecond, zone, fold=fold)


def _write_datetime(value: datetime.datetime, encoding: Encoding) -> object:
    head = _DATETIME.pack(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.fold
    )
    zone = value.tzinfo
    return encoding.ext(DATETIME_CODE, head if zone is None else head + _zone_bytes(zone))


def _read_datetime(payload: bytes, decoding: Decoding) -> datetime.datetime:
    year, month, day, hour, minute, second, microsecond, fold = _DATETIME.unpack_from(payload)
    zone = _zone_from(payload[_DATETIME.size :], decoding)
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _write_timedelta(value: datetime.timedelta, encoding: Encoding) -> object:
    return encoding.ext(TIMEDELTA_CODE, _TIMEDELTA.pack(value.days, value.seconds, value.microseconds))


def _read_timedelta(payload: bytes, decoding: Decoding) -> datetime.timedelta:
    days, seconds, microseconds = _TIMEDELTA.unpack(payload)
    if seconds >= 86_400 or microseconds >= 1_000_000:
        raise ProtocolError("bad value: a duration is not in its normal form")
    return datetime.timedelta(days, seconds, microseconds)


def _write_zone(value: datetime.tzinfo, encoding: Encoding) -> object:
    return encoding.ext(ZONE_CODE, _zone_bytes(value))


def _read_zone(payload: bytes, decoding: Decoding) -> datetime.tzinfo:
    zone = _zone_from(payload, decoding)
    if zone is None:
        raise ProtocolError("bad value: a time zone is missing")
    return zone


_WRITERS: Final[dict[type, Callable[[Any, Encoding], object]]] = {
    datetime.date: _write_date,
    datetime.time: _write_time,
    datetime.datetime: _write_datetime,
    datetime.timedelta: _write_timedelta,
    datetime.timezone: _write_zone,
}

READERS: Final[dict[int, Callable[[bytes, Decoding], object]]] = {
    DATE_CODE: _read_date,
    TIME_CODE: _read_time,
    DATETIME_CODE: _read_datetime,
    TIMEDELTA_CODE: _read_timedelta,
    ZONE_CODE: _read_zone,
}


def writer_of(kind: type) -> Callable[[Any, Encoding], object] | None:
    """Give the writer of one of the types above, or None."""
    zoneinfo: Any = sys.modules.get("zoneinfo")
    if zoneinfo is not None and kind is zoneinfo.ZoneInfo:
        return _write_zone
    return _WRITERS.get(kind)
