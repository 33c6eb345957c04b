"""The rule: what is copied, what stays and is reached by a proxy, and what does not travel. A test for each line."""

from __future__ import annotations

import functools
import itertools
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

import cloister


class Account:
    """A class of the host that says nothing about how it travels."""

    def __init__(self) -> None:
        self.balance = 7

    def tell(self) -> int:
        return self.balance

    def _secret(self) -> int:
        return -1


@cloister.by_reference
class Ledger(Account):
    """The same, marked."""


def test_copied_types_travel_both_ways(domain: cloister.Domain, copies: Any) -> None:
    """Marked enumerations, named tuples, dataclasses and plain classes are copied both ways, of exactly their type."""
    values = [
        copies.Colour.GREEN,
        copies.Access.READ | copies.Access.WRITE,
        copies.Point(1, 2),
        copies.Money(5, "USD"),
        copies.Basket([copies.Colour.RED, {copies.Point(3): copies.Money(1)}]),
    ]
    back = domain.call("copies:echo", values)
    assert back == values
    assert [type(one) for one in back] == [type(one) for one in values]
    assert domain.call("copies:types_of", *values) == ["Colour", "Access", "Point", "Money", "Basket"]


def test_copied_type_that_is_unknown_here_is_an_error_of_the_call(domain: cloister.Domain) -> None:
    """A copied type is rebuilt only where the receiver has imported it; the error says so, and the domain goes on."""
    domain.exec("import cloister\n@cloister.by_value\nclass Unknown:\n    pass")
    with pytest.raises(cloister.MarshalError, match=r"__cloister__\.Unknown.*not known here"):
        domain.eval("Unknown()")
    assert domain.call("operator:add", 1, 2) == 3


def test_references_beside_an_unknown_value_are_received(domain: cloister.Domain) -> None:
    """A result that can't be rebuilt here describes its other types all the same: the next proxy of one is no error."""
    domain.exec("class New:\n    def ping(self): return 1")
    domain.exec("import cloister\n@cloister.by_value\nclass Unknown:\n    pass")
    with pytest.raises(cloister.MarshalError):
        domain.eval("[Unknown(), New(), Unknown()]")
    assert domain.eval("New()").ping() == 1


def test_failed_message_takes_back_what_it_handed_out(domain: cloister.Domain) -> None:
    """What is handed out by arguments of which another can't travel is taken back, and described again later."""
    peer = domain._life.peer
    ledger = Ledger()
    before = len(peer.exports)
    for _ in range(3):
        with pytest.raises(cloister.MarshalError, match=r"args\[1\]"):
            domain.call("builtins:print", ledger, Account())
    assert len(peer.exports) == before
    assert domain.call("operator:methodcaller", "tell")(ledger) == 7


def test_result_of_any_other_type_is_a_proxy(domain: cloister.Domain) -> None:
    """From a guest everything that is not copied comes by reference, wherever in the result it stands."""
    found = domain.eval("{'locks': [__import__('threading').Lock()], 'type': dict}")
    assert cloister.is_proxy(found["locks"][0])
    assert found["locks"][0].acquire() is True
    assert dict(found["type"](a=1)) == {"a": 1}


def test_value_of_the_host_is_never_handed_out_by_accident(domain: cloister.Domain) -> None:
    """To a guest, what is neither copied nor granted is a MarshalError that names path, type and ways out."""
    with pytest.raises(cloister.MarshalError) as caught:
        domain.call("builtins:print", 1, [{"row": (Account(),)}])
    text = str(caught.value)
    assert text.startswith("args[1][0]['row'][0]: ")
    for word in ("Account", "@by_value", "@by_reference", "share()", "pickled()"):
        assert word in text
    with pytest.raises(cloister.MarshalError, match=r"kwargs\['lock'\]"):
        domain.call("builtins:dict", lock=threading.Lock())
    assert domain.call("operator:add", 1, 2) == 3


@pytest.mark.parametrize("grant", [lambda: cloister.share(Account()), Ledger], ids=["share", "by_reference"])
def test_granted_object_of_the_host_is_used_over_there(domain: cloister.Domain, grant: Any) -> None:
    """`share(x)` and types marked `@by_reference` give the guest a proxy whose calls run here."""
    assert domain.call("operator:methodcaller", "tell")(grant()) == 7
    assert domain.call("builtins:type", grant()).__call__ is not None
    assert "proxy of" in domain.call("builtins:repr", grant())


