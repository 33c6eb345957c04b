"""How many bytes the Python code of this process has allocated, as `tracemalloc` counts them.

Counting costs time and memory, so it begins when it is first asked for. Any thread may enter.
"""

from __future__ import annotations

__all__ = ["allocated"]


def allocated(stop: bool) -> list[int]:
    """Return [bytes that were allocated since counting began and are in use, the most that were], and begin or go on.

    `stop`: end the counting. The first call gives zeros.
    """
    import tracemalloc  # not where this file is loaded: a sub-interpreter refuses it

    if not tracemalloc.is_tracing():
        if not stop:
            tracemalloc.start()
        return [0, 0]
    figures = list(tracemalloc.get_traced_memory())
    if stop:
        tracemalloc.stop()
    return figures
