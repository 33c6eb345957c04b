"""One thread at a time: a hotel's broker that eight threads call, here and in a domain of its own.

Run it: python examples/reservations.py
"""

from __future__ import annotations

import itertools
import threading
import time

import cloister


def logged(call: cloister.ContextCall) -> object:
    """A rule: stands around each call that enters the broker's context."""
    result = call.proceed()
    print(f"{call.name}{call.args} in {call.context}: {result}")
    return result


@cloister.synchronized
@cloister.intercepted(logged)
class Broker:
    """Knows how many rooms are left, and looks away for a moment before it takes one."""

    def __init__(self, rooms: int) -> None:
        self.rooms = rooms
        self.numbers = itertools.count(1001)

    def reserve(self, customer: str) -> int | None:
        if self.rooms == 0:
            return None
        time.sleep(0.001)  # without the rule, everybody would get the last room in the meantime
        self.rooms -= 1
        return next(self.numbers)


def rush(broker: Broker) -> int:
    """Eight threads want three rooms. Returns how many rooms are left."""
    threads = [threading.Thread(target=broker.reserve, args=(f"guest {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return broker.rooms


if __name__ == "__main__":
    print("this is domain", cloister.current_domain().name, "and context", cloister.current_context().id)
    print(rush(Broker(3)), "rooms left here")
    with cloister.Domain("hotel") as domain:
        print(rush(domain.create(Broker, 3)), "rooms left in the domain")
