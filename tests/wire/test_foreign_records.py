"""Registered classes of attrs, pydantic and msgspec: copied like any other, without their constructors."""

from __future__ import annotations

from typing import Any

import pytest

for _library in ("attrs", "msgspec", "pydantic"):
    pytest.importorskip(_library)

# ruff: noqa: E402  # they can be imported only where the lines above did not skip the file
import attrs
import msgspec
import pydantic

from cloister.errors import MarshalError
from cloister.wire.packing import Packing
from cloister.wire.registry import Registry
from cloister.wire.values import Codec

REGISTRY = Registry()
RAN: list[str] = []


@REGISTRY.register
@attrs.define
class Slotted:
    """An attrs class, with slots, a validator and a converter."""

    number: int = attrs.field(validator=attrs.validators.gt(0))
    text: str = attrs.field(default="a", converter=str)

    def __attrs_post_init__(self) -> None:
        RAN.append("attrs")


@REGISTRY.register
@attrs.frozen(slots=False)
class Frozen:
    """A frozen attrs class with an instance dict."""

    pair: tuple[int, int]


@REGISTRY.register
class Model(pydantic.BaseModel):
    """A pydantic model with a private attribute."""

    number: int
    rows: list[tuple[int, str]] = pydantic.Field(default_factory=list)
    _secret: int = pydantic.PrivateAttr(default=1)


@REGISTRY.register
class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """A msgspec struct whose fields can only be given by name."""

    number: int
    rows: list[tuple[int, str]]


@pytest.fixture
def codec(packing: Packing) -> Codec:
    """A codec that knows the types of this file."""
    return Codec(registry=REGISTRY, packing=packing)


@pytest.mark.parametrize(
    "value",
    [
        Slotted(3, "b"),
        Frozen((1, 2)),
        Model(number=1, rows=[(1, "a")]),
        Struct(number=1, rows=[(1, "a")]),
    ],
    ids=["slotted attrs", "frozen attrs", "pydantic", "msgspec"],
)
def test_an_instance_arrives_equal_and_no_code_of_the_class_runs(codec: Codec, value: object) -> None:
    """S39: an instance arrives as one of its class, equal to the original, its content with exact types."""
    RAN.clear()
    arrived = codec.decode(codec.encode([value, {"k": (value,)}]))
    assert arrived == [value, {"k": (value,)}]
    assert type(arrived[0]) is type(value)
    assert RAN == []


def test_a_private_attribute_of_a_model_arrives(codec: Codec) -> None:
    """What pydantic keeps outside of the fields is part of the copy."""
    model = Model(number=1)
    model._secret = 5
    assert codec.decode(codec.encode(model))._secret == 5


def test_a_field_without_a_copy_is_named(codec: Codec) -> None:
    """S41: the path of the error leads through attrs, pydantic and msgspec instances."""
    culprit: Any = object()
    values = [Model.model_construct(number=1, rows=[culprit]), Struct(number=1, rows=[culprit]), Frozen((culprit, 1))]
    for value, path in zip(values, ("rows", "rows", "pair"), strict=True):
        with pytest.raises(MarshalError, match=rf"^value\[1\]\.{path}\[0\]: an object"):
            codec.encode([1, value])


def test_parts_that_do_not_fit_are_refused(packing: Packing, codec: Codec) -> None:
    """Another number of parts is a MarshalError about versions; a state that the class refuses is one that says so."""
    pack = packing.packer(strict_types=True).pack
    marker = packing.ext_type(1, b"\x07")
    for name, parts in (("Slotted", [1, "a", 2]), ("Struct", [])):
        with pytest.raises(MarshalError, match="same version"):
            codec.decode(pack([marker, f"{__name__}:{name}", *parts]))
    with pytest.raises(MarshalError, match=r"a Model arrived and could not be rebuilt: its __setstate__ raised"):
        codec.decode(pack([marker, f"{__name__}:Model", 7]))
