"""The checks of the three designs, at every level where they hold; what is told in depth elsewhere is short here."""

from __future__ import annotations

import gc
import os
import pydoc
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister import events
from cloister.domain.domain import Domain
from cloister.domain.resolving import Found
from cloister.domain.setup import Setup
from tests.contexts.crowd import enter_all
from tests.domain.journal import Journal
from tests.patience import wait_until
from tests.soak.levels import resident

Make = Callable[..., Domain]

JOIN_S = 30.0
BESIDE = "module_beside_a_program"


@pytest.fixture
def proving(modules: None) -> Any:
    """The module of the tests, known to this side too."""
    import proving as module  # type: ignore[import-not-found]  # the fixture puts it on the path

    return module


def _interpreters() -> int:
    """How many interpreters this process has."""
    if sys.version_info < (3, 14):
        return 1
    from concurrent import interpreters  # type: ignore[attr-defined,unused-ignore]  # there from 3.14 on

    return len(interpreters.list_all())


def test_a_domain_begins_with_one_context(make: Make, level: str) -> None:
    """S34: contexts appear on need; domains are places, not threads: one thread of the host enters all of them."""
    before = _interpreters()
    domains = [make("first"), make("second"), make("third")]
    assert [each.call("proving:place") for each in domains] == [("first", 0), ("second", 0), ("third", 0)]
    brokers = [domains[0].create("proving:Broker") for _ in range(2)]
    contexts = {broker.where()[1] for broker in brokers}
    assert len(contexts) == 2
    assert 0 not in contexts
    assert domains[0].call("proving:place") == ("first", 0)
    mine = cloister.logical_thread()
    assert {each.call("cloister:logical_thread") for each in domains} == {mine}
    if level == "process":
        assert len({os.getpid(), *(each.pid for each in domains)}) == 4
        assert len([each for each in threading.enumerate() if "watch" in each.name]) == 1
    if level == "interpreter":
        assert _interpreters() == before + 3


def test_a_constructor_runs_in_its_domain(domain: Domain) -> None:
    """S37, S45: it runs in that domain, in a context of its own where it is bound to one, for the caller's thread."""
    mine = cloister.logical_thread()
    assert domain.create("proving:Customers").made_in == ("subject", 0, mine)
    broker = domain.create("proving:Broker")
    name, context, logical = broker.made_in
    assert (name, logical) == ("subject", mine)
    assert context > 0
    assert broker.where() == ("subject", context)
    seen: list[Any] = []

    def other() -> None:
        seen.append(cloister.logical_thread())
        seen.append(domain.create("proving:Customers").made_in)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(JOIN_S)
    assert seen[1] == ("subject", 0, seen[0])
    assert seen[0] != mine


def test_a_by_reference_object_has_one_state(make: Make) -> None:
    """S38, S43: two domains have two lists; `unwrap` gives a proxy, two proxies one state, calls run with the owner."""
    first, second = make("first"), make("second")
    handle = first.create_handle("proving:Customers", "Ada")
    one, two = handle.unwrap(), handle.unwrap()
    other = second.create("proving:Customers", "Bob")
    assert cloister.is_proxy(one)
    two.add("Eve")
    assert one.list() == (["Ada", "Eve"], "first")
    assert other.list() == (["Bob"], "second")
    assert cloister.is_proxy(one.itself())


def test_a_by_value_object_is_copied(domain: Domain, proving: Any) -> None:
    """S39, S40: a handle is a proxy, its copy is none and lists in the default domain; copies change apart."""
    handle = domain.create_handle("proving:CustomersByValue", "Ada")
    assert cloister.is_proxy(handle)
    copy, second = handle.unwrap(), handle.unwrap()
    assert type(copy) is proving.CustomersByValue
    assert not cloister.is_proxy(copy)
    copy.names.append("Bob")
    assert (copy.made_in, copy.list()) == ("subject", (["Ada", "Bob"], "default"))
    assert second.names == handle.unwrap().names == ["Ada"]


def test_what_can_not_be_copied_is_made(domain: Domain, proving: Any) -> None:
    """S41: creating it succeeds, `unwrap` names the attribute and the ways out, the handle stays usable."""
    handle = domain.create_handle("proving:Locked")
    with pytest.raises(cloister.MarshalError, match=r"result\.rows\[1\]\['key'\].*lock.*@by_reference"):
        handle.unwrap()
    domain.call("operator:methodcaller", "repair")(handle)
    assert handle.unwrap().rows == []


