"""Where the running code is: the identity of the domain that this process is.

In a host it is the default domain; a guest enters its own at start. `cloister.current_domain` reads it. Any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["base", "config", "data", "enter", "get_data", "identity", "name", "set_data"]

DEFAULT_NAME = "default"
name = DEFAULT_NAME
"""The name of this process's domain."""
identity = 0
"""Its id: 0 is the default domain, a host counts its domains from 1."""
config: Mapping[str, Any] = {}
"""The configuration that the creator gave."""
base = ""
"""The application base that the creator gave; empty in a host, which has its own."""
data: dict[str, Any] = {}
"""The data slots of this domain."""


def enter(own_name: str, own_identity: int, own_config: Mapping[str, Any], own_base: str = "") -> None:
    """Say which domain this process is; called once, before any code of the user's runs."""
    global name, identity, config, base
    name, identity, config, base = own_name, own_identity, own_config, own_base


def set_data(slot: str, value: Any) -> None:
    """Put a value into a data slot."""
    if not isinstance(slot, str):
        raise TypeError(f"the name of a data slot is a text, not {slot!r}")
    data[slot] = value


def get_data(slot: str) -> Any:
    """The value of a data slot; None where nothing is in it."""
    return data.get(slot)