def test_function_among_the_arguments_is_a_call_back(domain: cloister.Domain) -> None:
    """A function, bound method, built-in, partial or class is called back here, on the thread that waits."""
    threads: list[int] = []

    def note(*values: Any) -> int:
        threads.append(threading.get_ident())
        return len(values)

    customers = domain.create("customers:Customers")
    assert customers.call(note, 1, 2) == 2
    assert customers.call(functools.partial(note, 0), 1) == 2
    assert customers.call(Account().tell) == 7
    assert customers.call(len, [1, 2, 3]) == 3
    assert customers.call([4, 5].index, 5) == 1
    assert customers.call(str.upper, "a") == "A"
    assert customers.call(functools.lru_cache(note), 1) == 1
    assert set(threads) == {threading.get_ident()}


def test_call_back_shows_nothing_of_its_object(domain: cloister.Domain) -> None:
    """A bound method is that one callable, nothing else of its object."""
    shown = domain.call(lambda method: [name for name in dir(method) if not name.startswith("_")], Account().tell)
    assert shown == []
    with pytest.raises(AttributeError, match="public names"):
        domain.call(lambda method: method.__self__, Account().tell)
    with pytest.raises(AttributeError, match="only its public methods"):
        domain.call(lambda method: method.balance, Account().tell)


def test_iterator_of_the_host_is_only_iterated(domain: cloister.Domain) -> None:
    """An iterator or generator streams over the wall; of one of our own nothing else is shown."""

    class Feed:
        def __init__(self) -> None:
            self.left = 3

        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return self.left

        def delete_everything(self) -> None:
            raise AssertionError("nobody was granted that")

    feed = Feed()
    assert domain.call("builtins:sum", (number for number in range(5))) == 10
    assert domain.call("builtins:list", itertools.chain("ab", "c")) == ["a", "b", "c"]
    assert domain.call("builtins:list", feed) == [2, 1, 0]
    for name in ("delete_everything", "left"):
        with pytest.raises(AttributeError):
            domain.call("operator:attrgetter", name)(feed)
        with pytest.raises(AttributeError):
            domain.call(lambda feed, name: getattr(feed, name)(), feed, name)


def test_shared_iterator_shows_its_methods_after_all(domain: cloister.Domain) -> None:
    """What was handed out as an iterator alone can be shared whole later; either way it comes home as itself."""

    class Feed:
        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            return 1

        def skip(self) -> str:
            return "skipped"

    feed = Feed()
    back, shared = domain.call("copies:echo", [feed, cloister.share(feed)])
    assert back is shared is feed
    assert domain.call(lambda feed: feed.skip(), cloister.share(feed)) == "skipped"


def test_proxy_wrapped_in_share_goes_home_all_the_same(domain: cloister.Domain) -> None:
    """`share()` of a proxy changes nothing: it is by reference already."""
    thing = domain.create("lifetimes:Thing")
    assert domain.call("lifetimes:same", cloister.share(thing), thing) is True


def test_pickles_and_code_never_go_up(domain: cloister.Domain) -> None:
    """A guest that sends `pickled()` or `code()` gets a MarshalError, and nothing of it is sent."""
    for wrapper in ("pickled", "code"):
        with pytest.raises(cloister.MarshalError, match="never the other way"):
            domain.eval(f"__import__('cloister').{wrapper}(print)")
    assert domain.call("operator:add", 1, 2) == 3


def test_pickled_value_arrives_as_a_copy(domain: cloister.Domain) -> None:
    """`pickled(x)` copies what has no other way, host to guest; what can't be pickled is a MarshalError."""
    complicated = types.SimpleNamespace(number=5)
    assert domain.call(lambda value: value.number, cloister.pickled(complicated)) == 5
    with pytest.raises(cloister.MarshalError, match=r"args\[0\]: .*can't be pickled"):
        domain.call("builtins:print", cloister.pickled(threading.Lock()))


def test_cycle_is_a_clear_error(domain: cloister.Domain) -> None:
    """A list that holds itself does not travel, in either direction."""
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(cloister.MarshalError, match="contains itself"):
        domain.call("builtins:print", ring)
    domain.exec("ring = []; ring.append(ring)")
    with pytest.raises(cloister.MarshalError, match="contains itself"):
        domain.eval("ring")
    assert domain.call("operator:add", 1, 2) == 3


def test_domain_itself_is_not_passed(domain: cloister.Domain) -> None:
    """A domain is neither copied nor handed out by accident."""
    with pytest.raises(cloister.MarshalError):
        domain.call("builtins:print", domain)
