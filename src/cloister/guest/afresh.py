"""What a forked guest must not share with its siblings: random numbers, names, keys.

Here is what the libraries themselves do not put right. `random`, `tempfile`'s names, `secrets`, `uuid4`, `logging`,
`threading`, `concurrent.futures` and `asyncio` do: they notice a fork, or ask the kernel each time. What is shared and
can't be otherwise is the seed of Python's hashes, and whatever a preloaded module made up for itself at its import.

Only modules that are there are touched. Runs on the main thread, before any code of the user's.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

__all__ = ["begin"]


def begin() -> None:
    """Put right, in a process that was just forked, what would be the same in all of them."""
    modules = sys.modules
    legacy: Any = modules.get("numpy.random")
    if legacy is not None:
        legacy.seed()  # the generator behind numpy.random.rand and its like
    temporary: Any = modules.get("tempfile")
    if temporary is not None:
        temporary.tempdir = None
    identities: Any = modules.get("uuid")
    if identities is not None:
        for name in ("_last_timestamp", "_last_timestamp_v7"):
            if hasattr(identities, name):
                setattr(identities, name, None)
    processes: Any = modules.get("multiprocessing.process")
    if processes is not None:
        processes.current_process().authkey = os.urandom(32)
    tls: Any = modules.get("ssl")
    if tls is not None:
        tls.RAND_add(os.urandom(32), 32.0)
    gc.enable()