def test_a_handle_through_a_third_domain_loads_nothing(make: Make, level: str) -> None:
    """S42: a handle that visits another domain comes back as itself, and its type is not loaded there."""
    if level == "thread":
        pytest.skip("a thread shares the modules of its host")
    first, third = make("first"), make("third")
    handle = first.create_handle("proving:Customers", "Ada")
    assert third.call("conformance:echo", handle) is handle
    assert third.call("operator:contains", third.eval("__import__('sys').modules.keys()"), "proving") is False
    assert "proving" not in sys.modules
    assert handle.unwrap().list() == (["Ada"], "first")


def test_nothing_of_the_application_is_loaded_here(domain: Domain, level: str) -> None:
    """S49: creating by name, a call, a remote exception and `help` leave this side without the module."""
    if level == "thread":
        pytest.skip("a thread shares the modules of its host")
    customers = domain.create("proving:Customers", "Ada")
    assert customers.list() == (["Ada"], "subject")
    with pytest.raises(ExceptionGroup) as caught:
        domain.call("proving:fail_with_group")
    assert [type(each) for each in caught.value.exceptions] == [ValueError, cloister.RemoteError]
    assert "Stays where it was made." in pydoc.render_doc(customers)
    assert "proving" not in sys.modules


@pytest.mark.parametrize("reentrant", [False, True], ids=["not re-entrant", "re-entrant"])
def test_a_synchronized_object_takes_one_thread(make: Make, reentrant: bool) -> None:
    """S45, O02, O03: of eight threads that meet one is inside; during its call-outs others are, if it is re-entrant."""
    domain = make()
    broker = domain.create("proving:OpenBroker" if reentrant else "proving:Broker")
    assert enter_all(broker, lambda: int(domain.call("proving:waiting", broker)), reentrant) == [True] * 8
    assert (broker.most_inside, broker.inside) == (8 if reentrant else 1, 0)
    assert broker.call(lambda: broker.call(lambda: broker.where())) == broker.where()


def test_the_turn_is_handed_over_in_the_order_of_arrival(domain: Domain) -> None:
    """O02: threads that came to a synchronized object in a known order are inside in this order."""
    broker = domain.create("proving:Broker")
    held, inside = threading.Event(), threading.Event()
    served: list[int] = []

    def hold() -> bool:
        inside.set()
        return held.wait(JOIN_S)

    threads = [threading.Thread(target=broker.call, args=(hold,))]
    threads[0].start()
    assert inside.wait(JOIN_S)
    for number in range(6):
        threads.append(threading.Thread(target=broker.call, args=(partial(served.append, number),)))
        threads[-1].start()
        wait_until(lambda number=number: domain.call("proving:waiting", broker) == number + 1, JOIN_S)
    held.set()
    for thread in threads:
        thread.join(JOIN_S)
        assert not thread.is_alive()
    assert served == list(range(6))


def test_modes_of_synchronization(domain: Domain) -> None:
    """O01: in a domain too an object gets the turn that its class asks for, made from either kind of context."""
    assert domain.call("proving:turns") == {
        "SUPPORTED": ("same", "none"),
        "REQUIRED": ("same", "new"),
        "REQUIRES_NEW": ("new", "new"),
        "NOT_SUPPORTED": ("none", "none"),
    }


def test_context_data_slots(domain: Domain) -> None:
    """O04: a slot is of one context, empty in another; a name is used once; `call` enters the context."""
    assert domain.call("proving:slots") == {
        "own": "kept",
        "other": None,
        "twice": "ValueError",
        "inside": True,
        "again": True,
    }


def test_identity_comes_from_the_creator(make: Make) -> None:
    """S02: each domain has its name and number from its creator, and hears only what is said to it."""
    domains = [make("first"), make("second")]
    assert [each.call("conformance:who")[:2] for each in domains] == [(each.name, each.id) for each in domains]
    assert len({each.id for each in domains}) == 2
    for number in range(50):
        assert [each.call("conformance:echo", (each.name, number)) for each in domains] == [
            ("first", number),
            ("second", number),
        ]


def test_across_contexts_by_reference(domain: Domain) -> None:
    """S46: in the domain too a bound object is met by a proxy, and runs in its context; an agile one has no proxy."""
    broker = domain.create("proving:Broker")
    assert broker.itself() is broker
    assert broker.is_itself(broker)
    assert domain.call("proving:visit", broker) == (True, 0)
    agile = domain.create("proving:Agile")
    assert domain.call("cloister:is_proxy", agile) is False
    assert agile.where() == ("subject", 0)


