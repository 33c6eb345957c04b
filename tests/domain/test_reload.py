"""Reload and shadow copies: a fresh domain under the same object, durable objects made again, files that may change."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.domain import events
from cloister.domain.domain import Domain
from cloister.domain.resolving import Found
from cloister.domain.setup import Setup
from cloister.errors import CallTimeout, DomainUnloaded, StartFailed
from cloister.objects.proxies import is_proxy
from tests.domain.journal import Journal
from tests.patience import wait_until

Make = Callable[..., Domain]

SHOP = """
class Shop:
    def __init__(self, city, *, rooms=1, beside=None):
        self.city, self.rooms, self.sold, self.beside = city, rooms, 0, beside
    def sell(self):
        self.sold += 1
        return self.sold
    def where(self):
        return VERSION + self.city
    def neighbour(self):
        return self.beside.where()
    def itself(self):
        return self
VERSION = {!r}
"""


def write(folder: Path, version: str, more: str = "") -> None:
    """Replace the module."""
    (folder / "shop.py").write_text(SHOP.format(version) + more)
    os.utime(folder / "shop.py", (len(version), len(version)))


@pytest.fixture
def domain(make: Make, tmp_path: Path) -> Domain:
    """A domain whose module has the first version."""
    (tmp_path / "code").mkdir()
    write(tmp_path / "code", "1 ")
    return make(setup=Setup(path=[tmp_path / "code"], shadow_copy=True))


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The folder of the module."""
    return tmp_path / "code"


def test_file_that_is_loaded_can_be_replaced(domain: Domain, code: Path) -> None:
    """O16: the domain goes on with its copy, also for what it had not loaded yet; reload takes the new files."""
    domain.wait_ready(10)
    write(code, "two ")
    assert domain.create("shop:Shop", "Boston").where() == "1 Boston"
    assert not domain.eval("__import__('shop').__file__").startswith(str(code))
    pid = domain.pid
    domain.reload()
    assert domain.create("shop:Shop", "Boston").where() == "two Boston"
    assert domain.pid != pid


def test_changes_are_told(domain: Domain, code: Path) -> None:
    """O16: changed, added and removed files are named, in order; compiled ones are not; a reload begins anew."""
    domain.wait_ready(10)
    assert domain.changed() == []
    write(code, "two ")
    (code / "added.py").write_text("")
    (code / "__pycache__").mkdir(exist_ok=True)
    (code / "__pycache__" / "x.pyc").write_text("")
    assert domain.changed() == [str(code / "added.py"), str(code / "shop.py")]
    domain.reload()
    assert domain.changed() == []
    (code / "added.py").unlink()
    assert domain.changed() == [str(code / "added.py")]


def test_copies_go_with_the_domain(domain: Domain) -> None:
    """The copies are removed when the domain ends; those of a start that failed, too (the fixture looks)."""
    folder = os.path.dirname(domain.eval("__import__('shop').__file__"))
    domain.kill()
    wait_until(lambda: not os.path.exists(folder))


def test_domain_without_copies_knows_no_changes(make: Make) -> None:
    """`changed` says which option it needs."""
    with pytest.raises(ValueError, match="shadow_copy=True"):
        make().changed()


def test_durable_proxy_stands_for_the_new_object(domain: Domain, code: Path) -> None:
    """What was made as durable is made again with its arguments; the very proxy goes on, with new code, state gone."""
    durable = domain.with_options(durable=True)
    shop = durable.create("shop:Shop", "Boston", rooms=3)
    plain = domain.create("shop:Shop", "Utrecht")
    assert [shop.sell(), shop.sell()] == [1, 2]
    write(code, "two ", "    \nShop.rooms_now = lambda self: self.rooms\n")
    domain.reload()
    assert (shop.where(), shop.sell(), shop.rooms_now()) == ("two Boston", 1, 3)
    assert shop.itself() is shop
    with pytest.raises(DomainUnloaded):
        plain.where()
    assert durable.create("shop:Shop", "Delft").where() == "two Delft"
    domain.reload()
    assert (shop.where(), shop.sell()) == ("two Boston", 1)


