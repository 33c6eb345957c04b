"""The guard against keys that were chosen to collide.

A dict or a set looks for the place of a new key among those of the keys that it has. The hashes of str and bytes are
secret to the process; those of numbers, tuples and the like can be computed by a peer, who could send keys that all
look for the same place. Two bounds hold before and while such a table is built:

- Of its keys, at most `WireLimits.colliding_keys` have the hash of another one. 30,000 keys of one hash cost ten
  seconds.
- Where there is a clock, building takes at most `GRACE_NS` and `KEY_NS` for each key, of this thread's own time. Keys
  whose hashes differ can still be searched for such that they walk through the same places: 85,000 integers of that
  kind cost three seconds and not six milliseconds, and only the building itself shows it.

A host gives its codecs a clock; a guest trusts its host and needs none. Pure; any thread may enter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import ProtocolError

if TYPE_CHECKING:
    from cloister.wire.decoding import Decoding
    from cloister.wire.limits import WireLimits

__all__ = ["guarded_dict", "guarded_set", "refuse_flood"]

GRACE_NS: Final = 50_000_000
"""For the coarsest clock (16 ms), and for a table that grows just now."""
KEY_NS: Final = 1000
"""Ten times of what a key takes on a slow day."""
STEP: Final = 256
"""Keys between two looks at the clock: the more, the longer the last step of an attack; the fewer, the more looks."""


def refuse_flood(keys: Sequence[Any], limits: WireLimits) -> None:
    """Raise `ProtocolError` where more than `limits.colliding_keys` of `keys` have the hash of another one.

    `TypeError` for a key without a hash.
    """
    if len(keys) - len(set(map(hash, keys))) > limits.colliding_keys:
        # Equal keys sent twice count as well: no encoder sends a dict or a set that has them.
        raise ProtocolError(f"bad value: more than {limits.colliding_keys:,} of {len(keys):,} keys collide")


def guarded_dict(pairs: list[tuple[Any, Any]], decoding: Decoding) -> dict[Any, Any]:
    """Give the dict of `pairs`. Raises `ProtocolError` where its keys were chosen to collide."""
    if len(pairs) <= decoding.limits.colliding_keys:
        return dict(pairs)
    refuse_flood([pair[0] for pair in pairs], decoding.limits)
    made: dict[Any, Any] = {}
    _fill(made.update, pairs, decoding.clock)
    return made


def guarded_set(items: list[Any], decoding: Decoding) -> set[Any]:
    """Give the set of `items`. Raises `ProtocolError` where they were chosen to collide."""
    if len(items) <= decoding.limits.colliding_keys:
        return set(items)
    refuse_flood(items, decoding.limits)
    made: set[Any] = set()
    _fill(made.update, items, decoding.clock)
    return made


def _fill(update: Callable[[Any], None], items: list[Any], clock: Callable[[], int] | None) -> None:
    if clock is None:
        update(items)
        return
    end = clock() + GRACE_NS + KEY_NS * len(items)
    for at in range(0, len(items), STEP):
        update(items[at : at + STEP])
        if clock() > end:
            raise ProtocolError(f"bad value: the {len(items):,} keys of a table were chosen to be slow")
