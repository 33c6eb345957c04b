"""What each thread has of one peer, in one object, so that the way of a call looks it up once.

Below whoever owns lanes, in the host and in a guest; here is only how such an object comes to be. Any thread may enter,
a finalizer too.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

__all__ = ["PerThread"]

T = TypeVar("T")


class PerThread(threading.local, Generic[T]):
    """One look-up for all that the calling thread has: an attribute of a `threading.local` costs as much as five.

    It is made when it is first asked for, and not by a constructor: a finalizer that came in the middle of that, and
    calls, would find neither a constructor to run nor anything made by one.
    """

    here: T

    def make(self) -> T:
        """What a thread begins with."""
        raise NotImplementedError  # each owner of lanes says it

    def __getattr__(self, name: str) -> T:
        if name != "here":
            raise AttributeError(name)
        made: T = self.__dict__.setdefault("here", self.make())
        return made
