"""Arrays of numpy that lie in shared memory, so that handing them to a domain, or back to the host, copies nothing.

`empty` makes one to be filled, `share` copies one that is there. In a host such an array may be sent to any number of
domains, as often as wanted, whole or a part of it; all of them read the same memory. In a guest it may be returned, or
handed to a call-back. What arrives is read-only. It is the same memory: what its maker writes afterwards is seen by who
has it, at any moment, so write no more once it was sent, or send a copy. Nobody else can write it, and it lives as long
as anybody has a view of it.

Where shared memory is not to be had - on macOS and Windows, where the system has none left, in a domain of another
level than ``process`` - these functions give an ordinary array, which is copied when it is sent; `is_shared` tells. The
same holds for what is shorter than 64 KiB, which takes no longer when it is copied.

Any thread may call. numpy is needed here, and nowhere else in the core.
"""

from __future__ import annotations

from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from cloister.objects import commons
from cloister.objects.exchange import root_under
from cloister.pipes import pieces
from cloister.wire.arrays import why_no_numpy
from cloister.wire.limits import LASTING_BYTES

if TYPE_CHECKING:
    import numpy
    import numpy.typing

__all__ = ["empty", "is_shared", "share"]

_MOST: Final = 1 << 34
"""The largest segment: 16 GiB."""


def empty(
    shape: int | tuple[int, ...], dtype: numpy.typing.DTypeLike = float, order: Literal["C", "F"] = "C"
) -> numpy.ndarray[Any, Any]:
    """Make an array that lies in shared memory; its content is arbitrary, as with `numpy.empty`.

    `shape`, `dtype` and `order` are those of `numpy.empty`. Raises ImportError without numpy, TypeError for a dtype
    that holds Python objects, ValueError as numpy does, and MemoryError where there is no memory of any kind.
    """
    np = _numpy()
    kind = _fixed(np.dtype(dtype))
    if order not in ("C", "F"):
        raise ValueError(f"order is 'C' or 'F', not {order!r}")
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    length = prod(int(size) for size in sizes) * kind.itemsize
    ground = _ground(length) if all(size > 0 for size in sizes) else None
    if ground is None:
        return cast("numpy.ndarray[Any, Any]", np.empty(shape, kind, order))
    return cast("numpy.ndarray[Any, Any]", np.ndarray(shape, kind, ground, 0, None, order))


def share(array: numpy.typing.ArrayLike) -> numpy.ndarray[Any, Any]:
    """Give a read-only array of the same content in shared memory; one that lies there already is not copied.

    The memory order is kept where it is C or Fortran, else it becomes C. Raises ImportError without numpy, and
    TypeError for an array of Python objects.
    """
    np = _numpy()
    source = np.asarray(array)
    _fixed(source.dtype)
    shared = source.view()
    if not is_shared(source):
        order: Literal["C", "F"] = "F" if source.flags.fnc else "C"
        shared = empty(source.shape, source.dtype, order)
        if source.flags.forc and source.nbytes >= LASTING_BYTES:
            to, data = (each.reshape(-1, order=order).view("u1") for each in (shared, source))
            pieces.do(lambda begin, end: np.copyto(to[begin:end], data[begin:end]), source.nbytes)
        else:
            np.copyto(shared, source)
    shared.flags.writeable = False
    return cast("numpy.ndarray[Any, Any]", shared)


def is_shared(array: numpy.typing.ArrayLike) -> bool:
    """Whether an array, or a part of one, lies in shared memory."""
    return isinstance(array, _numpy().ndarray) and root_under(array) is not None


def _numpy() -> Any:
    try:
        return import_module("numpy")
    except ImportError as error:
        raise ImportError(f"cloister.arrays needs numpy, {why_no_numpy(error)}") from error


def _fixed(dtype: Any) -> Any:
    if dtype.hasobject:
        raise TypeError(
            f"an array of dtype {dtype} holds Python objects, which can't be shared. Use a type of fixed size"
        )
    return dtype


def _ground(length: int) -> Any:
    """Memory for so many bytes, or None."""
    if not LASTING_BYTES <= length <= _MOST:
        return None
    try:
        return commons.make(length)
    except OSError:
        return None
