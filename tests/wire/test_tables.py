"""Tables of pyarrow, polars and pandas: equal on arrival, and no way in for what is no table."""

from __future__ import annotations

import datetime
import io
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from cloister.errors import MarshalError, ProtocolError
from cloister.wire.arrow_stream import refuse_compression
from cloister.wire.packing import Packing
from cloister.wire.values import Codec

np: Any = pytest.importorskip("numpy")
pa: Any = pytest.importorskip("pyarrow")
pl: Any = pytest.importorskip("polars")
pd: Any = pytest.importorskip("pandas")

NOW = datetime.datetime(2026, 2, 28, 12, 30)


def there_and_back(value: object, packing: Packing) -> Any:
    """Give what arrives of `value`, its large data beside the message."""
    codec = Codec(packing=packing)
    buffers: list[Any] = []
    data = codec.encode([value], buffers)
    return codec.decode(data, [memoryview(bytes(each)) for each in buffers])[0]


ARROW = {
    "table": lambda: pa.table(
        {
            "numbers": [1, 2, None],
            "texts": ["x", None, "é"],
            "lists": [[1], [], None],
            "codes": pa.array(["u", "v", "u"]).dictionary_encode(),
            "times": [NOW, None, NOW],
        }
    ),
    "empty table": lambda: pa.table({}),
    "table of two chunks": lambda: pa.concat_tables([pa.table({"a": [1]}), pa.table({"a": [2, 3]})]),
    "batch": lambda: pa.record_batch({"a": [1, 2], "b": [b"x", None]}),
    "array": lambda: pa.array([1, None]),
    "sliced array": lambda: pa.array(range(100))[7:9],
    "array of structs": lambda: pa.array([{"a": 1, "b": [2.5]}]),
    "chunked array": lambda: pa.chunked_array([[1], [2, 3]]),
    "large array": lambda: pa.array(range(100_000)),
}


@pytest.mark.parametrize("make", ARROW.values(), ids=ARROW)
def test_what_pyarrow_holds_arrives_equal(packing: Packing, make: Callable[[], Any]) -> None:
    """Tables, batches, arrays and chunked arrays arrive with their type, schema and content."""
    value = make()
    arrived = there_and_back(value, packing)
    assert type(arrived) is type(value)
    assert arrived.equals(value)
    arrived.validate(full=True)


POLARS = {
    "frame": lambda: pl.DataFrame(
        {
            "a": [1, None],
            "s": ["x", "y"],
            "c": pl.Series(["u", "v"], dtype=pl.Categorical),
            "d": [Decimal("1.5"), None],
            "l": [[1], [2, 3]],
            "t": [NOW, None],
        }
    ),
    "empty frame": lambda: pl.DataFrame(),
    "series": lambda: pl.Series("name", [1, None], dtype=pl.Int8),
    "empty series": lambda: pl.Series("", [], dtype=pl.String),
    "large frame": lambda: pl.DataFrame({"x": range(100_000)}),
}

# polars opens an event loop of its own for the first query, and keeps it: no leak of any test.
POLARS["frame"]().lazy().filter(pl.col("a") == 1).collect()


@pytest.mark.parametrize("make", POLARS.values(), ids=POLARS)
def test_what_polars_holds_arrives_equal(packing: Packing, make: Callable[[], Any]) -> None:
    """Frames and series of polars arrive with their schema and content."""
    value = make()
    arrived = there_and_back(value, packing)
    assert type(arrived) is type(value)
    assert arrived.equals(value)
    assert getattr(arrived, "schema", None) == getattr(value, "schema", None)
    assert getattr(arrived, "dtype", None) == getattr(value, "dtype", None)


