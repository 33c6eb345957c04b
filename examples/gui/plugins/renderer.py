"""The work: it knows nothing of windows, and nothing of domains."""

from collections.abc import Callable


def render(frames: int, tell: Callable[[int], object]) -> int:
    """Compute so many frames, and tell after each one."""
    light = 0
    for frame in range(frames):
        light += sum(point * point % 7 for point in range(50_000))
        tell(frame + 1)
    return light
