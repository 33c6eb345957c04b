"""A proxy behaves like the object that it stands for."""

from __future__ import annotations

import collections.abc
import copy
import inspect
import math
import operator
import pickle
import pydoc
import rlcompleter
from typing import Any

import pytest

import cloister
from tests.modules.numbers_apart import Number

BINARY = "add sub mul matmul truediv floordiv mod pow lshift rshift and_ or_ xor eq ne lt le gt ge".split()


@pytest.fixture
def customers(domain: cloister.Domain) -> Any:
    """A fresh object of a by-reference type."""
    return domain.create("customers:Customers")


@pytest.mark.parametrize("name", BINARY)
def test_operator_of_a_proxy_gives_what_the_object_gives(domain: cloister.Domain, name: str) -> None:
    """Arithmetic and comparison run in the object's own domain, with plain values and with another proxy."""
    here, there, other = Number(12), domain.create("numbers_apart:Number", 12), domain.create("numbers_apart:Number", 5)
    function = getattr(operator, name)
    assert function(there, 5) == function(here, 5)
    assert function(there, other) == function(here, Number(5))


@pytest.mark.parametrize("function", [operator.sub, operator.add, operator.floordiv])
def test_reflected_operator_is_asked_when_the_left_side_does_not_know(domain: cloister.Domain, function: Any) -> None:
    """A proxy on the right side of an operator answers with its reflected method."""
    assert function(40, domain.create("numbers_apart:Number", 12)) == function(40, 12)


def test_operator_that_is_not_implemented_is_a_type_error_here(domain: cloister.Domain) -> None:
    """NotImplemented crosses as itself, so that Python goes on looking and says what it always says."""
    number = domain.create("numbers_apart:Number", 12)
    with pytest.raises(TypeError, match="unsupported operand"):
        number + "text"
    assert (number == domain.create("numbers_apart:Number", 12)) is True


def test_in_place_operator_changes_the_object_and_keeps_the_proxy(domain: cloister.Domain) -> None:
    """O09: `+=` runs over there, and what it returns is the proxy that was there before."""
    number = before = domain.create("numbers_apart:Number", 12)
    number += 5
    assert number is before
    assert number.value() == 17


@pytest.mark.parametrize(
    "function",
    [operator.neg, operator.pos, abs, operator.invert, int, float, complex, operator.index, round, math.trunc,
     math.floor, math.ceil, bool, str, bytes, hash, format, divmod],
)  # fmt: skip
def test_conversion_of_a_proxy_gives_what_the_object_gives(domain: cloister.Domain, function: Any) -> None:
    """Unary operators and conversions run over there."""
    here, there = Number(12), domain.create("numbers_apart:Number", 12)
    if function is format:
        assert format(there, "05x") == format(here, "05x") == "0000c"
    elif function is divmod:
        assert divmod(there, 5) == divmod(here, 5)
    else:
        assert function(there) == function(here)


def test_protocols_of_paths_and_calls_cross(domain: cloister.Domain) -> None:
    """`os.fspath`, rounding with digits, power with a modulus and calls with all kinds of arguments cross."""
    import os

    number = domain.create("numbers_apart:Number", 12)
    assert os.fspath(number) == "/numbers/12"
    assert pow(number, 2, 10) == 4
    assert round(domain.create("numbers_apart:Number", 1.26), 1) == 1.3
    assert number(1, key=(2, 3)) == [12, (1,), {"key": (2, 3)}]


def test_container_is_used_through_its_proxy(domain: cloister.Domain) -> None:
    """Items, slices, length, containment, iteration and deletion of a dict and a list cross."""
    table = domain.create("builtins:dict", {"a": 1})
    table["b"] = 2
    del table["a"]
    assert (len(table), "b" in table, "a" in table, list(table), table["b"]) == (1, True, False, ["b"], 2)
    assert {**table} == {"b": 2}
    with pytest.raises(KeyError):
        table["none"]
    row = domain.create("builtins:list", [3, 1, 2])
    row[1:1] = [9]
    row += [7]
    assert (row[1], row[-2:], list(reversed(row)), sorted(row)) == (9, [2, 7], [7, 2, 1, 9, 3], [1, 2, 3, 7, 9])


