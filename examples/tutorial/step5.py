"""Step 5: watched. A guest that gives no sign of life is noticed, even while nobody waits for a call, and is killed."""

from __future__ import annotations

import logging
from pathlib import Path

from cloister import Domain, DomainCrashed, Setup, Watchdog, events

HERE = Path(__file__).parent
logging.basicConfig(format="[log] %(message)s")
ENDLESS = "a harbour at night as seen from the old lighthouse!"


def tell(event: events.Unresponsive) -> None:
    """Called when beats are missing; `stacks` shows where the guest is."""
    where = next(line.strip() for line in event.stacks.splitlines() if "pictures.py" in line)
    logging.warning("domain %s is %s: %s", event.domain, event.why, where)


SETUP = Setup(path=[HERE / "plugins"])
WATCHDOG = Watchdog(beat=0.25, misses=5, policy="kill")  # by default a beat every 2 s, and only the event
domain = Domain("pictures", setup=SETUP, watchdog=WATCHDOG, on={events.Unresponsive: tell})
decoder = domain.create("pictures:Decoder")
try:
    decoder.title(ENDLESS)  # no time-out: it would wait for years
except DomainCrashed as crash:
    print(str(crash).splitlines()[0])