def test_durable_object_that_was_given_another_one(domain: Domain) -> None:
    """A durable object whose argument is durable gets the new one of it."""
    durable = domain.with_options(durable=True)
    first = durable.create("shop:Shop", "Boston")
    second = durable.create("shop:Shop", "Utrecht", beside=first)
    domain.reload()
    assert second.neighbour() == "1 Boston"


def test_durable_object_that_nobody_holds_is_not_made_again(domain: Domain) -> None:
    """With its last proxy goes how it was made."""
    durable = domain.with_options(durable=True)
    durable.exec("import shop\nmade = []\nshop.Shop.__init__ = lambda self, city: made.append(city)")
    durable.create("shop:Shop", "Boston")
    assert domain._life.durables.all() == []


def test_reload_that_fails_leaves_all_as_it_was(domain: Domain, code: Path, make: Make) -> None:
    """A start that fails, and a maker that raises: the error is raised, the old domain and its objects go on."""
    shop = domain.with_options(durable=True).create("shop:Shop", "Boston")
    shop.sell()
    write(code, "two ", "    \n1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        domain.reload()
    assert (shop.where(), shop.sell()) == ("1 Boston", 2)
    assert domain.with_options(timeout=5).eval("1 + 1") == 2
    (code / "shop.py").unlink()
    code.rename(code.parent / "elsewhere")
    with pytest.raises(StartFailed, match=r"Setup\.path is not there"):
        domain.reload()
    assert shop.sell() == 3


def test_views_handlers_and_resolvers_go_along(make: Make, journal: Journal) -> None:
    """A view that was made before calls the new domain; handlers given later hear of it, and are asked by it."""
    domain = make()
    domain.wait_ready(20)
    view = domain.with_options(timeout=20)
    ready: list[int | None] = []
    domain.on(events.Ready, lambda event: ready.append(event.pid))
    domain.on_resolve("module", lambda lookup: Found(source="VALUE = 1"))
    domain.reload()
    assert view.eval("__import__('os').getpid()") == domain.pid == view.pid
    assert view.eval("__import__('lost').VALUE") == 1
    wait_until(lambda: domain.pid in ready)
    first, second = journal.wait_for(events.Ready), journal.wait_for(events.Ready, count=2)
    assert (first.pid != second.pid, second.pid) == (True, domain.pid)


def test_crashed_domain_is_reloaded_and_unloaded_one_is_not(domain: Domain) -> None:
    """After a crash the durable objects are back; after `unload` there is nothing to reload."""
    shop = domain.with_options(durable=True).create("shop:Shop", "Boston")
    domain.kill()
    domain.reload()
    assert shop.sell() == 1
    domain.unload()
    with pytest.raises(DomainUnloaded):
        domain.reload()


def test_time_for_a_reload_is_bounded_by_the_view(make: Make, tmp_path: Path) -> None:
    """A reload that takes longer than the view's time-out raises CallTimeout, and the old domain goes on."""
    (tmp_path / "slow.py").write_text("import time\ndef start(file):\n    open(file) and time.sleep(60)\n")
    (tmp_path / "go").write_text("")
    (tmp_path / "first.py").write_text("import os, slow\ndef start(f):\n    os.path.exists(f) and slow.start(f)\n")
    flag = tmp_path / "flag"
    domain = make(setup=Setup(path=[tmp_path], initializer="first:start", initargs=(str(flag),)))
    domain.wait_ready(10)
    flag.write_text("")
    with pytest.raises(CallTimeout):
        domain.with_options(timeout=0.5).reload()
    assert domain.call("math:sqrt", 16.0) == 4.0


def test_calls_from_other_threads_meet_either_domain_and_no_third_thing(domain: Domain) -> None:
    """While a durable proxy changes sides, a call from another thread is answered rightly or ends with the domain."""
    shop = domain.with_options(durable=True).create("shop:Shop", "Boston")
    stop = threading.Event()
    wrong: list[object] = []
    answered = 0

    def call() -> None:
        nonlocal answered
        while not stop.is_set():
            try:
                if shop.where() == "1 Boston":
                    answered += 1
                else:
                    wrong.append("another answer")
            except DomainUnloaded:
                pass
            except BaseException as error:
                wrong.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    for _ in range(3):
        before = answered
        domain.reload()
        wait_until(lambda before=before: answered > before)
    stop.set()
    thread.join(10)
    assert wrong == []
    assert is_proxy(shop)
