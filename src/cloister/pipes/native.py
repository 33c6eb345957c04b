"""The transports of this platform: the one place that chooses. What the functions promise is in `transport`."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from cloister.pipes.listener_windows import connect_now, find_place, listen
    from cloister.pipes.transport_windows import adopt, pair
else:
    from cloister.pipes.listener_posix import connect_now, find_place, listen
    from cloister.pipes.transport_posix import adopt, pair

__all__ = ["adopt", "connect_now", "find_place", "listen", "pair"]
