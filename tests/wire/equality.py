"""When a value that has travelled is the same as the one that was sent: type and content, all the way down."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["same"]


def same(left: Any, right: Any) -> bool:
    """Say whether two values have the same types and the same content, -0.0 and NaN told apart from all others."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left.hex() == right.hex() or (math.isnan(left) and math.isnan(right))
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, dict):
        if hasattr(left, "__dict__") and not same(vars(left), vars(right)):
            return False
        return all(same(a, b) for a, b in zip(left.items(), right.items(), strict=True)) and len(left) == len(right)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, set | frozenset):
        return left == right and sorted(str(type(item)) for item in left) == sorted(str(type(item)) for item in right)
    if isinstance(left, slice):
        return same((left.start, left.stop, left.step), (right.start, right.stop, right.step))
    if hasattr(left, "fold") and (left.fold != right.fold or repr(left.tzinfo) != repr(right.tzinfo)):
        return False
    if type(left).__name__ == "Decimal":
        return str(left) == str(right)
    return bool(left == right)
