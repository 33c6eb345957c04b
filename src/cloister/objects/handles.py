"""Handles: objects in another domain whose type is not loaded here.

`create_handle` makes one. `unwrap` gives a copy where the type is copied, and a proxy where it is by reference. A
handle may be passed to any domain; on its way it loads its type nowhere. Any thread may enter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloister.errors import MarshalError
from cloister.objects.marks import by_reference
from cloister.wire.messages import COPY, SERVICE

if TYPE_CHECKING:
    pass

__all__ = ["LocalHandle", "ObjectHandle"]


@by_reference
class ObjectHandle:
    """Names an object of another domain."""

    _cloister_handle = True
    __slots__ = ("__weakref__", "_cloister_id", "_cloister_keep", "_cloister_peer")

    def __init__(self, peer: Any, number: int) -> None:
        """Users do not make handles; `peer` is the `Peer` whose object it is."""
        self._cloister_peer = peer
        self._cloister_id = number
        self._cloister_keep = None if peer.imports.keep is None else peer.imports.keep()
        peer.imports.hold(self, number)

    def unwrap(self) -> Any:
        """Get the object: a new copy each time where its type is copied, the proxy where it is by reference.

        Raises MarshalError where the type is neither, or not known here; the handle stays usable.
        """
        return self._cloister_peer.call(SERVICE, "unwrap", (self,), None, COPY)

    def __repr__(self) -> str:
        return f"<handle of object #{self._cloister_id} in domain {self._cloister_peer.name!r}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise MarshalError(f"{self!r} can't be pickled or copied; unwrap() gives a copy of the object, if it has one")


@by_reference
class LocalHandle:
    """Names an object of the domain that the code runs in; made by `current_domain().create_handle`."""

    _cloister_handle = True
    _cloister_peer = None
    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def unwrap(self) -> Any:
        """Get the object itself: it is here."""
        return self._value

    def __repr__(self) -> str:
        return f"<handle of {type(self._value).__module__}.{type(self._value).__qualname__} in this domain>"
