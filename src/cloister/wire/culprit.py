"""Where in a value the trouble lies: the walk that is made after an encode has failed, to name the path.

Here are `find_path`, `find_trap` for what has no single culprit (a cycle, too many levels), and the ways out. Nothing
here runs on the way of a value that travels. A value is looked at beneath its own code (``__getattribute__``,
``__class__``, ``__iter__``); of that, only the `repr` of a key is run, and may fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["find_path", "find_trap", "ways_out"]

_CONTAINERS = (list, tuple, set, frozenset, dict)
_LEAVES = (str, bytes, int, float, bool, type(None))
_TRAP_DEPTH = 1024


def find_path(value: object, culprit: object, names: Sequence[str] = ()) -> str:
    """Give the path from `value` to `culprit`: ``args[1].rows[3].lock``; ``value`` where they are one.

    Where the culprit is not found (a value that was made while it was encoded), the type of `value` stands for it.
    """
    if value is culprit:
        return "value"
    seen = {id(value)}
    stack = [("value", _children(value, names))]
    while stack:
        path, children = stack[-1]
        for step, child in children:
            here = _joined(path, step)
            if child is culprit:
                return here
            if id(child) not in seen:
                seen.add(id(child))
                stack.append((here, _children(child)))
                break
        else:
            stack.pop()
    return f"value: {type(value).__qualname__}"


def find_trap(value: object, names: Sequence[str] = ()) -> str:
    """Say why `value` could not be taken to its end: the cycle in it, or its depth."""
    stack = [("value", value, _children(value, names))]
    on_path = {id(value): "value"}
    steps = 0
    while stack:
        path, node, children = stack[-1]
        for step, child in children:
            steps += 1
            if type(child) in _LEAVES:
                continue
            here = _joined(path, step)
            if id(child) in on_path:
                return (
                    f"{here}: contains itself, it is the same object as {on_path[id(child)]}. Copies can't have "
                    "cycles; break the cycle, or keep the object where it is with share()"
                )
            if len(stack) > _TRAP_DEPTH or steps > 1_000_000:
                return _too_deep(here)
            on_path[id(child)] = here
            stack.append((here, child, _children(child)))
            break
        else:
            stack.pop()
            del on_path[id(node)]
    return _too_deep("value")


def _too_deep(path: str) -> str:
    shown = path if len(path) < 60 else path[:40] + "…"
    return f"{shown}: nested deeper than {_TRAP_DEPTH:,} levels. Flatten it, or keep it where it is with share()"


def ways_out(value: object) -> str:
    """Say that `value` has no copy, and what can be done."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    article = "an" if name[0] in "aeiou" else "a"
    if hasattr(kind, "__await__"):
        return (
            f"{article} {name} is not copied. Await it, and hand over what it gives; call-backs that are coroutine "
            "functions are awaited by cloister.aio.Domain, and by no other host"
        )
    return (
        f"{article} {name} is not copied. Mark its class with @by_value to copy it or with @by_reference to leave "
        "it where it is, hand over this one object with share(), or send it to a domain of your own code with pickled()"
    )


def _joined(path: str, step: str) -> str:
    if step[0] == "=":  # a name of the caller's for an item of the outermost list
        return step[1:]
    return path + step


def _children(value: Any, names: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """Give the parts of `value` with the steps that lead to them."""
    kind = type(value)
    if issubclass(kind, dict):
        for key, item in list(dict.items(value)):
            yield f"[{_short(key)}]", item
        for key in list(dict.keys(value)):
            if type(key) not in _LEAVES:
                yield f".keys({_short(key)})", key
    elif issubclass(kind, list):
        for index, item in enumerate(list.__getitem__(value, slice(None))):
            named = index < len(names) and names[index]
            yield f"={names[index]}" if named else f"[{index}]", item
    elif issubclass(kind, tuple):
        fields = getattr(kind, "_fields", ())
        for index, item in enumerate(tuple.__iter__(value)):
            yield f".{fields[index]}" if index < len(fields) else f"[{index}]", item
    elif kind is set or kind is frozenset:
        for item in list(value):
            yield f".item({_short(item)})", item
    elif kind is slice:
        yield from ((".start", value.start), (".stop", value.stop), (".step", value.step))
    if kind in _CONTAINERS or issubclass(kind, (str, bytes, int, float, type)):
        return
    yield from _attributes(value, kind)


def _attributes(value: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """Give what an instance holds in its dict and in its slots."""
    try:
        held = dict(object.__getattribute__(value, "__dict__"))
    except (AttributeError, TypeError):
        held = {}
    for name, item in held.items():
        yield f".{name}", item
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in held:
                continue
            try:
                yield f".{name}", object.__getattribute__(value, name)
            except AttributeError:  # never assigned, or private and called otherwise
                continue


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # the error that is being reported matters more than a key that can't show itself
        return f"<{type(value).__qualname__}>"
    return text if len(text) <= 40 else text[:39] + "…"
