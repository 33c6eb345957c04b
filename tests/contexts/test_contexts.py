"""Contexts within one domain: which one code is in, their data, and what is seen of an object from another one."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pytest

import cloister
from cloister.errors import MarshalError


@cloister.synchronized
class Broker:
    """A broker."""

    kind = "broker"

    def __init__(self, name: str = "eu", *, size: int = 1) -> None:
        self.name = name
        self.size = size
        self.friend: Any = None

    def here(self) -> cloister.Context:
        """Its context."""
        return cloister.current_context()

    def itself(self) -> Broker:
        return self

    def boxed(self) -> list[Broker]:
        return [self]

    def is_itself(self, other: object) -> bool:
        return other is self

    def method(self, private: bool = False) -> Any:
        return self._where if private else self.here

    def echo(self, value: object) -> object:
        return value

    def _where(self) -> cloister.Context:
        return cloister.current_context()

    @property
    def where(self) -> cloister.Context:
        """Its context again."""
        return cloister.current_context()

    @where.setter
    def where(self, name: str) -> None:
        self.name = f"{name} {cloister.current_context().id}"

    @classmethod
    def of(cls, name: str) -> Broker:
        return cls(name)

    @staticmethod
    def twice(number: int) -> int:
        return 2 * number

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: str) -> cloister.Context:
        return cloister.current_context()


class Agile:
    def here(self) -> cloister.Context:
        return cloister.current_context()


def test_the_default_context_is_printed_at_the_start_of_a_program() -> None:
    """S32: a fresh program prints its domain's name, its thread, and the id of its context, which is 0."""
    program = (
        "import cloister, threading; here = cloister.current_context();"
        "print(cloister.current_domain().name, threading.get_ident() > 0, here.id, here, here.is_default)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split(maxsplit=3) == ["default", "True", "0", "<the default context> True\n"]


def test_a_constructor_and_the_methods_run_in_another_context() -> None:
    """S45: constructor, methods, properties, special methods of a synchronized object run in its context."""
    seen: list[cloister.Context] = []

    @cloister.synchronized
    class Watched(Broker):
        def __init__(self) -> None:
            super().__init__()
            seen.append(cloister.current_context())

    watched = Watched()
    home = cloister.context_of(watched)
    assert home is not None
    assert not home.is_default
    assert seen == [home]
    assert watched.here() is watched.where is watched["any"] is home
    assert len(watched) == 1
    watched.where = "us"
    assert watched.name == f"us {home.id}"
    assert cloister.current_context().is_default


def test_access_across_contexts_is_by_reference() -> None:
    """S46: outside, a context-bound object is one proxy, typed and named as the object; inside it is the object."""
    broker = Broker("eu", size=3)
    assert cloister.is_proxy(broker)
    assert isinstance(broker, Broker)
    assert type(broker) is not Broker
    assert broker.itself() is broker
    assert broker.is_itself(broker)
    assert broker == broker.boxed()[0]
    assert hash(broker) == hash(broker.boxed()[0])
    assert (broker.name, broker.kind, broker.twice(2)) == ("eu", "broker", 4)
    broker.name = "us"
    assert broker.name == "us"
    del broker.name
    with pytest.raises(AttributeError, match="name"):
        _ = broker.name
    assert "_where" not in repr(broker)
    assert repr(broker).startswith(f"<proxy of {Broker.__module__}.Broker in <context ")
    assert {"here", "size", "kind"} <= set(dir(broker))
    assert cloister.domain_of(broker) is None


def test_an_object_that_is_not_context_bound_is_agile() -> None:
    """S46: an agile object has no proxy and runs in the context of whoever calls it."""
    agile, broker = Agile(), Broker()
    assert not cloister.is_proxy(agile)
    assert broker.echo(agile) is agile
    assert cloister.context_of(agile) is None
    assert agile.here().is_default
    home = cloister.context_of(broker)
    assert home is not None
    assert home.call(agile.here) is home


def test_what_leaves_a_context_in_another_way_enters_it_too() -> None:
    """S46: a method as a result, and a reference in a list, enter the context of their object when used."""
    broker = Broker()
    home = cloister.context_of(broker)
    assert broker.method()() is home
    assert broker.method(private=True)() is home
    assert broker.boxed()[0].here() is home
    called = broker.here
    assert called() is home
    with pytest.raises(AttributeError, match="only public names"):
        _ = broker._where


def test_two_contexts_see_each_others_objects_as_proxies() -> None:
    """S46: an object that is kept by one of another context is a proxy there, and itself again when it comes home."""
    one, two = Broker("one"), Broker("two")
    one.friend = two
    home = cloister.context_of(one)
    assert home is not None
    assert home.call(lambda broker: cloister.is_proxy(broker.friend), one)
    assert one.friend is two
    assert two.is_itself(one.friend)
    assert not home.call(cloister.is_proxy, one)


def test_a_class_looks_as_it_did() -> None:
    """S46: a synchronized class keeps its name, docstring, signature, class methods, and what it derives from."""
    import inspect

    assert (Broker.__name__, Broker.__qualname__, Broker.__doc__) == ("Broker", "Broker", "A broker.")
    assert list(inspect.signature(Broker).parameters) == ["name", "size"]
    assert isinstance(Broker.of("us"), Broker)

    class Shape(ABC):
        @abstractmethod
        def area(self) -> int: ...

    @cloister.synchronized
    @dataclass
    class Square(Shape):
        side: int

        def area(self) -> int:
            return self.side**2

    square = Square(3)
    assert (square.area(), square.side) == (9, 3)
    assert isinstance(square, Shape)
    assert square == Square(3)
    abstract: Any = cloister.synchronized(Shape)
    with pytest.raises(TypeError, match="abstract"):
        abstract()


def test_a_subclass_is_bound_too_and_may_ask_for_more() -> None:
    """S46: a class that derives from a context-bound one is context-bound; decorated again it asks for its own."""

    class Plain(cloister.ContextBound):
        def here(self) -> cloister.Context:
            return cloister.current_context()

    class Derived(Plain):
        pass

    assert not cloister.is_proxy(Derived())
    assert Derived().here().is_default
    own = cloister.synchronized(cloister.Synchronization.REQUIRES_NEW, reentrant=True)(Derived)
    assert own is Derived
    assert Derived().here().is_reentrant
    assert Plain().here().is_default


def test_a_builtin_base_is_reached_through_its_methods() -> None:
    """S46: the methods that a class inherits from a type written in C enter its context as well."""

    @cloister.synchronized
    class Names(list):  # type: ignore[type-arg]  # its items are texts
        def here(self) -> cloister.Context:
            return cloister.current_context()

    names: Any = Names(["Ada"])
    names.append("Bob")
    assert (list(names), len(names), names[1], "Ada" in names) == (["Ada", "Bob"], 2, "Bob", True)
    assert names == ["Ada", "Bob"]
    with pytest.raises(TypeError, match="unhashable"):
        hash(names)


def test_data_slots_belong_to_one_context() -> None:
    """O04: a slot that has a value here is empty in another context; each context has its own value."""
    broker = Broker()
    home = cloister.context_of(broker)
    here = cloister.current_context()
    assert home is not None
    here.data["user"] = "Ada"
    try:
        assert home.data.get("user") is None
        home.call(lambda: cloister.current_context().data.update(user="Bob"))
        assert (here.data["user"], home.data["user"]) == ("Ada", "Bob")
        assert ("user" in here.data, list(home.data), len(home.data)) == (True, ["user"], 1)
        del home.data["user"]
        with pytest.raises(KeyError):
            _ = home.data["user"]
        with pytest.raises(KeyError):
            del home.data["user"]
        assert repr(here.data) == "Slots({'user': 'Ada'})"
    finally:
        here.data.free("user")


def test_a_slot_name_is_allocated_once_until_it_is_freed() -> None:
    """O04: allocating a used name raises, in any context; freed, it is allowed again and empty everywhere."""
    here = cloister.current_context()
    home = cloister.context_of(Broker())
    assert home is not None
    here.data.allocate("trace")
    assert "trace" not in here.data
    with pytest.raises(ValueError, match="'trace' is in use"):
        home.data.allocate("trace")
    here.data["trace"] = home.data["trace"] = 1
    home.data.free("trace")
    assert "trace" not in here.data
    here.data.allocate("trace")
    assert "trace" not in here.data
    here.data.free("trace")
    with pytest.raises(KeyError):
        here.data.free("trace")
    with pytest.raises(TypeError, match="a text"):
        here.data[3] = 1  # type: ignore[index]  # that is the point


def test_context_call_runs_inside() -> None:
    """O04: `context.call(fn)` runs with `current_context()` set to it, on this thread, also where it is nested."""
    broker = Broker()
    home = cloister.context_of(broker)
    assert home is not None
    assert home.call(lambda: (cloister.current_context(), threading.get_ident())) == (home, threading.get_ident())
    assert home.call(lambda: home.call(cloister.current_context)) is home
    assert home.call(broker.here) is home
    default = cloister.current_context()
    assert home.call(lambda: default.call(cloister.current_context)) is default
    assert home.call(lambda value, *, key: (value, key), 1, key=2) == (1, 2)
    assert home.call(lambda: broker.itself()) is broker


def test_proxies_and_contexts_are_not_copied() -> None:
    """S46: a proxy of another context can't be copied or pickled, and a context is a place: its copy is itself."""
    broker = Broker()
    home = cloister.context_of(broker)
    with pytest.raises(MarshalError, match="another context"):
        copy.copy(broker)
    assert copy.deepcopy(home) is copy.copy(home) is home
    with pytest.raises(MarshalError, match="a place in this domain"):
        pickle.dumps(home)


def test_operators_and_protocols_reach_through_a_proxy() -> None:
    """S46: a proxy is called, entered, iterated, compared and added as its object is; a generic class stays generic."""
    kind = TypeVar("kind")

    @cloister.synchronized
    class Much(Generic[kind]):
        __slots__ = ("left",)

        def __init__(self) -> None:
            self.left = False

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            self.left = True

        def __call__(self, number: int) -> int:
            return number

        def __iter__(self) -> Iterator[int]:
            yield from (1, 2)

        def __bool__(self) -> bool:
            return False

        def __add__(self, other: int) -> str:
            return f"plus {other}"

        def __lt__(self, other: object) -> bool:
            return True

    made: Any = Much[int]()
    with made as entered:
        assert entered is made
    assert (made(3), list(made), bool(made), made + 1, made < 1, made.left) == (3, [1, 2], False, "plus 1", True, True)
    number: Any = cloister.synchronized(int)
    assert (number(4) + 1, number(4) == 4) == (5, True)


def test_an_exception_is_not_bound() -> None:
    """S46: a class of exceptions is refused, because a proxy of one could not be raised."""
    with pytest.raises(TypeError, match=r"Lost: an exception can't be bound"):

        @cloister.synchronized
        class Lost(Exception):
            pass


def test_only_classes_are_bound() -> None:
    """S45: decorating something else says what can be decorated."""
    with pytest.raises(TypeError, match="is not a class"):
        cloister.synchronized(len)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(TypeError, match="a rule is a function"):
        cloister.intercepted(3)  # type: ignore[arg-type]  # that is the point
