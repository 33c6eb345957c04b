"""How the tests wait for what another thread or process brings about: until it is so, and with a limit."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["wait_until"]


def wait_until(holds: Any, timeout: float = 30.0) -> float:
    """Wait until `holds()` is true; return how many seconds that took. Fails after `timeout` seconds."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < timeout, f"it did not come about within {timeout:g} s"
        time.sleep(0.002)
    return time.monotonic() - begin
