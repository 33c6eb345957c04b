"""numpy arrays and scalars: exact dtype, shape, order and content; what can't be copied says so."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.limits import LASTING_BYTES
from cloister.wire.packing import Packing
from cloister.wire.registry import Registry
from cloister.wire.values import Codec

np = pytest.importorskip("numpy")

GRID: Any = np.arange(24.0).reshape(2, 3, 4)
ARRAYS: dict[str, Any] = {
    "C order": GRID,
    "Fortran order": np.asfortranarray(GRID),
    "transposed": GRID.T,
    "strided": GRID[::2, :, ::-1],
    "permuted": GRID.transpose(1, 0, 2),
    "broadcast": np.broadcast_to(np.float32(3), (4, 5)),
    "zero-dimensional": np.array(3),
    "empty": np.zeros((0, 5)),
    "empty in the middle": np.zeros((3, 0, 2), order="F"),
    "large": np.arange(100_000),
    "large Fortran": np.asfortranarray(np.arange(100_000.0).reshape(100, 1000)),
    "read-only": np.frombuffer(b"\1\2", np.uint8),
    "booleans": np.array([True, False]),
    "big-endian": np.array([1, 2], ">i2"),
    "complex": np.array([1 + 2j], np.complex64),
    "half": np.array([1.5], np.float16),
    "long double": np.array([1.5], np.longdouble),
    "text": np.array(["a", "éé", ""]),
    "large text": np.array(["abc"] * 40_000),
    "bytes": np.array([b"ab", b""]),
    "raw": np.frombuffer(b"abcdefgh", "V4"),
    "items of no size": np.zeros((2, 3), "V0"),
    "dates": np.array(["2020-01-01", "NaT"], "M8[D]"),
    "durations": np.array([1, -1], "m8[25s]"),
    "records": np.array([(1, [(2.5, 3.5)])], [("a", "<i4"), ("b", [("c", ">f8"), ("d", "<f4")], (1,))]),
    "aligned records": np.array([(1, 2.5)], np.dtype([("a", "i1"), ("b", "f8")], align=True)),
}
SCALARS = [
    np.float64(1.5), np.float64("nan"), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True), np.str_("hé\0"), np.str_(""),
    np.bytes_(b"ab\0"), np.bytes_(b""), np.datetime64("2020-01-01T00:00:01", "ms"), np.datetime64("NaT", "s"),
    np.timedelta64(3, "h"), np.complex64(1j), np.longdouble(1.5), np.zeros(1, [("a", "i4")])[0],
]  # fmt: skip


def there_and_back(value: object, packing: Packing) -> Any:
    """Give what arrives of `value`."""
    codec = Codec(packing=packing)
    buffers: list[Any] = []
    data = codec.encode(value, buffers)
    assert len(data) < 70_000
    return codec.decode(data, [memoryview(bytes(each)).toreadonly() for each in buffers])


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_arrives_with_dtype_shape_order_and_content(packing: Packing, array: Any) -> None:
    """An array arrives equal, in its memory order where that was C or Fortran, aligned; a large one is read-only."""
    arrived = there_and_back({"k": (array,)}, packing)["k"][0]
    assert type(arrived) is np.ndarray
    assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
    assert np.array_equal(arrived, array, equal_nan=array.dtype.kind in "fcmM")
    assert arrived.flags.c_contiguous == (array.flags.c_contiguous or not array.flags.f_contiguous)
    assert arrived.flags.writeable == (array.nbytes < LASTING_BYTES)
    assert arrived.flags.aligned
    assert not np.shares_memory(arrived, array)


@dataclass
class Holder:
    """A registered class with an array in it."""

    array: Any


def test_an_array_within_a_dataclass_arrives(packing: Packing) -> None:
    """An array is never compared on its way, which numpy would not allow."""
    registry = Registry()
    registry.register(Holder)
    codec = Codec(registry=registry, packing=packing)
    arrived = codec.decode(codec.encode([Holder(GRID), {"k": (Holder(GRID),)}]))
    assert np.array_equal(arrived[0].array, GRID)


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: f"{type(scalar).__name__}-{str(scalar)!r}")
def test_a_numpy_scalar_arrives_with_its_type(packing: Packing, scalar: Any) -> None:
    """A numpy scalar arrives as one of its type, not as a Python number, with every bit of it."""
    arrived = there_and_back([scalar], packing)[0]
    assert type(arrived) is type(scalar)
    assert arrived.dtype == scalar.dtype
    assert arrived.tobytes() == scalar.tobytes()
    if isinstance(scalar, str | bytes):
        assert len(arrived) == len(scalar)


REFUSED: dict[str, Any] = {
    "dtype object": np.array([object()]),
    "of dtype .*object": np.zeros(2, [("a", "O")]),
    "MaskedArray is not copied": np.ma.masked_array([1]),
    "Bag is not copied": np.zeros(2).view(type("Bag", (np.ndarray,), {})),
    "items without a size": np.zeros((1 << 20,), "V0"),
}
if hasattr(np.dtypes, "StringDType"):  # from numpy 2
    REFUSED["StringDType"] = np.array(["a"], np.dtypes.StringDType())


@pytest.mark.parametrize("reason", REFUSED)
def test_an_array_that_is_more_than_its_bytes_is_refused(packing: Packing, reason: str) -> None:
    """S41: object arrays, masked arrays and subclasses are a MarshalError with the path and a way out."""
    with pytest.raises(MarshalError, match=rf"^value\[1\]: .*{reason}"):
        Codec(packing=packing).encode([1, REFUSED[reason]])


def hostile(packing: Packing, *items: object) -> bytes:
    """Give the bytes of an array container with any elements."""
    data: bytes = packing.packer().pack([packing.ext_type(1, b"\x10"), *items])
    return data


@pytest.mark.parametrize(
    "items",
    [
        ("<f8", [2], "C", b"x" * 15), ("<f8", [1 << 40], "C", b""), ("<f8", [-1], "C", b""), ("<f8", [1]),
        ("<f8", [1.0], "C", b"x" * 8), ("<f8", [1], "A", b"x" * 8), ("<f8", [1], "C", 0), ("<f8", [1], "C", "x" * 8),
        ("<f8", [1] * 65, "C", b""), ("O", [1], "C", b"x" * 8), ("|O8", [1], "C", b"x" * 8), (None, [1], "C", b""),
        ("f8,f8", [1], "C", b"x" * 16), ("<f8,", [1], "C", b"x" * 8), ("(2,)f8", [], "C", b""),
        ("<f3", [1], "C", b"x" * 3), ("<M8[zz]", [1], "C", b"x" * 8), ("|V0", [1 << 40], "C", b""),
        ("<U99999999999", [0], "C", b""), (["<f8", [1 << 40]], [1], "C", b""),
        ([["a"], ["<f8"], [4], 8], [1], "C", b"x" * 8), ([["a", "a"], ["<f8"] * 2, [0, 8], 16], [1], "C", b"x" * 16),
        ([["a"], ["|O8"], [0], 8], [1], "C", b"x" * 8), ([[1], ["<f8"], [0], 8], [1], "C", b"x" * 8),
    ],
    ids=str,
)  # fmt: skip
def test_a_lying_array_is_refused(packing: Packing, items: tuple[object, ...]) -> None:
    """A dtype that numpy reads otherwise, a shape that its data does not have, and the like are a ProtocolError."""
    with pytest.raises(ProtocolError):
        Codec(packing=packing).decode(hostile(packing, *items))


def test_numpy_is_not_imported_for_what_arrives() -> None:
    """S49: a receiver without numpy gets a MarshalError and still has no numpy; one that may import gets the array."""
    data = Codec().encode([np.arange(3), np.int8(1)])
    program = f"""
import sys
from cloister.errors import MarshalError
from cloister.wire.values import Codec
try:
    Codec().decode({data!r})
except MarshalError as error:
    assert "Import numpy" in str(error), error
assert "numpy" not in sys.modules
array, scalar = Codec(resolve=lambda name: None).decode({data!r})
assert "numpy" in sys.modules and array.tolist() == [0, 1, 2] and scalar == 1
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
