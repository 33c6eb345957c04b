"""One value of every kind that travels, by name: for the golden bytes, for the round trips and for the fuzzer.

The values and their order never change, because golden.json is made of them; new ones go to the end.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import typing
import uuid
import zoneinfo

from cloister.wire.reference import Reference
from cloister.wire.registry import Registry

REGISTRY = Registry()


@REGISTRY.register
class Colour(enum.Enum):
    """An enumeration."""

    RED = "r"
    GREEN = ("g", 1)


@REGISTRY.register
class Access(enum.IntFlag):
    """A flag."""

    READ = 1
    WRITE = 2


@REGISTRY.register
class Point(typing.NamedTuple):
    """A named tuple."""

    x: int
    y: object


@REGISTRY.register
@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """A dataclass with everything that makes rebuilding hard."""

    number: int
    lines: list[str]
    scale: dataclasses.InitVar[int] = 1
    total: int = dataclasses.field(init=False)
    kind: typing.ClassVar[str] = "order"

    def __post_init__(self, scale: int) -> None:
        object.__setattr__(self, "total", len(self.lines) * scale)


@REGISTRY.register
class Customer:
    """A plain class whose state is its ``__dict__``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.orders: list[object] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Customer) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # it can be changed


@REGISTRY.register
class Names(dict[str, int]):
    """A subclass of a built-in container with state of its own."""

    title = ""


def _names() -> Names:
    names = Names(ada=1)
    names.title = "the first"
    return names


UTC = datetime.UTC
SAMPLES: dict[str, object] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "small int": 42,
    "negative int": -7,
    "largest 64-bit int": 2**64 - 1,
    "smallest 64-bit int": -(2**63),
    "first large int": 2**64,
    "first large negative int": -(2**63) - 1,
    "large int": 10**40,
    "large negative int": -(10**40),
    "float": 1.5,
    "negative zero": -0.0,
    "infinity": float("inf"),
    "complex": complex(1.5, -0.0),
    "empty str": "",
    "str": "Ada 한글 🙂",
    "str with NUL": "\0",
    "lone surrogate": "a\ud800b",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "bytearray within": [1, (bytearray(b"x"), {"k": bytearray(b"y")})],
    "empty list": [],
    "list": [1, "two", [3.0]],
    "empty tuple": (),
    "tuple": (1, "two", (3.0,)),
    "empty dict": {},
    "dict": {"a": 1, "b": [2]},
    "dict of any keys": {1: "int", None: "none", (1, 2): "tuple", 2.5: "float", b"k": "bytes", True + 2**70: "large"},
    "empty set": set(),
    "set": {7},
    "frozenset": frozenset({(7,)}),
    "range": range(1, 10, 3),
    "large range": range(2**70, 0, -(2**65)),
    "slice": slice(1, None, "step"),
    "ellipsis": ...,
    "not implemented": NotImplemented,
    "date": datetime.date(2001, 12, 2),
    "time": datetime.time(23, 59, 58, 999_999, fold=1),
    "time with zone": datetime.time(1, 2, tzinfo=UTC),
    "datetime": datetime.datetime(2026, 2, 28, 12, 30, 15, 250),
    "datetime utc": datetime.datetime(2026, 2, 28, 12, 30, 15, 250, UTC),
    "datetime in a named zone": datetime.datetime(
        2026, 10, 25, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Amsterdam"), fold=1
    ),
    "timedelta": datetime.timedelta(-1, 3, 5),
    "timezone": datetime.timezone(datetime.timedelta(hours=5, minutes=30), "IST"),
    "timezone without a name": datetime.timezone(datetime.timedelta(microseconds=-1)),
    "zone": zoneinfo.ZoneInfo("UTC"),
    "decimal": decimal.Decimal("1.50E+30"),
    "decimal negative zero": decimal.Decimal("-0.00"),
    "decimal not a number": decimal.Decimal("sNaN123"),
    "fraction": fractions.Fraction(-3, 7),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "posix path": pathlib.PurePosixPath("/tmp/a b"),
    "windows path": pathlib.PureWindowsPath("C:\\Temp\\x"),
    "enum": Colour.GREEN,
    "flag": Access.READ | Access.WRITE,
    "named tuple": Point(1, (2,)),
    "dataclass": Order(7, ["tea", "milk"], 3),
    "plain class": Customer("Ada"),
    "subclass of dict": _names(),
    "reference": Reference((1, "acme:Customers", -5)),
    "call": [7, 3, "add", [1], {"times": 2}, None],
}
