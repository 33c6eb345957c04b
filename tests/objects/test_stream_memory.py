"""How much memory a long stream takes on either side. The long form is tests/soak/streams.py."""

from __future__ import annotations

import sys

import pytest

from tests.soak.streams import flow


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_memory_stays_bounded() -> None:
    """64 MiB flow in either direction, and neither side grows by more than a few batches of one MiB."""
    assert max(flow(64)) < 24 * 1024
