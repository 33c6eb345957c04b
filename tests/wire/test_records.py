"""Registered types: every way to write a class of data, rebuilt without its constructor."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.limits import WireLimits
from cloister.wire.packing import Packing
from cloister.wire.registry import DEFAULT_REGISTRY, Registry, by_value
from cloister.wire.values import Codec
from tests.wire.equality import same

REGISTRY = Registry()
RAN: list[str] = []


@REGISTRY.register
class Level(enum.StrEnum):
    """An enumeration that is a str as well, with a member that is another's second name."""

    LOW = "low"
    LEAST = "low"


@REGISTRY.register
class Mode(enum.Flag):
    """A flag."""

    A = 1
    B = 2


@REGISTRY.register
@dataclass
class Parent:
    """A dataclass with a default, a class variable and a field outside of the constructor."""

    number: int
    items: list[int] = field(default_factory=list, init=False)
    count: ClassVar[int] = 0

    def __post_init__(self) -> None:
        RAN.append("post_init")


@REGISTRY.register
@dataclass(slots=True)
class Child(Parent):
    """A dataclass that inherits fields and has slots."""

    name: str = "x"


@REGISTRY.register
@dataclass
class Kept:
    """A dataclass that says itself what its state is."""

    number: int
    cache: object = None

    def __getstate__(self) -> object:
        return {"number": self.number}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.number, self.cache = state["number"], "made again"


@REGISTRY.register
class Plain:
    """A class with an instance dict and slots, one of them private and one never set."""

    __slots__ = ("__dict__", "__private", "unset", "width")

    def __init__(self) -> None:
        RAN.append("init")
        self.width, self.free, self.__private = 1, (2,), 3

    def parts(self) -> object:
        """Give what it holds."""
        return self.width, self.free, self.__private, hasattr(self, "unset")


@REGISTRY.register
class Number(int):
    """A subclass of int, with state."""


@REGISTRY.register
class Ratio(float):
    """A subclass of float without room for state."""

    __slots__ = ()


CONTENTS: list[Any] = [1.5 + 2j, "text", b"bytes", bytearray(b"array"), (1, 2), [1, (2,)], {1, 2}, frozenset({3})]
SUBCLASSES = [REGISTRY.register(type(f"My{type(content).__name__}", (type(content),), {})) for content in CONTENTS]
for _kind in SUBCLASSES:
    _kind.__module__ = __name__


@pytest.fixture
def codec(packing: Packing) -> Codec:
    """A codec that knows the types of this file."""
    return Codec(registry=REGISTRY, packing=packing)


@pytest.mark.parametrize(
    "value",
    [
        Level.LOW, Mode.A | Mode.B, Mode(0), Parent(7), Child(7, "y"), Ratio(2.5),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'value', '')}",
)  # fmt: skip
def test_an_instance_of_a_registered_class_arrives_equal(codec: Codec, value: object) -> None:
    """S39: an instance arrives as one of its class, equal to the original, and no constructor runs."""
    RAN.clear()
    arrived = codec.decode(codec.encode([value, {"k": (value,)}]))
    assert arrived == [value, {"k": (value,)}]
    assert type(arrived[0]) is type(value)
    assert RAN == []


def test_what_a_class_keeps_beside_its_fields_arrives(codec: Codec) -> None:
    """Slots, private attributes, and a `__getstate__` of its own are respected."""
    original = Plain()
    RAN.clear()
    arrived = codec.decode(codec.encode(original))
    assert arrived.parts() == original.parts() == (1, (2,), 3, False)
    kept = codec.decode(codec.encode(Kept(3, object())))
    assert (kept.number, kept.cache) == (3, "made again")
    number = Number(7)
    number.unit = "m"  # type: ignore[attr-defined]  # it has room
    assert codec.decode(codec.encode(number)).unit == "m"
    assert RAN == []


@pytest.mark.parametrize(("kind", "content"), list(zip(SUBCLASSES, CONTENTS, strict=True)), ids=str)
def test_a_registered_subclass_of_a_built_in_type_arrives(codec: Codec, kind: Any, content: Any) -> None:
    """A subclass of a built-in type arrives with its class, its content and its state."""
    value = kind(content.real, content.imag) if isinstance(content, complex) else kind(content)
    value.note = ("kept",)
    arrived = codec.decode(codec.encode((value,)))[0]
    assert type(arrived) is kind
    assert same(type(content)(arrived), content)
    assert arrived.note == ("kept",)


def test_changing_a_copy_changes_nothing_else(codec: Codec) -> None:
    """S40: a copy shares nothing with the original nor with a second copy."""
    original = Parent(1)
    first, second = (codec.decode(codec.encode(original)) for _ in range(2))
    first.items.append(5)
    first.number = 9
    assert (original, second) == (Parent(1), Parent(1))


