"""The descriptors that a guest at the process level is born with; beyond them it has none but 0, 1 and 2.

Both sides import these numbers: the host puts its pipes there, the guest finds them there. Constants only.
"""

from __future__ import annotations

from typing import Final

CONTROL: Final = 3
"""The guest's end of the control channel, a stream socket."""
LANE_READER: Final = 4
LANE_WRITER: Final = 5
"""The first lane, number 0, served by the main thread."""
LIFELINE: Final = 6
"""The read end of the host's lifeline, a pipe that is never written; see `lifeline`."""
PAGE: Final = 7
"""The shared page, with its offset where the stacks begin. Absent where the platform has none."""
FIRST_FREE: Final = 8
"""Every descriptor from here on leaked in from the host's process, and is closed at once."""
