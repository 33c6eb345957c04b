"""A guest that uses the inside of cloister to reach for what it was not given."""

from __future__ import annotations

import gc
from typing import Any

from cloister.objects import schema
from cloister.objects.rule import Marshaller
from cloister.wire.messages import Kind
from cloister.wire.reference import Reference


def call(proxy: Any, name: str, *args: Any) -> Any:
    """Call anything on an object of the host."""
    return proxy._cloister_peer.call(proxy._cloister_id, name, args, None)


def call_neighbour(proxy: Any, name: str) -> Any:
    """Call an object that was never handed out."""
    return proxy._cloister_peer.call(proxy._cloister_id + 1000, name, (), None)


def call_service(proxy: Any, name: str) -> Any:
    """Call what a host does not have: functions of its own."""
    return proxy._cloister_peer.call(0, name, (), None)


def send_reference(proxy: Any, *fields: Any) -> Any:
    """Call back with a made-up reference among the arguments."""
    Marshaller._on_purpose = lambda self, value: Reference(fields)  # type: ignore[method-assign]  # that is the attack
    return proxy(object())


def describe_as(proxy: Any, *plain: Any) -> Any:
    """Call back with an object whose type is described like this."""
    schema.to_plain = lambda description: list(plain)
    return proxy(type("Another", (), {})())


def release(*dropped: Any) -> None:
    """Release what may never have been sent."""
    gc.unfreeze()  # what a template has made is hidden from the collector
    control: Any = next(each for each in gc.get_objects() if type(each).__name__ == "Control")
    control.send(Kind.RELEASE, list(dropped))


def flood(proxy: Any, count: int) -> Any:
    """Hand out very many objects at once."""
    return proxy([object() for _ in range(count)])