def test_own_container_iterates_contains_and_reverses(domain: cloister.Domain) -> None:
    """The protocols of a class of one's own cross: a generator is an iterator here, a falsy length is false."""
    countdown = domain.create("customers:Countdown", 3)
    assert list(countdown) == [3, 2, 1]
    assert list(reversed(countdown)) == [1, 2, 3]
    assert (2 in countdown, 9 in countdown, len(countdown)) == (True, False, 3)
    assert not domain.create("customers:Countdown", 0)
    generator = iter(countdown)
    assert iter(generator) is generator
    assert next(generator) == 3
    generator.close()
    assert next(generator, "over") == "over"


def test_context_manager_is_entered_and_left_over_there(domain: cloister.Domain) -> None:
    """`with` gives what `__enter__` returns, the same proxy; an exception reaches `__exit__`, which may end it."""
    countdown = domain.create("customers:Countdown", 1)
    with countdown as entered:
        assert entered is countdown
    with countdown:
        raise ValueError("swallowed over there")
    with pytest.raises(KeyError), countdown:
        raise KeyError("not swallowed")
    assert countdown.left_with == [
        None,
        ("ValueError", "swallowed over there", True),
        ("KeyError", "'not swallowed'", True),
    ]


def test_methods_take_all_kinds_of_arguments(customers: Any) -> None:
    """Positional-only, variable, keyword-only and keyword arguments, and defaults, arrive as in a local call."""
    assert customers.add("Ada") == 1
    assert customers.add("Bob", "Cleo", upper=True, note="x") == 3
    assert customers.list() == ["Ada", "BOB", "CLEO"]
    with pytest.raises(TypeError, match=r"missing 1 required positional"):
        customers.add()


def test_class_methods_and_static_methods_are_called_through_an_object(customers: Any) -> None:
    """A class method makes a new object over there, and a static one just runs."""
    assert customers.of("Ada", "Bob").list() == ["Ada", "Bob"]
    assert customers.twice(21) == 42


def test_attributes_are_read_set_and_deleted_over_there(customers: Any) -> None:
    """Properties, class attributes and attributes of one instance cross; each access is one round trip."""
    customers.add("Ada")
    assert (customers.first, customers.region, customers.names[0]) == ("Ada", "eu", "Ada")
    customers.region = "us"
    customers.extra = [1]
    assert customers.region == "us"
    assert customers.extra == [1]
    del customers.extra
    assert not hasattr(customers, "extra")
    with pytest.raises(AttributeError):
        customers.first = "Bob"


@pytest.mark.parametrize("name", ["_secret", "__dict__x", "__init_subclass__x", "_cloister_other"])
def test_private_names_are_refused_here(customers: Any, round_trips: list[str], name: str) -> None:
    """Names with a leading underscore are not reached through a proxy, and nobody is asked for them."""
    with pytest.raises(AttributeError, match="public names"):
        getattr(customers, name)
    with pytest.raises(AttributeError, match="public names"):
        setattr(customers, name, 1)
    with pytest.raises(AttributeError, match="public names"):
        delattr(customers, name)
    assert round_trips == []


def test_looking_at_a_proxy_asks_nobody(customers: Any, round_trips: list[str]) -> None:
    """Docstrings, signatures, `dir`, `help`, completion, `repr`, `callable` and `isinstance` cost no round trip."""
    assert inspect.getdoc(customers) == "The customers of one region."
    assert customers.add.__doc__ == "Add customers, and say how many there are."
    assert str(inspect.signature(customers.add)) == "(name, /, *more, upper=False, **notes)"
    assert str(inspect.signature(customers.of)) == "(*names)"
    assert str(inspect.signature(customers.twice)) == "(number)"
    shown = dir(customers)
    assert {"add", "first", "region", "of", "twice"} <= set(shown)
    assert not any(name.startswith("_cloister") or name == "_secret" for name in shown)
    help_text = pydoc.render_doc(customers, renderer=pydoc.plaintext)  # type: ignore[attr-defined]  # typeshed does not know it
    assert "Add customers" in help_text
    assert "The first name." in help_text
    assert rlcompleter.Completer({"c": customers}).attr_matches("c.fi") == ["c.first"]
    assert repr(customers).startswith("<proxy of customers.Customers #")
    assert "in domain 'shop'" in repr(customers)
    assert not callable(customers)
    assert cloister.is_proxy(customers)
    assert type(customers).__name__ == "Customers"
    assert type(customers).__module__ == "customers"
    assert inspect.ismethod(customers.add)
    assert hasattr(customers, "add")
    assert round_trips == []


