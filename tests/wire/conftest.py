"""Every codec test runs with both implementations of MessagePack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloister.wire.packing import Packing, load_msgpack
from cloister.wire.values import Codec
from tests.wire.samples import REGISTRY


@pytest.fixture(params=["compiled", "pure"])
def packing(request: pytest.FixtureRequest) -> Packing:
    """MessagePack, compiled and in Python."""
    return load_msgpack(pure=request.param == "pure")


@pytest.fixture
def codec(packing: Packing) -> Iterator[Codec]:
    """A codec that knows the types of `samples`, and lets references through as they are."""
    return Codec(registry=REGISTRY, outbound=lambda value: value, packing=packing)  # type: ignore[return-value, arg-type]  # a Reference is one
