"""A feed that never ends: read it as it comes, and stop when there is enough."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator

import cloister


def primes() -> Generator[int]:
    """All primes, one after the other."""
    found: list[int] = []
    for number in itertools.count(2):
        if all(number % prime for prime in found):
            found.append(number)
            yield number


def main() -> None:
    """Sum the primes below a thousand; the generator runs in the domain, and ends when it is closed."""
    with cloister.Domain("primes") as domain, contextlib.closing(domain.call(primes)) as feed:
        print(sum(itertools.takewhile(lambda prime: prime < 1000, feed)))


if __name__ == "__main__":
    main()
