"""The path in the error: it leads through anything, and never makes a second error of the first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from cloister.wire.culprit import find_path, find_trap, ways_out


class Culprit:
    """What can't be copied."""

    def __repr__(self) -> str:
        return "CULPRIT"


CULPRIT = Culprit()


class Pair(NamedTuple):
    """A named tuple."""

    left: object
    right: object


@dataclass(slots=True)
class Slotted:
    """A dataclass with slots."""

    first: object
    second: object = None


class Private:
    """A class with a single slot, given as a text, and a private one."""

    __slots__ = "only"


class Both:
    """A class with a slot and a dict."""

    __slots__ = ("__dict__", "slot", "unset")


class Hostile:
    """What can only be looked at beneath its own code."""

    def __init__(self, inside: object) -> None:
        object.__setattr__(self, "inside", inside)

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __hash__ = object.__hash__


class Items(list[object]):
    """A list that says it is empty."""

    def __iter__(self) -> Any:
        raise RuntimeError("no items")


def both() -> Both:
    """Give an instance that has the culprit in its slot."""
    made = Both()
    made.free, made.slot = 1, CULPRIT  # type: ignore[attr-defined]  # it has a dict
    return made


def private() -> Private:
    """Give an instance that has the culprit in its only slot."""
    made = Private()
    made.only = CULPRIT  # type: ignore[attr-defined]  # it has this slot
    return made


VALUES: dict[str, tuple[object, str]] = {
    "itself": (CULPRIT, "value"),
    "list": ([0, [CULPRIT]], "value[1][0]"),
    "tuple": ((0, (CULPRIT,)), "value[1][0]"),
    "named tuple": (Pair(1, Pair(CULPRIT, 2)), "value.right.left"),
    "dict": ({"a": {7: CULPRIT}}, "value['a'][7]"),
    "key": ({(1, CULPRIT): 0}, "value.keys((1, CULPRIT))[1]"),
    "set": ({(CULPRIT,)}, "value.item((CULPRIT,))[0]"),
    "slice": (slice(1, CULPRIT, 2), "value.stop"),
    "dataclass with slots": (Slotted(1, CULPRIT), "value.second"),
    "slot given as a text": (private(), "value.only"),
    "slot beside a dict": (both(), "value.slot"),
    "subclass of dict": (OrderedDict(a=CULPRIT), "value['a']"),
    "subclass of list": (Items([1, CULPRIT]), "value[1]"),
    "hostile object": ([Hostile([CULPRIT])], "value[0].inside[0]"),
    "hostile key": ({Hostile(CULPRIT): 1}, "value.keys(<Hostile>).inside"),
    "long key": ({"k" * 100: CULPRIT}, f"value['{'k' * 38}…]"),
    "shared": ([[1], [CULPRIT]] * 2, "value[1][0]"),
    "nowhere": (Slotted(1), "value: Slotted"),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_path_leads_to_the_culprit(name: str) -> None:
    """S41: the path names each step from the value to what can't be copied, whatever lies in between."""
    value, path = VALUES[name]
    assert find_path(value, CULPRIT) == path


def test_the_items_of_a_message_have_the_names_of_the_call() -> None:
    """S41: a name that the caller gave stands for the position; an empty one, or none, does not."""
    message = [7, CULPRIT, [1, {"k": [CULPRIT]}]]
    assert find_path([7, [1, CULPRIT]], CULPRIT, ("number", "args")) == "args[1]"
    assert find_path(message, CULPRIT, ("number", "")) == "value[1]"
    assert find_path([[CULPRIT]], CULPRIT, ()) == "value[0][0]"


def test_a_value_that_loops_elsewhere_is_walked_once() -> None:
    """A cycle on the way to the culprit does not keep the walk from ending."""
    loop: list[object] = []
    loop += [loop, {"again": loop}, CULPRIT]
    assert find_path(loop, CULPRIT) == "value[2]"


def test_a_trap_is_told_by_its_kind() -> None:
    """A cycle is shown with both ends; depth, and what is too large to walk, is said to be depth."""
    loop: dict[str, object] = {"a": [1, "x", None]}
    loop["b"] = Slotted(loop)
    assert find_trap(loop).startswith("value['b'].first: contains itself, it is the same object as value.")
    deep: object = []
    for _ in range(3000):
        deep = [deep]
    assert "…: nested deeper than 1,024 levels" in find_trap(deep)
    assert find_trap([[1], (2,)]) == find_trap(3)
    assert find_trap(3).startswith("value: nested deeper")


def test_the_ways_out_name_the_type() -> None:
    """The text names a built-in type plainly and any other with its module."""
    assert ways_out(object()).startswith("an object is not copied")
    assert ways_out(Slotted(1)).startswith(f"a {__name__}.Slotted is not copied")
