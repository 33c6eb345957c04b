"""Long lists of numbers or text are told by adding them up; what does not belong there is found all the same."""

from __future__ import annotations

from typing import Any

import pytest

from cloister.errors import MarshalError
from cloister.wire.values import Codec

LONG = 1000
ROWS: list[list[Any]] = [
    [200_000 + at for at in range(LONG)],
    [at / 7 for at in range(LONG)],
    [f"é{at}" * 20 for at in range(LONG)],
]


@pytest.mark.parametrize("row", ROWS, ids=["ints", "floats", "text"])
@pytest.mark.parametrize("stranger", [bytearray(b"abc"), memoryview(b"abc"), b"abc", None, True, (1,), [bytearray()]])
@pytest.mark.parametrize("place", [0, 1, LONG // 2, LONG - 1])
def test_a_stranger_in_a_long_list_arrives_as_itself(row: list[Any], stranger: Any, place: int) -> None:
    """A bytearray among a thousand numbers stays a bytearray, wherever it stands; so does all else."""
    sent = [*row[:place], stranger, *row[place:]]
    codec = Codec()
    got = codec.decode(codec.encode([1, sent], []))[1]
    expected = bytes(stranger) if type(stranger) is memoryview else stranger
    assert got == [*row[:place], expected, *row[place:]]
    assert type(got[place]) is type(expected)


@pytest.mark.parametrize("row", ROWS, ids=["ints", "floats", "text"])
def test_nothing_of_a_strangers_runs(row: list[Any]) -> None:
    """An object among numbers is not added to them: its methods are the user's."""

    class Added:
        def __radd__(self, other: object) -> object:
            raise AssertionError("it was added")

    codec = Codec(outbound=None)
    with pytest.raises(MarshalError):
        codec.encode([*row, Added()], [])
    assert codec.decode(codec.encode(row, [])) == row


def test_sums_that_overflow_are_no_failure() -> None:
    """The sum of the items is nobody's: it may be infinite, or longer than any number that travels."""
    codec = Codec()
    for row in ([1e308] * 100, [2**64 - 1] * 100, [float("inf"), float("-inf")] * 50):
        got = codec.decode(codec.encode(row, []))
        assert [str(each) for each in got] == [str(each) for each in row]
