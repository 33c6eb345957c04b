"""What stands on the wire for an object that is not copied.

Here is the leaf alone. What its fields mean, who hands it out and what becomes of it is the objects layer's business.
"""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["Field", "Reference"]

Field: TypeAlias = Any


class Reference:
    """An object that stays where it is: some plain values that let its owner find it again."""

    __slots__ = ("fields",)

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        return self.fields == other.fields if type(other) is Reference else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fields)

    def __repr__(self) -> str:
        return f"Reference({self.fields!r})"
