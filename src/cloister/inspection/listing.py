"""What an inspection has found: plain data. Pure.

Everything is as it is written in the source: a base class, a decorator or a default is text, because to know what it
means the code would have to run. All of it is copied where it travels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cloister.wire.registry import by_value

__all__ = ["ListedClass", "ListedCode", "ListedEntryPoint", "ListedFunction", "ListedModule"]


@by_value
@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFunction:
    """A function, a method or a property."""

    name: str
    signature: str
    """As it is written: ``(self, name: str, *, upper: bool = False) -> int``."""
    doc: str
    """Its docstring; empty where there is none."""
    line: int
    """Where it begins in its file, from 1."""
    kind: str
    """``function``, ``method``, ``staticmethod``, ``classmethod`` or ``property``."""
    is_async: bool
    decorators: tuple[str, ...]
    """As they are written, without the ``@``."""


@by_value
@dataclass(frozen=True, slots=True, kw_only=True)
class ListedClass:
    """A class."""

    name: str
    """Its qualified name: ``Outer.Inner`` for a class in a class."""
    bases: tuple[str, ...]
    """As they are written."""
    doc: str
    line: int
    decorators: tuple[str, ...]
    methods: tuple[ListedFunction, ...]
    """Those that its own body defines, in order; of several under one name the last one."""
    attributes: tuple[str, ...]
    """The names that its body assigns or annotates."""
    signature: str
    """How it is called, as far as its own ``__init__`` says so: ``(region: str = 'eu')``; else empty."""


@by_value
@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModule:
    """A module."""

    name: str
    """The name under which it would be imported."""
    path: str
    """Its file; inside of an archive, the archive's path and the member's: ``a.whl/pkg/mod.py``."""
    doc: str = ""
    classes: tuple[ListedClass, ...] = ()
    functions: tuple[ListedFunction, ...] = ()
    is_program: bool = False
    """Whether it does something when it is run: it is a ``__main__``, or asks whether it is."""
    error: str = ""
    """Why it could not be read: a syntax error with its line, a limit that it passes; else empty."""


@by_value
@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEntryPoint:
    """An entry point that a distribution declares."""

    group: str
    """Such as ``console_scripts``, or the group of a plug-in interface."""
    name: str
    target: str
    """``package.module:name``, which `Domain.create` and `Domain.call` take."""


@by_value
@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCode:
    """All that an inspection has found."""

    name: str
    """What was asked for: a path, or the name of a module."""
    kind: str
    """``file``, ``package``, ``folder`` or ``archive``."""
    modules: tuple[ListedModule, ...]
    """In the order of their names."""
    entry_points: tuple[ListedEntryPoint, ...] = ()
    distribution: str = ""
    """The name of the distribution, where its metadata are there."""
    version: str = ""

    @property
    def errors(self) -> dict[str, str]:
        """The modules that could not be read, with why."""
        return {module.name: module.error for module in self.modules if module.error}

    def classes(self) -> Iterator[tuple[str, ListedClass]]:
        """Each class, with the name under which a domain makes it: ``package.module:Class``."""
        for module in self.modules:
            for each in module.classes:
                yield f"{module.name}:{each.name}", each

    def functions(self) -> Iterator[tuple[str, ListedFunction]]:
        """Each function of a module, with the name under which a domain calls it."""
        for module in self.modules:
            for each in module.functions:
                yield f"{module.name}:{each.name}", each
