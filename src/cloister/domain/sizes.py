"""Amounts of memory as people write them: ``"256MiB"``. Pure; any thread may enter."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["bytes_of"]

_UNITS: Final = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")


def bytes_of(size: int | str, option: str) -> int:
    """The bytes of a size: a number, or a text such as ``"256MiB"`` or ``"1.5 GiB"``.

    Raises TypeError for anything else, and ValueError for a negative one or a unit that does not exist; both name the
    `option`.
    """
    given: object = size
    if type(given) is int and given >= 0:
        return given
    if type(given) not in (int, str):
        raise TypeError(f"{option} is a number of bytes or a text such as '256MiB', not {size!r}")
    found = _SIZE.fullmatch(given.strip()) if isinstance(given, str) else None
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{option} is a number of bytes or a text such as '256MiB' (KiB, MiB, GiB, TiB), not {size!r}")
    return int(float(found[1]) * _UNITS[found[2]])
