"""What a type checker sees: a class or function that the host has imported gives its own type. mypy reads this too."""

from __future__ import annotations

import fractions
import operator
import os
from concurrent.futures import Future
from typing import Any, assert_type

import cloister


def test_what_is_imported_is_typed_as_itself(domain: cloister.Domain) -> None:
    """`create(Customers)` is typed as Customers, `call` and `submit` as what a function returns, a name as anything."""
    made = assert_type(domain.create(fractions.Fraction, 1, 2), fractions.Fraction)
    assert isinstance(made, fractions.Fraction)
    assert assert_type(domain.call(os.getpid), int) == domain.pid
    assert assert_type(domain.submit(os.getpid), Future[int]).result(10) == domain.pid
    assert assert_type(domain.call("os:getpid"), Any) == domain.pid
    assert assert_type(domain.with_options(timeout=10).call(os.getpid), int) == domain.pid
    handle = assert_type(domain.create_handle(fractions.Fraction, 1), cloister.ObjectHandle)
    assert cloister.is_proxy(handle)


def test_wrappers_are_typed_as_what_they_wrap(domain: cloister.Domain) -> None:
    """`share`, `code` and `pickled` do not change the type that the function over there is declared with."""
    values = [3, 1]
    assert assert_type(cloister.share(values), list[int]) is not None
    assert assert_type(cloister.pickled(values), list[int]) is not None
    assert assert_type(domain.call(operator.length_hint, cloister.share(values)), int) == 2
