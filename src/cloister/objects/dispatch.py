"""A call that arrived, on its way to the object that it names.

Here the method is found and called, under the rule that the peer may call only what it was shown. Which objects there
are is in `exports`. Runs on the thread that serves the lane.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cloister.objects.descriptions import SPECIAL_METHODS, public_name
from cloister.objects.misaimed import Misaimed
from cloister.objects.streams import ASYNC_GENERATOR, GENERATOR, STREAM_METHODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloister.lanes.call_frames import Call
    from cloister.objects.exports import Exported, Exports
    from cloister.objects.streams import Puller

__all__ = ["invoke"]


def invoke(exports: Exports, call: Call, rebuild: Callable[[Any], BaseException]) -> Any:
    """Call the method and return its result.

    Raises what it raises; AttributeError for what the peer may not call; MarshalError where the object is gone;
    Misaimed where it never was the peer's, or the call is none.
    """
    number, target, name, args, kwargs, _, _ = call  # the items of a tuple cost less than their names
    # A call that waits for an answer keeps its proxy alive; one that does not may be overtaken by the release.
    entry = exports.find(target) if number else exports.arrive(target)
    if entry.lease is not None:
        entry.lease.touch()
    if name in entry.plain:
        return getattr(entry.value, name)(*args, **kwargs) if kwargs else getattr(entry.value, name)(*args)
    value = entry.value
    if name not in entry.names:
        return _attribute(exports, entry, call)
    if entry.puller is not None and name in STREAM_METHODS:
        return _stream(entry, entry.puller, call, rebuild)
    if name not in SPECIAL_METHODS:
        return getattr(value, name)(*args, **kwargs)
    if name == "__call__":
        return value(*args, **kwargs)
    method = getattr(type(value), name)
    if name in ("__exit__", "__aexit__"):
        if len(args) != 1:
            raise Misaimed("a context is left with one description of an exception, or nil")
        described = args[0]
        error = None if described is None else rebuild(described)
        return method(value, None if error is None else type(error), error, None)
    return method(value, *args, **kwargs)


def _stream(entry: Exported, puller: Puller, call: Call, rebuild: Callable[[Any], BaseException]) -> Any:
    """A call of an iterator; what an async one gives is a coroutine, which is run by who serves the call."""
    name, value, args = call.name, entry.value, call.args
    if name == "__next__":
        return puller.pull(value, args)
    if name == "__anext__":
        return puller.pull_async(value, args)
    if entry.description.name not in (GENERATOR, ASYNC_GENERATOR):
        return getattr(value, name)(*args, **call.kwargs)  # a method that is called like one of a generator
    if name in ("close", "aclose"):
        puller.forget()
        return value.close() if name == "close" else _aclose(value)
    if len(args) != 1:
        raise Misaimed(f"{name} takes one argument")
    drop = name in ("throw", "athrow")
    advance = partial(getattr(value, name), rebuild(args[0]) if drop else args[0])
    return (puller.step_async if name in ("asend", "athrow") else puller.step)(name, advance, drop)


async def _aclose(generator: Any) -> None:
    """What the generator itself gives is no coroutine, and is not run like one."""
    await generator.aclose()


def _attribute(exports: Exports, entry: Exported, call: Call) -> Any:
    name, args = call.name, call.args
    takes = _ATTRIBUTE_CALLS.get(name)
    if takes is None:
        raise AttributeError(f"{entry.description.name} has no public method {name!r}", name=name)
    if len(args) != takes or type(args[0]) is not str:
        raise Misaimed(f"{name} takes the name of an attribute, and {takes - 1} values")
    attribute = args[0]
    if not public_name(attribute):
        raise AttributeError(f"{attribute!r} is not a public name", name=attribute)
    if not exports.open_attributes:
        raise AttributeError(
            f"{attribute!r}: of an object that a host hands out, only its public methods are reached", name=attribute
        )
    if name == "__getattribute__":
        return getattr(entry.value, attribute)
    if name == "__setattr__":
        return setattr(entry.value, attribute, args[1])
    return delattr(entry.value, attribute)


_ATTRIBUTE_CALLS = {"__getattribute__": 1, "__setattr__": 2, "__delattr__": 1}
"""How an attribute is read, set and deleted, and how many arguments that takes."""
