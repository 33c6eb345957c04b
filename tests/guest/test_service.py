"""What a host may ask of a guest, without one."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cloister.guest.interrupts import Interrupted
from cloister.guest.service import Service


@pytest.fixture
def service() -> Iterator[Service]:
    """The functions, on a thread whose call nobody wants any more."""
    service = Service("__cloister_test__")
    peer: Any = SimpleNamespace(runs_here=lambda: SimpleNamespace(number=1, unwanted=1), describe=repr)
    service.peer = peer
    yield service
    service.forget()


async def nothing(_: object) -> None:
    """What is mapped."""


def test_map_that_is_stopped_closes_the_coroutines_that_it_has_made(service: Service) -> None:
    """Nobody is to be told that they were never awaited."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(Interrupted):
            service.map(["name", f"{__name__}:nothing"], [[1, 2, 3, 4]])
        gc.collect()
    assert [str(each.message) for each in said] == []