def test_isinstance_of_abstract_classes_asks_nobody(domain: cloister.Domain, round_trips: list[str]) -> None:
    """A proxy is an instance of the abstract classes that its object is an instance of."""
    table, row = domain.create("builtins:dict"), domain.create("builtins:list")
    unique, countdown = domain.create("builtins:set"), domain.create("customers:Countdown", 1)
    del round_trips[:]
    abc = collections.abc
    assert isinstance(table, abc.MutableMapping)
    assert not isinstance(table, abc.Sequence)
    assert isinstance(row, abc.MutableSequence)
    assert not isinstance(row, abc.Hashable)
    assert isinstance(unique, abc.Set)
    assert isinstance(countdown, abc.Collection)
    assert isinstance(countdown, abc.Reversible)
    assert not isinstance(countdown, abc.Mapping)
    assert round_trips == []


@cloister.by_reference
class Plugin:
    """A base class that the host has imported; `plugins` in the guest derives from it."""


def test_isinstance_of_a_class_that_the_host_has_named(domain: cloister.Domain) -> None:
    """What the host has imported and created by, or marked, its proxies are instances of; nothing else is."""
    import fractions

    made = domain.create(fractions.Fraction, 3, 4)
    assert isinstance(made, fractions.Fraction)
    assert made.numerator == 3
    domain.exec("import cloister\n@cloister.by_reference\nclass Plugin: pass")
    domain.exec(f"Plugin.__module__ = {Plugin.__module__!r}\nclass Special(Plugin): pass")
    special = domain.eval("Special()")
    assert isinstance(special, Plugin)
    assert not isinstance(special, fractions.Fraction)
    assert cloister.is_proxy(special)


@pytest.mark.parametrize("function", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_or_pickling_a_proxy_is_a_clear_error(customers: Any, function: Any) -> None:
    """A proxy is neither copied nor pickled, and the error says what it is and what to do."""
    with pytest.raises(cloister.MarshalError, match=r"proxy of customers\.Customers.*unwrap"):
        function(customers)


def test_unhashable_object_has_an_unhashable_proxy(domain: cloister.Domain) -> None:
    """O09: hash follows the object: a list has none."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(domain.create("builtins:list"))


def test_function_of_a_domain_is_called_here(domain: cloister.Domain) -> None:
    """A function that a domain returns is a callable here, and shows nothing else of itself."""
    double = domain.eval("lambda number, by=2: number * by")
    assert callable(double)
    assert double(21) == 42
    assert double(2, by=5) == 10
    assert domain.call(double, 4) == 8
    assert list(domain.map(double, [1, 2])) == [2, 4]
    with pytest.raises(AttributeError):
        double.__globals__  # noqa: B018 - the look-up is the test


def test_module_of_a_domain_is_used_through_its_proxy(domain: cloister.Domain) -> None:
    """A module is an object like any other: its functions are called where it lives."""
    math_there = domain.eval("__import__('math')")
    assert math_there.sqrt(16) == 4.0
    assert round(math_there.pi, 2) == 3.14


def test_by_reference_object_is_used_by_two_proxies_of_one_state(domain: cloister.Domain) -> None:
    """S43: unwrapping a by-reference type gives a proxy; calls run in the owner, and both names see one state."""
    handle = domain.create_handle("customers:Customers")
    one, two = handle.unwrap(), handle.unwrap()
    assert cloister.is_proxy(one)
    one.add("Ada")
    assert two.list() == ["Ada"]
    assert one.where()[0] == domain.pid
    copied = two.names
    copied.append("only here")
    assert one.list() == ["Ada"]
