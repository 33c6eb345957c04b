"""Objects that live in one context, and the proxies by which other contexts reach them.

`synchronized`, `intercepted`, or deriving from `ContextBound` make a class context-bound. Calling such a class finds
the context of the new object, runs its constructor there, and gives the object itself where that is the maker's own
context, else its proxy.

Two things stand between the contexts. The *proxy*: what goes from one context to another as an argument or a result is
seen from there, as the object where it lives and as its one proxy everywhere else. And the *doors*: the public methods
of the class itself check where they are called. So a reference that gets out in another way - in a list, in a global -
enters the context too; only plain attributes are open on that way. Methods with a leading underscore have no door: they
are called from inside. All other objects are agile: they have no proxy, and run wherever they are called.

For other domains these objects are by reference. Any thread may enter.
"""

from __future__ import annotations

import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, overload

from cloister.contexts import rules as demands
from cloister.contexts.context import Context, current_context, set_view
from cloister.contexts.doors import SPECIAL, add_door
from cloister.contexts.rules import ENTER, PLAIN, Demand, Rule, Synchronization
from cloister.errors import MarshalError
from cloister.objects.descriptions import describe_type, public_name
from cloister.objects.marks import by_reference

__all__ = ["ContextBound", "ContextProxy", "context_of", "intercepted", "seen_from", "synchronized"]

T = TypeVar("T")
C = TypeVar("C", bound=type)

_proxies_lock = threading.RLock()


class ContextBoundType(type):
    """The type of context-bound classes: makes their objects where they are to live."""

    _cloister_demand: Demand = PLAIN

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> None:
        super().__init__(name, bases, namespace, **options)
        if issubclass(cls, BaseException):
            raise TypeError(
                f"{cls.__qualname__}: an exception can't be bound to a context, for a proxy can't be raised"
            )
        for member in dir(cls):
            if public_name(member) or member in SPECIAL:
                add_door(cls, member)
        if bases:
            by_reference(cls)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        home, here = demands.home_for(cls._cloister_demand), current_context()
        if home is here:
            return cls._cloister_make(home, args, kwargs)

        def __init__(*args: Any, **kwargs: Any) -> Any:  # by this name the rules know it
            return cls._cloister_make(home, args, kwargs)

        return demands.cross(home, here, cls, __init__, args, kwargs)

    def _cloister_make(cls, home: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        itself: Any = cls
        made = itself.__new__(cls, *args, **kwargs)
        if issubclass(type(made), cls):
            object.__setattr__(made, "_cloister_context", home)
            type(made).__init__(made, *args, **kwargs)
        return made

    @property
    def __signature__(cls) -> inspect.Signature:
        """How the class is called, which `inspect` would read off `__call__` above."""
        itself: Any = cls
        parameters = list(inspect.signature(itself.__init__).parameters.values())
        return inspect.Signature(parameters[1:])


class ContextBound(metaclass=ContextBoundType):
    """Base of classes whose objects live in one context each. By itself it asks for nothing: see `synchronized`."""

    _cloister_context: Context | None = None
    _cloister_proxy: weakref.ref[Any] | None = None


def _demand(cls: type, change: Callable[[Demand], Demand]) -> Any:
    """Return the class with a changed demand: itself where it is context-bound, else a subclass of the same name."""
    if not isinstance(cls, type):
        raise TypeError(f"{cls!r} is not a class; context-bound are the objects of classes")
    if not issubclass(cls, ContextBound):
        words = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        if "__orig_bases__" in cls.__dict__:
            words["__orig_bases__"] = cls.__dict__["__orig_bases__"]  # so that it stays generic
        cls = _bound_type(type(cls))(cls.__name__, (cls, ContextBound), words)
    made: Any = cls
    made._cloister_demand = change(made._cloister_demand)
    return made


_types: dict[type, type[ContextBoundType]] = {type: ContextBoundType}


def _bound_type(meta: type) -> type[ContextBoundType]:
    """The type for classes that have a type of their own, such as `ABCMeta`."""
    known = _types.get(meta)
    if known is None:
        known = _types.setdefault(meta, type(f"ContextBound{meta.__name__}", (ContextBoundType, meta), {}))
    return known


@overload
def synchronized(cls: C, /) -> C: ...
@overload
def synchronized(
    mode: Synchronization = Synchronization.REQUIRED, /, *, reentrant: bool = False
) -> Callable[[C], C]: ...
def synchronized(mode: Any = Synchronization.REQUIRED, /, *, reentrant: bool = False) -> Any:
    """Let one thread at a time into the objects of a class, first come, first served.

    A class decorator, with or without `mode` (see `Synchronization`). `reentrant`: while the one inside calls out - to
    another context or to another domain - others may come in. Otherwise nobody does, but a call that comes back on the
    same thread always goes on. The decorator returns a subclass of the same name. Raises TypeError for a class with
    public ``async`` methods: they would run after they have left.
    """
    if not isinstance(mode, Synchronization):
        return _demand(mode, lambda old: Demand(Synchronization.REQUIRED, reentrant, _with_enter(old.rules)))
    return lambda cls: _demand(cls, lambda old: Demand(mode, reentrant, _with_enter(old.rules)))


def intercepted(*rules: Rule) -> Callable[[C], C]:
    """Put rules of one's own around each call that enters the context of an object, the first one outermost.

    A class decorator. A rule is a callable that gets the `ContextCall` and returns its result, usually that of
    ``call.proceed()``. Above `synchronized` a rule runs in the caller's context, before the turn has come; below it, or
    without it, inside. The objects of the class share a context only where the rules are the same. Raises TypeError for
    a rule that can't be called.
    """
    for rule in rules:
        if not callable(rule):
            raise TypeError(f"a rule is a function that takes the call, not {rule!r}")
    return lambda cls: _demand(cls, lambda old: Demand(old.mode, old.reentrant, (*rules, *old.rules)))


def _with_enter(rules: tuple[demands.Step, ...]) -> tuple[demands.Step, ...]:
    return rules if ENTER in rules else (ENTER, *rules)


# -- proxies ---------------------------------------------------------------------------------------------------------


class ContextProxy:
    """Stands for an object of another context of this domain. Its class, made for that of the object, is named like it.

    Only public names are reached; ``isinstance`` sees the class of the object.
    """

    __slots__ = ("__weakref__", "_cloister_object")
    _cloister_handle = True  # `is_proxy` is true for it
    _cloister_peer = None  # of no other domain
    __cloister_by_reference__ = True
    _cloister_object: Any

    def __repr__(self) -> str:
        return f"<proxy of {_shown(type(self))} in {self._cloister_object._cloister_context!r}>"

    def __getattr__(self, name: str) -> Any:
        return self._cloister_reach(getattr, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._cloister_reach(setattr, name, value)

    def __delattr__(self, name: str) -> None:
        self._cloister_reach(delattr, name)

    def _cloister_reach(self, how: Callable[..., Any], name: str, *value: Any) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{self!r} has no {name!r}: only public names are reached through a proxy", name=name)
        target = self._cloister_object
        home, here = target._cloister_context, current_context()

        def reach(*value: Any) -> Any:
            return how(target, name, *value)

        reach.__name__ = name
        return reach(*value) if home is here else demands.cross(home, here, type(target), reach, value, {})

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._cloister_object) if not name.startswith("_cloister_")]

    def __eq__(self, other: object) -> bool:
        return self is other or self._cloister_object is other

    def __hash__(self) -> int:
        return hash(self._cloister_object)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise MarshalError(f"{self!r} can't be pickled or copied: it stands for an object of another context")