def test_a_lock_within_an_instance_is_named_by_its_path(codec: Codec) -> None:
    """S41: the error of a value that can't be copied names the attribute path to it."""
    plain, model = Plain(), Parent(1)
    plain.free = ({"rows": [0, model]},)  # type: ignore[assignment]  # anything goes
    model.items = [open]  # type: ignore[list-item]  # that is the point
    with pytest.raises(MarshalError, match=r"^result\.free\[0\]\['rows'\]\[1\]\.items\[0\]: a builtin_function"):
        codec.encode([3, plain], names=("", "result"))


def test_only_the_registered_class_itself_is_copied(packing: Packing) -> None:
    """A subclass of a registered class has no copy until it is registered, and is never flattened to its base."""
    registry = Registry()

    @registry.register
    class Base(dict[str, int]):
        pass

    class Derived(Base):
        pass

    codec = Codec(registry=registry, packing=packing)
    assert type(codec.decode(codec.encode(Base(a=1)))) is Base
    with pytest.raises(MarshalError, match="Derived is not copied"):
        codec.encode(Derived())


def test_by_value_marks_a_class_in_the_registry_of_all() -> None:
    """The decorator gives the class back, fills the common registry, and refuses what is no class of data."""

    @by_value
    class Marked:
        pass

    try:
        assert Marked in DEFAULT_REGISTRY
        assert type(Codec().decode(Codec().encode(Marked()))) is Marked
        again = by_value(type("Marked", (), {"__module__": __name__, "__qualname__": Marked.__qualname__}))
        assert type(Codec().decode(Codec().encode(Marked()))) is again
    finally:
        for record in [each for each in DEFAULT_REGISTRY.by_type.values() if "Marked" in each.name]:
            del DEFAULT_REGISTRY.by_type[record.kind]
            DEFAULT_REGISTRY.by_name.pop(record.name, None)
    for wrong in (len, 7, type("Meta", (type,), {})):
        with pytest.raises(TypeError, match="@by_value marks a class"):
            by_value(wrong)  # type: ignore[type-var]  # that is the point


def test_a_class_of_fields_that_is_a_container_as_well_is_refused_early() -> None:
    """What can't be taken apart faithfully is a TypeError where it is marked, not where it is sent."""

    @dataclass
    class Both(dict[str, int]):
        number: int = 0

    with pytest.raises(TypeError, match="has fields and is a dict as well"):
        Registry().register(Both)


def test_parts_that_do_not_fit_the_class_are_refused(packing: Packing) -> None:
    """Another number of parts is a MarshalError about versions; parts of the wrong kind are a ProtocolError.

    What the class itself refuses is a MarshalError.
    """
    codec = Codec(registry=REGISTRY, packing=packing)
    ext = packing.ext_type(1, b"")
    pack = packing.packer(strict_types=True).pack

    def record(kind: type, *parts: object) -> bytes:
        data: bytes = pack([ext, f"{kind.__module__}:{kind.__qualname__}", *parts])
        return data

    kind: type
    parts: list[Any]
    for kind, parts in ((Parent, [1]), (Child, [1]), (Number, [None])):
        with pytest.raises(MarshalError, match="same version"):
            codec.decode(record(kind, *parts))
    for kind, parts in (
        (Plain, [7]), (Plain, [[1, 2]]), (Plain, [{1: 2}]), (Number, [None, "7"]), (Number, [None, 7.0]),
        (SUBCLASSES[1], [None, b"x"]),
    ):  # fmt: skip
        with pytest.raises(ProtocolError):
            codec.decode(record(kind, *parts))
    with pytest.raises(
        MarshalError, match=r"a Kept arrived and could not be rebuilt: its __setstate__ raised TypeError"
    ):
        codec.decode(record(Kept, 7))
    slots = codec.decode(record(Plain, {"free": 1}))
    assert vars(slots) == {"free": 1}


def test_a_subclass_of_dict_can_not_be_flooded(packing: Packing) -> None:
    """Colliding keys in the content of a registered dict are refused like those of any dict."""
    kind = REGISTRY.register(type("Bag", (dict,), {"__module__": __name__}))
    try:
        keys = {at * (2**61 - 1): None for at in range(100, 2300)}
        data = Codec(WireLimits(colliding_keys=10_000), registry=REGISTRY, packing=packing).encode(kind(keys))
        with pytest.raises(ProtocolError, match="collide"):
            Codec(registry=REGISTRY, packing=packing).decode(data)
    finally:
        del REGISTRY.by_type[kind]
