"""Doors: the public methods of a context-bound class, which enter the context of their object first.

Each step of a generator that a method returns goes through the door too. An async method has none: it would run after
it has left. Any thread may enter.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterator
from typing import Any, Final

from cloister.contexts.context import Context, current_context
from cloister.contexts.rules import cross
from cloister.objects.descriptions import SPECIAL_METHODS

__all__ = ["SPECIAL", "add_door"]

_METHODS: Final = (types.FunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
SPECIAL: Final = SPECIAL_METHODS - {"__hash__", "__str__", "__bytes__", "__format__"}
"""The special methods that are doors. The others may be asked for by anybody at any time, as by a traceback."""


def add_door(cls: type, name: str) -> None:
    """Replace a method or property by one that enters the context of its object first."""
    member = next((base.__dict__[name] for base in cls.__mro__[:-1] if name in base.__dict__), None)
    if isinstance(member, property):
        if not hasattr(member.fget, "_cloister_door"):
            get, put, drop = (part and _door(part) for part in (member.fget, member.fset, member.fdel))
            setattr(cls, name, property(get, put, drop, member.__doc__))
    elif isinstance(member, _METHODS) and not hasattr(member, "_cloister_door"):
        if inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member):
            raise TypeError(
                f"{cls.__qualname__}.{name}: an async method would run after it has left its context; leave the class"
                " agile and use asyncio.Lock, or begin the name with an underscore"
            )
        setattr(cls, name, _door(member))


def _door(function: Any) -> Any:
    @functools.wraps(function)
    def door(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        home, here = self._cloister_context, current_context()
        if home is here or home is None:  # None: it was not made by a call of its class, so it lives nowhere
            return function(self, *args, **kwargs)
        result = cross(home, here, type(self), types.MethodType(function, self), args, kwargs)
        return _Steps(home, result) if type(result) is types.GeneratorType else result

    door._cloister_door = True  # type: ignore[attr-defined]  # so that a subclass makes no second one
    return door


class _Steps:
    """A generator that a method has returned: each step enters the context, and leaves it again."""

    __slots__ = ("_generator", "_home")

    def __init__(self, home: Context, generator: Any) -> None:
        self._home = home
        self._generator = generator

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._home.call(next, self._generator)

    def send(self, value: Any) -> Any:
        """As the generator's."""
        return self._home.call(self._generator.send, value)

    def throw(self, *error: Any) -> Any:
        """As the generator's."""
        return self._home.call(self._generator.throw, *error)

    def close(self) -> None:
        """As the generator's."""
        self._home.call(self._generator.close)
