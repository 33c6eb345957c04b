"""Proxies: objects that stand for an object of the other side and behave like it.

Here a `Description` becomes a class whose methods call over the wall. What a description may contain is checked in
`schema`, before it comes here; nothing here imports or looks up a type by a name that the peer chose. A proxy may be
used by any thread that may call its domain.

Looking up a described name costs no round trip. A public name that is not described (an attribute that one instance
has) is asked for. `repr` is local and never waits; identity decides equality and hash, unless the remote type defines
its own. ``isinstance(proxy, T)`` holds for a type of this side that the remote type derives from by name; it is what
the other side says, and is no more to be trusted than the other side.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol

from cloister.errors import MarshalError
from cloister.objects.descriptions import ABSTRACT
from cloister.objects.file_proxies import file_members
from cloister.objects.iteration import iteration_members

if TYPE_CHECKING:
    from cloister.objects.descriptions import Description, Member

__all__ = ["Callee", "Proxy", "bound_method", "is_proxy", "make_class"]


class Callee(Protocol):
    """The other side, as a proxy needs it."""

    name: str

    def call(self, target: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Call a method of an object over there."""

    def awaiting(self) -> bool:
        """Whether a call that is made here and now gives an awaitable."""

    def describe(self, error: BaseException) -> Any:
        """Turn an exception into plain values."""


class Proxy:
    """An object of another domain. Its class, made for the remote type, is named like that type."""

    __slots__ = ("__weakref__", "_cloister_id", "_cloister_keep", "_cloister_peer")
    _cloister_id: int
    _cloister_peer: Callee
    _cloister_description: Description

    def __repr__(self) -> str:
        cls = type(self)
        where = f"in domain {self._cloister_peer.name!r}"
        return f"<proxy of {cls.__module__}.{cls.__qualname__} #{self._cloister_id} {where}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{self!r} has no {name!r}: only public names are reached through a proxy", name=name)
        return self._cloister_peer.call(self._cloister_id, "__getattribute__", (name,), None)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise AttributeError(f"{name!r} can't be set: only public names are reached through a proxy", name=name)
        self._cloister_peer.call(self._cloister_id, "__setattr__", (name, value), None)

    def __delattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(f"{name!r} can't be deleted: only public names are reached through a proxy", name=name)
        self._cloister_peer.call(self._cloister_id, "__delattr__", (name,), None)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_cloister_")]

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise MarshalError(
            f"{self!r} can't be pickled or copied: it stands for an object over there. Pass it to a domain as it is, or"
            " get a copy of the object from a handle with unwrap()"
        )


def is_proxy(value: object) -> bool:
    """Whether a value stands for an object of another domain: a proxy, or a handle. Never waits."""
    cls = type(value)
    return issubclass(cls, Proxy) or getattr(cls, "_cloister_handle", False) is True


def bound_method(value: object) -> tuple[Proxy, str] | None:
    """The proxy and the name of a method that is bound to one, such as ``customers.add``; else None."""
    if type(value) is not MethodType:
        return None
    owner: Any = value.__self__
    return (owner, value.__func__.__name__) if issubclass(type(owner), Proxy) else None


def make_class(description: Description, expected: type | None = None) -> type[Proxy]:
    """Make the class of the proxies of a type.

    `expected` is the same type, or its nearest base, as this side has imported it; then ``isinstance(proxy, expected)``
    is true. None where this side knows none.
    """
    module, _, qualname = description.name.partition(":")
    qualname = qualname or module
    namespace: dict[str, Any] = {
        "__slots__": (),
        "_cloister_description": description,
        "__doc__": description.text or None,
        "__module__": module,
        "__qualname__": qualname,
    }
    for method in description.methods:
        namespace[method.name] = _remote_method(method, qualname)
    for attribute in description.attributes:
        namespace[attribute.name] = _remote_attribute(attribute)
    for name in description.specials:
        namespace[name] = _SPECIAL.get(name, _remote_special)(name)
    for one, other in _EITHER:
        if one in namespace and other not in namespace:
            namespace[other] = (
                _AWAITED[one](one) if other.startswith("__a") else _SPECIAL.get(one, _remote_special)(one)
            )
    namespace.update(iteration_members(description))
    namespace.update(file_members(description))
    if "__eq__" in namespace and "__hash__" not in namespace:
        namespace["__hash__"] = None  # as the remote type itself
    if expected is not None:
        namespace["__class__"] = property(lambda self: expected)
    made = type(qualname.rpartition(".")[2], (Proxy,), namespace)
    for base in description.bases:
        abstract: Any = ABSTRACT.get(base)
        if abstract is not None:
            abstract.register(made)
    return made


def _remote_method(described: Member, owner: str) -> Callable[..., Any]:
    name = described.name

    def method(self: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        return self._cloister_peer.call(self._cloister_id, name, args, kwargs)

    method.__name__ = name
    method.__qualname__ = f"{owner}.{name}"
    method.__doc__ = described.text or None
    if described.parameters is not None:
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = inspect.Signature([first, *map(_parameter, described.parameters)], __validate_parameters__=False)
        method.__signature__ = signature  # type: ignore[attr-defined]  # read by inspect, unknown to typeshed
    return method


def _parameter(described: tuple[str, int, str | None]) -> inspect.Parameter:
    name, kind, default = described
    shown = inspect.Parameter.empty if default is None else _Shown(default)
    return inspect.Parameter(name, inspect._ParameterKind(kind), default=shown)


class _Shown:
    """A default that is only shown: the remote function has the real one."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _remote_attribute(described: Member) -> property:
    name = described.name

    def get(self: Proxy) -> Any:
        return self._cloister_peer.call(self._cloister_id, "__getattribute__", (name,), None)

    def put(self: Proxy, value: Any) -> None:
        self._cloister_peer.call(self._cloister_id, "__setattr__", (name, value), None)

    def drop(self: Proxy) -> None:
        self._cloister_peer.call(self._cloister_id, "__delattr__", (name,), None)

    return property(get, put, drop, described.text or None)


def _remote_special(name: str) -> Callable[..., Any]:
    def special(self: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        return self._cloister_peer.call(self._cloister_id, name, args, kwargs)

    special.__name__ = name
    return special


def _remote_exit(name: str) -> Callable[..., Any]:
    """The exception travels described; its traceback stays here."""

    def __exit__(self: Proxy, kind: object, error: BaseException | None, traceback: object) -> Any:
        described = None if error is None else self._cloister_peer.describe(error)
        return self._cloister_peer.call(self._cloister_id, name, (described,), None)

    return __exit__


def _awaited_enter(name: str) -> Callable[..., Any]:
    async def __aenter__(self: Proxy) -> Any:
        entered = self._cloister_peer.call(self._cloister_id, name, (), None)
        return await entered if inspect.isawaitable(entered) else entered

    return __aenter__


def _awaited_exit(name: str) -> Callable[..., Any]:
    leave = _remote_exit(name)

    async def __aexit__(self: Proxy, kind: object, error: BaseException | None, traceback: object) -> Any:
        left = leave(self, kind, error, traceback)
        return await left if inspect.isawaitable(left) else left

    return __aexit__


_SPECIAL: dict[str, Callable[[str], Callable[..., Any]]] = {"__exit__": _remote_exit, "__aexit__": _remote_exit}
_EITHER = (
    ("__enter__", "__aenter__"),
    ("__exit__", "__aexit__"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
)
"""A context of either kind is entered with either statement."""
_AWAITED: dict[str, Callable[[str], Callable[..., Any]]] = {"__enter__": _awaited_enter, "__exit__": _awaited_exit}
