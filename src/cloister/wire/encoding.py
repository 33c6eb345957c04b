"""One encode: the packer with the state that belongs to it, and what MessagePack alone would get wrong.

Here are `Encoding`, which the writers of all types get, and `has_binary`, which decides whether an encode has to be
made again with care. When that is, and what becomes of a failure, is in `values`.

An encoding belongs to one encode at a time, and to one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from cloister.errors import MarshalError
from cloister.wire import containers, scalars
from cloister.wire.culprit import ways_out
from cloister.wire.handlers import writer_of
from cloister.wire.limits import OUT_OF_BAND_BYTES
from cloister.wire.reference import Reference

if TYPE_CHECKING:
    from cloister.wire.values import Codec

__all__ = ["NOTHING", "Encoding", "Placed", "has_binary"]

NOTHING: Final = object()
"""No culprit: the failure does not lie in one value."""

_SPECIAL: Final = frozenset((bytearray, memoryview))
_NESTED: Final = frozenset((list, tuple, dict, set, frozenset))
_SIMPLE: Final = scalars.SIMPLE
_LEAVES: Final = set(scalars.LEAVES)
"""What holds nothing that the packer would change. Those of `handlers` are added with their first value."""
_FEW: Final = 16
"""Looking at the types of fewer items is quicker than anything else."""
_WRITERS: Final = scalars.WRITERS | containers.WRITERS
"""The writers by exact type; those of `handlers` are added with their first value."""


class Placed(Protocol):
    """A buffer that lies in shared memory."""

    @property
    def fields(self) -> tuple[int, int, int, int, int]:
        """Segment, offset, length, slot and generation."""

    @property
    def home(self) -> bool:
        """Whether that is a segment of the receiver's own."""

    @property
    def size(self) -> int:
        """How long all of the segment is."""


class Gathered(Protocol):
    """Data that does not lie in one piece yet."""

    @property
    def nbytes(self) -> int:
        """How long it becomes."""

    def write_to(self, target: memoryview) -> None:
        """Write it into memory of that length."""


