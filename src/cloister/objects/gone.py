"""What was called is not there any more: told from an error that its code has raised, on both sides of a wall.

The mark is an attribute of the error, made by the side that was to run the call and read by the side that made it. It
holds for one wall: an error that has come over one does not take it over the next (see `wire.exceptions`), for what
was called there is still there. Pure; any thread may enter.
"""

from __future__ import annotations

from typing import Final, TypeVar

from cloister.errors import DomainError
from cloister.objects.proxies import Proxy, bound_method

__all__ = ["is_gone", "mark_ended", "marked"]

_MARK: Final = "_cloister_gone"

E = TypeVar("E", bound=BaseException)


def marked(error: E) -> E:
    """Say with an error that what was called is not there any more; return it."""
    setattr(error, _MARK, True)
    return error


def mark_ended(called: object, error: DomainError) -> None:
    """Mark an error of a call that was passed on to another domain, and did not reach it because that has ended."""
    bound = bound_method(called)
    if (bound is not None or issubclass(type(called), Proxy)) and _is_fresh(error):
        marked(error)


def is_gone(error: BaseException) -> bool:
    """Whether the call of a proxy that raised this can't ever be answered: its object or its domain is gone."""
    return getattr(error, _MARK, False) is True or (isinstance(error, DomainError) and _is_fresh(error))


def _is_fresh(error: BaseException) -> bool:
    """Whether an error was raised on this side; the other side raises those that its code has met."""
    return not hasattr(error, "remote_traceback")