class _Kept:
    """Holds the class of the proxies in the class itself; left behind where a class of ``__main__`` travels as code."""

    proxy_class: type[ContextProxy] | None = None

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()


def _proxy_class(cls: type) -> type[ContextProxy]:
    kept: _Kept | None = cls.__dict__.get("_cloister_kept")
    if kept is not None and kept.proxy_class is not None:
        return kept.proxy_class
    description = describe_type(cls)
    namespace: dict[str, Any] = {
        "__slots__": (),
        "__class__": property(lambda self: cls),
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "_cloister_description": description,
    }
    for name in {*(method.name for method in description.methods), *description.specials}:
        if hasattr(getattr(cls, name), "_cloister_door"):
            namespace[name] = _forward(name, getattr(cls, name))
    if "__eq__" in namespace and cls.__hash__ is None:
        namespace["__hash__"] = None
    made = type(cls.__name__, (ContextProxy,), namespace)
    kept = _Kept()
    kept.proxy_class = made
    type.__setattr__(cls, "_cloister_kept", kept)
    return made


def _forward(name: str, door: Any) -> Callable[..., Any]:
    @functools.wraps(door)
    def forward(self: ContextProxy, /, *args: Any, **kwargs: Any) -> Any:
        return door(self._cloister_object, *args, **kwargs)

    forward.__name__ = name
    return forward


def _proxy_of(target: Any) -> Any:
    """The proxy of an object: the same one as long as it lives."""
    with _proxies_lock:
        known = target._cloister_proxy
        proxy = None if known is None else known()
        if proxy is None:
            proxy = object.__new__(_proxy_class(type(target)))
            object.__setattr__(proxy, "_cloister_object", target)
            object.__setattr__(target, "_cloister_proxy", weakref.ref(proxy))
        return proxy


def seen_from(value: Any, context: Context) -> Any:
    """What a value is in a context: a context-bound object itself where it lives, elsewhere its proxy."""
    cls = type(value)
    if issubclass(cls, ContextBound):
        return value if value._cloister_context in (context, None) else _proxy_of(value)
    if issubclass(cls, ContextProxy):
        target = object.__getattribute__(value, "_cloister_object")
        return target if target._cloister_context is context else value
    if cls is types.MethodType or cls is types.BuiltinMethodType:
        owner = value.__self__
        seen = seen_from(owner, context) if issubclass(type(owner), ContextBound | ContextProxy) else owner
        if seen is not owner:
            if public_name(value.__name__):
                return getattr(seen, value.__name__)
            return functools.partial(owner._cloister_context.call, value)
    return value


set_view(seen_from)


def context_of(value: object) -> Context | None:
    """The context in which an object lives, by itself or by its proxy; None for an agile object."""
    if issubclass(type(value), ContextProxy):
        value = object.__getattribute__(value, "_cloister_object")
    home = getattr(value, "_cloister_context", None) if issubclass(type(value), ContextBound) else None
    return home if isinstance(home, Context) else None


def _shown(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