def test_lookups_are_answered(make: Make, level: str, tmp_path: Path) -> None:
    """S47: a module, a type and a resource that are not found are asked for once each, and the answers are used."""
    if level == "thread":
        pytest.skip("the imports of a thread are those of its host")
    (tmp_path / "logo").write_bytes(b"logo")
    asked: list[tuple[str, str]] = []
    answers = {
        "lost": Found(source="def here(): return 'found'"),
        "json:Tally": Found(name="collections:Counter"),
        "json:logo": tmp_path / "logo",
    }

    def answer(lookup: cloister.Lookup) -> Any:
        asked.append((lookup.kind, lookup.name))
        return answers.get(lookup.name)

    seen = Journal()
    resolve = {"module": answer, "type": answer, "resource": answer}
    domain = make(setup=Setup(resolve=resolve), on={events.ResolveFailed: seen.write})
    assert (domain.call("lost:here"), domain.call("lost:here")) == ("found", "found")
    assert domain.call("json:Tally", "hello")["l"] == 2
    assert domain.call("proving:resource", "json", "logo") == b"logo"
    assert asked == [("module", "lost"), ("type", "json:Tally"), ("resource", "json:logo")]
    for call in (["lost_for_ever:f"], ["json:Lost"], ["proving:resource", "json", "lost"]):
        with pytest.raises((ImportError, FileNotFoundError)):
            domain.call(*call)
    told = seen.wait_for(events.ResolveFailed, JOIN_S, 3)
    assert told.domain == "subject"
    kinds = [(each.kind, each.name) for each in seen.of(events.ResolveFailed)]
    assert kinds == [("module", "lost_for_ever"), ("type", "json:Lost"), ("resource", "json:lost")]


def test_two_domains_see_their_own_code(make: Make, level: str, tmp_path: Path) -> None:
    """S48: one module name, one key, two private paths and configurations; with one unloaded the other goes on."""
    if level == "thread":
        pytest.skip("a thread shares the modules of its host")
    domains = []
    for who in ("one", "two"):
        (tmp_path / who).mkdir()
        (tmp_path / who / "own_shop.py").write_text(f"WHO = {who!r}\ndef who():\n    return WHO\n")
        domains.append(make(who, setup=Setup(path=[tmp_path / who], config={"who": who})))
    seen = [(each.call("own_shop:who"), each.call("proving:own_config")) for each in domains]
    assert seen == [("one", {"who": "one"}), ("two", {"who": "two"})]
    assert "own_shop" not in sys.modules
    assert not [name for name in dir(domains[0]) if "unload" in name and name != "unload"]  # no module by itself
    domains[0].unload()
    assert domains[1].call("own_shop:who") == "two"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_back_after_unloading(level: str, modules: None) -> None:
    """S48: what a domain has taken, here and there, is given back with it: within 5 % of what there was before."""

    def once() -> int:
        with Domain("grown", level=level) as domain:
            domain.call("proving:grow", 96)
            domain.call("conformance:echo", bytearray(8 * 2**20))
            taken = resident()
        gc.collect()
        return taken

    for _ in range(
        1 if level == "process" else 3
    ):  # what the first ones load here stays, and so does what the C library keeps for the next ones
        once()
    before = resident()
    taken = once()
    wait_until(lambda: resident() - before <= before / 20, JOIN_S)
    # What was sent takes some memory here at every level: what waits in shared memory is mapped by both.
    assert (taken - before >= 92 * 1024) == (level != "process")


def test_a_relative_configuration_is_of_the_base(make: Make, tmp_path: Path) -> None:
    """O07: a relative path of a configuration is resolved against the application base."""
    (tmp_path / "app.json").write_text('{"who": "base"}')
    domain = make(setup=Setup(config="app.json", base=tmp_path))
    assert domain.call("proving:own_config") == {"who": "base"}


def test_a_proxy_that_goes_home_is_the_object(domain: Domain) -> None:
    """O09: passing a proxy home gives the object; the same object is the same proxy, equality and hash follow it."""
    thing, other = domain.create("proving:Customers"), domain.create("proving:Customers")
    assert thing.itself() is thing
    assert domain.call("proving:same", thing, thing)
    assert domain.call("proving:give_back", {"a": [thing]})["a"][0] is thing
    assert thing == thing.itself()
    assert thing != other
    assert len({thing, other, thing.itself()}) == 2

    class Shown:
        """Of the host."""

    shown = Shown()
    assert domain.call("proving:give_back", cloister.share(shown)) is shown


def test_one_way_calls(make: Make) -> None:
    """O10: they return at once, are served in order and before a later call; what they raise is an event."""
    seen = Journal()
    domain = make(on={events.UnhandledException: seen.write})
    customers = domain.create("proving:Customers")
    held = threading.Event()
    cloister.one_way(domain.create("proving:OpenBroker").call)(lambda: held.wait(JOIN_S))  # returns while that waits
    for number in range(20):
        cloister.one_way(customers.add)(str(number))
    held.set()
    assert customers.list()[0] == [str(number) for number in range(20)]
    cloister.one_way(customers.add)()
    told = seen.wait_for(events.UnhandledException, JOIN_S)
    assert (told.domain, type(told.error)) == ("subject", TypeError)


