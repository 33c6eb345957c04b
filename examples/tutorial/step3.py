"""Step 3: know what happened. A crash brings a report; events tell the rest."""

from __future__ import annotations

import logging
from pathlib import Path

from cloister import Domain, DomainCrashed, Setup, events

HERE = Path(__file__).parent
SETUP = Setup(path=[HERE / "plugins"])
logging.basicConfig(level=logging.INFO, format="[log] %(message)s")


def log(event: events.Exited) -> None:
    """Called once at the end of each domain, whatever the reason."""
    logging.info("domain %s: %s, after %.1f s", event.domain, event.report.cause, event.report.seconds)


def start() -> Domain:
    """A new domain whose end is logged."""
    return Domain("pictures", setup=SETUP, on={events.Exited: log})


domain = start()
decoder = domain.create("pictures:Decoder")
for upload in sorted((HERE / "uploads").iterdir()):
    try:
        print(upload.stem, decoder.brightness(upload.read_bytes()))
    except ValueError as error:  # what the plug-in raises is raised here, with its own type
        print(upload.stem, "is told:", error)
    except DomainCrashed as crash:
        print(crash.report)
        print(upload.stem, "is told: this picture is damaged")
        domain = start()
        decoder = domain.create("pictures:Decoder")

print("decoded since the last crash:", decoder.decoded)  # state lives and ends with its domain
domain.unload()