def pandas_frame() -> Any:
    """Give a frame with a column of every kind."""
    frame = pd.DataFrame(
        {
            "int": [1, 2],
            "float": [1.5, None],
            "bool": [True, False],
            "str": ["x", None],
            "category": pd.Categorical(["u", "v"], ordered=True),
            "zone": pd.to_datetime(["2020", "2021"]).tz_localize("Europe/Amsterdam"),
            "nullable": pd.array([1, None], dtype="Int64"),
            "nullable bool": pd.array([True, None], dtype="boolean"),
            "string": pd.array(["a", None], dtype="string"),
            "objects": [(1,), {"k": bytearray(b"x")}],
            "times": pd.to_datetime(["2020", None]),
            "durations": pd.to_timedelta([1, 2]),
            3: [1, 2],
        }
    )
    frame.attrs["source"] = ("somewhere",)
    return frame


PANDAS = {
    "every kind": pandas_frame,
    "indexed by text": lambda: pandas_frame().set_index("str"),
    "indexed twice": lambda: pandas_frame().set_index(["int", "str"]),
    "empty": lambda: pd.DataFrame(),
    "no rows": lambda: pd.DataFrame({"a": []}),
    "by days": lambda: pd.DataFrame({"a": [1, 2]}, pd.date_range("2020", periods=2, freq="D", name="day")),
    "two columns of one name": lambda: pd.DataFrame([[1, "x"]], columns=["a", "a"]),
    "columns of two levels": lambda: pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "large": lambda: pd.DataFrame({"x": np.arange(100_000)}),
}


@pytest.mark.parametrize("make", PANDAS.values(), ids=PANDAS)
def test_a_frame_of_pandas_arrives_equal(packing: Packing, make: Callable[[], Any]) -> None:
    """A frame arrives with the types of its columns, its indexes and its attributes."""
    value = make()
    arrived = there_and_back(value, packing)
    pd.testing.assert_frame_equal(arrived, value, check_freq=True)
    assert type(arrived.index) is type(value.index)
    assert arrived.attrs == value.attrs


@pytest.mark.parametrize("name", pandas_frame().columns)
def test_a_series_of_pandas_arrives_equal(packing: Packing, name: object) -> None:
    """A series of each kind arrives with its type, name and index."""
    value = pandas_frame()[name]
    arrived = there_and_back(value, packing)
    pd.testing.assert_series_equal(arrived, value)
    assert [type(item) for item in arrived] == [type(item) for item in value]


REFUSED: dict[str, Callable[[], Any]] = {
    "an object is not copied": lambda: pd.DataFrame({"a": [object()]}),
    "column 'p' is of type period": lambda: pd.DataFrame({"p": pd.period_range("2020", periods=2)}),
    "column 'o' holds Python objects": lambda: pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}),
    "is not copied": lambda: pa.schema([("a", pa.int8())]),
    "Mine is not copied": lambda: type("Mine", (pd.DataFrame,), {})(),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_column_without_a_copy_is_named(packing: Packing, reason: str) -> None:
    """S41: objects in a column, types of other libraries, and subclasses are a MarshalError that says which."""
    with pytest.raises(MarshalError, match=reason):
        Codec(packing=packing).encode([REFUSED[reason]()])


def container(packing: Packing, number: int, *items: object) -> bytes:
    """Give the bytes of a container with any elements."""

    def default(value: Any) -> object:
        return [packing.ext_type(1, b"\x10"), value.dtype.str, [value.size], "C", value.tobytes()]

    data: bytes = packing.packer(default=default).pack([packing.ext_type(1, bytes((number,))), *items])
    return data


def stream(compression: str | None = None) -> bytes:
    """Give an Arrow stream with a dictionary and a batch."""
    table = pa.table({"a": list(range(1000)), "d": pa.array(["u"] * 1000).dictionary_encode()})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write(table)
    return sink.getvalue()


def test_a_compressed_stream_is_refused_before_it_is_read(packing: Packing) -> None:
    """A stream whose buffers say themselves how long they become is not given to a library."""
    refuse_compression(stream())
    for compression in ("lz4", "zstd"):
        with pytest.raises(ProtocolError, match="compressed"):
            refuse_compression(stream(compression))
        for number in (20, 22):
            with pytest.raises(ProtocolError, match="compressed"):
                Codec(packing=packing).decode(container(packing, number, "frame", stream(compression)))


