"""The fuzzer, in its short form; `make fuzz` feeds a million."""

from __future__ import annotations

from fuzz.fuzz_wire import run


def test_hostile_bytes_are_accepted_or_refused_as_documented() -> None:
    """Ten thousand injured frames and values: each is accepted, or refused with a documented error; nothing grows."""
    outcomes = run(10_000, seed=2026)
    assert outcomes["value accepted"] > 100
    assert outcomes["value refused: ProtocolError"] > 1000
    assert outcomes["stream refused: ProtocolError"] > 500
    assert outcomes["frame accepted"] > 1000
