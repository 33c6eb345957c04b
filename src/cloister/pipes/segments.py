"""Shared memory on whatever platform this is: `segments_linux`, or none.

Where there is none nothing fails: large buffers go through the pipe.
"""

from __future__ import annotations

import sys

__all__ = ["AVAILABLE", "Mapping", "attach", "create"]

if sys.platform == "linux":
    from cloister.pipes.segments_linux import AVAILABLE as AVAILABLE
    from cloister.pipes.segments_linux import Mapping as Mapping
    from cloister.pipes.segments_linux import attach as attach
    from cloister.pipes.segments_linux import create as create
else:  # another platform
    from collections.abc import Callable
    from typing import Any

    AVAILABLE = False

    class Mapping:
        """There is none."""

        size = 0
        writable = False
        grounded = False
        left: Callable[[], None] | None = None

        def root(self, offset: int, length: int) -> Any:
            """There is none."""
            raise ValueError("this platform has no segments")

        def ground(self) -> Any:
            """There is none."""
            raise ValueError("this platform has no segments")

        def offset_of(self, view: memoryview) -> int:
            """There is none."""
            raise ValueError("this platform has no segments")

        def view(self, offset: int = 0, length: int | None = None) -> memoryview:
            """There is none."""
            raise ValueError("this platform has no segments")

    def create(size: int, downwards: bool, *, shared: bool = False) -> tuple[Mapping, int]:
        """There is none: OSError."""
        raise OSError("this platform has no segments")

    def attach(fd: int, size: int, writable: bool) -> Mapping:
        """There is none: OSError."""
        raise OSError("this platform has no segments")