@pytest.mark.slow
def test_a_damaged_stream_is_refused(packing: Packing) -> None:
    """A stream that is cut, or has a byte changed anywhere, is a ProtocolError or a valid table, never a crash."""
    codec, whole = Codec(packing=packing), stream()
    refused = 0
    for at in range(0, len(whole), 1 if packing.compiled else 50):
        if at > 1500 and at % 97:
            continue
        for damaged in (whole[:at], whole[:at] + bytes((whole[at] ^ 0xFF,)) + whole[at + 1 :]):
            try:
                codec.decode(container(packing, 20, "table", damaged)).to_pylist()
            except (ProtocolError, UnicodeDecodeError):
                refused += 1
    assert refused > 10


def test_a_damaged_stream_does_not_get_through_polars(packing: Packing) -> None:
    """A stream with a changed byte is a ProtocolError or a frame, also where polars itself panics over it."""
    sink = io.BytesIO()
    POLARS["frame"]().write_ipc_stream(sink, compression="uncompressed")
    codec, whole = Codec(packing=packing), sink.getvalue()
    refused = 0
    for at in range(0, len(whole), 3):
        damaged = whole[:at] + bytes((whole[at] ^ 0xFF,)) + whole[at + 1 :]
        try:
            codec.decode(container(packing, 22, "frame", damaged))
        except ProtocolError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    "items",
    [
        (20, "picture", stream()), (20, "array", stream()), (20, "table", b"x"), (20, "table", 0), (20, "table"),
        (22, "series", stream()), (22, "frame", b"junk"), (22, "picture", stream()),
        (21, "frame", ["range", 0, 1, 1, None], ["range", 0, 1, 1, None], [], {}),
        (21, "frame", ["range", 0, 1, 1, None], ["range", 0, 2, 1, None], [["array", np.arange(1)]], {}),
        (21, "frame", ["range", 0, 0, 0, None], ["range", 0, 0, 1, None], [], {}),
        (21, "frame", ["plain", ["objects", [[]]], None, "D"], ["range", 0, 0, 1, None], [], {}),
        (21, "series", None, ["range", 0, 1, 1, None], ["array", [1]], {}),
        (21, "series", None, ["range", 0, 1, 1, None], ["masked", "Int128", np.arange(1), np.arange(1)], {}),
        (21, "series", None, ["range", 0, 1, 1, None], ["text", "str", [1]], {}),
        (21, "series", None, ["range", 0, 1, 1, None], ["zone", np.array([0], "M8[ns]"), "dateutil//etc/passwd"], {}),
        (21, "series", None, ["range", 0, 1, 1, None], ["category", np.array([7]), ["range", 0, 1, 1, None], True], {}),
        (21, "series", None, ["multi", [["range", 0, 1, 1, None]], [np.array([9])], [None]], ["objects", [1]], {}),
        (21, "series", None, ["range", 0, 1, 1, None], ["pickle", b"x"], {}),
        (21, "picture", None, ["range", 0, 1, 1, None], [], {}), (21, "frame", [], [], [], 7),
    ],
    ids=lambda items: str(items)[:70],
)  # fmt: skip
def test_what_is_no_table_is_refused(packing: Packing, items: tuple[Any, ...]) -> None:
    """Elements that do not make a table are a ProtocolError."""
    with pytest.raises(ProtocolError):
        Codec(packing=packing).decode(container(packing, *items))


def test_a_library_is_not_imported_for_what_arrives(packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    """S49: without the library, or with one that can't be trusted, a table is a MarshalError that says what to do."""
    data = Codec(packing=packing).encode(pa.table({"a": [1]}))
    monkeypatch.setattr(pa, "__version__", "14.0.0")
    with pytest.raises(MarshalError, match="upgrade it"):
        Codec(packing=packing).decode(data)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MarshalError, match="Import pyarrow before the call"):
        Codec(packing=packing).decode(data)
    with pytest.raises(MarshalError, match="install pyarrow"):
        Codec(packing=packing, resolve=lambda name: None).decode(data)
