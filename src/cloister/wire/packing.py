"""The one place that picks an implementation of MessagePack.

There are two of the same library: compiled, and written in Python. The compiled one does not load in sub-interpreters
(before msgpack and the interpreter support it), nor in an interpreter of another version than it was built for; the
other one runs everywhere. Both give the same bytes, which the tests hold.

A guest in a foreign environment has no msgpack of its own, and nothing of the host's packages may become importable
there. It loads the library from the directory that the host names, under the private name `PRIVATE_NAME`.

Importing is all that happens here; any thread may enter.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, NamedTuple

__all__ = ["PRIVATE_NAME", "Packing", "default_packing", "load_msgpack", "msgpack_directory"]

PRIVATE_NAME: Final = "cloister.wire._msgpack"
"""What msgpack is called where it was loaded from a directory."""


class Packing(NamedTuple):
    """The parts of one implementation of MessagePack that the codec uses."""

    packer: Callable[..., Any]
    unpackb: Callable[..., Any]
    ext_type: Callable[[int, bytes], Any]
    compiled: bool


def msgpack_directory() -> str:
    """Give the directory of this interpreter's msgpack, for `load_msgpack` in a guest.

    In a guest that was itself given one, it is that one. Raises `ImportError` where msgpack is not installed.
    """
    private = sys.modules.get(PRIVATE_NAME)
    if private is not None:
        return next(iter(private.__path__))
    spec = importlib.util.find_spec("msgpack")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("cloister needs the package msgpack; install it beside cloister")
    return next(iter(spec.submodule_search_locations))


def load_msgpack(*, pure: bool = False, directory: str | None = None) -> Packing:
    """Give MessagePack: the compiled implementation where it can be had, unless `pure` asks for the one in Python.

    `directory` is where the package lies when it is not installed here; it is loaded under `PRIVATE_NAME` and nothing
    beside it becomes importable. None takes the installed package. A second call gives the same modules.

    Raises `ImportError` where there is no msgpack.
    """
    package = importlib.import_module("msgpack") if directory is None else _load_privately(directory)
    name = package.__name__
    ext_type = importlib.import_module(f"{name}.ext").ExtType
    if not pure:
        try:
            compiled = importlib.import_module(f"{name}._cmsgpack")
        except ImportError:  # built for another interpreter, or refused by a sub-interpreter
            pass
        else:
            return Packing(compiled.Packer, compiled.unpackb, ext_type, True)
    fallback = importlib.import_module(f"{name}.fallback")
    return Packing(fallback.Packer, fallback.unpackb, ext_type, False)


def default_packing() -> Packing:
    """Give the MessagePack of this interpreter: what was loaded privately, else the installed package."""
    global _default
    if _default is None:
        private = sys.modules.get(PRIVATE_NAME)
        _default = load_msgpack(directory=None if private is None else next(iter(private.__path__)))
    return _default


_default: Packing | None = None


def _load_privately(directory: str) -> ModuleType:
    loaded = sys.modules.get(PRIVATE_NAME)
    if loaded is not None:
        return loaded
    # A slash is a separator for every platform's loader; this module stays free of `os`.
    spec = importlib.util.spec_from_file_location(
        PRIVATE_NAME, f"{directory}/__init__.py", submodule_search_locations=[directory]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no package msgpack in {directory}")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PRIVATE_NAME] = package
    try:
        spec.loader.exec_module(package)
    except BaseException as error:
        del sys.modules[PRIVATE_NAME]
        if isinstance(error, FileNotFoundError):
            raise ImportError(f"there is no package msgpack in {directory}") from error
        raise
    return package