class Encoding:
    """The state of one encode, with a packer of its own; used again by the next one unless it failed."""

    __slots__ = ("_careful", "_codec", "_replayed", "buffers", "copied", "culprit", "ext", "foreign", "limits",
                 "markers", "pack", "place", "placed", "references")  # fmt: skip

    def __init__(self, codec: Codec, *, careful: bool = False) -> None:
        packing = codec.packing
        self._codec = codec
        self._careful = careful
        self._replayed = 0
        self.ext = packing.ext_type
        self.markers = containers.markers(packing)
        self.limits = codec.limits
        self.buffers: list[Any] | None = None
        self.place = codec.place
        self.placed: list[Placed] = []
        self.copied: dict[int, int] = {}
        """How many bytes of each segment the receiver has to copy; see `scalars.admit`."""
        self.references: list[tuple[object, Reference]] = []
        self.culprit: object = NOTHING
        self.foreign = False
        """Whether the packer has met what it does not know, since this was last set to False."""
        # A stricter error handler is quicker: it lets the packer take the text that the string has cached.
        options = {"unicode_errors": "surrogatepass"} if careful else {}
        self.pack = packing.packer(strict_types=True, default=self._default, **options).pack

    def unplace(self, loan: Placed) -> None:
        """A loan will not be sent."""
        if self._codec.unplace is not None:
            self._codec.unplace(loan)

    def take_placed(self) -> list[Placed]:
        """The loans of what was encoded, each once."""
        placed, self.placed, self.copied = self.placed, [], {}
        return placed

    def drop(self) -> None:
        """It is not used again. The packer and this hold each other: what this has met is to go now, not when the
        garbage collector comes."""
        self.references.clear()
        self.culprit = NOTHING
        self.buffers = self.pack = None

    def _default(self, value: object) -> object:
        """Give the packer something that it knows for `value`; called for all that MessagePack does not know."""
        self.foreign = True
        kind = type(value)
        try:
            writer = _WRITERS.get(kind)
            if writer is None:
                writer = self._writer_of(kind)
            made = writer(value, self)
        except MarshalError:
            if self.culprit is NOTHING:
                self.culprit = value
            raise
        except RecursionError:  # the levels above are to blame, not this value
            raise
        except Exception as error:
            self.culprit = value
            raise MarshalError(f"copying this {kind.__qualname__} raised {type(error).__name__}: {error}") from error
        return self._guarded(made) if self._careful else made

    def _writer_of(self, kind: type) -> Any:
        record = self._codec.registry.by_type.get(kind)
        if record is not None:
            return record.write
        writer, is_leaf = writer_of(kind)
        if writer is not None:
            _WRITERS[kind] = writer
            if is_leaf:
                _LEAVES.add(kind)
            return writer
        return Encoding._refer

    @staticmethod
    def _refer(value: object, encoding: Encoding) -> object:
        """Encode the reference of an object that has no copy."""
        known = encoding.references
        if encoding._replayed < len(known) and known[encoding._replayed][0] is value:
            reference = known[encoding._replayed][1]
        else:
            outbound = encoding._codec.outbound
            if outbound is None:
                raise MarshalError(ways_out(value))
            reference = outbound(value)
            # Encoding the same value again must not hand out the object again.
            known.insert(encoding._replayed, (value, reference))
        encoding._replayed += 1
        return [encoding.markers[containers.REFERENCE], *reference.fields]

    def prepared(self, value: object) -> object:
        """Give `value` in a form that the packer does not change. Lists and dicts are copied, not touched."""
        self._replayed = 0
        holder = [value]
        self._guarded(holder)
        return holder[0]

    def _guarded(self, made: object) -> object:
        """Replace what the packer would change in the lists and dicts of `made`, which is ours."""
        if type(made) is not list and type(made) is not dict:
            return made
        stack: list[tuple[Any, int]] = [(made, 0)]
        buffers = self.buffers
        while stack:
            node, depth = stack.pop()
            if depth > 1100:  # deeper than the packer will go, and perhaps without end
                raise ValueError("recursion limit exceeded")
            for key, item in list(node.items()) if type(node) is dict else enumerate(node):
                kind = type(item)
                if kind is list or kind is dict:
                    node[key] = copied = item.copy()
                    stack.append((copied, depth + 1))
                elif (
                    kind is bytearray
                    or kind is memoryview
                    or (kind is bytes and buffers is not None and len(item) >= OUT_OF_BAND_BYTES)
                ):
                    node[key] = self._binary(item)
        return made

    def _binary(self, value: Any) -> object:
        try:
            return scalars.write_binary(value, self)
        except (ValueError, NotImplementedError) as error:  # it was released, or is of a kind that nobody can copy
            self.culprit = value
            raise MarshalError(
                f"copying this {type(value).__qualname__} raised {type(error).__name__}: {error}"
            ) from error


def has_binary(value: object, threshold: int, *, plain: bool = False) -> bool:
    """Say whether `value` holds a bytearray or a memoryview, or bytes of `threshold` and more, or may hold them.

    `plain` says that it holds nothing that MessagePack does not know, nor very long text.
    """
    stack = [value]
    while stack:
        node: Any = stack.pop()
        kind = type(node)
        if kind is list:
            few = len(node) <= _FEW
            if plain and not few and _is_uniform(node):
                continue
            items = node
        elif kind in _NESTED:
            few = len(node) <= _FEW
            items = node
            if kind is dict:
                items = node.values()
                if not _LEAVES.issuperset(map(type, node)):
                    stack.extend(node)
        elif kind is bytes:
            if len(node) >= threshold:
                return True
            continue
        elif kind in _LEAVES:
            continue
        else:
            return True  # what the packer changes, or an object whose fields only its writer knows
        if not few:
            kinds = set(map(type, items))
            if kinds <= _SIMPLE:
                continue
            if not _SPECIAL.isdisjoint(kinds):
                return True
            if kinds <= _LEAVES and bytes not in kinds:
                continue
        for item in items:
            if type(item) not in _SIMPLE:
                stack.append(item)
    return False


def _is_uniform(items: list[Any]) -> bool:
    """Say whether `items`, all of them known to MessagePack, are surely all numbers, or all text.

    Adding them up tells it four times as quickly as looking at their types. Nothing of the user's runs: all are of
    types that are built in.
    """
    first = type(items[0])
    try:
        if first is int or first is float:
            sum(items)
        elif first is str:
            "".join(items)
        else:
            return False
    except TypeError:
        return False
    return True
