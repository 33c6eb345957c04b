"""Which object a proxy is, and how long that object lives."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

import cloister
from tests.patience import wait_until


class Shown:
    """An object of the host that is shared."""

    def name(self) -> str:
        return "shown"


def test_same_object_gives_the_same_proxy(domain: cloister.Domain) -> None:
    """O09: however an object comes here - result, item of a list, from another thread - its proxy is one."""
    thing = domain.create("lifetimes:Thing")
    domain.call("lifetimes:keep", thing)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(domain.call("lifetimes:kept")))
    thread.start()
    thread.join(10)
    assert thing.itself() is thing
    assert domain.call("lifetimes:kept")[0] is thing
    assert found == [thing]
    assert found[0] is thing
    domain.call("lifetimes:forget")


def test_proxy_that_goes_home_is_the_object(domain: cloister.Domain) -> None:
    """O09: a proxy among the arguments, and in containers among them, arrives as the object itself."""
    thing = domain.create("lifetimes:Thing")
    assert domain.call("lifetimes:same", thing, thing) is True
    assert domain.call("lifetimes:give_back", {"a": [thing, (thing,)]}) == {"a": [thing, (thing,)]}
    assert thing.take(thing) is thing
    assert domain.submit("lifetimes:same", thing, thing).result(10) is True


def test_object_of_the_host_comes_back_as_itself(domain: cloister.Domain) -> None:
    """O09: what the host has shared returns as the identical object, a bound method as an equal one."""
    shown = Shown()
    assert domain.call("lifetimes:give_back", cloister.share(shown)) is shown
    function = lambda: 1  # noqa: E731 - a function without a name is what is sent
    assert domain.call("lifetimes:give_back", function) is function
    assert domain.call("lifetimes:give_back", shown.name) == shown.name
    assert domain.submit("lifetimes:give_back", cloister.share(shown)).result(10) is shown


def test_method_of_a_proxy_goes_home_as_that_method(domain: cloister.Domain) -> None:
    """O09: a bound method of a proxy arrives as the method of the object, so calling it makes no way back."""
    thing = domain.create("lifetimes:Thing")
    domain.call("lifetimes:keep", thing.ping)
    assert domain.call("lifetimes:use_kept") == "pong"
    assert "bound method Thing.ping" in domain.call("builtins:repr", thing.ping)
    domain.call("lifetimes:forget")


def test_proxy_through_a_third_domain_is_the_same_again(domain: cloister.Domain, setup: cloister.Setup) -> None:
    """O09: a proxy of one domain that visits another comes back as the same proxy; there it works, and is described."""
    thing = domain.create("lifetimes:Thing")
    with cloister.Domain("other", setup=setup) as other:
        assert other.call("lifetimes:give_back", thing) is thing
        assert other.call("operator:methodcaller", "ping")(thing) == "pong"
        domain_of_it = other.call("builtins:repr", thing)
        assert "proxy of lifetimes.Thing" in domain_of_it
        assert other.call("lifetimes:same", thing, thing)


def test_default_equality_and_hash_are_those_of_the_object(domain: cloister.Domain) -> None:
    """O09: without an `__eq__` of its own an object equals itself alone; with one, proxies compare as their objects."""
    one, two = domain.create("lifetimes:Thing"), domain.create("lifetimes:Thing")
    assert one == one.itself()
    assert one != two
    assert len({one, two, one.itself()}) == 2
    three, also = domain.create("numbers_apart:Number", 3), domain.create("numbers_apart:Number", 3)
    assert three is not also
    assert three == also
    assert {three: "found"}[also] == "found"


def test_object_lives_while_a_proxy_does_and_not_longer(domain: cloister.Domain) -> None:
    """O13: an object lives while it is referenced from outside; dropping the proxies releases it."""
    wait_until(lambda: domain.call("lifetimes:living") == 0)  # what earlier tests have dropped
    things = domain.call("lifetimes:make", 200)
    gc.collect()
    assert domain.call("lifetimes:living") == 200
    assert all(thing.ping() == "pong" for thing in things)
    del things[50:]
    wait_until(lambda: domain.call("lifetimes:living") == 50)
    assert things[-1].ping() == "pong"
    things.clear()
    wait_until(lambda: domain.call("lifetimes:living") == 0)


def test_handle_keeps_its_object_alive(domain: cloister.Domain) -> None:
    """O13: a handle holds the object, also beside a proxy of it that is dropped."""
    wait_until(lambda: domain.call("lifetimes:living") == 0)  # what earlier tests have dropped
    handle = domain.create_handle("lifetimes:Thing")
    thing = handle.unwrap()
    del thing
    domain.call("lifetimes:make", 1)  # it is released, and so is everything that was dropped before it
    wait_until(lambda: domain.call("lifetimes:living") == 1)
    assert handle.unwrap().ping() == "pong"
    del handle
    wait_until(lambda: domain.call("lifetimes:living") == 0)


def test_object_that_is_sent_home_while_its_proxy_dies_arrives(domain: cloister.Domain) -> None:
    """O09, O13: the release of a proxy never overtakes the message that takes it home, on whatever lane that goes."""
    for _ in range(50):
        assert domain.call("lifetimes:give_back", domain.create("lifetimes:Thing")).ping() == "pong"
        cloister.one_way(domain.create("lifetimes:Thing").ping)()
        future = domain.submit("lifetimes:give_back", domain.create("lifetimes:Thing"))
        assert future.result(10).ping() == "pong"
        assert cloister.submit(domain.create("lifetimes:Thing").ping).result(10) == "pong"


def test_host_object_lives_as_long_as_the_guest_holds_it(domain: cloister.Domain) -> None:
    """O13: what the host has shared is kept for the guest, and let go when the guest drops it."""
    shown = Shown()
    gone = weakref.ref(shown)
    domain.call("lifetimes:keep", cloister.share(shown))
    del shown
    gc.collect()
    assert gone() is not None
    domain.call("lifetimes:forget")
    wait_until(lambda: gone() is None)


def test_death_of_a_domain_lets_go_of_all_that_it_held(setup: cloister.Setup) -> None:
    """O13: a peer's death releases all its references; its proxies raise at once, and can be dropped."""
    shown = Shown()
    gone = weakref.ref(shown)
    domain = cloister.Domain("short", setup=setup)
    thing = domain.create("lifetimes:Thing")
    domain.call("lifetimes:keep", cloister.share(shown))
    del shown
    domain.kill()
    wait_until(lambda: gc.collect() >= 0 and gone() is None)
    with pytest.raises(cloister.DomainCrashed):
        thing.ping()
    del thing, domain
    gc.collect()


def test_proxy_keeps_its_domain_from_being_forgotten(setup: cloister.Setup) -> None:
    """O13: a domain that is only held by a proxy lives on; with the last proxy it is unloaded, and that is told."""
    thing = cloister.Domain("held", setup=setup).create("lifetimes:Thing")
    gc.collect()
    assert thing.ping() == "pong"
    assert cloister.domain_of(thing) is not None
    things = [thing]
    del thing
    with pytest.warns(ResourceWarning, match="'held' was forgotten"):
        things.clear()


def test_used_after_it_was_released_is_an_error_of_the_call(domain: cloister.Domain) -> None:
    """O13: an id that was released means nothing any more; the domain goes on."""
    thing = domain.create("lifetimes:Thing")
    number, peer = thing._cloister_id, thing._cloister_peer
    del thing
    wait_until(lambda: len(peer.imports._held) == 0 or number not in peer.imports._held)

    def is_gone() -> bool:
        try:
            peer.call(number, "ping", (), None)
        except cloister.MarshalError as error:
            return "gone" in str(error)
        return False

    wait_until(is_gone)
