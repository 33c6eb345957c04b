"""Pickles of code and of what was wrapped in `pickled`: made by a host, read by a guest, never the other way.

A host never calls `load`: a pickle runs what it likes. Any thread may enter.

cloudpickle is loaded when it is first needed. A guest in an environment without it reads with the host's own, which it
loads from the file that the host names, under a private name; nothing beside it becomes importable.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import pickle
import sys
from typing import Any, Final

from cloister.errors import MarshalError
from cloister.wire.limits import OUT_OF_BAND_BYTES
from cloister.wire.scalars import Mutable

__all__ = ["dump", "load", "read_with", "shown"]

_PROTOCOL: Final = 5
_PRIVATE_NAME: Final = "cloister.objects._cloudpickle"
_file: str | None = None


def dump(value: Any) -> tuple[bytes, list[Mutable]]:
    """Pickle a value for a guest of this same version; what is large in it travels beside the pickle, not copied here.

    Raises MarshalError where it can't be pickled.
    """
    import cloudpickle

    buffers: list[Mutable] = []

    def aside(buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer out; whether it stays in the pickle."""
        try:
            view = buffer.raw()
        except BufferError:  # it does not lie in one piece
            return True
        if view.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(Mutable(view))
        return False

    try:
        data: bytes = cloudpickle.dumps(value, protocol=_PROTOCOL, buffer_callback=aside)
    except Exception as error:  # whatever `__reduce__` and `__getstate__` of anybody raise
        raise MarshalError(f"{shown(value)} can't be pickled: {type(error).__name__}: {error}") from error
    return data, buffers


def load(data: bytes, buffers: list[Any]) -> Any:
    """Make the value of a pickle; only a guest does. Raises whatever the pickled code raises.

    The buffers are the value's from here on, which may change them.
    """
    return _Unpickler(io.BytesIO(data), buffers=buffers).load()


def read_with(file: str | None) -> None:
    """Say where the host found the module that makes its pickles; None: this environment has cloudpickle itself."""
    global _file
    _file = file


def shown(value: object) -> str:
    """A value in a few words, without its `repr`, which may be anything."""
    name = getattr(value, "__qualname__", None)
    return f"{type(value).__name__} {name!r}" if isinstance(name, str) else f"a value of type {type(value).__name__}"


class _Unpickler(pickle.Unpickler):
    """Finds cloudpickle where the host said it is."""

    def find_class(self, module: str, name: str) -> Any:
        if _file is not None and module.partition(".")[0] == "cloudpickle":
            return functools.reduce(getattr, name.split("."), _reader(_file))
        return super().find_class(module, name)


def _reader(file: str) -> Any:
    module = sys.modules.get(_PRIVATE_NAME)
    if module is None:
        spec = importlib.util.spec_from_file_location(_PRIVATE_NAME, file)
        if spec is None or spec.loader is None:
            raise ImportError(f"the host's cloudpickle can't be loaded from {file}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[_PRIVATE_NAME] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[_PRIVATE_NAME]
            raise
    return module