def test_any_exception_crosses(domain: Domain) -> None:
    """O11: the real type where both sides know it; chain, notes, groups; what can't be serialized hides nothing."""
    with pytest.raises(ValueError, match="bad x") as caught:
        domain.call("conformance:fail", "x")
    assert (caught.value.__notes__[0], type(caught.value.__cause__)) == ("a note", KeyError)
    assert "conformance.py" in caught.value.remote_traceback  # type: ignore[attr-defined]  # see cloister.wire.exceptions
    with pytest.raises(ExceptionGroup) as group:
        domain.call("proving:fail_with_group")
    assert str(group.value.exceptions[0]) == "known"
    assert "not known" in str(group.value.exceptions[1])
    with pytest.raises(cloister.RemoteError, match="SystemExit"):
        domain.call("conformance:leave", 3)


def test_an_object_lives_while_it_is_held(make: Make) -> None:
    """O13: an object lives while it is referenced from outside, and is let go with the last proxy."""
    domain = make(watchdog=cloister.Watchdog(beat=0.05))  # releases ride on the beat
    wait_until(lambda: domain.call("proving:living") == 0, JOIN_S)
    things = [domain.create("proving:Customers") for _ in range(3)]
    assert domain.call("proving:living") == 3
    del things[1:]
    wait_until(lambda: domain.call("proving:living") == 1, JOIN_S)
    assert things[0].list()[1] == "subject"


def test_a_hook_sees_each_domain(level: str, modules: None) -> None:
    """O14: a hook of the host sees, adjusts and refuses a domain before it is started."""
    seen: list[tuple[str, str]] = []

    def look(creation: cloister.Creation) -> cloister.Creation:
        seen.append((creation.name, creation.level))
        if creation.name == "late":
            raise PermissionError("not now")
        return creation.replace(name="adjusted")

    with cloister.creation_hook(look):
        with Domain("early", level=level) as domain:
            assert domain.call("proving:place")[0] == "adjusted"
        with pytest.raises(cloister.StartFailed, match="not now"):
            Domain("late", level=level)
    assert seen == [("early", level), ("late", level)]


def test_loaded_files_can_be_replaced(make: Make, level: str, tmp_path: Path) -> None:
    """O16: a domain goes on with its shadow copy; a reload is a new domain that takes the new file."""
    if level == "thread":
        pytest.skip("a thread shares the modules of its host")
    file = tmp_path / "own_stock.py"
    file.write_text("def version(): return 1\n")
    domain = make(setup=Setup(path=[tmp_path], shadow_copy=True))
    domain.wait_ready()
    file.write_text("def version(): return 'two'\n")
    assert domain.call("own_stock:version") == 1
    before = domain.id
    domain.reload()
    assert domain.call("own_stock:version") == "two"
    assert domain.id != before


@pytest.mark.parametrize(
    "entry", ["programs_by_name", "programs_by_name:main", "program.py", "sub/program.py:main", "main_program.py:main"]
)
def test_a_domain_runs_the_program_of_its_set_up(make: Make, entry: str, tmp_path: Path) -> None:
    """S35: the entry point is a module, a file of the application base, or a function in one of them, which finds what
    is beside it; its exit code comes back."""
    (tmp_path / "program.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    (tmp_path / "main_program.py").write_text("def main():\n    import sys\n    return int(sys.argv[1])\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "program.py").write_text(f"def main():\n    import {BESIDE}\n    return {BESIDE}.code()\n")
    (tmp_path / "sub" / f"{BESIDE}.py").write_text("import sys\ndef code():\n    return int(sys.argv[1])\n")
    domain = make(setup=Setup(entry_point=entry, base=tmp_path))
    assert domain.run(["7"]) == 7
    assert domain.run(["0"]) == 0
    with pytest.raises(ValueError, match=r"domain 'plain' has no program of its own: name one with Setup\(entry_point"):
        make("plain").run()
    with pytest.raises(TypeError, match=r"Setup\.entry_point is a module"):
        Setup(entry_point=3)  # type: ignore[arg-type]  # that is the point
    sys.modules.pop(BESIDE, None)


@pytest.mark.parametrize(
    "entry", ["main:", ":main", "tool.", ".tool", "a:b:main", "app.py:", "app.py:a..b", "app.pyz:m"]
)
def test_an_entry_point_that_names_nothing_is_refused_at_once(entry: str) -> None:
    """A program that can't be one is an error where the set-up is made, which says how it is written."""
    with pytest.raises(ValueError, match=r"Setup\.entry_point: .*write '"):
        Setup(entry_point=entry)
