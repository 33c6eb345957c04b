"""Handles, and what unwrapping one gives: a copy, a proxy, or an error that leaves the handle usable."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest

import cloister


def test_default_domain_unwraps_the_object_itself(copies: Any) -> None:
    """S36: in the default domain a handle unwraps to the real object, made on this thread, whose methods run here."""
    handle = cloister.current_domain().create_handle("copies:Customers", "Ada")
    assert cloister.is_proxy(handle)
    customers = handle.unwrap()
    assert type(customers) is copies.Customers
    assert customers is handle.unwrap()
    assert not cloister.is_proxy(customers)
    assert customers.made_in == (os.getpid(), threading.get_ident(), cloister.logical_thread())
    assert customers.list() == (["Ada"], os.getpid())


def test_constructor_runs_in_the_created_domain_for_the_callers_thread(domain: cloister.Domain) -> None:
    """S37: the constructor runs in the domain's process; the logical thread that it sees is the caller's."""
    customers = domain.create("customers:Customers")
    process, thread, logical = customers.made_in
    assert process == domain.pid != os.getpid()
    assert logical == cloister.logical_thread()
    seen: list[Any] = []

    def other() -> None:
        seen.append(cloister.logical_thread())
        seen.append(domain.create("customers:Customers").made_in)

    worker = threading.Thread(target=other)
    worker.start()
    worker.join(10)
    assert seen[0] == seen[1][2] != logical
    assert seen[1][1] != thread


def test_two_domains_have_different_lists(domain: cloister.Domain, setup: cloister.Setup) -> None:
    """S38: two `Customers` in two domains share nothing."""
    with cloister.Domain("second", setup=setup) as second:
        first, other = domain.create("customers:Customers"), second.create("customers:Customers")
        first.add("Ada")
        other.add("Bob")
        assert (first.list(), other.list()) == (["Ada"], ["Bob"])


def test_unwrapped_copy_is_no_proxy_and_runs_here(domain: cloister.Domain, copies: Any) -> None:
    """S39: a handle is a proxy, the copy that it unwraps to is none; listing through the copy runs in this domain."""
    handle = domain.create_handle("copies:Customers", "Ada")
    assert cloister.is_proxy(handle)
    copy = handle.unwrap()
    assert not cloister.is_proxy(copy)
    assert type(copy) is copies.Customers
    assert copy.made_in[0] == domain.pid
    assert copy.list() == (["Ada"], os.getpid())


def test_changing_a_copy_changes_no_other(domain: cloister.Domain, copies: Any) -> None:
    """S40: one copy is changed; the original and a second copy are as before."""
    handle = domain.create_handle("copies:Customers", "Ada")
    one, two = handle.unwrap(), handle.unwrap()
    one.add("Bob")
    assert two.list()[0] == ["Ada"]
    assert handle.unwrap().list()[0] == ["Ada"]
    assert domain.call("operator:methodcaller", "list")(handle)[0] == ["Ada"]


def test_object_without_a_copy_is_created_and_does_not_unwrap(domain: cloister.Domain) -> None:
    """S41: creating a type that can't be copied succeeds, `unwrap` says why and what to do, the handle stays usable."""
    handle = domain.create_handle("customers:Unmarked")
    for _ in range(2):
        with pytest.raises(cloister.MarshalError) as caught:
            handle.unwrap()
        for word in ("result", "customers.Unmarked", "@by_value", "@by_reference", "proxy"):
            assert word in str(caught.value)
    assert domain.call("operator:methodcaller", "name")(handle) == "unmarked"
    assert domain.call("lifetimes:same", handle, handle) is True


def test_error_names_the_path_of_what_can_not_be_copied(domain: cloister.Domain, copies: Any) -> None:
    """S41: where a part of a copied object has no copy, the error names the attribute path that leads to it."""
    handle = domain.create_handle("copies:Holder", "lock")
    with pytest.raises(cloister.MarshalError, match=r"result\.rows\[1\]\['key'\].*lock"):
        handle.unwrap()
    domain.call(lambda holder: holder.rows.clear(), handle)
    assert handle.unwrap().rows == []


def test_copy_of_an_object_may_hold_what_is_by_reference_on_purpose(domain: cloister.Domain, copies: Any) -> None:
    """S40, S43: in a copy, what is marked by reference stays where it is, and its proxy is in the copy."""
    handle = domain.create_handle("copies:make_basket", domain.create("customers:Customers"), 5)
    basket = handle.unwrap()
    assert basket.items[1] == 5
    basket.items[0].add("Ada")
    assert handle.unwrap().items[0] is basket.items[0]
    assert basket.items[0].list() == ["Ada"]


def test_by_value_type_is_created_as_a_copy(domain: cloister.Domain, copies: Any) -> None:
    """S39: `create` of a copied type gives the copy at once."""
    made = domain.create(copies.Customers, "Ada")
    assert type(made) is copies.Customers
    assert made.made_in[0] == domain.pid


def test_handle_through_a_third_domain_loads_nothing_there(domain: cloister.Domain, setup: cloister.Setup) -> None:
    """S42: a handle that visits another domain and comes back is itself; that domain has not loaded its type."""
    handle = domain.create_handle("customers:Customers")
    with cloister.Domain("third", setup=setup) as third:
        assert third.call("lifetimes:give_back", handle) is handle
        assert third.call(cloister.is_proxy, handle) is True
        assert third.call(lambda handle: isinstance(handle, __import__("cloister").ObjectHandle), handle) is True
        loaded = third.call(lambda: sorted(__import__("sys").modules))
        assert "lifetimes" in loaded
        assert "customers" not in loaded
    assert "customers" not in sys.modules
    assert handle.unwrap().list() == []


def test_handle_is_told_apart_by_its_repr(domain: cloister.Domain) -> None:
    """A handle shows the domain that its object is in, without asking it; it is neither copied nor pickled."""
    import pickle

    handle = domain.create_handle("customers:Customers")
    assert repr(handle).startswith("<handle of object #")
    assert repr(handle).endswith("in domain 'shop'>")
    assert "in this domain" in repr(cloister.current_domain().create_handle("builtins:list"))
    with pytest.raises(cloister.MarshalError, match="handle of object"):
        pickle.dumps(handle)
