"""The rule: what travels by value, what by reference, what not at all. It is here and nowhere else.

The codec copies what it knows (`cloister.wire.values`); for everything else it asks a `Marshaller`, which applies the
rule, and which turns a reference that arrives into an object again. A marshaller belongs to one lane, because a type is
described once on each lane; one thread at a time may say, and one may hear.

=============================================  ================================================================
value                                          travels as
=============================================  ================================================================
a proxy or handle of the receiver's own        the object itself ("home")
a method of such a proxy                       that method of the object itself
a proxy or handle of another domain            a reference to the proxy
`share(x)`, a type marked `by_reference`       a reference
`code(f)`, to a guest                          code, by name or by value
`pickled(x)`, to a guest                       a pickle
a function, bound method, partial, class       a reference to that one callable: a call-back
an iterator or generator, sync or async        a stream: a reference; from a host to the iteration alone
an open file or socket, to a guest             a twin that shares the descriptor; not from a guest
another file object (`io.IOBase`)              a reference; from a host to the file interface alone
`stream(x)`                                    the same, read no further ahead than it says
anything else, from a guest                    a reference, except where a copy was asked for (`unwrap`)
anything else, to a guest                      not at all: `MarshalError`, because handing out an object is a grant
=============================================  ================================================================

A reference is one of these tuples of plain values:

- ``(OWN, object, type, description or None)``: an object of the sender's;
- ``(HOME, object)``, ``(HOME, object, method)``: an object of the receiver's, or a method of it;
- ``(CODE, how, what)``: only to a guest, see `targets`;
- ``(FILE, token, parts)``: only to a guest, see `files`.
"""

from __future__ import annotations

import functools
import io
import types
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cloister.errors import MarshalError, ProtocolError
from cloister.objects import files, schema, targets
from cloister.objects.descriptions import Description
from cloister.objects.exports import CALLABLE
from cloister.objects.marks import Code, Pickled, Shared, Streamed, is_by_reference
from cloister.objects.misaimed import Misaimed
from cloister.objects.proxies import bound_method, is_proxy
from cloister.objects.streams import MOST_ITEMS
from cloister.wire.culprit import ways_out
from cloister.wire.reference import Reference

if TYPE_CHECKING:
    from cloister.objects.leases import Lease
    from cloister.objects.loans import Loan
    from cloister.objects.peer import Peer
    from cloister.wire.encoding import Gathered

__all__ = ["Marshaller"]

OWN: Final = 0
HOME: Final = 1
CODE: Final = 2
FILE: Final = 3

MAX_TOKENS: Final = 256
"""Descriptors of one lane that may be on their way when it breaks, and are closed over there then."""

_CALLABLES: Final = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    functools.partial,
    type(functools.lru_cache(len)),
    type,
)


