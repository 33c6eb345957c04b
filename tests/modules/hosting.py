"""A guest that is a host itself, again and again."""

from __future__ import annotations

import logging
from concurrent.futures import Future

import cloister


def be_a_host(level: str) -> None:
    """Make domains and use them in each way that takes a lock of this program, for ever."""
    log = logging.getLogger("hosting")
    while True:
        with cloister.Domain("within", level=level) as domain:
            for _ in range(5):
                with cloister.timeout(20):
                    domain.call("math:sqrt", 4)
                asked: Future[float] = domain.submit("math:sqrt", 4)
                assert asked.result(20) == 2
                log.info("used")
