"""A class with every operator, for guests and for the comparison with the local one."""

from __future__ import annotations

from typing import Any


def _value(other: Any) -> Any:
    return other.value() if hasattr(other, "value") else other


class Number:
    """A number that says what was done to it."""

    def __init__(self, number: Any) -> None:
        self._number = number

    def value(self) -> Any:
        return self._number

    def __add__(self, other: Any) -> Any:
        if isinstance(other, str):
            return NotImplemented
        return self._number + _value(other)

    def __radd__(self, other: Any) -> Any:
        return _value(other) + self._number

    def __iadd__(self, other: Any) -> Number:
        self._number += _value(other)
        return self

    def __sub__(self, other: Any) -> Any:
        return self._number - _value(other)

    def __rsub__(self, other: Any) -> Any:
        return _value(other) - self._number

    def __mul__(self, other: Any) -> Any:
        return self._number * _value(other)

    def __matmul__(self, other: Any) -> Any:
        return [self._number, _value(other)]

    def __truediv__(self, other: Any) -> Any:
        return self._number / _value(other)

    def __floordiv__(self, other: Any) -> Any:
        return self._number // _value(other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _value(other) // self._number

    def __mod__(self, other: Any) -> Any:
        return self._number % _value(other)

    def __divmod__(self, other: Any) -> Any:
        return divmod(self._number, _value(other))

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        return pow(self._number, _value(other), modulo)

    def __lshift__(self, other: Any) -> Any:
        return self._number << _value(other)

    def __rshift__(self, other: Any) -> Any:
        return self._number >> _value(other)

    def __and__(self, other: Any) -> Any:
        return self._number & _value(other)

    def __or__(self, other: Any) -> Any:
        return self._number | _value(other)

    def __xor__(self, other: Any) -> Any:
        return self._number ^ _value(other)

    def __neg__(self) -> Any:
        return -self._number

    def __pos__(self) -> Any:
        return +self._number

    def __abs__(self) -> Any:
        return abs(self._number)

    def __invert__(self) -> Any:
        return ~self._number

    def __int__(self) -> int:
        return int(self._number)

    def __float__(self) -> float:
        return float(self._number)

    def __complex__(self) -> complex:
        return complex(self._number)

    def __index__(self) -> int:
        return int(self._number)

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._number, digits)

    def __trunc__(self) -> int:
        return int(self._number)

    def __floor__(self) -> int:
        return int(self._number // 1)

    def __ceil__(self) -> int:
        return int(-(-self._number // 1))

    def __bool__(self) -> bool:
        return bool(self._number)

    def __eq__(self, other: object) -> bool:
        return bool(self._number == _value(other))

    def __lt__(self, other: Any) -> bool:
        return bool(self._number < _value(other))

    def __le__(self, other: Any) -> bool:
        return bool(self._number <= _value(other))

    def __gt__(self, other: Any) -> bool:
        return bool(self._number > _value(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self._number >= _value(other))

    def __hash__(self) -> int:
        return hash(self._number) + 7

    def __str__(self) -> str:
        return f"number {self._number}"

    def __format__(self, spec: str) -> str:
        return format(self._number, spec)

    def __bytes__(self) -> bytes:
        return bytes([self._number])

    def __fspath__(self) -> str:
        return f"/numbers/{self._number}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return [self._number, args, kwargs]