class Marshaller:
    """Applies the rule for one lane."""

    __slots__ = ("_described", "_loans", "_peer", "_tokens")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._described: set[int] = set()
        self._tokens: deque[int] = deque(maxlen=MAX_TOKENS)
        self._loans: deque[Loan] = deque(maxlen=MAX_TOKENS)

    def __del__(self) -> None:
        if self._tokens:  # the lane is over, perhaps before the guest has read the last of it
            self._peer.unsent.extend(self._tokens)
        if self._loans:
            self._peer.segments.doubt(list(self._loans))

    # -- going out ---------------------------------------------------------------------------------------------------

    def outbound(self, value: Any) -> Reference:
        """Say how a value that has no copy travels. Raises MarshalError where it does not."""
        reference = self._on_purpose(value)
        if reference is not None:
            return reference
        if not self._peer.below:
            return self._own(value, self._peer.exports.view(type(value)))
        raise MarshalError(ways_out(value))

    def outbound_copy(self, value: Any) -> Reference:
        """The same where a copy was asked for: only what is by reference on purpose may be one."""
        reference = self._on_purpose(value)
        if reference is not None:
            return reference
        raise MarshalError(f"{ways_out(value)}. What holds it can still be used where it is: by its handle, by a proxy")

    def _on_purpose(self, value: Any) -> Reference | None:
        """The reference of a value that is by reference by its kind or by a mark, else None."""
        peer = self._peer
        cls = type(value)
        shared = cls is Shared
        lease = None
        if shared:
            value, lease = value.value, value.lease
            cls = type(value)
        if is_proxy(value) and value._cloister_peer is peer:
            peer.imports.mention(value._cloister_id)
            return Reference((HOME, value._cloister_id))
        if cls is types.MethodType:
            bound = bound_method(value)
            if bound is not None and bound[0]._cloister_peer is peer:
                number = bound[0]._cloister_id
                peer.imports.mention(number)
                return Reference((HOME, number, bound[1]))
        if cls is Code or cls is Pickled:
            return self._downwards(value)
        if isinstance(value, _CALLABLES):
            return self._own(value, CALLABLE, lease=lease)
        if shared or is_proxy(value) or is_by_reference(cls):
            return self._own(value, peer.exports.view(cls), lease=lease)
        if peer.below and not shared:
            twin = self._twin(value)
            if twin is not None:
                return twin
        if isinstance(value, io.IOBase):
            return self._own(value, peer.exports.view_of_file(cls) if peer.below else peer.exports.view(cls))
        if cls is Streamed:
            return self._stream(value.value, type(value.value), value.ahead)
        if (hasattr(cls, "__next__") and hasattr(cls, "__iter__")) or hasattr(cls, "__anext__"):
            return self._stream(value, cls)
        return None

    def _twin(self, value: Any) -> Reference | None:
        """The reference of a file whose descriptor travels."""
        packed = files.pack(value)
        try:
            token = None if packed is None else self._peer.send_descriptor(packed[0])
        except OSError as error:
            raise MarshalError(f"the descriptor of {value!r} can't be sent: {error}") from error
        if packed is None or token is None:
            return None
        self._tokens.append(token)
        return Reference((FILE, token, packed[1]))

    def _stream(self, value: Any, cls: type, ahead: int = MOST_ITEMS) -> Reference:
        peer = self._peer
        if not hasattr(cls, "__next__") and not peer.awaits:
            raise MarshalError(
                f"{cls.__module__}.{cls.__qualname__} is an async iterator, and no event loop serves what this domain"
                " calls. Use cloister.aio.Domain, or hand over an iterator that is not async"
            )
        whole = not peer.below or cls in (types.GeneratorType, types.AsyncGeneratorType)
        view = peer.exports.view(cls) if whole else peer.exports.view_of_iteration(cls)
        return self._own(value, view, ahead)

    def _downwards(self, value: Any) -> Reference:
        if not self._peer.below:
            raise MarshalError("code and pickles go from a host to its guest only, never the other way")
        if type(value) is Pickled:
            return Reference((CODE, *targets.pickled(value.value)))
        return Reference((CODE, *targets.to_plain(value.function, self._peer.version)))

    def _own(
        self, value: Any, description: Description, ahead: int = MOST_ITEMS, lease: Lease | None = None
    ) -> Reference:
        exports = self._peer.exports
        entry = exports.hand_out(value, description, lease)
        if entry.puller is not None:
            entry.puller.ahead = min(entry.puller.ahead, ahead)
        number = exports.type_number(description)
        if number in self._described:
            return Reference((OWN, entry.number, number, None))
        self._described.add(number)
        return Reference((OWN, entry.number, number, schema.to_plain(description)))

    def withdraw(self, reference: Reference) -> None:
        """Take back a reference that was made and will not be sent."""
        kind, number, *rest = reference.fields
        if kind == HOME:
            self._peer.imports.mention(number, -1)
        elif kind == FILE:
            self._peer.unsent.append(number)
        elif kind == OWN:
            self._peer.exports.withdraw(number)
            if rest[1] is not None:
                self._described.discard(rest[0])

    def place(self, data: memoryview | Gathered) -> Loan | None:
        """Lend a large buffer in shared memory; None where it is to travel through the pipe."""
        loan = self._peer.segments.lend(data)
        if loan is not None:
            self._loans.append(loan)
        return loan

    def unplace(self, loan: Any) -> None:
        """Take back a buffer that will not be sent."""
        self._peer.segments.take_back(loan)

    # -- coming in ---------------------------------------------------------------------------------------------------

    def inbound(self, reference: Reference) -> Any:
        """Turn a reference of the peer into an object.

        Raises ProtocolError where it is malformed or not allowed, and MarshalError where the object is gone or the code
        can't be made here.
        """
        try:
            kind, number, *rest = reference.fields
        except (TypeError, ValueError):
            raise ProtocolError("a reference has at least two fields") from None
        if kind == CODE:
            return self._code([number, *rest])
        if type(number) is not int or number <= 0:
            raise ProtocolError(f"{number!r} is not the id of an object")
        if kind == FILE and len(rest) == 1 and not self._peer.below:
            return files.unpack(self._peer.arrivals.take(number), rest[0])
        if kind == HOME and len(rest) < 2:
            entry = self._peer.exports.arrive(number)
            if not rest:
                return entry.value
            if rest[0] not in entry.names:
                raise Misaimed(f"object {number} has no method {rest[0]!r} that the peer was shown")
            return getattr(entry.value, rest[0])
        if kind == OWN and len(rest) == 2 and type(rest[0]) is int:
            described = None if rest[1] is None else schema.from_plain(rest[1])
            return self._peer.imports.receive(number, rest[0], described)
        raise ProtocolError(f"a reference of kind {kind!r} with {len(rest) + 1} fields")

    def fetch(
        self, segment: int, offset: int, length: int, slot: int, generation: int, home: bool
    ) -> tuple[memoryview, int]:
        """Give a view of what lies in shared memory, and the size of its segment. Raises as `Borrower.view`."""
        return self._peer.segments.view(segment, offset, length, slot, generation, home)

    def _code(self, plain: list[Any]) -> Any:
        if self._peer.below:
            raise ProtocolError("a guest sent code")
        try:
            return targets.from_plain(plain)
        except Exception as error:  # whatever an import or a `__setstate__` raises
            raise MarshalError(f"this code can't be had in the domain: {type(error).__name__}: {error}") from error
